//! `rtc events`: statistics of a container, once or again and again.

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::time::Duration;

use crate::session::Session;
use anyhow::{Context, Result, bail};
use clap::Args;
use rtc_runtime::Container;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// The arguments of `events`.
#[derive(Args, Debug)]
#[command(about = "display container events such as OOM notifications, cpu, memory, and IO usage statistics")]
pub(crate) struct Events {
    /// Time between two statistics, as 5s, 500ms or 1m
    #[arg(long, value_name = "DURATION", default_value = "5s")]
    pub(crate) interval: String,
    /// Print statistics once and end
    #[arg(long)]
    pub(crate) stats: bool,
    /// The container
    #[arg(value_name = "container-id")]
    pub(crate) id: String,
}

impl Events {
    /// # Errors
    /// No such container, or it doesn't run.
    pub(crate) fn run(self, session: &Session) -> Result<u8> {
        let container = session.container(&self.id)?;
        if self.stats {
            return emit(&container).map(|()| 0);
        }
        let interval = duration(&self.interval).with_context(|| format!("--interval {}", self.interval))?;
        let pid = container.init_pid().and_then(Pid::from_raw).context("container not running")?;
        let init = pidfd_open(pid, PidfdFlags::empty())?;
        let interval = Timespec::try_from(interval)?;
        // Between two statistics init's end is waited for, which ends this command.
        while poll(&mut [PollFd::new(&init, PollFlags::IN)], Some(&interval))? == 0 {
            match emit(&container) {
                Err(_) if init_ended(&init)? => break,
                other => other?,
            }
        }
        Ok(0)
    }
}

fn init_ended(init: &OwnedFd) -> Result<bool> {
    Ok(poll(&mut [PollFd::new(init, PollFlags::IN)], Some(&Timespec::default()))? > 0)
}

/// One line: type and id first, as the callers of runc match it.
fn emit(container: &Container) -> Result<()> {
    let id = serde_json::to_string(container.id())?;
    let line = format!("{{\"type\":\"stats\",\"id\":{id},\"data\":{}}}\n", container.stats()?);
    io::stdout().write_all(line.as_bytes()).context("write to stdout")
}

/// A time as Go writes it: numbers with units, as `1m30s` or `500ms`.
fn duration(text: &str) -> Result<Duration> {
    let mut total = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let (number, after) =
            rest.split_at(rest.find(|c: char| c.is_ascii_alphabetic()).context("has no unit: s, ms, m")?);
        let (unit, after) = after.split_at(after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len()));
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" => 1e-6,
            other => bail!("unknown unit {other:?}: use s, ms, m"),
        };
        total += number.parse::<f64>().with_context(|| format!("{number:?} is not a number"))? * seconds;
        rest = after;
    }
    let duration = Duration::try_from_secs_f64(total).ok().filter(|d| !d.is_zero());
    duration.context("must be a positive time")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_of_go() {
        assert_eq!(duration("5s").ok(), Some(Duration::from_secs(5)));
        assert_eq!(duration("1m30s").ok(), Some(Duration::from_secs(90)));
        assert_eq!(duration("100ms").ok(), Some(Duration::from_millis(100)));
        assert_eq!(duration("1.5s").ok(), Some(Duration::from_millis(1500)));
        for bad in ["", "5", "s", "5x", "-1s", "0s", "NaNs", "infs"] {
            assert!(duration(bad).is_err(), "{bad} was taken");
        }
    }
}
