//! A process that does nothing but keep a cgroup from being empty.
//!
//! systemd makes a scope around a process and removes it with the last one. Where that can't be the container's first
//! (init/place.rs says where), it is a process of no use: with it in the scope, the container's first can be born in its
//! final cgroup by `CLONE_INTO_CGROUP`, and everything before the clone is the same with systemd as without.

use std::os::fd::{AsFd, OwnedFd};

use rtc_sys::CallExt;
use rtc_sys::clone::{self, Clone3, Cloned};
use rustix::pipe::PipeFlags;

use super::Cgroup;
use crate::Result;
use crate::process;

/// The process; it ends when this is dropped, and with its maker.
#[derive(Debug)]
pub(super) struct Holder {
    pub(super) pid: i32,
    pidfd: OwnedFd,
    _end: OwnedFd,
}

impl Holder {
    /// Makes it, in a cgroup or where the caller is.
    ///
    /// # Errors
    /// clone3's.
    pub(super) fn start(cgroup: Option<&Cgroup>) -> Result<Self> {
        let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).call("pipe2", "CLOEXEC")?;
        match clone::clone3(&Clone3 { cgroup: cgroup.map(Cgroup::dirfd), ..Clone3::default() })? {
            Cloned::Child => {
                drop(writer);
                // Nobody writes: this ends when the last writer, our maker, has closed it or is gone.
                let _ = rustix::io::retry_on_intr(|| rustix::io::read(&reader, &mut [0; 1]));
                clone::exit(0)
            }
            Cloned::Parent { pid, pidfd } => Ok(Self { pid, pidfd, _end: writer }),
        }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        if let Err(e) = process::kill_and_reap(&self.pidfd.as_fd()) {
            log::warn!("end the process {} that held the cgroup: {e}", self.pid);
        }
    }
}
