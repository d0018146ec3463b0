//! A process that puts socket options back when we die.
//!
//! Reading a socket can need an option that its owner must not meet (`TCP_REPAIR`, `SO_PEEK_OFF`).
//! The guard is a fork that listens at a socket whose only other end is ours.
//! When that is closed without the all-clear, by an error or because we were killed, it sets the options and exits.
//!
//! That alone would come too late at times: tasks that we trace run on when we are killed, and could meet the option
//! before the guard has got to it. So the guard traces us, for the one event that a task is about to exit: we stop there,
//! with our tracees still stopped, until the options are set (`PTRACE_O_TRACEEXIT`; for SIGKILL too since Linux 5.0).
//! Where somebody else traces us already, as strace, that is left out.
//!
//! It can't help when it is killed along with us, as by `cgroup.kill` of our own control group.

use crate::clone::{Clone3, SilentChild};
use crate::{CallExt, Result};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// One option to put back.
#[derive(Clone, Copy, Debug)]
pub struct Undo<'a> {
    /// The socket.
    pub socket: BorrowedFd<'a>,
    /// `SOL_SOCKET`, `IPPROTO_TCP`, …
    pub level: i32,
    /// The option.
    pub name: i32,
    /// Its value.
    pub value: i32,
}

/// The guard. Dropping it lets it act, and waits until it has.
#[derive(Debug)]
pub struct Guard {
    // Dropped first: without the all-clear the process acts then.
    ours: OwnedFd,
    _process: SilentChild,
}

impl Guard {
    /// Starts a guard that would set `options` in this order.
    /// It has descriptors of those sockets, and so keeps them open, until it ends.
    ///
    /// # Errors
    /// When no socket or process can be made.
    pub fn start(options: &[Undo<'_>]) -> Result<Self> {
        let (family, kind) = (rustix::net::AddressFamily::UNIX, rustix::net::SocketType::STREAM);
        let (ours, theirs) = rustix::net::socketpair(family, kind, rustix::net::SocketFlags::CLOEXEC, None)
            .call("socketpair", "AF_UNIX, SOCK_STREAM")?;
        let holder = rustix::process::getpid().as_raw_nonzero().get();
        // Everything that needs memory is made before the fork: another thread may hold the allocator's lock.
        let list: Vec<(i32, i32, i32, i32)> =
            options.iter().map(|o| (o.socket.as_raw_fd(), o.level, o.name, o.value)).collect();
        let mut keep: Vec<i32> = list.iter().map(|o| o.0).chain([theirs.as_raw_fd()]).collect();
        keep.sort_unstable();
        // SAFETY: the child only makes async-signal-safe calls.
        let process =
            unsafe { SilentChild::start(&Clone3::default(), || stand_by(&list, &keep, theirs.as_raw_fd(), holder))? };
        // From here on it would be ours alone to keep open.
        drop(theirs);
        // From here on it ends with its socket, whatever happens.
        let guard = Self { ours, _process: process };
        // It stands ready, or has died; then all clear will say so.
        let mut byte = [0];
        rustix::io::retry_on_intr(|| rustix::io::read(&guard.ours, &mut byte)).call("read", "guard, ready")?;
        Ok(guard)
    }

    /// All clear: the guard ends without setting anything.
    ///
    /// # Errors
    /// When the guard is no longer there.
    pub fn dismiss(self) -> Result<()> {
        // No signal where it is gone.
        rustix::net::send(&self.ours, b"!", rustix::net::SendFlags::NOSIGNAL).call("send", "guard, all clear").map(drop)
    }
}

/// The guard's whole life. Called in the child of a fork: async-signal-safe calls only, no memory, no panic.
fn stand_by(list: &[(i32, i32, i32, i32)], keep: &[i32], socket: i32, holder: i32) -> ! {
    // SAFETY: plain system calls; pointers are to locals.
    unsafe {
        // A terminal's hangup or interrupt is for the group that started us.
        libc::setsid();
        // The other descriptors may be the other end of this or another guard's socket, or the caller's output.
        let mut first = 0_i32;
        for &fd in keep {
            if fd > first {
                libc::syscall(libc::SYS_close_range, first, fd - 1, 0);
            }
            first = if fd >= first { fd + 1 } else { first };
        }
        libc::syscall(libc::SYS_close_range, first, u32::MAX, 0);
        // SIGCHLD is blocked as all signals are, and tells of the holder's stops here.
        let child = 1_u64 << (libc::SIGCHLD - 1);
        let stops = libc::syscall(libc::SYS_signalfd4, -1, &raw const child, size_of::<u64>(), 0) as i32;
        libc::ptrace(libc::PTRACE_SEIZE, holder, 0, libc::PTRACE_O_TRACEEXIT);
        libc::send(socket, c"r".as_ptr().cast(), 1, libc::MSG_NOSIGNAL);
        let wait = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        let mut fds = [wait(socket), wait(stops)];
        loop {
            libc::poll(fds.as_mut_ptr(), 2, -1);
            if fds[1].revents != 0 {
                let mut info = [0_u8; size_of::<libc::signalfd_siginfo>()];
                libc::read(stops, info.as_mut_ptr().cast(), info.len());
                if is_about_to_end(holder) {
                    put_back(list);
                    libc::_exit(0);
                }
            }
            if fds[0].revents != 0 {
                let mut byte = 0_u8;
                if libc::read(socket, (&raw mut byte).cast(), 1) != 1 {
                    put_back(list);
                }
                libc::_exit(0)
            }
        }
    }
}

/// Sets all options.
fn put_back(list: &[(i32, i32, i32, i32)]) {
    for (socket, level, name, value) in list {
        // SAFETY: the pointer is to a local of the length that is passed.
        unsafe {
            libc::setsockopt(*socket, *level, *name, (&raw const *value).cast(), size_of::<i32>() as u32);
        }
    }
}

/// Whether the holder has stopped at its exit, from which it goes on when its tracer ends. Lets it pass other stops.
fn is_about_to_end(holder: i32) -> bool {
    let mut status = 0;
    // SAFETY: plain system calls; the pointer is to a local.
    unsafe {
        while libc::waitpid(holder, &raw mut status, libc::__WALL | libc::WNOHANG) > 0 {
            let (signal, event) = (libc::WSTOPSIG(status), status >> 16);
            if !libc::WIFSTOPPED(status) || event == libc::PTRACE_EVENT_EXIT {
                return true;
            }
            let is_stop_signal = matches!(signal, libc::SIGSTOP | libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU);
            match event {
                0 => libc::ptrace(libc::PTRACE_CONT, holder, 0, signal),
                _ if is_stop_signal => libc::ptrace(libc::PTRACE_LISTEN, holder, 0, 0),
                _ => libc::ptrace(libc::PTRACE_CONT, holder, 0, 0),
            };
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::socket::{int_option, pair, set_int_option};
    use std::os::fd::AsFd;

    fn marked() -> OwnedFd {
        let (socket, _) = pair(libc::SOCK_DGRAM).unwrap();
        set_int_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_PRIORITY, 6).unwrap();
        socket
    }

    fn priority(socket: &OwnedFd) -> i32 {
        int_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_PRIORITY).unwrap()
    }

    fn undo(socket: &OwnedFd) -> Undo<'_> {
        Undo { socket: socket.as_fd(), level: libc::SOL_SOCKET, name: libc::SO_PRIORITY, value: 2 }
    }

