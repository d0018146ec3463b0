//! Making cgroups: the directories, the controllers on the way, the checks that nobody else uses the target.

use std::path::Path;

use super::{Cgroup, Hierarchy, Placement};
use crate::Result;

impl Hierarchy {
    /// Makes the cgroup of a new container, with its parents, and hands every available controller down to it.
    ///
    /// A directory that is there already is taken over if no process is in it or below it and it isn't frozen.
    /// Call [`Cgroup::remove`] when the container can't be created after all.
    ///
    /// # Errors
    /// `container's cgroup is not empty`, `container's cgroup unexpectedly frozen` (an ancestor counts too), or a
    /// directory can't be made.
    /// A controller that can't be handed down is no error here: [`Cgroup::apply`] names it if a limit needs it.
    pub fn create(&self, placement: &Placement) -> Result<Cgroup> {
        let _ = placement;
        unimplemented!()
    }
}

impl Cgroup {
    /// Opens a cgroup below this one, for `exec --cgroup`; "" is this one.
    ///
    /// # Errors
    /// `bad sub cgroup path` for one that leads above this cgroup; ENOENT when it doesn't exist.
    pub fn sub(&self, path: &Path) -> Result<Cgroup> {
        let _ = path;
        unimplemented!()
    }

    /// Gives a user the right to make cgroups below this one and to move processes between them: the directory and the
    /// files that `/sys/kernel/cgroup/delegate` lists change their owner (cgroups(7), "Delegation").
    ///
    /// # Errors
    /// A file can't be changed. Files that this kernel lacks are left out.
    pub fn delegate(&self, uid: u32, gid: u32) -> Result<()> {
        let _ = (uid, gid);
        unimplemented!()
    }

    /// Moves a process here by writing to `cgroup.procs`.
    ///
    /// This waits for an RCU grace period, 8 ms on an idle machine: use `CLONE_INTO_CGROUP` with [`Cgroup::dirfd`]
    /// wherever the process is still to be made.
    ///
    /// # Errors
    /// EBUSY when the cgroup has children with controllers; ESRCH when the process is gone.
    pub fn add(&self, pid: i32) -> Result<()> {
        let _ = pid;
        unimplemented!()
    }
}
