//! Waiting for a line of a control file to change, without sleeping.
//!
//! The kernel raises POLLPRI on `cgroup.events`, `memory.events` and their like when their text has changed since the
//! open file was read last: read, judge, poll, read again loses nothing.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use rtc_sys::CallExt;
use rustix::event::{PollFd, PollFlags, Timespec};

use super::Cgroup;
use super::control::is_gone;
use crate::Result;
use crate::error::Context;

/// The end of a wait; none for a time-out beyond the clock's range.
#[derive(Clone, Copy)]
pub(super) struct Deadline(Option<Instant>);

impl Deadline {
    pub(super) fn after(timeout: Duration) -> Self {
        Self(Instant::now().checked_add(timeout))
    }

    pub(super) fn left(self) -> Duration {
        self.0.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()))
    }
}

impl Cgroup {
    /// Waits until a line of `cgroup.events` says `wanted`; false when the time is over before.
    ///
    /// A removed cgroup is neither populated nor frozen.
    pub(super) fn wait_for(&self, line: &str, wanted: bool, deadline: Deadline) -> Result<bool> {
        let events = match self.open_control("cgroup.events") {
            Ok(events) => events,
            Err(e) if is_gone(&e) && !wanted => return Ok(true),
            Err(e) => return Err(e).context(|| self.noun()),
        };
        loop {
            match reread(&events) {
                Ok(text) if flag(&text, line) == wanted => return Ok(true),
                Ok(_) => {}
                Err(e) if is_gone(&e) && !wanted => return Ok(true),
                Err(e) => return Err(e).context(|| self.noun()),
            }
            let left = deadline.left();
            if left.is_zero() {
                return Ok(false);
            }
            wait_for_change(&[&events], left)?;
        }
    }
}

/// Reads a control file that is open already, from its beginning. This also arms the next poll.
pub(super) fn reread(file: &File) -> rtc_sys::Result<String> {
    // Larger than the flat files that are polled: each holds a few short lines.
    let mut buffer = [0; 512];
    let length = file.read_at(&mut buffer, 0).call("read", "cgroup.events")?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

/// Waits until the kernel marks one of the files as changed since it was read last, or the time is over.
pub(super) fn wait_for_change(files: &[&File], timeout: Duration) -> rtc_sys::Result<()> {
    let mut fds: Vec<PollFd<'_>> = files.iter().map(|file| PollFd::new(*file, PollFlags::PRI)).collect();
    let timeout = Timespec::try_from(timeout).ok();
    match rustix::event::poll(&mut fds, timeout.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(e) => Err(e).call("poll", format_args!("{} files", files.len())),
    }
}

/// The value of a `NAME 0|1` line.
pub(super) fn flag(text: &str, name: &str) -> bool {
    text.lines().any(|line| line.split_once(' ') == Some((name, "1")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_of_an_events_file() {
        let text = "populated 1\nfrozen 0\n";
        assert!(flag(text, "populated"));
        assert!(!flag(text, "frozen"));
        assert!(!flag(text, "populate"));
        assert!(!flag("", "frozen"));
    }

    #[test]
    fn endless_deadlines_do_not_overflow() {
        assert_eq!(Deadline::after(Duration::MAX).left(), Duration::MAX);
        assert_eq!(Deadline::after(Duration::ZERO).left(), Duration::ZERO);
    }
}
