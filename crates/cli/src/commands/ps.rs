//! `rtc ps`: the processes of a container.

use std::io::{self, Write};
use std::iter;
use std::process::{Command, Stdio};

use crate::process_table;
use crate::session::Session;
use anyhow::{Context, Result, bail};
use std::ffi::OsString;

use clap::Args;

use super::list::Format;

const DESCRIPTION: &str = "   \
   Options after the container's name are those of ps(1), which must be installed
   for them. The table without options has the columns of 'ps -ef'.";

/// The arguments of `ps`.
#[derive(Args, Debug)]
#[command(about = "list the processes of a container", after_help = DESCRIPTION)]
pub(crate) struct Ps {
    /// Table or JSON array of process ids
    #[arg(long, short, value_name = "FORMAT", value_enum, default_value_t)]
    pub(crate) format: Format,
    /// The container
    #[arg(value_name = "container-id")]
    pub(crate) id: String,
    /// Options of ps
    #[arg(value_name = "ps options", num_args = 0..)]
    pub(crate) options: Vec<OsString>,
}

impl Ps {
    /// # Errors
    /// No such container, or ps(1) is asked for and not there.
    pub(crate) fn run(self, session: &Session) -> Result<u8> {
        let pids = session.container(&self.id)?.processes()?;
        let out = match self.format {
            Format::Json => format!("{}\n", serde_json::to_string(&pids)?),
            Format::Table if self.options.is_empty() => process_table::table(&pids),
            Format::Table => filter(&ps(&self.options)?, &pids)?,
        };
        io::stdout().write_all(out.as_bytes()).context("write to stdout")?;
        Ok(0)
    }
}

/// The output of ps(1) for all processes of the host.
fn ps(options: &[OsString]) -> Result<String> {
    let output = Command::new("ps").args(options).stderr(Stdio::inherit()).output();
    let output = output.context("run ps, which options after the container's name need")?;
    if !output.status.success() {
        bail!("ps failed: {}", output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The header, and the lines whose PID is one of `pids`.
fn filter(output: &str, pids: &[i32]) -> Result<String> {
    let mut lines = output.lines();
    let header = lines.next().unwrap_or("");
    let Some(column) = header.split_whitespace().position(|name| name == "PID") else {
        bail!("ps gave no PID column: choose other options");
    };
    let wanted = |line: &&str| {
        let pid = line.split_whitespace().nth(column).and_then(|pid| pid.parse().ok());
        pid.is_some_and(|pid| pids.contains(&pid))
    };
    Ok(iter::once(header).chain(lines.filter(wanted)).map(|line| format!("{line}\n")).collect())
}

#[cfg(test)]
mod tests {
    use super::filter;

    #[test]
    fn ps_lines_are_chosen_by_the_pid_column() {
        let output = "UID  PID PPID CMD\nroot   7    1 a 8\nroot   8    7 b\nroot  77    8 c\n";
        assert_eq!(
            filter(output, &[7, 77]).expect("there is a PID"),
            "UID  PID PPID CMD\nroot   7    1 a 8\nroot  77    8 c\n"
        );
        assert!(filter("USER CMD\n", &[1]).is_err());
    }
}
