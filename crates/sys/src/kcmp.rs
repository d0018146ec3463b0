//! kcmp(2): whether two tasks hold the same kernel object, without learning its address.

use crate::{Error, Result};
use std::cmp::Ordering;

/// What [`kcmp`] compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// Two open file descriptions, named by descriptor numbers in the two tasks.
    File(i32, i32),
    /// Address spaces (`CLONE_VM`).
    Vm,
    /// Descriptor tables (`CLONE_FILES`).
    Files,
    /// Root, working directory and umask (`CLONE_FS`).
    Fs,
    /// Signal handlers (`CLONE_SIGHAND`).
    SigHand,
    /// I/O contexts (`CLONE_IO`).
    Io,
    /// System V semaphore undo lists (`CLONE_SYSVSEM`).
    SysVSem,
}

impl Resource {
    /// The number and the two indices of `<linux/kcmp.h>`.
    fn raw(self) -> (i32, u64, u64) {
        match self {
            Self::File(a, b) => (0, a as u64, b as u64),
            Self::Vm => (1, 0, 0),
            Self::Files => (2, 0, 0),
            Self::Fs => (3, 0, 0),
            Self::SigHand => (4, 0, 0),
            Self::Io => (5, 0, 0),
            Self::SysVSem => (6, 0, 0),
        }
    }
}

/// Compares objects of the tasks `pid1` and `pid2`; the order is stable until the next boot (kcmp(2), Linux 3.5).
///
/// # Errors
/// The errno of the call: `ESRCH`, `EPERM` without ptrace access to both, `EBADF`, `ENOSYS` without `CONFIG_KCMP`.
/// `EINVAL` also stands for the answer "different, and without an order", which no kernel gives for these resources.
pub fn kcmp(pid1: i32, pid2: i32, what: Resource) -> Result<Ordering> {
    let (kind, a, b) = what.raw();
    // SAFETY: kcmp takes five integers and touches no memory of ours.
    let order = unsafe { libc::syscall(libc::SYS_kcmp, pid1, pid2, kind, a, b) };
    answer(order, format_args!("{pid1}, {pid2}, {what:?}"))
}

/// Compares the file `fd` of task `pid` with the one that the epoll instance `epoll_fd` of task `epoll_pid` watches
/// under the number `watched_fd`, the `offset`th of that number (`KCMP_EPOLL_TFD`, Linux 4.13).
///
/// # Errors
/// As [`kcmp`]; `ENOENT` when there is no such watch.
pub fn kcmp_epoll(pid: i32, fd: i32, epoll_pid: i32, epoll_fd: i32, watched_fd: i32, offset: u32) -> Result<Ordering> {
    // struct kcmp_epoll_slot
    let slot: [u32; 3] = [epoll_fd as u32, watched_fd as u32, offset];
    // SAFETY: the fifth argument points to a kcmp_epoll_slot that lives through the call; the kernel only reads it.
    let order = unsafe { libc::syscall(libc::SYS_kcmp, pid, epoll_pid, 7, fd as u64, slot.as_ptr()) };
    answer(order, format_args!("{pid}, {epoll_pid}, EPOLL_TFD, {fd}, {slot:?}"))
}

fn answer(order: i64, arguments: std::fmt::Arguments<'_>) -> Result<Ordering> {
    match order {
        0 => Ok(Ordering::Equal),
        1 => Ok(Ordering::Less),
        2 => Ok(Ordering::Greater),
        -1 => Err(Error::last("kcmp", arguments)),
        _ => Err(Error::from_raw("kcmp", arguments, libc::EINVAL)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn duplicates_are_equal_and_others_are_ordered() {
        let pid = std::process::id() as i32;
        let (a, b) = (std::fs::File::open("/dev/null").unwrap(), std::fs::File::open("/dev/null").unwrap());
        let a2 = a.try_clone().unwrap();
        let compare = |x: &std::fs::File, y: &std::fs::File| {
            kcmp(pid, pid, Resource::File(x.as_raw_fd(), y.as_raw_fd())).unwrap()
        };
        assert_eq!(compare(&a, &a2), Ordering::Equal);
        assert_ne!(compare(&a, &b), Ordering::Equal);
        assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
    }

    #[test]
    fn a_wrong_descriptor_is_named() {
        let pid = std::process::id() as i32;
        let error = kcmp(pid, pid, Resource::File(-1, 0)).unwrap_err().to_string();
        assert_eq!(error, format!("kcmp({pid}, {pid}, File(-1, 0)) = EBADF"));
    }
}
