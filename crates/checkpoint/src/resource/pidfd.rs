//! Process descriptors (pidfd_open(2)), also of threads (`PIDFD_THREAD`) and of processes that are dead and reaped.
//!
//! The descriptor of a dead process is made anew from a process of ours that ends at once in the same way: it is
//! readable, signals to it fail with ESRCH, waiting for it with ECHILD, and its exit status is told where the kernel
//! tells it (`PIDFD_GET_INFO`, Linux 6.15). Its inode number, which names the process, is another one.

use crate::Result;
use crate::error::bad_image;
use crate::files::dumping::Dump;
use crate::files::resource::Resource;
use crate::files::restoring::Restore;
use crate::files::{FileRef, Probe, Stage};
use crate::proc::Proc;
use crate::procfs::fdinfo;
use rtc_sys::pidfd;
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd as _, OwnedFd};

/// `PIDFD_THREAD`: F_GETFL shows it.
const PIDFD_THREAD: i32 = libc::O_EXCL;

/// A pidfd.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pidfd {
    /// Of a process or thread that is there, a zombie perhaps: its id, as the container counts.
    Of(i32),
    /// Of one that is gone, with its wait status (wait(2)); 0 when it isn't known.
    Dead(i32),
}

impl Resource for Pidfd {
    fn recognises(probe: &Probe<'_>, _cx: &Dump<'_>) -> bool {
        probe.link == "anon_inode:[pidfd]"
    }

    fn dump(probe: &Probe<'_>, cx: &mut Dump<'_>) -> Result<Option<Self>> {
        let pids = fdinfo::pidfd(probe.fdinfo)?;
        let Some(host) = pids.first() else {
            return Ok(Some(Self::Dead(pidfd::exit_status(probe.fd).unwrap_or(0))));
        };
        match cx.container_pid(*host) {
            Some(inner) if is_inside(*host, cx)? => Ok(Some(Self::Of(inner))),
            _ => {
                cx.block(
                    probe,
                    format!("it refers to process {host} outside the container"),
                    "let the program close it before the checkpoint",
                );
                Ok(None)
            }
        }
    }

    const STAGE: Stage = Stage::WithTasks;

    fn open(&self, file: FileRef, cx: &mut Restore<'_>) -> Result<OwnedFd> {
        match *self {
            Self::Of(pid) => {
                let Some(host) = cx.host_pid(pid) else {
                    return Err(bad_image(format!("a pidfd of process {pid}, which is not in the image")));
                };
                Ok(pidfd::open_flags(host, file.flags & PIDFD_THREAD)?)
            }
            Self::Dead(status) => Ok(pidfd::dead(status)?),
        }
    }
}

/// Whether a task is in the container's pid namespace or in one below it.
fn is_inside(pid: i32, cx: &Dump<'_>) -> Result<bool> {
    let container = Proc(cx.init()).link("ns/pid")?;
    let mut namespace = match Proc(pid).open("ns/pid", rustix::fs::OFlags::RDONLY) {
        Ok(namespace) => namespace,
        // A zombie has no namespaces any more; its parent does, and is in the same one or in one above.
        Err(_) => match Proc(pid).stat() {
            Ok(stat) if stat.ppid > 0 => return is_inside(stat.ppid, cx),
            _ => return Ok(false),
        },
    };
    loop {
        let ino = rustix::fs::fstat(&namespace).map_or(0, |stat| stat.st_ino);
        if format!("pid:[{ino}]") == container {
            return Ok(true);
        }
        match pidfd::parent_namespace(namespace.as_fd()) {
            Ok(parent) => namespace = parent,
            // There is none above the first.
            Err(_) => return Ok(false),
        }
    }
}
