//! Timers: interval timers, POSIX timers, timer descriptors.

use crate::base::{Check, Prepare, Result, check, fails, holds, read, ready, same, sys, sys_fd};
use crate::signals::set;
use std::os::fd::AsRawFd;

pub(crate) const ZOO: &[(&str, Prepare)] = &[
    ("itimers", itimers),
    ("posix_timers", posix_timers),
    ("ticking_timer", ticking_timer),
    ("timerfd", timerfd),
    ("timerfd_expired", timerfd_expired),
];

const HOUR: i64 = 3600;

fn spec(seconds: i64, interval: i64) -> libc::itimerspec {
    let time = |tv_sec| libc::timespec { tv_sec, tv_nsec: 0 };
    libc::itimerspec { it_interval: time(interval), it_value: time(seconds) }
}

/// Between nothing and some minutes of the time has gone by.
#[track_caller]
fn near(what: &str, left: i64, set: i64) -> Result<()> {
    holds(&format!("{what}: {left} s of {set} left"), left <= set && left > set - 600)
}

/// Real, virtual and profiling timers far from their end, each with an interval.
fn itimers() -> Result<Check> {
    let timers = [(libc::ITIMER_REAL, HOUR), (libc::ITIMER_VIRTUAL, 2 * HOUR), (libc::ITIMER_PROF, 3 * HOUR)];
    for (which, seconds) in timers {
        let time = |tv_sec| libc::timeval { tv_sec, tv_usec: 0 };
        let value = libc::itimerval { it_interval: time(seconds + 1), it_value: time(seconds) };
        sys!(libc::setitimer(which, &raw const value, std::ptr::null_mut()))?;
    }
    check(move || {
        for (which, seconds) in timers {
            // SAFETY: plain data that is filled by the call.
            let mut value: libc::itimerval = unsafe { std::mem::zeroed() };
            sys!(libc::getitimer(which, &raw mut value))?;
            same("interval", value.it_interval.tv_sec, seconds + 1)?;
            near("itimer", value.it_value.tv_sec, seconds)?;
        }
        Ok(())
    })
}

/// A raw timer, so that its number is the kernel's.
fn create(clock: i32, notify: i32, signal: i32, value: usize) -> Result<i32> {
    // SAFETY: plain data that is filled below.
    let mut event: libc::sigevent = unsafe { std::mem::zeroed() };
    event.sigev_notify = notify;
    event.sigev_signo = signal;
    event.sigev_value = libc::sigval { sival_ptr: value as *mut _ };
    event.sigev_notify_thread_id = crate::base::gettid();
    let mut id = -1_i32;
    sys!(libc::syscall(libc::SYS_timer_create, clock, &raw const event, &raw mut id))?;
    Ok(id)
}

fn start(id: i32, seconds: i64, interval: i64) -> Result<()> {
    let spec = spec(seconds, interval);
    sys!(libc::syscall(libc::SYS_timer_settime, id, 0, &raw const spec, std::ptr::null_mut::<u8>())).map(drop)
}

fn left(id: i32) -> Result<libc::itimerspec> {
    let mut now = spec(0, 0);
    sys!(libc::syscall(libc::SYS_timer_gettime, id, &raw mut now))?;
    Ok(now)
}

/// Timers with numbers that leave gaps, on several clocks, with several ways to notify; one is not started.
fn posix_timers() -> Result<Check> {
    let signal = libc::SIGRTMIN() + 4;
    let first = create(libc::CLOCK_MONOTONIC, libc::SIGEV_SIGNAL, signal, 1)?;
    let gone = create(libc::CLOCK_MONOTONIC, libc::SIGEV_SIGNAL, signal, 2)?;
    let third = create(libc::CLOCK_REALTIME, libc::SIGEV_NONE, 0, 3)?;
    let fourth = create(libc::CLOCK_BOOTTIME, libc::SIGEV_THREAD_ID, signal, 4)?;
    let idle = create(libc::CLOCK_PROCESS_CPUTIME_ID, libc::SIGEV_SIGNAL, signal, 5)?;
    sys!(libc::syscall(libc::SYS_timer_delete, gone))?;
    let running = [(first, HOUR, 0), (third, 2 * HOUR, 5), (fourth, 3 * HOUR, HOUR)];
    for (id, seconds, interval) in running {
        start(id, seconds, interval)?;
    }
    let table = || std::fs::read_to_string("/proc/self/timers").unwrap_or_default();
    let before = table();
    check(move || {
        for (id, seconds, interval) in running {
            let now = left(id)?;
            same("interval", now.it_interval.tv_sec, interval)?;
            near(&format!("timer {id}"), now.it_value.tv_sec, seconds)?;
        }
        same("the timer that is not started", left(idle)?.it_value.tv_sec, 0)?;
        fails("the deleted timer", left(gone).map(drop), libc::EINVAL)?;
        same("/proc/self/timers", table(), before.clone())
    })
}

