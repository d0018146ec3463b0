//! Requests of the anonymous inodes that wake programs up: timerfd, inotify, epoll, signalfd.

use crate::{Error, Result};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// _IOW('T', 0, __u64)
const TFD_IOC_SET_TICKS: u64 = 0x4008_5400;
/// _IOW('I', 0, __s32)
const INOTIFY_IOC_SETNEXTWD: u64 = 0x4004_4900;
/// _IOW(EPOLL_IOC_TYPE, 1, struct epoll_params)
const EPIOCSPARAMS: u64 = 0x4008_8a01;
/// _IOR(EPOLL_IOC_TYPE, 2, struct epoll_params)
const EPIOCGPARAMS: u64 = 0x8008_8a02;

/// Sets how many expirations of a timerfd have not been read yet, and wakes its readers
/// (Linux 3.17, needs `CONFIG_CHECKPOINT_RESTORE`).
///
/// # Errors
/// The errno of the call; `EINVAL` for 0.
pub fn timerfd_set_ticks(fd: BorrowedFd<'_>, ticks: u64) -> Result<()> {
    // SAFETY: the request reads one u64, which lives through the call.
    let done = unsafe { libc::ioctl(fd.as_raw_fd(), TFD_IOC_SET_TICKS, &raw const ticks) };
    nothing(done, "ioctl", format_args!("{}, TFD_IOC_SET_TICKS, {ticks}", fd.as_raw_fd()))
}

/// Sets the number of the next watch of an inotify instance (Linux 4.17, needs `CONFIG_CHECKPOINT_RESTORE`).
///
/// # Errors
/// The errno of the call; `EINVAL` for a number below 1.
pub fn inotify_set_next_watch(fd: BorrowedFd<'_>, number: i32) -> Result<()> {
    // SAFETY: the request takes its argument by value.
    let done = unsafe { libc::ioctl(fd.as_raw_fd(), INOTIFY_IOC_SETNEXTWD, libc::c_long::from(number)) };
    nothing(done, "ioctl", format_args!("{}, INOTIFY_IOC_SETNEXTWD, {number}", fd.as_raw_fd()))
}

/// How an epoll instance polls network devices (`struct epoll_params`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct EpollParams {
    /// Microseconds to poll for; 0 turns it off.
    pub busy_poll_usecs: u32,
    /// The most packets at once.
    pub busy_poll_budget: u16,
    /// 1 keeps device interrupts off while the program polls.
    pub prefer_busy_poll: u8,
    padding: u8,
}

impl EpollParams {
    /// Parameters from their three numbers.
    pub fn new(busy_poll_usecs: u32, busy_poll_budget: u16, prefer_busy_poll: u8) -> Self {
        Self { busy_poll_usecs, busy_poll_budget, prefer_busy_poll, padding: 0 }
    }
}

/// An epoll instance's busy poll parameters (Linux 6.9).
///
/// # Errors
/// The errno of the call: `ENOTTY` or `EINVAL` on a kernel without them.
pub fn epoll_params(fd: BorrowedFd<'_>) -> Result<EpollParams> {
    let mut params = EpollParams::default();
    // SAFETY: the request writes one epoll_params, for which `params` has the layout.
    let done = unsafe { libc::ioctl(fd.as_raw_fd(), EPIOCGPARAMS, &raw mut params) };
    nothing(done, "ioctl", format_args!("{}, EPIOCGPARAMS", fd.as_raw_fd()))?;
    Ok(params)
}

/// Sets an epoll instance's busy poll parameters (Linux 6.9).
///
/// # Errors
/// The errno of the call; `EPERM` for a budget above 64 without CAP_NET_ADMIN.
pub fn epoll_set_params(fd: BorrowedFd<'_>, params: EpollParams) -> Result<()> {
    // SAFETY: the request reads one epoll_params.
    let done = unsafe { libc::ioctl(fd.as_raw_fd(), EPIOCSPARAMS, &raw const params) };
    nothing(done, "ioctl", format_args!("{}, EPIOCSPARAMS, {params:?}", fd.as_raw_fd()))
}

/// What [`epoll_change`] does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EpollChange {
    /// `EPOLL_CTL_ADD`
    Add,
    /// `EPOLL_CTL_MOD`
    Modify,
}

