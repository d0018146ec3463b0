//! Waiting without sleeping: for a process to end, for a file to say something.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::Timespec;
use rustix::fs::inotify;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

/// A handle on a process, `None` where there is no such process.
pub fn pidfd(pid: u32) -> Option<OwnedFd> {
    let pid = Pid::from_raw(i32::try_from(pid).ok()?)?;
    pidfd_open(pid, PidfdFlags::empty()).ok()
}

/// Waits until the process has ended (a zombie has), at most `patience`. Says whether it has.
pub fn ended(pidfd: &OwnedFd, patience: Duration) -> bool {
    ready(&[pidfd], patience)
}

fn ready(fds: &[&OwnedFd], patience: Duration) -> bool {
    let deadline = Instant::now() + patience;
    let mut polled: Vec<PollFd<'_>> = fds.iter().map(|fd| PollFd::new(*fd, PollFlags::IN)).collect();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left =
            Timespec { tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX), tv_nsec: left.subsec_nanos().into() };
        match poll(&mut polled, Some(&left)) {
            Ok(0) => return false,
            Ok(_) => return true,
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => panic!("poll: {e}"),
        }
    }
}

/// Waits until `test` finds what it looks for in the file's text (empty while there is no file), and returns that.
/// Gives up when `patience` is over, or at once when the process `alive` ends.
///
/// # Errors
/// The file's text at the end.
///
/// # Panics
/// Where the folder can't be watched.
pub fn until<T>(
    file: &Path,
    alive: Option<&OwnedFd>,
    patience: Duration,
    mut test: impl FnMut(&str) -> Option<T>,
) -> Result<T, String> {
    let text = || String::from_utf8_lossy(&fs::read(file).unwrap_or_default()).into_owned();
    let folder = file.parent().expect("a file in a folder");
    changes(folder, alive, patience, || test(&text())).ok_or_else(text)
}

/// Looks again each time something changes in a folder, until `test` finds what it looks for.
/// Gives up when `patience` is over, or at once when the process `alive` ends.
///
/// # Panics
/// Where the folder can't be watched.
pub fn changes<T>(
    folder: &Path,
    alive: Option<&OwnedFd>,
    patience: Duration,
    mut test: impl FnMut() -> Option<T>,
) -> Option<T> {
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).expect("inotify");
    let events = inotify::WatchFlags::MODIFY | inotify::WatchFlags::MOVED_TO | inotify::WatchFlags::CREATE;
    inotify::add_watch(&watch, folder, events).unwrap_or_else(|e| panic!("watch {}: {e}", folder.display()));
    let deadline = Instant::now() + patience;
    loop {
        // The watch and this handle are older than the look, so no change can slip between look and wait.
        let died = alive.is_some_and(|pidfd| ended(pidfd, Duration::ZERO));
        if let Some(found) = test() {
            return Some(found);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let mut fds = vec![&watch];
        fds.extend(alive);
        if died || left.is_zero() || !ready(&fds, left) {
            return None;
        }
        let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&watch, &mut buffer);
        while reader.next().is_ok() {}
    }
}
