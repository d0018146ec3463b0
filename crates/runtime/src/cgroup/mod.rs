//! Control groups, version 2, by their own file system, or below a scope that systemd makes.
//!
//! A [`Placement`] says where a container's cgroup is and who manages it; it is plain data and lives in the state file.
//! A [`Hierarchy`] is the mounted cgroup2 file system, found in `/proc/self/mountinfo`.
//! A [`Cgroup`] is a handle on one directory of it: every later step goes through its descriptor, never a path again.
//!
//! Works on hybrid hosts too, where cgroup2 is mounted beside version 1 and has few controllers or none:
//! freezing, killing, events and device rules are core functions of version 2, and a limit whose controller is missing
//! is an error that names both.
//!
//! Who makes and removes cgroups is a [`CgroupManager`]; what differs between them stands in `driver`.
//!
//! Left out: version 1 controllers (net_cls, net_prio, kernel memory, real-time scheduling).
//!
//! Kernel: cgroup2 with `cgroup.freeze` (5.2), device programs (4.15, atomic replacement 5.6), `cgroup.kill` (5.14, else
//! signals), `CLONE_INTO_CGROUP` (5.7).

mod control;
mod create;
pub mod devices;
mod driver;
mod events;
mod freezer;
mod grace;
mod hierarchy;
mod holder;
mod limits;
mod membership;
mod placement;
mod remove;
pub mod stats;
mod systemd;
mod tree;
mod wait;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

pub use driver::{Made, Wanted};
pub use events::{Event, Watch};
pub(crate) use grace::Grace;
pub use hierarchy::Hierarchy;
pub(crate) use limits::{keep_memory_and_swap, memory_and_swap};
pub use placement::{CgroupManager, Placement};
pub use stats::Stats;
pub use systemd::Scope;

/// A directory of the cgroup2 hierarchy, held open.
///
/// The handle stays valid when the cgroup is renamed or its path is covered by a mount; when the cgroup is removed, calls
/// fail with `ENODEV`.
#[derive(Debug)]
pub struct Cgroup {
    dir: OwnedFd,
    path: PathBuf,
}

impl Cgroup {
    /// The path in the hierarchy, from its root: `/machine/web1`.
    ///
    /// For messages and the state file; as in the third field of `/proc/PID/cgroup` when this process sees the root of
    /// the hierarchy.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory, for `CLONE_INTO_CGROUP` (clone3(2), 5.7) and `openat`.
    pub fn dirfd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}
