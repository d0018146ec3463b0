//! Scheduling: sched_getattr(2), sched_getaffinity(2) and ioprio_get(2) of any task; the caller's own is set.

use crate::{Error, Result};

/// A single task, by its number (ioprio_set(2)).
const IOPRIO_WHO_PROCESS: i32 = 1;

/// Scheduling policy and parameters (sched_setattr(2), Linux 3.14).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
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

/// `struct sched_attr` in its first version, 48 bytes.
#[derive(Default)]
#[repr(C)]
struct Raw {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// The scheduling of a task.
///
/// # Errors
/// `ESRCH` when it is gone.
pub fn attributes(tid: i32) -> Result<Attributes> {
    let mut raw = Raw::default();
    let size = size_of::<Raw>();
    // SAFETY: the call writes at most `size` bytes to `raw`.
    if unsafe { libc::syscall(libc::SYS_sched_getattr, tid, &raw mut raw, size, 0) } == -1 {
        return Err(Error::last("sched_getattr", tid));
    }
    let Raw { policy, flags, nice, priority, runtime, deadline, period, .. } = raw;
    Ok(Attributes { policy, flags, nice, priority, runtime, deadline, period })
}

/// Sets the calling thread's scheduling.
///
/// # Errors
/// See sched_setattr(2): `EPERM`, `EINVAL`, `EBUSY` when a deadline can't be promised.
pub fn set_attributes(attributes: &Attributes) -> Result<()> {
    let Attributes { policy, flags, nice, priority, runtime, deadline, period } = *attributes;
    let raw = Raw { size: size_of::<Raw>() as u32, policy, flags, nice, priority, runtime, deadline, period };
    // SAFETY: `raw` is a valid struct sched_attr that says its own size.
    match unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const raw, 0) } {
        0 => Ok(()),
        _ => Err(Error::last("sched_setattr", format_args!("0, {{policy={policy}, flags={flags:#x}}}"))),
    }
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
    // SAFETY: ioprio_get takes two integers.
    let r = unsafe { libc::syscall(libc::SYS_ioprio_get, IOPRIO_WHO_PROCESS, tid) };
    if r == -1 { Err(Error::last("ioprio_get", tid)) } else { Ok(r as i32) }
}

/// Sets the calling thread's I/O priority (ioprio_set(2)): `class` 0 to 3, `level` 0 to 7.
///
/// # Errors
/// `EPERM` for the real-time class, `EINVAL`.
pub fn set_io_priority(class: u32, level: u32) -> Result<()> {
    // SAFETY: plain numbers.
    match unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, (class << 13) | level) } {
        0 => Ok(()),
        _ => Err(Error::last("ioprio_set", format_args!("PROCESS, 0, class {class}, level {level}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_impossible_io_priority_is_an_error() {
        let error = set_io_priority(7, 9).unwrap_err();
        assert_eq!(error.to_string(), "ioprio_set(PROCESS, 0, class 7, level 9) = EINVAL");
    }

    #[test]
    fn what_is_set_is_what_is_read() {
        let batch = Attributes { policy: libc::SCHED_BATCH as u32, nice: 3, ..Attributes::default() };
        std::thread::spawn(move || {
            set_attributes(&batch).unwrap();
            let read = attributes(0).unwrap();
            assert_eq!((read.policy, read.nice), (batch.policy, batch.nice));
        })
        .join()
        .unwrap();
    }
}
