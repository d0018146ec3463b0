//! A process that puts socket options back when we die.
//!
//! Reading a socket can need an option that its owner must not meet (`TCP_REPAIR`, `SO_PEEK_OFF`).
//! The guard is a fork that waits on a pipe whose only write end is ours.
//! When that is closed without the all-clear, by an error or because we were killed, it sets the options and exits.
//! It can't help when it is killed along with us, as by `cgroup.kill` of our own control group.

use crate::{CallExt, Error, Result};
use rustix::process::{WaitIdOptions, WaitIdStatus};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

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
    pipe: Option<OwnedFd>,
    process: OwnedFd,
}

impl Guard {
    /// Starts a guard that would set `options` in this order.
    /// It has descriptors of those sockets, and so keeps them open, until it ends.
    ///
    /// # Errors
    /// When no pipe or process can be made.
    pub fn start(options: &[Undo<'_>]) -> Result<Self> {
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).call("pipe2", "O_CLOEXEC")?;
        // Everything that needs memory is made before the fork: another thread may hold the allocator's lock.
        let list: Vec<(i32, i32, i32, i32)> =
            options.iter().map(|o| (o.socket.as_raw_fd(), o.level, o.name, o.value)).collect();
        let mut keep: Vec<i32> = list.iter().map(|o| o.0).chain([read.as_raw_fd()]).collect();
        keep.sort_unstable();
        let mut pidfd: i32 = -1;
        // SAFETY: all zeroes are valid clone_args.
        let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
        arguments.flags = libc::CLONE_PIDFD as u64;
        arguments.pidfd = &raw mut pidfd as u64;
        arguments.exit_signal = libc::SIGCHLD as u64;
        let all = !0_u64;
        let mut mask = 0_u64;
        // The child must not run a handler of ours nor die of a signal to our group.
        set_signal_mask(&all, &mut mask);
        // SAFETY: without CLONE_VM and with no stack given this is fork(2).
        // The child calls only async-signal-safe functions and does not return.
        let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut arguments, size_of_val(&arguments)) };
        if pid == 0 {
            stand_by(&list, &keep, read.as_raw_fd());
        }
        let result = if pid < 0 { Err(Error::last("clone3", "CLONE_PIDFD")) } else { Ok(()) };
        set_signal_mask(&mask, &mut 0);
        result?;
        // SAFETY: clone3 has put a new descriptor there.
        let process = unsafe { OwnedFd::from_raw_fd(pidfd) };
        Ok(Self { pipe: Some(write), process })
    }

    /// All clear: the guard ends without setting anything.
    ///
    /// # Errors
    /// When the guard is no longer there.
    pub fn dismiss(mut self) -> Result<()> {
        if let Some(pipe) = self.pipe.take() {
            rustix::io::write(&pipe, b"!").call("write", "guard, all clear")?;
        }
        Ok(())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.pipe = None;
        let options = WaitIdOptions::EXITED;
        // It may have been reaped by a wait for any child; then it has ended as well.
        let _: std::result::Result<Option<WaitIdStatus>, _> = rustix::io::retry_on_intr(|| {
            rustix::process::waitid(rustix::process::WaitId::PidFd(self.process.as_fd()), options)
        });
    }
}

fn set_signal_mask(new: &u64, old: &mut u64) {
    // SAFETY: both are kernel signal sets of eight bytes.
    unsafe {
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const *new, &raw mut *old, size_of::<u64>());
    }
}

/// The guard's whole life. Called in the child of a fork: async-signal-safe calls only, no memory, no panic.
fn stand_by(list: &[(i32, i32, i32, i32)], keep: &[i32], pipe: i32) -> ! {
    // SAFETY: plain system calls; pointers are to locals.
    unsafe {
        // A terminal's hangup or interrupt is for the group that started us.
        libc::setsid();
        // The other descriptors may be the write end of this or another guard's pipe, or the caller's output.
        let mut first = 0_i32;
        for &fd in keep {
            if fd > first {
                libc::syscall(libc::SYS_close_range, first, fd - 1, 0);
            }
            first = if fd >= first { fd + 1 } else { first };
        }
        libc::syscall(libc::SYS_close_range, first, u32::MAX, 0);
        let mut byte = 0_u8;
        if libc::read(pipe, (&raw mut byte).cast(), 1) != 1 {
            for (socket, level, name, value) in list {
                libc::setsockopt(*socket, *level, *name, (&raw const *value).cast(), size_of::<i32>() as u32);
            }
        }
        libc::_exit(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::socket::{int_option, pair, set_int_option};

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
}