/// Adds or changes what an epoll instance watches under the number `fd` of the calling thread's table (epoll_ctl(2)).
///
/// # Errors
/// The errno of the call: `EBADF`, `EEXIST`, `EPERM` for a file that can't be watched, `ELOOP`, `EINVAL`.
pub fn epoll_change(epoll: BorrowedFd<'_>, change: EpollChange, fd: i32, events: u32, data: u64) -> Result<()> {
    let operation = match change {
        EpollChange::Add => libc::EPOLL_CTL_ADD,
        EpollChange::Modify => libc::EPOLL_CTL_MOD,
    };
    let mut event = libc::epoll_event { events, u64: data };
    // SAFETY: the call reads one epoll_event; a number that isn't a descriptor is refused.
    let done = unsafe { libc::epoll_ctl(epoll.as_raw_fd(), operation, fd, &raw mut event) };
    nothing(done, "epoll_ctl", format_args!("{}, {change:?}, {fd}, {{{events:#x}, {data:#x}}}", epoll.as_raw_fd()))
}

/// Makes a signalfd for the signals of `mask`: bit n-1 stands for signal n. It is close-on-exec.
///
/// # Errors
/// The errno of the call.
pub fn signalfd(mask: u64) -> Result<OwnedFd> {
    let none = -1;
    // SAFETY: the kernel reads eight bytes of `mask`.
    let fd = unsafe { libc::syscall(libc::SYS_signalfd4, none, &raw const mask, 8, libc::SFD_CLOEXEC) };
    if fd < 0 {
        return Err(Error::last("signalfd4", format_args!("-1, {mask:#x}, 8, SFD_CLOEXEC")));
    }
    // SAFETY: the call has just made this descriptor, nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// The id of a clock for which rustix has no name in [`timerfd_create`].
pub type ClockId = i32;

/// Makes a close-on-exec timerfd of any clock.
///
/// # Errors
/// The errno of the call: `EINVAL` for a clock that can't be used, `EPERM` for alarm clocks without CAP_WAKE_ALARM.
pub fn timerfd_create(clock: ClockId) -> Result<OwnedFd> {
    // SAFETY: the call takes two integers.
    let fd = unsafe { libc::timerfd_create(clock, libc::TFD_CLOEXEC) };
    if fd < 0 {
        return Err(Error::last("timerfd_create", format_args!("{clock}, TFD_CLOEXEC")));
    }
    // SAFETY: the call has just made this descriptor, nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// prctl(2): timer_create(2) of this process is told the id to give (1) or gives one (0) (Linux 6.15).
pub const PR_TIMER_CREATE_RESTORE_IDS: i32 = 77;

/// Whether `timer_create` can be told the id to give (`PR_TIMER_CREATE_RESTORE_IDS`, Linux 6.15).
pub fn timer_ids_can_be_chosen() -> bool {
    const GET: u64 = 2;
    let none: u64 = 0;
    // SAFETY: prctl with this option and GET takes integers and only reads a flag of the calling thread's process.
    unsafe { libc::prctl(PR_TIMER_CREATE_RESTORE_IDS, GET, none, none, none) >= 0 }
}

fn nothing(done: i32, call: &'static str, arguments: std::fmt::Arguments<'_>) -> Result<()> {
    if done < 0 { Err(Error::last(call, arguments)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn ticks_are_read_as_they_were_set() {
        let fd = timerfd_create(libc::CLOCK_MONOTONIC).unwrap();
        timerfd_set_ticks(fd.as_fd(), 12).unwrap();
        let mut ticks = [0; 8];
        assert_eq!(rustix::io::read(&fd, &mut ticks).unwrap(), 8);
        assert_eq!(u64::from_ne_bytes(ticks), 12);
    }

    #[test]
    fn the_next_watch_has_the_chosen_number() {
        let fd = rustix::fs::inotify::init(rustix::fs::inotify::CreateFlags::CLOEXEC).unwrap();
        inotify_set_next_watch(fd.as_fd(), 4711).unwrap();
        let watch = rustix::fs::inotify::add_watch(&fd, "/", rustix::fs::inotify::WatchFlags::CREATE).unwrap();
        assert_eq!(watch, 4711);
    }

    #[test]
    fn epoll_parameters_are_read_as_they_were_set() {
        let fd = rustix::event::epoll::create(rustix::event::epoll::CreateFlags::CLOEXEC).unwrap();
        assert_eq!(epoll_params(fd.as_fd()).unwrap(), EpollParams::default());
        epoll_set_params(fd.as_fd(), EpollParams::new(50, 8, 1)).unwrap();
        assert_eq!(epoll_params(fd.as_fd()).unwrap(), EpollParams::new(50, 8, 1));
    }

    #[test]
    fn a_signalfd_shows_its_mask() {
        let fd = signalfd(1 << (libc::SIGUSR1 - 1)).unwrap();
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).unwrap();
        assert!(info.contains("sigmask:\t0000000000000200"), "{info}");
    }
}
