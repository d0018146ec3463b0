//! Logging programs: what becomes of one when its container, or the process of an exec, is deleted.
//!
//! The ends of its pipes are its order to end. One that doesn't heed it is ended, as runc's shim does, which waits twelve
//! seconds between SIGTERM and SIGKILL; here it first gets the time to read what there is to the end.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::Child;
use std::time::Duration;

use rtc_sys::process::send_signal;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::fault::Result;
use crate::pump::watch;

/// How long to wait, and the signal that follows.
const STEPS: [(Duration, i32); 2] = [(Duration::from_secs(2), SIGTERM), (Duration::from_secs(10), SIGKILL)];
const SIGTERM: i32 = 15;
const SIGKILL: i32 = 9;

/// A logging program that runs; where this goes, it is ended.
#[derive(Debug)]
pub(crate) struct Logger(Option<AsyncFd<OwnedFd>>);

impl Logger {
    /// Nobody has waited for the child yet.
    pub(crate) fn new(child: &Child) -> Result<Self> {
        let pidfd = rtc_sys::pidfd::open(child.id() as i32)?;
        Ok(Self(Some(watch(pidfd, Interest::READABLE).map_err(|(_, error)| error)?)))
    }

    /// Sees to its end. That goes on if nobody waits for it.
    pub(crate) fn end(mut self) -> Option<JoinHandle<()>> {
        self.begin_to_end()
    }

    fn begin_to_end(&mut self) -> Option<JoinHandle<()>> {
        let pidfd = self.0.take()?;
        // Without a runtime, the shim is ending, too.
        Some(Handle::try_current().ok()?.spawn(end(pidfd, STEPS)))
    }
}

impl Drop for Logger {
    fn drop(&mut self) {
        self.begin_to_end();
    }
}

async fn end(pidfd: AsyncFd<OwnedFd>, steps: [(Duration, i32); 2]) {
    for (patience, signal) in steps {
        // A pidfd is readable when its process has ended.
        if tokio::time::timeout(patience, pidfd.readable()).await.is_ok() {
            return;
        }
        log::warn!("a logging program (pidfd {}) is still there: it gets signal {signal}", pidfd.as_raw_fd());
        if let Err(error) = send_signal(pidfd.get_ref().as_fd(), signal) {
            log::error!("{error}");
        }
    }
    let _ = pidfd.readable().await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, Stdio};

    /// The signal that ends a shell which runs this first, and never ends by itself.
    async fn ended_by(script: &str) -> Option<i32> {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "sh", "-c", &format!("{script}\necho; exec >&-; exec sleep infinity")]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        child.stdout.take().unwrap().read_to_string(&mut String::new()).unwrap();
        let mut logger = Logger::new(&child).unwrap();
        end(logger.0.take().unwrap(), STEPS.map(|(_, signal)| (Duration::from_millis(50), signal))).await;
        child.wait().unwrap().signal()
    }

    #[tokio::test]
    async fn one_that_stays_is_asked_and_then_killed() {
        assert_eq!(ended_by("").await, Some(SIGTERM));
        assert_eq!(ended_by("trap '' TERM").await, Some(SIGKILL));
    }
}
