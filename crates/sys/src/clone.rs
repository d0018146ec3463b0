//! clone3(2), setns(2) and unshare(2): new processes, and the namespaces they live in.
//!
//! Only clones that copy the address space are made here. A child that runs Rust code is made only by a process of one
//! thread: no lock can be held by a thread that the copy lacks. A [`SilentChild`] makes system calls alone.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::{CallExt, Errno, Error, Result};

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

const CLONE_PIDFD: u64 = 0x1000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

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
    // With CLONE_PARENT the signal is the caller's own.
    let exit_signal = if what.flags & flags::PARENT == 0 { libc::SIGCHLD as u64 } else { 0 };
    // SAFETY: the process has one thread.
    unsafe { copy(what, exit_signal) }
}

/// Copies the calling process, or the one thread of it that calls.
///
/// # Safety
/// Where the process has other threads, the child may use nothing that they may hold a lock of: async-signal-safe calls
/// only, no memory, no panic.
unsafe fn copy(what: &Clone3<'_>, exit_signal: u64) -> Result<Cloned> {
    let mut pidfd: i32 = -1;
    let mut args = CloneArgs {
        flags: what.flags | CLONE_PIDFD,
        pidfd: (&raw mut pidfd) as u64,
        exit_signal,
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
    // memory and returns on its own copy of this stack; of other threads the caller takes care.
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

/// A child that nobody but its owner learns of: its end sends no signal, and `wait` for any child doesn't find it.
/// No signal reaches it but SIGKILL and SIGSTOP. Its owner, which may have threads, waits for its end when this is
/// dropped.
#[derive(Debug)]
pub(crate) struct SilentChild {
    pid: i32,
    pidfd: OwnedFd,
}

impl SilentChild {
    /// Forks; the child is all that `life` does, and ends with the status that it returns.
    ///
    /// # Safety
    /// `life` makes async-signal-safe calls only, takes no memory and doesn't panic.
    ///
    /// # Errors
    /// clone3's, see clone(2).
    pub(crate) unsafe fn start(what: &Clone3<'_>, life: impl FnOnce() -> i32) -> Result<Self> {
        assert_eq!(what.flags & flags::PARENT, 0, "a child of another can't be waited for");
        let mut before = 0;
        // It must not run a handler of ours, nor die of a signal to our group, even in its first moment.
        set_signal_mask(!0, &mut before);
        // SAFETY: as the caller promises.
        let cloned = unsafe { copy(what, 0) };
        if let Ok(Cloned::Child) = cloned {
            exit(life());
        }
        set_signal_mask(before, &mut 0);
        match cloned? {
            Cloned::Parent { pid, pidfd } => Ok(Self { pid, pidfd }),
            Cloned::Child => unreachable!("its life has no end here"),
        }
    }

    /// Its pidfd.
    pub(crate) fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Waits until it has ended, and says whether its status is 0.
    ///
    /// # Errors
    /// `ECHILD` when that is known already, or a wait with `__WALL` for any child has found it.
    pub(crate) fn wait(&self) -> Result<bool> {
        loop {
            // SAFETY: all zeroes is a valid siginfo_t.
            let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
            let (pidfd, options) = (self.pidfd.as_raw_fd() as u32, libc::WEXITED | libc::__WALL);
            // SAFETY: the call writes to `info` alone, and fills in the fields of SIGCHLD.
            let (waited, status) =
                unsafe { (libc::waitid(libc::P_PIDFD, pidfd, &raw mut info, options), info.si_status()) };
            match Errno::last() {
                _ if waited == 0 => return Ok(info.si_code == libc::CLD_EXITED && status == 0),
                Errno::EINTR => {}
                errno => return Err(Error::new("waitid", format_args!("P_PIDFD, {pidfd}, EXITED | __WALL"), errno)),
            }
        }
    }
}

impl Drop for SilentChild {
    fn drop(&mut self) {
        // It fails where it has been waited for already: then the child has ended as well.
        let _: Result<bool> = self.wait();
    }
}

fn set_signal_mask(new: u64, old: &mut u64) {
    // SAFETY: both are kernel signal sets of eight bytes.
    unsafe {
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const new, &raw mut *old, size_of::<u64>());
    }
}

/// A process that only waits, in new namespaces, and ends when this is dropped or its parent ends.
///
/// The caller may have threads. The child sends no signal when it ends, and `wait` for any child doesn't find it.
#[derive(Debug)]
pub struct Waiting {
    // Its end of the pipe is closed last: by the caller, or with it. Dropped before the child is waited for.
    _writer: OwnedFd,
    process: SilentChild,
}

impl Waiting {
    /// Makes it; `namespaces` are of [`flags`].
    ///
    /// # Errors
    /// pipe2's and clone3's, see clone(2): `ENOSPC` for a namespace limit, `EPERM` where user namespaces are forbidden.
    pub fn new(namespaces: u64) -> Result<Self> {
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).call("pipe2", "O_CLOEXEC")?;
        let what = Clone3 { flags: namespaces, ..Clone3::default() };
        // SAFETY: the child only closes and reads its own descriptors, and ends.
        let process = unsafe {
            SilentChild::start(&what, || {
                let mut byte = 0_u8;
                libc::close(writer.as_raw_fd());
                libc::read(reader.as_raw_fd(), (&raw mut byte).cast(), 1);
                0
            })?
        };
        Ok(Self { _writer: writer, process })
    }

    /// Its process id, as the caller sees it.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.process.pid
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
