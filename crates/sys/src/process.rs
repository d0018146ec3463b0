//! Attributes of the calling process that rustix and nix don't reach.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::{CallExt, Errno, Error, Result};

/// Marks all descriptors from `first` to `last` close-on-exec (close_range(2) with `CLOSE_RANGE_CLOEXEC`, Linux 5.11).
///
/// # Errors
/// `EINVAL` on older kernels.
pub fn cloexec_range(first: u32, last: u32) -> Result<()> {
    const CLOSE_RANGE_CLOEXEC: u32 = 4;
    // SAFETY: the call takes plain numbers; descriptors stay open, so nobody loses one.
    match unsafe { libc::syscall(libc::SYS_close_range, first, last, CLOSE_RANGE_CLOEXEC) } {
        0 => Ok(()),
        _ => Err(Error::last("close_range", format_args!("{first}, {last}, CLOEXEC"))),
    }
}

/// Sends a signal to the process behind a pidfd (pidfd_send_signal(2), Linux 5.1); 0 only asks whether it could.
///
/// # Errors
/// `ESRCH` when it has ended, `EPERM`, `EINVAL` for a number that is no signal.
pub fn send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<()> {
    let nothing: *const libc::siginfo_t = std::ptr::null();
    // SAFETY: without siginfo the call takes plain numbers.
    match unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, nothing, 0) } {
        0 => Ok(()),
        _ => Err(Error::last("pidfd_send_signal", format_args!("{}, {signal}", pidfd.as_raw_fd()))),
    }
}

/// Whether the number is that of an open descriptor without close-on-exec.
#[must_use]
pub fn is_inherited(number: u32) -> bool {
    // SAFETY: F_GETFD only asks about the number; on one that isn't open it fails.
    unsafe { libc::fcntl(number as i32, libc::F_GETFD) == 0 }
}

/// Closes all descriptors from `first` up but those in `keep`, which is sorted on the way (close_range(2), Linux 5.9).
///
/// For a process that is about to execute a program: owners of the closed descriptors that still exist must not be used
/// or dropped any more. That is a rule of I/O safety, not of memory safety, and the caller's to keep.
///
/// # Errors
/// `ENOSYS` on older kernels.
pub fn close_all_but(first: u32, keep: &mut [i32]) -> Result<()> {
    keep.sort_unstable();
    let mut from = first;
    let close = |from: u32, to: u32| -> Result<()> {
        if from > to {
            return Ok(());
        }
        // SAFETY: the call takes plain numbers and touches no memory; see above for the descriptors.
        match unsafe { libc::syscall(libc::SYS_close_range, from, to, 0) } {
            0 => Ok(()),
            _ => Err(Error::last("close_range", format_args!("{from}, {to}, 0"))),
        }
    };
    for kept in keep.iter().filter_map(|fd| u32::try_from(*fd).ok()).filter(|fd| *fd >= first) {
        if kept > from {
            close(from, kept - 1)?;
        }
        from = kept + 1;
    }
    close(from, u32::MAX)
}

/// Gives all signals their default action and unblocks them, as a new program expects.
///
/// # Errors
/// Only `sigprocmask`'s, which has none here.
pub fn reset_signals() -> Result<()> {
    /// The kernel's `struct sigaction`, all zeroes: SIG_DFL, no flags, empty mask.
    const DEFAULT: [u64; 4] = [0; 4];
    const MASK_BYTES: usize = 8;
    for signal in 1..=64 {
        if signal == libc::SIGKILL || signal == libc::SIGSTOP {
            continue;
        }
        let old: *mut u64 = std::ptr::null_mut();
        // By the bare call: the C library keeps 32 and 33 to itself, and a caller may have them ignored.
        // SAFETY: SIG_DFL is no handler of ours, so no code can run in a signal's context; the kernel reads DEFAULT.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, DEFAULT.as_ptr(), old, MASK_BYTES) };
    }
    nix::sys::signal::SigSet::empty()
        .thread_set_mask()
        .map_err(|errno| Error::new("sigprocmask", "SIG_SETMASK, []", errno))
}

/// Has this process exit with 128 + the number when a signal comes that asks for its end: HUP, INT, QUIT or TERM.
///
/// The first process of a pid namespace would ignore them otherwise. The next execve(2) undoes it.
///
/// # Errors
/// Only `sigaction`'s, which has none here.
pub fn end_on_signals() -> Result<()> {
    use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
    extern "C" fn end(signal: libc::c_int) {
        // SAFETY: async-signal-safe, and nothing of this process runs after it.
        unsafe { libc::_exit(128 + signal) }
    }
    let action = SigAction::new(SigHandler::Handler(end), SaFlags::empty(), SigSet::empty());
    for signal in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM] {
        // SAFETY: the handler makes one async-signal-safe call.
        unsafe { sigaction(signal, &action) }.map_err(|errno| Error::new("sigaction", signal, errno))?;
    }
    Ok(())
}

/// Has a program begin with default signal actions and none blocked, whatever this process has set for itself:
/// [`Command`] by itself hands the mask on.
pub fn with_default_signals(command: &mut Command) -> &mut Command {
    let reset = || reset_signals().map_err(|e| io::Error::from_raw_os_error(e.errno() as i32));
    // SAFETY: between fork and exec only bare system calls are made, and nothing is allocated unless one fails.
    unsafe { command.pre_exec(reset) }
}