/// A short timer goes on ticking.
fn ticking_timer() -> Result<Check> {
    let signal = libc::SIGRTMIN() + 4;
    let blocked = set(&[signal]);
    sys!(libc::pthread_sigmask(libc::SIG_BLOCK, &raw const blocked, std::ptr::null_mut()))?;
    let id = create(libc::CLOCK_MONOTONIC, libc::SIGEV_SIGNAL, signal, 77)?;
    let tick = libc::timespec { tv_sec: 0, tv_nsec: 20_000_000 };
    let spec = libc::itimerspec { it_interval: tick, it_value: tick };
    sys!(libc::syscall(libc::SYS_timer_settime, id, 0, &raw const spec, std::ptr::null_mut::<u8>()))?;
    check(move || {
        for _ in 0..3 {
            // SAFETY: plain data that is filled by the call.
            let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
            let patience = libc::timespec { tv_sec: 10, tv_nsec: 0 };
            sys!(libc::sigtimedwait(&raw const blocked, &raw mut info, &raw const patience))?;
            // SAFETY: a timer's signal has a value.
            same("value", unsafe { info.si_value() }.sival_ptr as usize, 77)?;
            same("code", info.si_code, libc::SI_TIMER)?;
        }
        Ok(())
    })
}

fn timer_descriptor(clock: i32, spec: libc::itimerspec) -> Result<std::os::fd::OwnedFd> {
    let fd = sys_fd!(libc::timerfd_create(clock, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC))?;
    sys!(libc::timerfd_settime(fd.as_raw_fd(), 0, &raw const spec, std::ptr::null_mut()))?;
    Ok(fd)
}

/// Timer descriptors of several clocks, far from their end, one at an absolute time, one disarmed.
fn timerfd() -> Result<Check> {
    let clocks = [libc::CLOCK_MONOTONIC, libc::CLOCK_REALTIME, libc::CLOCK_BOOTTIME];
    let mut armed = Vec::new();
    for (clock, seconds) in clocks.into_iter().zip([HOUR, 2 * HOUR, 3 * HOUR]) {
        armed.push((timer_descriptor(clock, spec(seconds, 9))?, seconds));
    }
    let absolute = sys_fd!(libc::timerfd_create(libc::CLOCK_REALTIME, libc::TFD_NONBLOCK))?;
    // SAFETY: takes nothing but a null pointer.
    let end = unsafe { libc::time(std::ptr::null_mut()) } + HOUR;
    let at = spec(end, 9);
    sys!(libc::timerfd_settime(absolute.as_raw_fd(), libc::TFD_TIMER_ABSTIME, &raw const at, std::ptr::null_mut()))?;
    armed.push((absolute, HOUR));
    let disarmed = timer_descriptor(libc::CLOCK_MONOTONIC, spec(0, 0))?;
    check(move || {
        for (fd, seconds) in &armed {
            let mut now = spec(0, 0);
            sys!(libc::timerfd_gettime(fd.as_raw_fd(), &raw mut now))?;
            same("interval", now.it_interval.tv_sec, 9)?;
            near("timerfd", now.it_value.tv_sec, *seconds)?;
            same("not expired", ready(fd, libc::POLLIN)?, 0)?;
        }
        let mut now = spec(1, 1);
        sys!(libc::timerfd_gettime(disarmed.as_raw_fd(), &raw mut now))?;
        same("disarmed", (now.it_value.tv_sec, now.it_interval.tv_sec), (0, 0))
    })
}

/// A timer descriptor that has expired and has not been read.
fn timerfd_expired() -> Result<Check> {
    let instant = libc::timespec { tv_sec: 0, tv_nsec: 1 };
    let never = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let once = libc::itimerspec { it_interval: never, it_value: instant };
    let fd = timer_descriptor(libc::CLOCK_MONOTONIC, once)?;
    let wait = |fd: &std::os::fd::OwnedFd| {
        let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        sys!(libc::poll(&raw mut poll, 1, 10_000))
    };
    wait(&fd)?;
    check(move || {
        same("expired and unread", ready(&fd, libc::POLLIN)?, libc::POLLIN)?;
        same("expirations", read(&fd, 8)?, 1_u64.to_ne_bytes().to_vec())?;
        fails("read again", read(&fd, 8), libc::EAGAIN)?;
        sys!(libc::timerfd_settime(fd.as_raw_fd(), 0, &raw const once, std::ptr::null_mut()))?;
        wait(&fd).map(drop)
    })
}
