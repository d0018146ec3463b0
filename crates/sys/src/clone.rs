//! clone3(2), setns(2) and unshare(2): new processes, and the namespaces they live in.
//!
//! Only clones that copy the address space are made here. A child that runs Rust code is made only by a process of one
//! thread: no lock can be held by a thread that the copy lacks. [`Waiting`] runs none.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::{Error, Result};

/// `CLONE_NEW*` flags and the few others that make sense for a copy; see clone(2).
pub mod flags {
    /// Time namespace (Linux 5.6).
    pub const NEWTIME: u64 = 0x80;
    /// The new process gets the caller's parent.
    pub const PARENT: u64 = libc::CLONE_PARENT as u64;
    /// Mount namespace.
    pub const NEWNS: u64 = libc::CLONE_NEWNS as u64;
    /// Cgroup namespace (Linux 4.6).
    pub const NEWCGROUP: u64 = libc::CLONE_NEWCGROUP as u64;
    /// UTS namespace: host name and domain name.
    pub const NEWUTS: u64 = libc::CLONE_NEWUTS as u64;
    /// IPC namespace.
    pub const NEWIPC: u64 = libc::CLONE_NEWIPC as u64;
    /// User namespace.
    pub const NEWUSER: u64 = libc::CLONE_NEWUSER as u64;
    /// PID namespace.
    pub const NEWPID: u64 = libc::CLONE_NEWPID as u64;
    /// Network namespace.
    pub const NEWNET: u64 = libc::CLONE_NEWNET as u64;
}

pub(crate) const CLONE_PIDFD: u64 = 0x1000;
pub(crate) const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// What [`clone3`] is to make.
#[derive(Debug, Default)]
pub struct Clone3<'a> {
    /// [`flags`].
    pub flags: u64,
    /// The directory of the cgroup2 the child starts in (`CLONE_INTO_CGROUP`, Linux 5.7).
    pub cgroup: Option<BorrowedFd<'a>>,
    /// The child's pid in its own pid namespace and then in each further one outwards (`set_tid`, Linux 5.5).
    pub set_tid: &'a [i32],
}

/// Which of the two processes goes on.
#[derive(Debug)]
pub enum Cloned {
    /// The caller.
    Parent {
        /// The child's pid as the caller counts.
        pid: i32,
        /// Its pidfd, close-on-exec.
        pidfd: OwnedFd,
    },
    /// The new process.
    Child,
}

/// `struct clone_args` (linux/sched.h), 88 bytes as of Linux 5.7.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Copies the calling process, which must have one thread.
///
/// The child's end is told to its parent by SIGCHLD.
///
/// # Errors
/// `EINVAL` from `unshare(CLONE_THREAD)` when the process has several threads; clone3's own errors, see clone(2):
/// `ENOSPC` for a namespace limit, `EEXIST` for a tid in use, `EOPNOTSUPP` and `EBUSY` for the cgroup.
pub fn clone3(what: &Clone3<'_>) -> Result<Cloned> {
    // Nothing happens in a process of one thread; in others the kernel refuses (unshare(2), CLONE_THREAD).
    unshare(libc::CLONE_THREAD as u64)?;
    let mut pidfd: i32 = -1;
    let mut args = CloneArgs {
        flags: what.flags | CLONE_PIDFD,
        pidfd: (&raw mut pidfd) as u64,
        // With CLONE_PARENT the signal is the caller's own.
        exit_signal: if what.flags & flags::PARENT == 0 { libc::SIGCHLD as u64 } else { 0 },
        set_tid: if what.set_tid.is_empty() { 0 } else { what.set_tid.as_ptr() as u64 },
        set_tid_size: what.set_tid.len() as u64,
        ..CloneArgs::default()
    };
    if let Some(cgroup) = what.cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: `args` is a valid clone_args of the size given and its pointers live to the end of the call. Neither
    // CLONE_VM nor CLONE_VFORK can be among the public flags' uses (checked below), so the child has its own copy of
    // memory and returns on its own copy of this stack; the process has one thread, checked above.
    let result = unsafe {
        assert_eq!(
            what.flags & (libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_FILES) as u64,
            0,
            "a copy shares nothing"
        );
        libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<CloneArgs>())
    };
    match result {
        0 => Ok(Cloned::Child),
        -1 => Err(Error::last("clone3", format_args!("{{flags={:#x}, set_tid={:?}}}", args.flags, what.set_tid))),
        pid => {
            // SAFETY: the kernel stored a new descriptor that nobody else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Cloned::Parent { pid: pid as i32, pidfd })
        }
    }
}

