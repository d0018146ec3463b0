//! Processes seen from outside: whether one lives, when it began, signalling it, waiting for it.

use std::collections::HashSet;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use rtc_sys::{CallExt, Errno};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Signal, WaitId, WaitIdOptions};

use crate::error::{Error, Kind, Result};
use crate::proc::Proc;
use crate::state::Stdio;

/// How long a process that was killed may take to vanish.
pub(crate) const VANISH: Duration = Duration::from_secs(10);

/// Whether a process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// It does.
    Alive {
        /// It has executed a program since it was forked.
        has_executed: bool,
    },
    /// It has ended and waits for its parent, or is gone, or its number is another's now.
    Ended,
}

/// What of /proc/PID/stat matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    state: u8,
    /// `PF_*` of linux/sched.h.
    flags: u32,
    start_time: u64,
}

/// The process, or one it was forked from, has executed nothing since the fork (linux/sched.h, since 2.6.18 at least).
const PF_FORKNOEXEC: u32 = 0x40;

/// Parses /proc/PID/stat; the name in it may hold anything, so its last `)` counts.
fn parse_stat(text: &str) -> Option<Stat> {
    let mut fields = text.get(text.rfind(')')? + 1..)?.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    // Field 3 is the state, field 9 the flags, field 22 the start time.
    let flags = fields.nth(5)?.parse().ok()?;
    let start_time = fields.nth(12)?.parse().ok()?;
    Some(Stat { state, flags, start_time })
}

fn stat(proc: &Proc, pid: i32) -> Result<Option<Stat>> {
    match proc.read(format!("{pid}/stat")) {
        Ok(text) => match parse_stat(&text) {
            Some(stat) => Ok(Some(stat)),
            None => Err(Error::new(Kind::System, format!("/proc/{pid}/stat makes no sense: {text:?}"))),
        },
        Err(e) if matches!(e.errno(), Errno::ENOENT | Errno::ESRCH) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Whether the process `pid` that began at `start_time` lives.
pub(crate) fn life(proc: &Proc, pid: i32, start_time: u64) -> Result<Life> {
    let alive = stat(proc, pid)?.filter(|stat| stat.start_time == start_time && !matches!(stat.state, b'Z' | b'X'));
    Ok(alive.map_or(Life::Ended, |stat| Life::Alive { has_executed: stat.flags & PF_FORKNOEXEC == 0 }))
}

/// When a process began, in clock ticks since boot.
pub(crate) fn start_time(proc: &Proc, pid: i32) -> Result<u64> {
    let gone = || Error::new(Kind::System, format!("the container's process {pid} has ended"));
    Ok(stat(proc, pid)?.ok_or_else(gone)?.start_time)
}

/// The descriptors 0 to 2 of a process; one that is closed has an empty link. They are the caller's own if it has no
/// `terminal`, and looking at those costs a third.
pub(crate) fn stdio(proc: &Proc, pid: i32, terminal: bool) -> Result<[Stdio; 3]> {
    let one = |number| if terminal { stdio_of(proc, pid, number) } else { own_stdio(proc, number) };
    Ok([one(0)?, one(1)?, one(2)?])
}

fn stdio_of(proc: &Proc, pid: i32, number: usize) -> Result<Stdio> {
    let path = format!("{pid}/fd/{number}");
    let link = match proc.readlink(&path) {
        Ok(link) => link.to_string_lossy().into_owned(),
        Err(e) if e.errno() == Errno::ENOENT => return Ok(Stdio::CLOSED),
        // A user may not look into a process that isn't dumpable.
        Err(e) if matches!(e.errno(), Errno::EACCES | Errno::EPERM) => return own_stdio(proc, number),
        Err(e) => return Err(e.into()),
    };
    let stat = proc.stat(&path)?;
    Ok(Stdio { link, dev: stat.st_dev, ino: stat.st_ino })
}

fn own_stdio(proc: &Proc, number: usize) -> Result<Stdio> {
    let fd = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()][number];
    let stat = match rustix::fs::fstat(fd) {
        Err(rustix::io::Errno::BADF) => return Ok(Stdio::CLOSED),
        other => other.call("fstat", number)?,
    };
    let link = proc.readlink(format!("self/fd/{number}"))?.to_string_lossy().into_owned();
    Ok(Stdio { link, dev: stat.st_dev, ino: stat.st_ino })
}

/// The pid behind a pidfd, as the host counts.
pub(crate) fn pid_of(proc: &Proc, pidfd: &impl AsFd) -> Result<i32> {
    let text = proc.read(format!("self/fdinfo/{}", pidfd.as_fd().as_raw_fd()))?;
    let pid = text.lines().find_map(|line| line.strip_prefix("Pid:")).and_then(|pid| pid.trim().parse().ok());
    pid.filter(|pid| *pid > 0).ok_or_else(|| Error::new(Kind::System, "a pidfd of no process"))
}

/// Sends a signal to the process behind a pidfd; 0 only asks. One that has ended is no error.
pub(crate) fn signal(pidfd: &impl AsFd, number: i32) -> Result<()> {
    match rtc_sys::process::send_signal(pidfd.as_fd(), number) {
        Err(e) if e.errno() == Errno::ESRCH => Ok(()),
        other => Ok(other?),
    }
}

/// How many processes are held at once: fewer than the descriptors that every process may have.
const HELD: usize = 500;

/// Sends a signal to all that `members` lists by their pids.
///
/// A number may be another process's by the time it is used. So the processes are held first, and asked for again: one
/// that still has its number then, and is still listed, was a member.
pub(crate) fn signal_members(members: impl Fn() -> Result<Vec<i32>>, number: i32) -> Result<()> {
    for pids in members()?.chunks(HELD) {
        let mut held = Vec::with_capacity(pids.len());
        for pid in pids {
            match rtc_sys::pidfd::open(*pid) {
                Ok(pidfd) => held.push((*pid, pidfd)),
                Err(e) if e.errno() == Errno::ESRCH => {}
                Err(e) => return Err(e.into()),
            }
        }
        let still: HashSet<i32> = members()?.into_iter().collect();
        for (_, pidfd) in held.iter().filter(|(pid, _)| still.contains(pid)) {
            signal(pidfd, number)?;
        }
    }
    Ok(())
}

/// Waits for the end of the child behind `pidfd` and reaps it: the exit status, or 128 + the signal that ended it.
pub(crate) fn wait_status(pidfd: &impl AsFd) -> Result<i32> {
    let status =
        rustix::io::retry_on_intr(|| rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED))
            .call("waitid", format_args!("P_PIDFD, {}", pidfd.as_fd().as_raw_fd()))?;
    let status = status.ok_or_else(|| Error::new(Kind::System, "waitid gave no status"))?;
    let killed = status.terminating_signal().map(|signal| 128 + signal);
    Ok(status.exit_status().or(killed).unwrap_or(255))
}

