//! The objects of the container's IPC namespace, which belong to no task: System V IPC, POSIX message queues, limits.
//!
//! An IPC namespace that others use as well (the host's, a pod's) is left alone: its objects outlive the container.
//!
//! Restore has two parts: [`Ipc::restore`] before any task maps a segment or any queue is opened, [`Ipc::finish`] when
//! all have. In between, a task that is to be the last which changed a semaphore runs [`SysvIpc::changed_by`].

use super::ipc_limits::{self, Limit};
use super::mqueue::{self, NamedQueue};
use super::sysv_ipc::SysvIpc;
use crate::error::{Context as _, Result};
use crate::files::Blocker;
use crate::files::inside::own_thread;
use crate::image::blob::{Reader, Writer};
use crate::proc::Proc;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::{Mode, umask};
use rtc_sys::CallExt as _;
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// What an IPC namespace holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ipc {
    /// System V IPC.
    #[serde(default, skip_serializing_if = "SysvIpc::is_empty")]
    pub sysv: SysvIpc,
    /// POSIX message queues.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub posix_queues: Vec<NamedQueue>,
    /// Limits that differ from a new namespace's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<Limit>,
}

/// What a dump is told about the container.
pub struct IpcEnv<'a> {
    /// Its first task, as the host counts pids.
    pub init: i32,
    /// All its tasks, as the host counts.
    pub tasks: &'a BTreeSet<i32>,
    /// The segments that they have attached ([`super::sysv_ipc::segment_of_mapping`]).
    pub attached: &'a BTreeSet<i32>,
    /// Where contents go; none in a preflight.
    pub blobs: Option<&'a mut Writer>,
    /// What can't be saved is added here.
    pub blockers: &'a mut Vec<Blocker>,
}

impl Ipc {
    /// Whether there is nothing to save.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Saves what the container's IPC namespace holds, while all tasks are stopped.
    ///
    /// # Errors
    /// When a call fails; what can't be saved is a blocker.
    pub fn dump(env: IpcEnv<'_>) -> Result<Self> {
        let IpcEnv { init, tasks, attached, mut blobs, blockers } = env;
        // Most containers have nothing there, and looking at every process of the machine takes its time.
        if in_namespace(init, is_as_new).context(|| "IPC namespace")? {
            return Ok(Self::default());
        }
        if let Some(other) = other_user(init, tasks)? {
            for id in attached {
                blockers.push(Blocker {
                    pid: 0,
                    what: format!("System V shared memory segment {id}"),
                    why: format!("it is in an IPC namespace that {other} uses, too"),
                    remedy: "give the container an IPC namespace of its own".to_owned(),
                });
            }
            return Ok(Self::default());
        }
        let pid_level = Proc(init).status()?.ns_tgid.len() - 1;
        in_namespace(init, || {
            let posix_queues = mqueue::dump_named(blobs.as_deref_mut(), blockers)?;
            let Some(blobs) = blobs else { return Ok(Self { posix_queues, ..Self::default() }) };
            let sysv = SysvIpc::dump(pid_level, blobs)?;
            Ok(Self { sysv, posix_queues, limits: ipc_limits::changed()? })
        })
        .context(|| "IPC namespace")
    }

    /// Makes everything in the IPC namespace of the process `init`.
    ///
    /// # Errors
    /// When the image is wrong, or something is in the way.
    pub fn restore(&self, init: i32, blobs: &Reader) -> Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        in_namespace(init, || {
            ipc_limits::raise_to(&self.limits)?;
            self.sysv.restore(blobs)?;
            mqueue::restore_named(&self.posix_queues, blobs)
        })
        .context(|| "IPC namespace")
    }

    /// Marks segments for destruction and sets the limits, when all tasks have attached what they had attached.
    ///
    /// # Errors
    /// When the image is wrong, or the kernel refuses a limit.
    pub fn finish(&self, init: i32) -> Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        in_namespace(init, || {
            self.sysv.finish()?;
            ipc_limits::set(&self.limits)
        })
        .context(|| "IPC namespace")
    }
}

/// Runs `act` in a thread that is in the IPC namespace of the process `init` and has umask 0.
/// /proc is the host's, through which the thread sees its namespace's limits nevertheless.
fn in_namespace<T: Send>(init: i32, act: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let namespace = Proc(init).open("ns/ipc", OFlags::RDONLY)?;
    own_thread(|| {
        unshare(CloneFlags::CLONE_FS).call("unshare", "CLONE_FS")?;
        umask(Mode::empty());
        setns(&namespace, CloneFlags::CLONE_NEWIPC).call("setns", "CLONE_NEWIPC")?;
        act()
    })
}

/// Whether the calling thread's namespace holds nothing.
fn is_as_new() -> Result<bool> {
    Ok(SysvIpc::is_absent()? && mqueue::is_absent()? && ipc_limits::changed()?.is_empty())
}

/// A process outside the container that is in the IPC namespace of `init`.
fn other_user(init: i32, tasks: &BTreeSet<i32>) -> Result<Option<String>> {
    let namespace = Proc(init).link("ns/ipc")?;
    for entry in std::fs::read_dir("/proc").call("open", "/proc")? {
        let name = entry.call("getdents64", "/proc")?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        if !tasks.contains(&pid) && Proc(pid).link("ns/ipc").is_ok_and(|link| link == namespace) {
            let name = Proc(pid).text("comm").unwrap_or_default();
            return Ok(Some(format!("process {pid} ({})", name.trim_end())));
        }
    }
    Ok(None)
}