/// Moves the calling thread into a namespace (`fd` of an nsfs file, `kind` 0 or the expected flag), or into those
/// of the process behind a pidfd (`kind` a set of flags, Linux 5.8).
///
/// # Errors
/// See setns(2): `EINVAL` for a namespace of another kind, `EPERM`.
pub fn setns(fd: BorrowedFd<'_>, kind: u64) -> Result<()> {
    // SAFETY: the call takes plain numbers and touches no memory of ours.
    match unsafe { libc::setns(fd.as_raw_fd(), kind as i32) } {
        0 => Ok(()),
        _ => Err(Error::last("setns", format_args!("{}, {kind:#x}", fd.as_raw_fd()))),
    }
}

/// A process that only waits, in new namespaces, and ends when this is dropped or its parent ends.
///
/// The caller may have threads. The child sends no signal when it ends, and `wait` for any child doesn't find it.
#[derive(Debug)]
pub struct Waiting {
    pid: i32,
    // Its end of the pipe is closed last: by the caller, or with it.
    writer: Option<OwnedFd>,
}

impl Waiting {
    /// Makes it; `namespaces` are of [`flags`].
    ///
    /// # Errors
    /// pipe2's and clone3's, see clone(2): `ENOSPC` for a namespace limit, `EPERM` where user namespaces are forbidden.
    pub fn new(namespaces: u64) -> Result<Self> {
        let mut ends = [-1; 2];
        // SAFETY: the array takes two descriptors.
        if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } < 0 {
            return Err(Error::last("pipe2", "CLOEXEC"));
        }
        // SAFETY: the kernel made both, and nobody else owns them.
        let (reader, writer) = unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) };
        let args = CloneArgs { flags: namespaces, ..CloneArgs::default() };
        // SAFETY: `args` is a valid clone_args of the size given. The child has its own copy of memory and of this
        // stack, and does nothing there but close, read and _exit on its own descriptors: no lock is taken.
        let pid = unsafe {
            assert_eq!(
                namespaces & (libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_FILES) as u64,
                0,
                "a copy shares nothing"
            );
            let pid = libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>());
            if pid == 0 {
                let mut byte = 0_u8;
                libc::close(writer.as_raw_fd());
                libc::read(reader.as_raw_fd(), (&raw mut byte).cast(), 1);
                libc::_exit(0);
            }
            pid
        };
        match pid {
            -1 => Err(Error::last("clone3", format_args!("{{flags={namespaces:#x}}}"))),
            pid => Ok(Self { pid: pid as i32, writer: Some(writer) }),
        }
    }

    /// Its process id, as the caller sees it.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        drop(self.writer.take());
        // SAFETY: only waits for the child, which nobody else can have reaped: it is found by __WALL alone.
        unsafe { libc::waitpid(self.pid, std::ptr::null_mut(), libc::__WALL) };
    }
}

/// Gives the calling thread namespaces of its own, or (`CLONE_FS`) its own root and working directory.
///
/// # Errors
/// See unshare(2); `EINVAL` for `CLONE_FILES` and other sharing that unsafe code may rely on.
pub fn unshare(what: u64) -> Result<()> {
    if what & libc::CLONE_FILES as u64 != 0 {
        // Descriptors closed by one thread would stay open in another: I/O safety.
        return Err(Error::new("unshare", "CLONE_FILES", crate::Errno::EINVAL));
    }
    // SAFETY: without CLONE_FILES the call only changes kernel state that no Rust guarantee rests on.
    match unsafe { libc::unshare(what as i32) } {
        0 => Ok(()),
        _ => Err(Error::last("unshare", format_args!("{what:#x}"))),
    }
}

/// Ends the calling process at once: no destructors, no atexit functions, no flush of buffers that a parent has too.
pub fn exit(status: i32) -> ! {
    // SAFETY: _exit only ends the process.
    unsafe { libc::_exit(status) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_waits_in_its_namespace_and_ends() {
        let own = std::fs::read_link("/proc/self/ns/user").unwrap();
        let waiting = std::thread::spawn(|| Waiting::new(flags::NEWUSER).unwrap()).join().unwrap();
        let place = format!("/proc/{}", waiting.pid());
        assert_ne!(std::fs::read_link(format!("{place}/ns/user")).unwrap(), own);
        drop(waiting);
        assert!(!std::path::Path::new(&place).exists());
    }

    #[test]
    fn a_process_with_threads_is_not_copied() {
        // The test harness runs this in a thread of its own.
        let error = std::thread::spawn(|| clone3(&Clone3::default()).map(drop).unwrap_err()).join().unwrap();
        assert_eq!(error.call(), "unshare");
        assert_eq!(error.errno(), crate::Errno::EINVAL);
    }
}
