//! Freezing and thawing.
//!
//! The kernel freezes asynchronously: `cgroup.freeze` is the wish, the `frozen` line of `cgroup.events` the fact.
//! The fact is waited for with poll(2), never by sleeping.

use std::time::Duration;

use super::Cgroup;
use super::wait::{Deadline, flag};
use crate::{Error, Kind, Result};

impl Cgroup {
    /// Stops all processes in it and below it; returns when all have stopped.
    ///
    /// Tasks stopped this way can be traced with PTRACE_SEIZE and looked at, but run nothing.
    /// When they don't stop in time, or anything else fails, the cgroup is thawed again before this returns.
    /// Already frozen is no error: nothing changes then, also not on failure.
    ///
    /// # Errors
    /// `timeout` is over, with the pids in uninterruptible sleep; or the cgroup is gone.
    pub fn freeze(&self, timeout: Duration) -> Result<()> {
        let before = self.freezer_is_on()?;
        if !before {
            self.write("cgroup.freeze", "1")?;
        }
        let result = match self.wait_for("frozen", true, Deadline::after(timeout)) {
            Ok(true) => return Ok(()),
            Ok(false) => Err(self.stuck(timeout)),
            Err(e) => Err(e),
        };
        if !before {
            // The first error is the one to tell; if this write fails too, the cgroup is gone.
            let _ = self.write("cgroup.freeze", "0");
        }
        result
    }

    /// Lets them run again; returns when the kernel says so.
    ///
    /// # Errors
    /// The cgroup is gone, or an ancestor is frozen too so that nothing thaws within `timeout`.
    pub fn thaw(&self, timeout: Duration) -> Result<()> {
        self.write("cgroup.freeze", "0")?;
        if self.wait_for("frozen", false, Deadline::after(timeout))? {
            return Ok(());
        }
        Err(Error::new(Kind::System, format!("{}: still frozen after {timeout:?}", self.noun()))
            .with_hint("an ancestor of the cgroup is frozen: write 0 to cgroup.freeze there"))
    }

    /// Whether it is frozen: by its own switch or by an ancestor's, and all its processes have stopped.
    ///
    /// # Errors
    /// `cgroup.events` can't be read.
    pub fn is_frozen(&self) -> Result<bool> {
        Ok(flag(&self.read("cgroup.events")?, "frozen"))
    }

    /// Whether its own switch is on, obeyed or not yet.
    pub(super) fn freezer_is_on(&self) -> Result<bool> {
        Ok(self.read("cgroup.freeze")?.trim() == "1")
    }

    /// The error of a freeze that took too long.
    fn stuck(&self, timeout: Duration) -> Error {
        let mut message = format!("{}: not frozen after {timeout:?}", self.noun());
        let stuck: Vec<String> = self.procs().unwrap_or_default().into_iter().filter_map(in_kernel).collect();
        if !stuck.is_empty() {
            message += &format!("; in uninterruptible sleep: pid {}", stuck.join(", "));
        }
        Error::new(Kind::System, message)
    }
}

/// `PID (NAME)` of a task in uninterruptible sleep, which the freezer can't stop.
fn in_kernel(pid: i32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (front, back) = stat.rsplit_once(')')?;
    back.trim_start().starts_with('D').then(|| format!("{})", front.trim_end()))
}
