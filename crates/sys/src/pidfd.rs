//! pidfd_open(2) and pidfd_getfd(2) with errors that name the call.

use crate::clone::{Clone3, SilentChild};
use crate::{CallExt, Errno, Error, Result};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// A handle of the process `pid` (Linux 5.3), immune to its number being used again.
///
/// # Errors
/// The errno of the call; `ESRCH` for a `pid` below 1, too.
pub fn open(pid: i32) -> Result<OwnedFd> {
    open_flags(pid, 0)
}

/// As [`open`], with flags: `PIDFD_THREAD` (`O_EXCL`, Linux 6.9) for a handle of the thread `pid`.
///
/// # Errors
/// As [`open`]; `EINVAL` when the kernel doesn't know a flag.
pub fn open_flags(pid: i32, flags: i32) -> Result<OwnedFd> {
    let process = u32::try_from(pid).ok().and_then(|p| rustix::process::Pid::from_raw(p as i32));
    let Some(process) = process else {
        return Err(Error::new("pidfd_open", format_args!("{pid}, {flags}"), Errno::ESRCH));
    };
    rustix::process::pidfd_open(process, rustix::process::PidfdFlags::from_bits_retain(flags as u32))
        .call("pidfd_open", format_args!("{pid}, {flags}"))
}

/// The wait status of the dead process of a pidfd (`PIDFD_GET_INFO` with `PIDFD_INFO_EXIT`, Linux 6.15).
///
/// # Errors
/// The errno of the call; `ENODATA` when the kernel doesn't tell.
pub fn exit_status(pidfd: BorrowedFd<'_>) -> Result<i32> {
    /// _IOWR(0xFF, 11, struct pidfd_info) of 64 bytes
    const PIDFD_GET_INFO: u64 = 0xc040_ff0b;
    const PIDFD_INFO_EXIT: u64 = 1 << 3;
    let describe = || format!("{}, PIDFD_GET_INFO, EXIT", pidfd.as_raw_fd());
    let mut info = [PIDFD_INFO_EXIT, 0, 0, 0, 0, 0, 0, 0];
    // SAFETY: the request reads and writes the 64 bytes that its number announces.
    if unsafe { libc::ioctl(pidfd.as_raw_fd(), PIDFD_GET_INFO, info.as_mut_ptr()) } < 0 {
        return Err(Error::last("ioctl", describe()));
    }
    if info[0] & PIDFD_INFO_EXIT == 0 {
        return Err(Error::new("ioctl", describe(), Errno::ENODATA));
    }
    // exit_code is the last of the 32-bit members.
    Ok((info[7] >> 32) as i32)
}

/// The namespace around a pid or user namespace (`NS_GET_PARENT`, Linux 4.9).
///
/// # Errors
/// The errno of the call; `EPERM` when it can't be seen from here.
pub fn parent_namespace(namespace: BorrowedFd<'_>) -> Result<OwnedFd> {
    const NS_GET_PARENT: u64 = 0xb702;
    // SAFETY: the request takes no argument.
    let fd = unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_PARENT) };
    if fd < 0 {
        return Err(Error::last("ioctl", format_args!("{}, NS_GET_PARENT", namespace.as_raw_fd())));
    }
    // SAFETY: the request has just made this descriptor, nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The pidfd of a process that has ended with the wait status `status` and has been reaped.
/// A status that says "killed by a signal" is reached with that signal, without a core dump.
///
/// # Errors
/// The errno of clone3(2) or waitid(2).
pub fn dead(status: i32) -> Result<OwnedFd> {
    // SAFETY: the child makes plain system calls only.
    let child = unsafe { SilentChild::start(&Clone3::default(), || end(status))? };
    child.wait()?;
    child.pidfd().try_clone_to_owned().call("fcntl", "F_DUPFD_CLOEXEC")
}

/// Ends the calling process as `status` says.
fn end(status: i32) -> ! {
    let signal = status & 0x7f;
    // SAFETY: system calls only, on memory of this frame; the process ends in any case.
    unsafe {
        if signal != 0 {
            let limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            libc::syscall(libc::SYS_prlimit64, 0_u64, u64::from(libc::RLIMIT_CORE), &raw const limit, 0_u64);
            // The default action, with nothing blocked: struct sigaction of the kernel is all zero.
            let default = [0_u64; 4];
            libc::syscall(libc::SYS_rt_sigaction, i64::from(signal), default.as_ptr(), 0_u64, 8_u64);
            libc::syscall(libc::SYS_rt_sigprocmask, i64::from(libc::SIG_SETMASK), default.as_ptr(), 0_u64, 8_u64);
            libc::syscall(libc::SYS_kill, libc::syscall(libc::SYS_getpid), i64::from(signal));
        }
        loop {
            libc::syscall(libc::SYS_exit_group, i64::from((status >> 8) & 0xff));
        }
    }
}

/// A descriptor of ours of the description that `target_fd` is in the process of `pidfd` (Linux 5.6);
/// close-on-exec is set. It needs ptrace access.
///
/// # Errors
/// The errno of the call: `EBADF`, `EPERM`, `ESRCH`, `EMFILE`.
pub fn get_fd(pidfd: BorrowedFd<'_>, target_fd: i32) -> Result<OwnedFd> {
    rustix::process::pidfd_getfd(pidfd, target_fd, rustix::process::PidfdGetfdFlags::empty())
        .call("pidfd_getfd", format_args!("{}, {target_fd}, 0", pidfd.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kcmp::{Resource, kcmp};
    use std::os::fd::AsFd;

    #[test]
    fn a_fetched_descriptor_is_the_same_description() {
        let pid = std::process::id() as i32;
        let file = std::fs::File::open("/dev/null").unwrap();
        let fetched = get_fd(open(pid).unwrap().as_fd(), file.as_raw_fd()).unwrap();
        let order = kcmp(pid, pid, Resource::File(file.as_raw_fd(), fetched.as_raw_fd())).unwrap();
        assert_eq!(order, std::cmp::Ordering::Equal);
    }

    #[test]
    fn a_dead_process_has_the_status_it_was_to_have() {
        for status in [0, 3 << 8, 255 << 8, libc::SIGKILL, libc::SIGTERM, libc::SIGRTMAX()] {
            let fd = dead(status).unwrap();
            let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).unwrap();
            assert!(info.contains("Pid:\t-1"), "{info}");
            // Before Linux 6.15 nobody is told.
            if let Ok(seen) = exit_status(fd.as_fd()) {
                assert_eq!(seen, status);
            }
        }
    }

    #[test]
    fn no_process_no_handle() {
        assert_eq!(open(-4).unwrap_err().to_string(), "pidfd_open(-4, 0) = ESRCH");
    }
}
