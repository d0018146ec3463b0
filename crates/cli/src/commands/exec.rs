//! `rtc exec`: one more process in a container.

use super::run::exit_status;
use crate::foreground::Foreground;
use crate::logger;
use crate::session::Session;
use crate::terminal::Terminal;
use anyhow::{Context, Result, bail};
use rtc_runtime::{ExecOptions, ExecProcess, Overrides};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::Args;

const DESCRIPTION: &str = "   \
   Exit status: that of the process, or 255 for a failure of rtc itself.";

/// The arguments of `exec`.
#[derive(Args, Debug)]
#[command(about = "run another process in a container", after_help = DESCRIPTION)]
pub(crate) struct Exec {
    /// Socket that gets the master end of the process's terminal
    #[arg(long, value_name = "SOCKET")]
    pub(crate) console_socket: Option<PathBuf>,
    /// Socket that gets a file descriptor of the process (a pidfd)
    #[arg(long, value_name = "SOCKET")]
    pub(crate) pidfd_socket: Option<PathBuf>,
    /// Working directory in the container
    #[arg(long, value_name = "DIR")]
    pub(crate) cwd: Option<PathBuf>,
    /// Set a variable; may be repeated
    #[arg(long, short, value_name = "NAME=VALUE")]
    pub(crate) env: Vec<String>,
    /// Give the process a terminal
    #[arg(long, short)]
    pub(crate) tty: bool,
    /// User id, and group id
    #[arg(long, short, value_name = "UID[:GID]")]
    pub(crate) user: Option<String>,
    /// Additional group ids; may be repeated
    #[arg(long, short = 'g', value_name = "GID", value_delimiter = ',')]
    pub(crate) additional_gids: Vec<u32>,
    /// File with the specification's process object
    #[arg(long, short, value_name = "FILE")]
    pub(crate) process: Option<PathBuf>,
    /// Return when the process runs
    #[arg(long, short)]
    pub(crate) detach: bool,
    /// File to write the process id to, as seen by the caller
    #[arg(long, value_name = "FILE")]
    pub(crate) pid_file: Option<PathBuf>,
    /// SELinux label of the process
    #[arg(long, value_name = "LABEL")]
    pub(crate) process_label: Option<String>,
    /// AppArmor profile of the process
    #[arg(long, value_name = "PROFILE")]
    pub(crate) apparmor: Option<String>,
    /// Forbid the process to gain privilege
    #[arg(long)]
    pub(crate) no_new_privs: bool,
    /// Add a capability; may be repeated
    #[arg(long, short, value_name = "CAPABILITY")]
    pub(crate) cap: Vec<String>,
    /// Pass this many further file descriptors, from 3 up, to the process
    #[arg(long, value_name = "N", default_value_t)]
    pub(crate) preserve_fds: u32,
    /// Cgroup below the container's to run the process in
    #[arg(long, value_name = "PATH")]
    pub(crate) cgroup: Option<String>,
    /// In a paused container: wait for its resume
    #[arg(long)]
    pub(crate) ignore_paused: bool,
    /// Accepted and without effect, as in crun
    #[arg(long, hide = true)]
    pub(crate) no_subreaper: bool,
    /// The container
    #[arg(value_name = "container-id")]
    pub(crate) id: String,
    /// Program and its arguments
    #[arg(value_name = "command", num_args = 0..)]
    pub(crate) command: Vec<String>,
}

impl Exec {
    /// # Errors
    /// The process can't be run in the container.
    pub(crate) fn run(self, session: &Session) -> Result<u8> {
        rtc_runtime::seal::ensure()?;
        let detach = self.detach;
        let id = self.id.clone();
        let options = self.options()?;
        if detach {
            session.container(&id)?.exec(&options)?;
            return Ok(0);
        }
        // Orphans of the process belong to the container's init, not to rtc.
        let foreground = Foreground::prepare(false)?;
        let mut executed = session.container(&id)?.exec(&options)?;
        logger::release();
        let terminal = executed.console.take().map(Terminal::attach).transpose()?;
        Ok(exit_status(foreground.wait(executed.pid, terminal)?))
    }

    fn options(self) -> Result<ExecOptions> {
        let process = match self.process {
            // By name, not by descriptor: it may be a pipe of the caller's shell.
            Some(path) => ExecProcess::Json(read(&path).with_context(|| format!("read {}", path.display()))?),
            None if self.command.is_empty() => bail!("process args cannot be empty: give a command, or --process FILE"),
            None => ExecProcess::Overrides(Overrides {
                args: self.command,
                env: self.env,
                cwd: self.cwd,
                tty: self.tty,
                user: self.user.map(|user| user.parse()).transpose()?,
                additional_gids: self.additional_gids,
                capabilities: self.cap,
                no_new_privs: self.no_new_privs.then_some(true),
                apparmor: self.apparmor,
                process_label: self.process_label,
            }),
        };
        Ok(ExecOptions {
            process,
            pid_file: self.pid_file,
            console_socket: self.console_socket,
            pidfd_socket: self.pidfd_socket,
            foreground: !self.detach,
            preserve_fds: self.preserve_fds,
            cgroup: self.cgroup.map(PathBuf::from),
            ignore_paused: self.ignore_paused,
        })
    }
}

/// The longest process.json in bytes. A pipe has no length to ask for, so it is read up to here.
const PROCESS_MAX: u64 = 64 << 20;

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(PROCESS_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > PROCESS_MAX { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
}
