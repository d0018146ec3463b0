//! Event counters (eventfd(2)): the counter and `EFD_SEMAPHORE`.
//!
//! Before Linux 6.5 fdinfo doesn't tell a semaphore from a counter; a read does, and what it took is put back.

use crate::Result;
use crate::error::bad_image;
use crate::files::dumping::Dump;
use crate::files::resource::Resource;
use crate::files::restoring::Restore;
use crate::files::{FileRef, Probe};
use crate::procfs::fdinfo;
use rtc_sys::CallExt as _;
use rustix::event::{EventfdFlags, eventfd};
use serde::{Deserialize, Serialize};
use std::os::fd::{BorrowedFd, OwnedFd};

/// An eventfd.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Eventfd {
    /// Its counter.
    pub count: u64,
    /// `EFD_SEMAPHORE`: a read takes 1, not all.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub semaphore: bool,
}

impl Resource for Eventfd {
    fn recognises(probe: &Probe<'_>, _cx: &Dump<'_>) -> bool {
        probe.link == "anon_inode:[eventfd]"
    }

    fn dump(probe: &Probe<'_>, cx: &mut Dump<'_>) -> Result<Option<Self>> {
        let shown = fdinfo::eventfd(probe.fdinfo)?;
        let semaphore = match shown.semaphore {
            Some(semaphore) => semaphore,
            None if cx.check_only() => false,
            None => is_semaphore(probe.fd, shown.count)?,
        };
        Ok(Some(Self { count: shown.count, semaphore }))
    }

    fn open(&self, _file: FileRef, _cx: &mut Restore<'_>) -> Result<OwnedFd> {
        let flags = if self.semaphore { EventfdFlags::SEMAPHORE } else { EventfdFlags::empty() };
        let fd = eventfd(0, flags | EventfdFlags::CLOEXEC).call("eventfd2", format_args!("0, {flags:?}"))?;
        // Only the kernel's own users reach the largest value, and a write of it is refused.
        match self.count {
            u64::MAX => return Err(bad_image("an eventfd with a counter of 2^64-1")),
            0 => {}
            count => add(&fd, count)?,
        }
        Ok(fd)
    }
}

fn add(fd: impl std::os::fd::AsFd, count: u64) -> Result<()> {
    rustix::io::write(fd, &count.to_ne_bytes()).call("write", format_args!("eventfd, {count}"))?;
    Ok(())
}

fn take(fd: BorrowedFd<'_>) -> Result<u64> {
    let mut count = [0; 8];
    rustix::io::read(fd, &mut count).call("read", "eventfd, 8")?;
    Ok(u64::from_ne_bytes(count))
}

/// Finds out by a read, which takes 1 from a semaphore and everything from a counter. All tasks are stopped.
fn is_semaphore(fd: BorrowedFd<'_>, count: u64) -> Result<bool> {
    // With at least 2 in it the two can be told apart, and neither call waits.
    if count < 2 {
        add(fd, 2)?;
    }
    let total = if count < 2 { count + 2 } else { count };
    let taken = take(fd)?;
    if taken == total {
        if count > 0 {
            add(fd, count)?;
        }
        return Ok(false);
    }
    match total - taken {
        left if left > count => drop(take(fd)?),
        left if left < count => add(fd, count - left)?,
        _ => {}
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::{AsFd, AsRawFd};

    fn count(fd: &OwnedFd) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).unwrap();
        fdinfo::eventfd(&text).unwrap().count
    }

    #[test]
    fn semaphores_are_told_from_counters_and_keep_their_value() {
        for start in [0, 1, 2, 3, 10] {
            for semaphore in [false, true] {
                let flags = if semaphore { EventfdFlags::SEMAPHORE } else { EventfdFlags::empty() };
                let fd = eventfd(start, flags).unwrap();
                assert_eq!(is_semaphore(fd.as_fd(), u64::from(start)).unwrap(), semaphore, "{start}");
                assert_eq!(count(&fd), u64::from(start), "{start} {semaphore}");
            }
        }
    }
}
