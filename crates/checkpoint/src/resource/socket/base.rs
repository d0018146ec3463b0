//! What all sockets have, and where they belong.

use super::options::Options;
use super::sort::Sort;
use crate::error::Result;
use crate::files::Probe;
use crate::files::dumping::Dump;
use rtc_sys::{CallExt as _, socket};
use serde::{Deserialize, Serialize};
use std::os::fd::{BorrowedFd, OwnedFd};

/// Whom a socket belongs to: the owner of its inode, which packet filters look at, as the host counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// What all sockets have.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Base {
    /// Its inode number at dump, by which others name it.
    pub inode: u64,
    /// What it is.
    pub sort: Sort,
    /// Whom it belongs to.
    pub owner: Owner,
    /// Its options.
    pub options: Options,
}

impl Base {
    /// Gives `fd` the owner it had.
    pub(super) fn give_owner(&self, fd: BorrowedFd<'_>) -> Result<()> {
        let stat = rustix::fs::fstat(fd).call("fstat", "socket")?;
        if (stat.st_uid, stat.st_gid) != (self.owner.uid, self.owner.gid) {
            let (uid, gid) = (
                rustix::fs::Uid::from_raw_unchecked(self.owner.uid),
                rustix::fs::Gid::from_raw_unchecked(self.owner.gid),
            );
            rustix::fs::fchown(fd, Some(uid), Some(gid)).call("fchown", "socket")?;
        }
        Ok(())
    }
}

/// The container's network namespace.
pub(super) fn container_namespace(cx: &Dump<'_>) -> Result<OwnedFd> {
    let path = format!("/proc/{}/ns/net", cx.init());
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
    Ok(rustix::fs::open(&path, flags, rustix::fs::Mode::empty()).call("open", &path)?)
}

/// Whether a socket belongs to the container's network namespace.
pub(super) fn is_at_home(probe: &Probe<'_>, cx: &Dump<'_>) -> Result<bool> {
    let its = rustix::fs::fstat(socket::network_namespace(probe.fd)?).call("fstat", "network namespace")?;
    let path = format!("/proc/{}/ns/net", cx.init());
    let containers = rustix::fs::stat(&path).call("stat", &path)?;
    Ok((its.st_dev, its.st_ino) == (containers.st_dev, containers.st_ino))
}