/// Gives a program these files as its descriptors 3, 4, …, as logging programs of containerd and socket activation
/// expect them.
///
/// # Errors
/// No descriptor is free.
pub fn with_files(command: &mut Command, files: Vec<OwnedFd>) -> Result<&mut Command> {
    let first = 3;
    let above = first + i32::try_from(files.len()).unwrap_or(i32::MAX - first);
    // Out of the way of the numbers that are about to be taken.
    let copies =
        files.iter().map(|file| rustix::io::fcntl_dupfd_cloexec(file, above)).collect::<rustix::io::Result<Vec<_>>>();
    let copies = copies.call("fcntl", format_args!("F_DUPFD_CLOEXEC, {above}"))?;
    let place = move || {
        for (number, copy) in (first..).zip(&copies) {
            // SAFETY: dup2 takes numbers alone; this process, which is about to execute, uses none of those from 3 up.
            if unsafe { libc::dup2(copy.as_raw_fd(), number) } < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: between fork and exec only bare system calls are made.
    Ok(unsafe { command.pre_exec(place) })
}

/// Joins a new session keyring with this name and returns its serial (keyctl(2), `KEYCTL_JOIN_SESSION_KEYRING`).
///
/// # Errors
/// `ENOSYS` where the kernel has no keys, `EDQUOT` when the user has too many.
pub fn join_session_keyring(name: &CStr) -> Result<i32> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_int = 1;
    // SAFETY: `name` is a C string; the kernel only reads it.
    let serial = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr()) };
    if serial < 0 {
        Err(Error::last("keyctl", format_args!("JOIN_SESSION_KEYRING, {name:?}")))
    } else {
        Ok(serial as i32)
    }
}

/// Lets the user of a keyring search it: sets the bits `add` in its permissions, as runc does for sessions.
///
/// # Errors
/// See keyctl_setperm(3) and keyctl_describe(3).
pub fn add_key_permissions(serial: i32, add: u32) -> Result<()> {
    const KEYCTL_DESCRIBE: libc::c_int = 6;
    const KEYCTL_SETPERM: libc::c_int = 5;
    let mut buffer = [0u8; 1024];
    // SAFETY: the kernel writes at most the given number of bytes into `buffer`.
    let n = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_DESCRIBE, serial, buffer.as_mut_ptr(), buffer.len()) };
    if n < 0 {
        return Err(Error::last("keyctl", format_args!("DESCRIBE, {serial}")));
    }
    let end = usize::try_from(n).unwrap_or(0).min(buffer.len());
    // "type;uid;gid;permissions in hex;description"
    let text = String::from_utf8_lossy(&buffer[..end]);
    let permissions = text.split(';').nth(3).and_then(|field| u32::from_str_radix(field, 16).ok());
    let Some(permissions) = permissions else {
        return Err(Error::new("keyctl", format_args!("DESCRIBE, {serial}"), Errno::EINVAL));
    };
    // SAFETY: plain numbers.
    match unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_SETPERM, serial, permissions | add) } {
        0 => Ok(()),
        _ => Err(Error::last("keyctl", format_args!("SETPERM, {serial}, {:#x}", permissions | add))),
    }
}

/// Sets the execution domain (personality(2)), inherited through execve.
///
/// # Errors
/// `EINVAL`.
pub fn set_personality(persona: u64) -> Result<()> {
    // SAFETY: only flags of later calls change; READ_IMPLIES_EXEC and the like take effect at execve.
    match unsafe { libc::personality(persona) } {
        -1 => Err(Error::last("personality", format_args!("{persona:#x}"))),
        _ => Ok(()),
    }
}

/// Sets the calling thread's NUMA policy (set_mempolicy(2)); `nodes` has bit N of word N/64 set for node N.
///
/// # Errors
/// `EINVAL` for a mode or node the kernel doesn't have.
pub fn set_memory_policy(mode: i32, nodes: &[u64]) -> Result<()> {
    let bits = nodes.len() * 64;
    let (pointer, max) = if nodes.is_empty() { (std::ptr::null(), 0) } else { (nodes.as_ptr(), bits + 1) };
    // SAFETY: the kernel reads `max - 1` bits, which are those of `nodes`.
    match unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, pointer, max) } {
        0 => Ok(()),
        _ => Err(Error::last("set_mempolicy", format_args!("{mode:#x}, {nodes:x?}"))),
    }
}

/// Wipes the environment that this process was executed with, for one whose memory (`/proc/PID/environ`) others are about
/// to see. `std::env` finds nothing afterwards.
///
/// For a process of one thread: another could be reading what goes.
pub fn forget_environment() {
    unsafe extern "C" {
        static mut environ: *mut *mut libc::c_char;
    }
    // SAFETY: environ is the C library's list of strings, ended by a null; one thread alone reads or writes it. The
    // strings are on the stack where the kernel has put them, or on the heap, and writable either way.
    unsafe {
        let mut entry = environ;
        while !entry.is_null() && !(*entry).is_null() {
            std::ptr::write_bytes(*entry, 0, libc::strlen(*entry));
            entry = entry.add(1);
        }
        if !environ.is_null() {
            *environ = std::ptr::null_mut();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_range_marks_descriptors() {
        let file = std::fs::File::open("/dev/null").unwrap();
        let high = rustix::io::fcntl_dupfd_cloexec(&file, 900).unwrap();
        rustix::io::fcntl_setfd(&high, rustix::io::FdFlags::empty()).unwrap();
        let fd = high.as_raw_fd() as u32;
        cloexec_range(fd, fd).unwrap();
        assert!(rustix::io::fcntl_getfd(&high).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
    }
}
