//! Freezing and thawing.

use std::time::Duration;

use super::Cgroup;
use crate::Result;

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
        let _ = timeout;
        unimplemented!()
    }

    /// Lets them run again; returns when the kernel says so.
    ///
    /// # Errors
    /// The cgroup is gone, or an ancestor is frozen too so that nothing thaws within `timeout`.
    pub fn thaw(&self, timeout: Duration) -> Result<()> {
        let _ = timeout;
        unimplemented!()
    }

    /// Whether it is frozen: by its own switch or by an ancestor's, and all its processes have stopped.
    ///
    /// # Errors
    /// `cgroup.events` can't be read.
    pub fn is_frozen(&self) -> Result<bool> {
        unimplemented!()
    }
}
