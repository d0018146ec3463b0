//! pidfd_open(2) and pidfd_getfd(2) with errors that name the call.

use crate::{CallExt, Errno, Error, Result};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// A handle of the process `pid` (Linux 5.3), immune to its number being used again.
///
/// # Errors
/// The errno of the call; `ESRCH` for a `pid` below 1, too.
pub fn open(pid: i32) -> Result<OwnedFd> {
    let process = u32::try_from(pid).ok().and_then(|p| rustix::process::Pid::from_raw(p as i32));
    let Some(process) = process else {
        return Err(Error::new("pidfd_open", format_args!("{pid}, 0"), Errno::ESRCH));
    };
    rustix::process::pidfd_open(process, rustix::process::PidfdFlags::empty())
        .call("pidfd_open", format_args!("{pid}, 0"))
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
    fn no_process_no_handle() {
        assert_eq!(open(-4).unwrap_err().to_string(), "pidfd_open(-4, 0) = ESRCH");
    }
}
