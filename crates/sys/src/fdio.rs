//! Descriptors: fcntl(2) commands that rustix and nix lack (who gets a description's signals, and which one), and
//! reading small files in few calls.

use crate::{Error, Result};
use std::os::fd::{AsRawFd, BorrowedFd};

const F_SETSIG: i32 = 10;
const F_GETSIG: i32 = 11;
const F_SETOWN_EX: i32 = 15;
const F_GETOWN_EX: i32 = 16;
const F_GETOWNER_UIDS: i32 = 17;

/// Whom a description's signals go to (`struct f_owner_ex`); ids are as the caller's pid namespace counts them.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// `F_OWNER_TID` 0, `F_OWNER_PID` 1, `F_OWNER_PGRP` 2.
    pub kind: i32,
    /// The thread, process or group; 0 when there is none.
    pub pid: i32,
}

/// Reads a file of a pseudo file system from where it stands to its end.
///
/// std's `read_to_end` asks for size and position first, and reads /proc/PID/stat in six pieces. This takes two calls.
///
/// # Errors
/// The errno of read(2).
pub fn read_whole(fd: BorrowedFd<'_>) -> rustix::io::Result<Vec<u8>> {
    let mut all = Vec::new();
    let mut piece = [0; 4096];
    loop {
        match rustix::io::retry_on_intr(|| rustix::io::read(fd, &mut piece))? {
            0 => return Ok(all),
            length => all.extend_from_slice(&piece[..length]),
        }
    }
}

/// The owner of a description's signals (`F_GETOWN_EX`, Linux 2.6.32).
///
/// # Errors
/// The errno of the call; `EBADF` for an `O_PATH` descriptor.
pub fn get_owner(fd: BorrowedFd<'_>) -> Result<Owner> {
    let mut owner = Owner { kind: 0, pid: 0 };
    // SAFETY: F_GETOWN_EX writes one f_owner_ex, for which `owner` has the layout.
    let done = unsafe { libc::fcntl(fd.as_raw_fd(), F_GETOWN_EX, &raw mut owner) };
    if done < 0 { Err(Error::last("fcntl", format_args!("{}, F_GETOWN_EX", fd.as_raw_fd()))) } else { Ok(owner) }
}

/// Sets the owner of a description's signals, with the caller's real and effective user as the sender.
///
/// # Errors
/// The errno of the call; `ESRCH` when there is no such task.
pub fn set_owner(fd: BorrowedFd<'_>, owner: Owner) -> Result<()> {
    // SAFETY: F_SETOWN_EX reads one f_owner_ex, for which `owner` has the layout.
    let done = unsafe { libc::fcntl(fd.as_raw_fd(), F_SETOWN_EX, &raw const owner) };
    if done < 0 {
        return Err(Error::last("fcntl", format_args!("{}, F_SETOWN_EX, {owner:?}", fd.as_raw_fd())));
    }
    Ok(())
}

/// The real and effective user that set the owner (`F_GETOWNER_UIDS`, needs `CONFIG_CHECKPOINT_RESTORE`).
///
/// # Errors
/// The errno of the call.
pub fn get_owner_uids(fd: BorrowedFd<'_>) -> Result<(u32, u32)> {
    let mut uids = [0_u32; 2];
    // SAFETY: F_GETOWNER_UIDS writes two uid_t.
    let done = unsafe { libc::fcntl(fd.as_raw_fd(), F_GETOWNER_UIDS, uids.as_mut_ptr()) };
    if done < 0 {
        return Err(Error::last("fcntl", format_args!("{}, F_GETOWNER_UIDS", fd.as_raw_fd())));
    }
    Ok((uids[0], uids[1]))
}

/// The signal sent when I/O becomes possible; 0 stands for SIGIO without siginfo (`F_GETSIG`).
///
/// # Errors
/// The errno of the call.
pub fn get_signal(fd: BorrowedFd<'_>) -> Result<i32> {
    // SAFETY: F_GETSIG takes no further argument.
    let signal = unsafe { libc::fcntl(fd.as_raw_fd(), F_GETSIG) };
    if signal < 0 { Err(Error::last("fcntl", format_args!("{}, F_GETSIG", fd.as_raw_fd()))) } else { Ok(signal) }
}

/// Sets the signal sent when I/O becomes possible (`F_SETSIG`).
///
/// # Errors
/// The errno of the call; `EINVAL` when there is no such signal.
pub fn set_signal(fd: BorrowedFd<'_>, signal: i32) -> Result<()> {
    // SAFETY: F_SETSIG takes an integer.
    let done = unsafe { libc::fcntl(fd.as_raw_fd(), F_SETSIG, signal) };
    if done < 0 {
        return Err(Error::last("fcntl", format_args!("{}, F_SETSIG, {signal}", fd.as_raw_fd())));
    }
    Ok(())
}

/// Runs `act` with the calling thread's real and effective user changed, and changes them back.
/// Only this thread's credentials change: the raw call is used, not the C library's, which changes all threads.
/// The kernel makes the whole process undumpable and forgets the thread's parent-death signal, as for any such change.
///
/// # Errors
/// The errno of setresuid(2), or the error of `act`.
pub fn as_user<T>(real: u32, effective: u32, act: impl FnOnce() -> Result<T>) -> Result<T> {
    let set = |r: u32, e: u32| {
        // SAFETY: setresuid takes three integers; the saved user stays, so the way back is open.
        let done = unsafe { libc::syscall(libc::SYS_setresuid, r, e, u32::MAX) };
        if done < 0 { Err(Error::last("setresuid", format_args!("{r}, {e}, -1"))) } else { Ok(()) }
    };
    // SAFETY: these calls take no arguments and can't fail.
    let (old_real, old_effective) = unsafe { (libc::getuid(), libc::geteuid()) };
    set(real, effective)?;
    let result = act();
    set(old_real, old_effective)?;
    result
}

/// Gives the calling thread a descriptor table of its own (`CLONE_FILES`) and in it each file the number beside it.
///
/// Whatever had those numbers in the copied table is closed there, while the rest of the process keeps it;
/// the files given must have other numbers. Meant for a thread that soon ends.
///
/// # Errors
/// The errno of unshare(2) or dup3(2); the table may be the thread's own by then.
pub fn renumber_in_own_table(files: &[(BorrowedFd<'_>, i32)]) -> Result<()> {
    // SAFETY: the thread gets a copy of the table; every number it knows stays valid.
    if unsafe { libc::unshare(libc::CLONE_FILES) } < 0 {
        return Err(Error::last("unshare", "CLONE_FILES"));
    }
    for (fd, number) in files {
        // SAFETY: dup3 takes integers; the table is this thread's own, so no other thread's descriptor is replaced.
        if unsafe { libc::dup3(fd.as_raw_fd(), *number, libc::O_CLOEXEC) } < 0 {
            return Err(Error::last("dup3", format_args!("{}, {number}, O_CLOEXEC", fd.as_raw_fd())));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn an_owner_set_as_another_user_is_read_back() {
        let (end, _other) = rustix::pipe::pipe().unwrap();
        let owner = Owner { kind: 1, pid: std::process::id() as i32 };
        as_user(1001, 1002, || set_owner(end.as_fd(), owner)).unwrap();
        set_signal(end.as_fd(), 34).unwrap();
        assert_eq!(get_owner(end.as_fd()).unwrap(), owner);
        assert_eq!(get_owner_uids(end.as_fd()).unwrap(), (1001, 1002));
        assert_eq!(get_signal(end.as_fd()).unwrap(), 34);
        assert_eq!(nix::unistd::geteuid().as_raw(), 0);
    }
}
