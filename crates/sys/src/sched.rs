//! Scheduling of any task: sched_getattr(2), sched_getaffinity(2), ioprio_get(2).

use crate::{Error, Result};

/// What sched_getattr(2) gives (first version, 48 bytes).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Attributes {
    size: u32,
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// -20 to 19; for the normal policies.
    pub nice: i32,
    /// 1 to 99; for the realtime policies.
    pub priority: u32,
    /// For `SCHED_DEADLINE`, in nanoseconds.
    pub runtime: u64,
    /// For `SCHED_DEADLINE`, in nanoseconds.
    pub deadline: u64,
    /// For `SCHED_DEADLINE`, in nanoseconds.
    pub period: u64,
}

/// The scheduling of a task.
///
/// # Errors
/// `ESRCH` when it is gone.
pub fn attributes(tid: i32) -> Result<Attributes> {
    let mut attributes = Attributes::default();
    let size = size_of::<Attributes>();
    // SAFETY: the call writes at most `size` bytes to `attributes`.
    let r = unsafe { libc::syscall(libc::SYS_sched_getattr, tid, &raw mut attributes, size, 0) };
    if r == -1 { Err(Error::last("sched_getattr", tid)) } else { Ok(attributes) }
}

/// The processors a task may run on: words of 64, lowest first, without empty words at the end.
///
/// # Errors
/// `ESRCH` when it is gone.
pub fn affinity(tid: i32) -> Result<Vec<u64>> {
    let mut words = vec![0u64; 1024 / 64];
    // SAFETY: the call writes at most the given number of bytes to `words`.
    let r = unsafe { libc::syscall(libc::SYS_sched_getaffinity, tid, words.len() * 8, words.as_mut_ptr()) };
    if r == -1 {
        return Err(Error::last("sched_getaffinity", tid));
    }
    words.truncate(words.iter().rposition(|w| *w != 0).map_or(0, |last| last + 1));
    Ok(words)
}

/// The I/O priority of a task: class and level as ioprio_get(2) packs them.
///
/// # Errors
/// `ESRCH` when it is gone.
pub fn io_priority(tid: i32) -> Result<i32> {
    const IOPRIO_WHO_PROCESS: i32 = 1;
    // SAFETY: ioprio_get takes two integers.
    let r = unsafe { libc::syscall(libc::SYS_ioprio_get, IOPRIO_WHO_PROCESS, tid) };
    if r == -1 { Err(Error::last("ioprio_get", tid)) } else { Ok(r as i32) }
}
