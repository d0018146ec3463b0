//! Threads inside a system call that waits: none of them may notice.

use crate::base::{Check, Named, Prepare, Result, check, gettid, owned, pipe, same, sys, sys_fd, until_blocked};
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::mpsc::{Receiver, channel};

pub(crate) const ZOO: &[(&str, Prepare)] = &[
    ("wait_nanosleep", || waits(libc::SYS_clock_nanosleep, nanosleep)),
    ("wait_nanosleep_absolute", || waits(libc::SYS_clock_nanosleep, nanosleep_absolute)),
    ("wait_poll", || waits(libc::SYS_poll, poll)),
    ("wait_poll_with_timeout", || waits(libc::SYS_poll, poll_with_timeout)),
    ("wait_ppoll_with_mask", || waits(libc::SYS_ppoll, ppoll)),
    ("wait_select", || waits(libc::SYS_pselect6, select)),
    ("wait_epoll", || waits(libc::SYS_epoll_wait, epoll)),
    ("wait_futex_with_timeout", || waits(libc::SYS_futex, futex)),
    ("wait_read", || waits(libc::SYS_read, read_pipe)),
    ("wait_accept", || waits(libc::SYS_accept, accept)),
    ("wait_recv", || waits(libc::SYS_recvfrom, receive)),
    ("wait_child", || waits(libc::SYS_wait4, wait_child)),
    ("wait_signal", || waits(libc::SYS_rt_sigtimedwait, wait_signal)),
    ("wait_suspended", || waits(libc::SYS_rt_sigsuspend, suspend)),
    ("wait_flock", || waits(libc::SYS_flock, flock)),
    ("wait_sleep_ends", sleep_ends),
];

/// A thread makes a call that returns only by a disturbance; the check is that it has not returned.
fn waits(call: i64, enter: fn() -> Result<String>) -> Result<Check> {
    let (tell, returned): (_, Receiver<String>) = channel();
    let (tell_tid, tid) = channel();
    std::thread::spawn(move || {
        if tell_tid.send(gettid()).is_err() {
            return;
        }
        let result = enter().unwrap_or_else(|e| e);
        drop(tell.send(result));
    });
    let tid = tid.recv().named("tid")?;
    until_blocked(tid, call)?;
    check(move || {
        same("returned from its wait", returned.try_recv().ok(), None)?;
        // It may have been caught on its way back into the wait.
        until_blocked_again(tid, call)?;
        same("returned from its wait", returned.try_recv().ok(), None)
    })
}

/// After a restart the number may be that of `restart_syscall`.
fn until_blocked_again(tid: i32, call: i64) -> Result<()> {
    loop {
        let text = fs::read_to_string(format!("/proc/self/task/{tid}/syscall")).named("the waiting thread")?;
        let number = text.split(' ').next().and_then(|number| number.parse::<i64>().ok());
        if number == Some(call) || number == Some(libc::SYS_restart_syscall) {
            return Ok(());
        }
        std::thread::yield_now();
    }
}

static LONG: libc::timespec = libc::timespec { tv_sec: 100_000, tv_nsec: 7 };

fn done<T: std::fmt::Debug>(result: T) -> Result<String> {
    Ok(format!("{result:?}"))
}

fn nanosleep() -> Result<String> {
    done(sys!(libc::nanosleep(&raw const LONG, std::ptr::null_mut())))
}

fn nanosleep_absolute() -> Result<String> {
    let mut until = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    sys!(libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut until))?;
    until.tv_sec += LONG.tv_sec;
    let clock = libc::CLOCK_MONOTONIC;
    done(sys!(libc::clock_nanosleep(clock, libc::TIMER_ABSTIME, &raw const until, std::ptr::null_mut())))
}

fn silent() -> Result<(libc::pollfd, (OwnedFd, OwnedFd))> {
    let ends = pipe(0)?;
    Ok((libc::pollfd { fd: ends.0.as_raw_fd(), events: libc::POLLIN, revents: 0 }, ends))
}

fn poll() -> Result<String> {
    let (mut poll, _ends) = silent()?;
    done(sys!(libc::poll(&raw mut poll, 1, -1)))
}

