//! Timers read through a descriptor (timerfd_create(2)).
//!
//! Kept: clock, period, unread expirations, time left, and the flags of the last timerfd_settime(2).
//! A time of day (`TFD_TIMER_ABSTIME` on a realtime clock) stays that time of day, and is over at once if it has
//! passed; every other timer expires when the time that it had left has run since the restore: late, never early.
//!
//! Lost: that the clock was set (`ECANCELED` by `TFD_TIMER_CANCEL_ON_SET`) and the program hasn't been told yet.

use crate::Result;
use crate::error::bad_image;
use crate::files::dumping::Dump;
use crate::files::resource::Resource;
use crate::files::restoring::Restore;
use crate::files::{FileRef, Probe};
use crate::procfs::fdinfo;
use rtc_sys::{CallExt as _, events};
use rustix::time::{ClockId, Itimerspec, TimerfdTimerFlags, Timespec, clock_gettime};
use serde::{Deserialize, Serialize};
use std::os::fd::{BorrowedFd, OwnedFd};

const CLOCK_REALTIME_ALARM: i32 = 8;
const CLOCK_BOOTTIME_ALARM: i32 = 9;
const NANOS: u64 = 1_000_000_000;

/// A timerfd.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timerfd {
    /// Its clock: `CLOCK_REALTIME` 0, `CLOCK_MONOTONIC` 1, `CLOCK_BOOTTIME` 7, with alarm 8 and 9.
    pub clock: i32,
    /// The flags of the last timerfd_settime(2): `TFD_TIMER_ABSTIME` 1, `TFD_TIMER_CANCEL_ON_SET` 2.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub flags: u64,
    /// Expirations that nobody has read yet.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub ticks: u64,
    /// Nanoseconds from one expiration to the next; 0 for a timer that expires once.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub interval: u64,
    /// When it expires next; none for a timer that isn't armed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Expiry>,
}

/// When a timer expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expiry {
    /// Nanoseconds from now.
    In(u64),
    /// Nanoseconds since the Epoch.
    At(u64),
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl Timerfd {
    /// Whether it waits for a time of day.
    fn is_time_of_day(clock: i32, flags: u64) -> bool {
        matches!(clock, libc::CLOCK_REALTIME | CLOCK_REALTIME_ALARM) && flags & libc::TFD_TIMER_ABSTIME as u64 != 0
    }

    /// What timerfd_settime(2) takes.
    fn setting(&self) -> Result<(TimerfdTimerFlags, Itimerspec)> {
        let known = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
        let flags = TimerfdTimerFlags::from_bits(self.flags as u32).filter(|f| known.contains(*f));
        let flags = flags.ok_or_else(|| bad_image(format!("a timerfd with the flags {:#x}", self.flags)))?;
        let it_value = match self.expires {
            None => 0,
            Some(Expiry::At(at)) => at.max(1),
            // Armed by an absolute time, it is shown so again; the clock is the one of our time namespace, as is the
            // timer's for us.
            Some(Expiry::In(left)) if flags.contains(TimerfdTimerFlags::ABSTIME) => {
                nanos(clock_gettime(base_clock(self.clock))).saturating_add(left)
            }
            Some(Expiry::In(left)) => left.max(1),
        };
        Ok((flags, Itimerspec { it_interval: timespec(self.interval), it_value: timespec(it_value) }))
    }

    fn arm(&self, fd: BorrowedFd<'_>) -> Result<()> {
        let (flags, setting) = self.setting()?;
        rustix::time::timerfd_settime(fd, flags, &setting)
            .call("timerfd_settime", format_args!("{flags:?}, {setting:?}"))?;
        if self.ticks > 0 {
            events::timerfd_set_ticks(fd, self.ticks)?;
        }
        Ok(())
    }
}

impl Resource for Timerfd {
    fn recognises(probe: &Probe<'_>, _cx: &Dump<'_>) -> bool {
        probe.link == "anon_inode:[timerfd]"
    }

