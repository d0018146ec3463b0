//! Ending: killing what is in a cgroup, listing it, removing it.

use std::time::Duration;

use super::Cgroup;
use crate::Result;

impl Cgroup {
    /// The pids of all processes in it and below it, as this process's pid namespace counts them, ascending.
    ///
    /// Processes of other pid namespaces are left out.
    ///
    /// # Errors
    /// A `cgroup.procs` can't be read. A cgroup that vanishes meanwhile is no error.
    pub fn procs(&self) -> Result<Vec<i32>> {
        unimplemented!()
    }

    /// Whether any process lives in it or below it. Zombies don't count.
    ///
    /// # Errors
    /// `cgroup.events` can't be read; a removed cgroup is not populated.
    pub fn is_populated(&self) -> Result<bool> {
        unimplemented!()
    }

    /// Sends SIGKILL to all processes in it and below it, also frozen ones, and forks in flight.
    ///
    /// By `cgroup.kill` (5.14), else freeze, signal each, thaw. Doesn't wait for their end.
    ///
    /// # Errors
    /// The write or a signal fails; processes that are gone, and a removed cgroup, are no error.
    pub fn kill(&self) -> Result<()> {
        unimplemented!()
    }

    /// Waits until no process lives in it or below it.
    ///
    /// # Errors
    /// `timeout` is over.
    pub fn wait_empty(&self, timeout: Duration) -> Result<()> {
        let _ = timeout;
        unimplemented!()
    }

    /// Removes it and all cgroups below it, which must hold no process or only dying ones, which are waited for.
    ///
    /// Parents stay. A cgroup that is gone already is no error.
    ///
    /// # Errors
    /// Processes are left in it after `timeout`; the message lists them.
    pub fn remove(self, timeout: Duration) -> Result<()> {
        let _ = timeout;
        unimplemented!()
    }
}