    #[test]
    fn without_the_all_clear_options_are_put_back() {
        let (one, other) = (marked(), marked());
        drop(Guard::start(&[undo(&one), undo(&other), undo(&one)]).unwrap());
        assert_eq!((priority(&one), priority(&other)), (2, 2));
    }

    #[test]
    fn all_clear_leaves_them() {
        let socket = marked();
        let guard = Guard::start(&[undo(&socket)]).unwrap();
        guard.dismiss().unwrap();
        assert_eq!(priority(&socket), 6);
    }

    #[test]
    fn a_killed_holder_is_noticed() {
        let socket = marked();
        let mut status = 0;
        // SAFETY: fork of a test; the child only makes the guard, which is async-signal-safe but for memory,
        // and kills itself.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            let guard = Guard::start(&[undo(&socket)]).unwrap();
            // SAFETY: ends this process without running anything.
            unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
            drop(guard);
        }
        // SAFETY: our own child, which nobody else waits for.
        unsafe { libc::waitpid(pid, &raw mut status, 0) };
        // The guard is an orphan now and can't be waited for.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while priority(&socket) != 2 {
            assert!(std::time::Instant::now() < deadline, "the guard did nothing");
            std::thread::yield_now();
        }
    }

    /// A task that the holder traces, and that looks at the option as soon as it runs on.
    fn look(socket: &OwnedFd, tell: i32) -> ! {
        loop {
            let value = priority(socket);
            if value != 0 {
                // SAFETY: plain system calls; the pointer is to a local.
                unsafe {
                    libc::write(tell, (&raw const value).cast(), 1);
                    libc::_exit(0);
                }
            }
        }
    }

    #[test]
    fn what_a_killed_holder_traces_never_meets_the_option() {
        for _ in 0..20 {
            let (socket, _other) = pair(libc::SOCK_DGRAM).unwrap();
            let (read, write) = rustix::pipe::pipe().unwrap();
            // SAFETY: forks of a test; the children make system calls, and the guard, and end by _exit or a signal.
            let holder = unsafe { libc::fork() };
            if holder == 0 {
                // SAFETY: as above.
                let tracee = unsafe { libc::fork() };
                if tracee == 0 {
                    look(&socket, write.as_raw_fd());
                }
                crate::ptrace::seize(tracee, 0).unwrap();
                crate::ptrace::interrupt(tracee).unwrap();
                crate::ptrace::wait(tracee).unwrap();
                set_int_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_PRIORITY, 6).unwrap();
                let guard = Guard::start(&[undo(&socket)]).unwrap();
                // SAFETY: ends this process without running anything.
                unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
                drop(guard);
            }
            // SAFETY: our own child, which nobody else waits for.
            unsafe { libc::waitpid(holder, std::ptr::null_mut(), 0) };
            let mut seen = [0];
            assert_eq!(rustix::io::read(&read, &mut seen), Ok(1));
            assert_eq!(seen, [2]);
        }
    }
}