/// Kills the child behind `pidfd` and reaps it.
pub(crate) fn kill_and_reap(pidfd: &impl AsFd) -> Result<()> {
    signal(pidfd, Signal::KILL.as_raw())?;
    wait_status(pidfd).map(drop)
}

/// Waits for the end of a process that needn't be a child.
pub(crate) fn wait_for_end(pidfd: &impl AsFd, timeout: Duration) -> Result<()> {
    let deadline = Instant::now() + timeout;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let seconds = i64::try_from(left.as_secs()).unwrap_or(i64::MAX);
        let left = Timespec { tv_sec: seconds, tv_nsec: left.subsec_nanos().into() };
        match rustix::event::poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&left)) {
            Ok(0) => {
                let message = format!("the process didn't end within {} s of SIGKILL", timeout.as_secs());
                return Err(
                    Error::new(Kind::System, message).with_hint("it may wait for a device or a dead file server")
                );
            }
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(rtc_sys::Error::from_raw("poll", "a pidfd", e.raw_os_error()).into()),
        }
    }
}

/// Waits until all writers of a FIFO have closed it, or the process that would open it has ended.
///
/// A reader is told of a hangup only after a writer has been there (fs/pipe.c, `pipe_poll`).
pub(crate) fn wait_for_hangup(fifo: &impl AsFd, process: &impl AsFd) -> Result<()> {
    loop {
        let mut fds = [PollFd::new(fifo, PollFlags::empty()), PollFd::new(process, PollFlags::IN)];
        match rustix::event::poll(&mut fds, None) {
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(rtc_sys::Error::from_raw("poll", "exec.fifo", e.raw_os_error()).into()),
        }
    }
}

/// What was written to a FIFO that nobody writes to any more: why there is no program to execute.
pub(crate) fn last_words(fifo: impl AsFd) -> Result<Option<String>> {
    let mut text = [0; 4096];
    match rustix::io::read(fifo, &mut text) {
        Ok(0) | Err(rustix::io::Errno::AGAIN) => Ok(None),
        Ok(length) => Ok(Some(String::from_utf8_lossy(&text[..length]).into_owned())),
        Err(e) => Err(rtc_sys::Error::from_raw("read", "exec.fifo", e.raw_os_error()).into()),
    }
}

/// The name of a user of this host; the number where it has none.
pub(crate) fn user_name(uid: u32) -> String {
    if uid == 0 {
        return "root".to_owned();
    }
    match nix::unistd::User::from_uid(uid.into()) {
        Ok(Some(user)) => user.name,
        _ => uid.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_confuse() {
        let fields: Vec<String> = (4..=52).map(|n| n.to_string()).collect();
        let text = format!("7 (a) R (b) S {}\n", fields.join(" "));
        assert_eq!(parse_stat(&text), Some(Stat { state: b'S', flags: 9, start_time: 22 }));
        assert_eq!(parse_stat("7 (a"), None);
    }

    #[test]
    fn only_members_get_signals() {
        use std::process::{Command, Stdio};
        let start = || Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let (mut member, mut stranger) = (start(), start());
        let pids = [&member, &stranger].map(|child| i32::try_from(child.id()).unwrap());
        // The stranger has a number that was a member's when the first list was made.
        let asked = std::cell::Cell::new(false);
        let members = || Ok(if asked.replace(true) { vec![pids[0]] } else { pids.to_vec() });
        signal_members(members, Signal::KILL.as_raw()).unwrap();
        use std::os::unix::process::ExitStatusExt;
        assert_eq!(member.wait().unwrap().signal(), Some(Signal::KILL.as_raw()));
        drop(stranger.stdin.take());
        assert!(stranger.wait().unwrap().success());
    }

    #[test]
    fn this_process_lives_and_another_time_is_another_process() {
        let proc = Proc::open().unwrap();
        let pid = i32::try_from(std::process::id()).unwrap();
        let start = start_time(&proc, pid).unwrap();
        assert_eq!(life(&proc, pid, start).unwrap(), Life::Alive { has_executed: true });
        assert_eq!(life(&proc, pid, start + 1).unwrap(), Life::Ended);
    }
}
