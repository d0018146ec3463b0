//! Waiting for a child with what it used: wait4(2).

use std::time::Duration;

use crate::{Error, Result};

/// A child that has ended.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// The exit status; `None` when a signal ended it.
    pub status: Option<i32>,
    /// Processor time of the child and of all its descendants that were waited for.
    pub cpu: Duration,
    /// The most memory that one of them had at once, in bytes. A child begins with its parent's peak (getrusage(2)).
    pub peak_memory: u64,
}

/// Waits for the child `pid`.
///
/// # Errors
/// `ECHILD` when it isn't a child; `EINTR`.
pub fn wait(pid: i32) -> Result<Ended> {
    let mut status = 0;
    // SAFETY: all zeroes are a valid rusage.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the pointers are to locals of the types that the call fills.
    if unsafe { libc::wait4(pid, &raw mut status, 0, &raw mut usage) } < 0 {
        return Err(Error::last("wait4", pid));
    }
    let time = |time: libc::timeval| Duration::new(time.tv_sec as u64, time.tv_usec as u32 * 1000);
    Ok(Ended {
        status: libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status)),
        cpu: time(usage.ru_utime) + time(usage.ru_stime),
        peak_memory: usage.ru_maxrss as u64 * 1024,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_waited_for_with_its_status() {
        #[allow(clippy::zombie_processes, reason = "the wait under test is another than the one that clippy knows")]
        let child = std::process::Command::new("/bin/sh").args(["-c", "exit 7"]).spawn().unwrap();
        let ended = wait(i32::try_from(child.id()).unwrap()).unwrap();
        assert_eq!(ended.status, Some(7));
        assert!(ended.peak_memory > 0);
    }
}
