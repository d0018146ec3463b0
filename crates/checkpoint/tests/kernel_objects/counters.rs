//! eventfd, timerfd, signalfd.

use crate::holder::{FIRST, alone, copy, fdinfo};
use rtc_checkpoint::procfs::fdinfo as parse;
use rustix::event::{EventfdFlags, eventfd};
use rustix::time::{Itimerspec, TimerfdTimerFlags, Timespec, timerfd_gettime, timerfd_settime};
use std::os::fd::OwnedFd;

fn read(fd: &OwnedFd) -> u64 {
    let mut bytes = [0; 8];
    assert_eq!(rustix::io::read(fd, &mut bytes).unwrap(), 8);
    u64::from_ne_bytes(bytes)
}

#[test]
fn eventfds_keep_counter_kind_and_flags() {
    let _alone = alone();
    let counter = eventfd(41, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).unwrap();
    let semaphore = eventfd(3, EventfdFlags::SEMAPHORE | EventfdFlags::CLOEXEC).unwrap();
    let full = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap();
    rustix::io::write(&full, &(u64::MAX - 1).to_ne_bytes()).unwrap();
    let new = copy(vec![counter, semaphore, full]);
    assert_eq!(read(&new.get(FIRST)), 41);
    let empty = rustix::io::read(new.get(FIRST), &mut [0; 8]);
    assert_eq!(empty.unwrap_err(), rustix::io::Errno::AGAIN);
    let semaphore = new.get(FIRST + 1);
    assert_eq!([read(&semaphore), read(&semaphore), read(&semaphore)], [1, 1, 1]);
    assert_eq!(read(&new.get(FIRST + 2)), u64::MAX - 1);
}

#[test]
fn signalfds_keep_their_mask() {
    let _alone = alone();
    let fd = rtc_sys::events::signalfd(0x8000_0000_0000_0206).unwrap();
    let new = copy(vec![fd]);
    assert_eq!(parse::signalfd(&fdinfo(new.get(FIRST))).unwrap(), 0x8000_0000_0000_0206);
}

fn timer(clock: i32, flags: TimerfdTimerFlags, value: (i64, i64), interval: (i64, i64)) -> OwnedFd {
    let fd = rtc_sys::events::timerfd_create(clock).unwrap();
    let time = |(tv_sec, tv_nsec)| Timespec { tv_sec, tv_nsec };
    timerfd_settime(&fd, flags, &Itimerspec { it_value: time(value), it_interval: time(interval) }).unwrap();
    fd
}

#[test]
fn timers_go_on_with_the_time_that_was_left() {
    let _alone = alone();
    let none = TimerfdTimerFlags::empty();
    let relative = timer(libc::CLOCK_MONOTONIC, none, (5000, 0), (7, 8));
    let unarmed = timer(libc::CLOCK_BOOTTIME, none, (0, 0), (0, 0));
    let new = copy(vec![relative, unarmed]);
    let left = timerfd_gettime(new.get(FIRST)).unwrap();
    assert!(left.it_value.tv_sec > 4900 && left.it_value.tv_sec < 5000, "{left:?}");
    assert_eq!((left.it_interval.tv_sec, left.it_interval.tv_nsec), (7, 8));
    let left = timerfd_gettime(new.get(FIRST + 1)).unwrap();
    assert_eq!((left.it_value.tv_sec, left.it_value.tv_nsec), (0, 0));
    assert_eq!(parse::timerfd(&fdinfo(new.get(FIRST + 1))).unwrap().clock, libc::CLOCK_BOOTTIME);
}

#[test]
fn a_time_of_day_stays_that_time_of_day() {
    let _alone = alone();
    let then = rustix::time::clock_gettime(rustix::time::ClockId::Realtime).tv_sec + 9000;
    let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
    let new = copy(vec![timer(libc::CLOCK_REALTIME, flags, (then, 0), (0, 0))]);
    let fd = new.get(FIRST);
    assert_eq!(parse::timerfd(&fdinfo(&fd)).unwrap().flags, 3);
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    let left = timerfd_gettime(&fd).unwrap().it_value;
    // The sum is the deadline but for the moment between reading the clock and asking the timer, here and at the dump.
    let at = now.tv_sec + left.tv_sec + (now.tv_nsec + left.tv_nsec) / 1_000_000_000;
    assert!((then - 5..=then + 5).contains(&at), "{at} instead of {then}");
}

#[test]
fn an_expired_periodic_timer_that_nobody_read_goes_on() {
    let _alone = alone();
    let fd = timer(libc::CLOCK_MONOTONIC, TimerfdTimerFlags::empty(), (0, 1), (3600, 0));
    // Wait for it: then the kernel shows no time left in fdinfo, and no timer is running.
    rustix::event::poll(&mut [rustix::event::PollFd::new(&fd, rustix::event::PollFlags::IN)], None).unwrap();
    let new = copy(vec![fd]);
    let fd = new.get(FIRST);
    let left = timerfd_gettime(&fd).unwrap();
    assert!(left.it_value.tv_sec > 3500, "{left:?}");
    assert_eq!(read(&fd), 1);
}