fn poll_with_timeout() -> Result<String> {
    let (mut poll, _ends) = silent()?;
    done(sys!(libc::poll(&raw mut poll, 1, 100_000_000)))
}

fn ppoll() -> Result<String> {
    let (mut poll, _ends) = silent()?;
    let mask = crate::signals::set(&[libc::SIGUSR1, libc::SIGTERM]);
    done(sys!(libc::ppoll(&raw mut poll, 1, &raw const LONG, &raw const mask)))
}

fn select() -> Result<String> {
    let (poll, _ends) = silent()?;
    // SAFETY: a set of descriptors is plain bits.
    let mut read: libc::fd_set = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is a small number.
    unsafe { libc::FD_SET(poll.fd, &raw mut read) };
    let null = std::ptr::null_mut();
    done(sys!(libc::pselect(poll.fd + 1, &raw mut read, null, null, &raw const LONG, std::ptr::null())))
}

fn epoll() -> Result<String> {
    let (poll, _ends) = silent()?;
    let epoll = sys_fd!(libc::epoll_create1(0))?;
    let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 1 };
    sys!(libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, poll.fd, &raw mut event))?;
    done(sys!(libc::epoll_wait(epoll.as_raw_fd(), &raw mut event, 1, 100_000_000)))
}

fn futex() -> Result<String> {
    let word = 7_u32;
    let at = &raw const word;
    done(sys!(libc::syscall(libc::SYS_futex, at, libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG, 7, &raw const LONG)))
}

fn read_pipe() -> Result<String> {
    let (poll, _ends) = silent()?;
    let mut byte = 0_u8;
    done(sys!(libc::read(poll.fd, (&raw mut byte).cast(), 1)))
}

fn accept() -> Result<String> {
    let listener = std::os::unix::net::UnixListener::bind("/tmp/accept").named("bind")?;
    done(sys!(libc::accept(listener.as_raw_fd(), std::ptr::null_mut(), std::ptr::null_mut())))
}

fn receive() -> Result<String> {
    let mut fds = [0; 2];
    sys!(libc::socketpair(libc::AF_UNIX, libc::SOCK_DGRAM, 0, fds.as_mut_ptr()))?;
    let ends = owned(fds);
    let mut byte = 0_u8;
    done(sys!(libc::recv(ends.0.as_raw_fd(), (&raw mut byte).cast(), 1, 0)))
}

fn wait_child() -> Result<String> {
    let child = crate::base::Child::fork(|| check(|| Ok(())))?;
    done(sys!(libc::waitpid(child.pid, std::ptr::null_mut(), 0)))
}

fn wait_signal() -> Result<String> {
    let mask = crate::signals::set(&[libc::SIGUSR1]);
    sys!(libc::pthread_sigmask(libc::SIG_BLOCK, &raw const mask, std::ptr::null_mut()))?;
    done(sys!(libc::sigtimedwait(&raw const mask, std::ptr::null_mut(), &raw const LONG)))
}

fn suspend() -> Result<String> {
    let mask = crate::signals::set(&[libc::SIGUSR1]);
    done(sys!(libc::sigsuspend(&raw const mask)))
}

fn flock() -> Result<String> {
    let open = || fs::File::create("/tmp/flock").named("open");
    let (mine, theirs) = (open()?, open()?);
    sys!(libc::flock(theirs.as_raw_fd(), libc::LOCK_EX))?;
    done(sys!(libc::flock(mine.as_raw_fd(), libc::LOCK_EX)))
}

/// A sleep that is over soon does end: not early, and not with an error.
fn sleep_ends() -> Result<Check> {
    let start = || {
        let (tell, woke) = channel();
        std::thread::spawn(move || {
            let start = std::time::Instant::now();
            let time = libc::timespec { tv_sec: 0, tv_nsec: 400_000_000 };
            let result = sys!(libc::nanosleep(&raw const time, std::ptr::null_mut()));
            drop(tell.send((result, start.elapsed())));
        });
        woke
    };
    let mut running = start();
    check(move || {
        let (result, took) = running.recv().named("recv")?;
        same("nanosleep", result, Ok(0))?;
        crate::base::holds(&format!("slept {took:?}"), took.as_millis() >= 400)?;
        running = start();
        Ok(())
    })
}