    fn dump(probe: &Probe<'_>, cx: &mut Dump<'_>) -> Result<Option<Self>> {
        // A periodic timer that expired stands still until somebody reads it or asks for the time left, which makes the
        // kernel catch up and count what was missed in ticks. A timer that expires while it is asked shows 0, and is
        // told from one that isn't armed by asking again.
        let get = || rustix::time::timerfd_gettime(probe.fd).call("timerfd_gettime", "");
        let mut left = get()?;
        if nanos(left.it_value) == 0 && nanos(left.it_interval) != 0 {
            left = get()?;
        }
        let shown = fdinfo::timerfd(&cx.read_proc(&format!("{}/fdinfo/{}", probe.pid, probe.target_fd.0))?)?;
        let flags = u64::from(shown.flags);
        let expires = match nanos(left.it_value) {
            0 => None,
            left if Self::is_time_of_day(shown.clock, flags) => {
                Some(Expiry::At(nanos(clock_gettime(ClockId::Realtime)).saturating_add(left)))
            }
            left => Some(Expiry::In(left)),
        };
        let interval = nanos(left.it_interval);
        Ok(Some(Self { clock: shown.clock, flags, ticks: shown.ticks, interval, expires }))
    }

    fn open(&self, _file: FileRef, _cx: &mut Restore<'_>) -> Result<OwnedFd> {
        Ok(events::timerfd_create(self.clock)?)
    }

    const FINISHES: bool = true;

    fn finish(&self, file: FileRef, cx: &mut Restore<'_>) -> Result<()> {
        self.arm(cx.opened(file.id)?)
    }
}

/// The clock to read for a timer's clock: alarm clocks differ only in that they wake the machine.
fn base_clock(clock: i32) -> ClockId {
    match clock {
        libc::CLOCK_REALTIME | CLOCK_REALTIME_ALARM => ClockId::Realtime,
        libc::CLOCK_BOOTTIME | CLOCK_BOOTTIME_ALARM => ClockId::Boottime,
        _ => ClockId::Monotonic,
    }
}

/// Nanoseconds; what the kernel gives is never negative and below 2^63.
fn nanos(time: Timespec) -> u64 {
    (time.tv_sec.max(0) as u64).saturating_mul(NANOS).saturating_add(time.tv_nsec.max(0) as u64)
}

fn timespec(nanos: u64) -> Timespec {
    Timespec { tv_sec: (nanos / NANOS) as i64, tv_nsec: (nanos % NANOS) as i64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd as _;

    fn left(timer: &Timerfd) -> (u64, u64) {
        let fd = events::timerfd_create(timer.clock).unwrap();
        timer.arm(fd.as_fd()).unwrap();
        let now = rustix::time::timerfd_gettime(&fd).unwrap();
        (nanos(now.it_value), nanos(now.it_interval))
    }

    #[test]
    fn a_timer_has_the_time_that_it_had_left() {
        let hour = 3600 * NANOS;
        for clock in [0, 1, 7] {
            for flags in [0, 1] {
                let timer = Timerfd { clock, flags, ticks: 0, interval: 5, expires: Some(Expiry::In(hour)) };
                let (value, interval) = left(&timer);
                assert!(value <= hour && value > hour - 60 * NANOS, "clock {clock}, flags {flags}: {value}");
                assert_eq!(interval, 5);
            }
        }
    }

    #[test]
    fn a_time_of_day_is_kept() {
        let at = nanos(clock_gettime(ClockId::Realtime)) + 3600 * NANOS;
        let timer = Timerfd { clock: 0, flags: 3, ticks: 0, interval: 0, expires: Some(Expiry::At(at)) };
        assert_eq!(timer.setting().unwrap().1.it_value, timespec(at));
        let passed = Timerfd { expires: Some(Expiry::At(NANOS)), ..timer };
        assert_eq!(left(&passed), (0, 0));
    }

    #[test]
    fn flags_that_do_not_exist_are_refused() {
        let timer = Timerfd { clock: 0, flags: 4, ticks: 0, interval: 0, expires: None };
        assert_eq!(timer.setting().unwrap_err().to_string(), "a timerfd with the flags 0x4");
    }
}
