//! `rtc run`: create and start in one, in the foreground unless detached.

use crate::foreground::Foreground;
use crate::logger;
use crate::session::Session;
use crate::terminal::Terminal;
use anyhow::{Context, Result};
use clap::Args;
use rtc_runtime::{Container, Kind};

use super::create::Common;

const DESCRIPTION: &str = "   \
   Creates and starts a container. In the foreground its output and signals pass
   through rtc, whose exit status is that of the container's process.";

/// The flags of `run`.
#[derive(Args, Debug)]
#[command(about = "create and run a container", after_help = DESCRIPTION)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Return when the container runs
    #[arg(long, short)]
    pub(crate) detach: bool,
    /// Keep the container's state and cgroup after its end, until 'delete'
    #[arg(long)]
    pub(crate) keep: bool,
    /// Don't adopt the container's orphaned processes
    #[arg(long)]
    pub(crate) no_subreaper: bool,
    /// The container's name, unique on this host
    #[arg(value_name = "container-id")]
    pub(crate) id: String,
}

impl Run {
    /// # Errors
    /// The container can't be made or started; nothing is left of it.
    pub(crate) fn run(self, session: &Session) -> Result<u8> {
        let options = self.common.options(&self.id, !self.detach);
        if self.detach {
            let mut container = rtc_runtime::run(&session.host, &options)?;
            container.take_readiness().map_or(Ok(()), rtc_runtime::Readiness::pass_on)?;
            return Ok(0);
        }
        let foreground = Foreground::prepare(!self.no_subreaper)?;
        let mut container = match rtc_runtime::run(&session.host, &options) {
            Err(error) if never_began(&error) => {
                // The program's stderr is this one, and the kernel's word about it is all there is to say.
                logger::bare(&error.to_string());
                return Ok(NEVER_BEGAN);
            }
            other => other?,
        };
        logger::release();
        if let Some(readiness) = container.take_readiness() {
            // Beside the wait for the container's end; it ends with it.
            std::thread::spawn(move || readiness.pass_on().inspect_err(|e| log::warn!("{e}")));
        }
        stay(&foreground, container, self.keep)
    }
}

/// The status of a container whose program can't be executed, as runc's.
const NEVER_BEGAN: u8 = 255;

/// Whether the kernel refused to execute a program that was found: its interpreter is missing, its format unknown.
fn never_began(error: &rtc_runtime::Error) -> bool {
    *error.kind() == Kind::Exec && !error.to_string().starts_with("exec: ")
}

/// Stays with a started container until its end, then deletes it unless it is to be kept.
///
/// # Errors
/// The caller's terminal can't be used, in which case the container is killed; or what is left can't be deleted.
pub(crate) fn stay(foreground: &Foreground, mut container: Container, keep: bool) -> Result<u8> {
    let ended = (|| {
        let terminal = container.take_console().map(Terminal::attach).transpose()?;
        let pid = container.child_pid().context("init is not a child of this process")?;
        Ok::<_, anyhow::Error>(foreground.wait(pid, terminal)?)
    })();
    if ended.is_err() || !keep {
        let deleted = container.delete(true);
        // The first failure is the one to tell of.
        let status = ended?;
        deleted?;
        return Ok(exit_status(status));
    }
    Ok(exit_status(ended?))
}

/// What the shell would see of it: a process's status is a byte.
pub(crate) fn exit_status(status: i32) -> u8 {
    status.to_le_bytes()[0]
}
