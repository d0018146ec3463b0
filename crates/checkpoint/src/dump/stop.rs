//! Stops the tree, and lets it go on.
//!
//! The parents of processes that came by exec are outside the container: they have no place in its tree. Most are short,
//! as checks of health are, and a dump waits for their ends. Meanwhile the tree runs, for they may want something of it;
//! a paused container's tree is held, and they alone run.

use super::{Dump, collect};
use crate::error::{Context, Error, Kind, Result};
use crate::files::Blocker;
use crate::proc::Proc;
use rtc_sys::{CallExt, Errno, pidfd};
use rustix::event::{PollFd, PollFlags, poll};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// What becomes of processes that came by exec.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Execs {
    /// For how long to wait for their ends; a preflight waits for nobody.
    pub timeout: Duration,
    /// Leave those that are there then out of the image, for whoever started them waits for them outside; else they
    /// are in the way.
    pub skip: bool,
}

impl Dump<'_> {
    /// Stops the tree at a time when there is nobody beside it, if there is one; what is in the way, else.
    pub(super) fn stop(&mut self) -> Result<Vec<Blocker>> {
        let Execs { timeout, skip } = self.options.execs;
        let timeout = if self.options.check_only { Duration::ZERO } else { timeout };
        let deadline = Instant::now() + timeout;
        loop {
            self.stop_tree()?;
            let mut members = self.container.processes()?;
            members.retain(|pid| self.stopped.iter().all(|process| process.pid != *pid));
            let time = deadline.saturating_duration_since(Instant::now());
            if members.is_empty() || time.is_zero() {
                return Ok(if skip { Vec::new() } else { blockers(&members, timeout) });
            }
            log::debug!("processes {members:?} came by exec: wait for their ends");
            if !self.was_paused {
                self.release()?;
            }
            wait(&members, self.container.caller(), time)?;
            self.go_on()?;
        }
    }

    /// Stops the tree, or what is new of it since it was.
    fn stop_tree(&mut self) -> Result<()> {
        let is_first = self.stopped.is_empty();
        if is_first {
            self.started = Instant::now();
        }
        collect::stop_tree(self.options.init, &mut self.stopped).context(|| "stop the container")?;
        if self.stopped[0].threads.is_empty() {
            // It has ended, perhaps while those of exec were waited for.
            return Err(Error::new(Kind::System, "container not running"));
        }
        self.stopped_at = Instant::now();
        self.report.freezing = self.stopped_at - self.started;
        if is_first && self.was_paused {
            // Stopped by ptrace they can't run; but frozen they couldn't run our programs either.
            self.container.resume()?;
        }
        Ok(())
    }

    /// Lets the tree go on as it was.
    pub(super) fn release(&mut self) -> Result<()> {
        // Frozen before they are let go, a paused container's tasks don't run a single instruction.
        let paused = if self.was_paused && !self.stopped.is_empty() { self.container.pause() } else { Ok(()) };
        let mut result = paused;
        self.held.clear();
        for process in self.stopped.drain(..) {
            for task in process.threads {
                let detached = task.detach();
                result = result.and(detached);
            }
        }
        result
    }
}

/// Waits until one has ended, at most for `time`, or until there is something to read from `caller`. Not for all: what
/// one leaves behind becomes the tree's.
fn wait(pids: &[i32], caller: Option<BorrowedFd<'_>>, time: Duration) -> Result<()> {
    let mut processes: Vec<OwnedFd> = Vec::new();
    for pid in pids {
        match pidfd::open(*pid) {
            Ok(process) => processes.push(process),
            Err(e) if e.errno() == Errno::ESRCH => return Ok(()),
            Err(e) => return Err(e.into()),
        }
    }
    let mut polled: Vec<PollFd<'_>> = processes.iter().map(|process| PollFd::new(process, PollFlags::IN)).collect();
    polled.extend(caller.map(|caller| PollFd::from_borrowed_fd(caller, PollFlags::IN)));
    let limit = rustix::time::Timespec { tv_sec: time.as_secs() as i64, tv_nsec: time.subsec_nanos().into() };
    rustix::io::retry_on_intr(|| poll(&mut polled, Some(&limit))).call("poll", "processes of exec")?;
    Ok(())
}

/// Left out of the checkpoint they would be lost without a word.
fn blockers(pids: &[i32], waited: Duration) -> Vec<Blocker> {
    let blocker = |pid: &i32| {
        // One that has ended meanwhile is in nobody's way.
        let status = Proc(*pid).status().ok()?;
        let name = Proc(*pid).text("comm").ok()?;
        let lasts = if waited.is_zero() { String::new() } else { format!(", and it goes on after {waited:?}") };
        Some(Blocker {
            pid: status.ns_tgid.last().copied().unwrap_or(*pid),
            what: format!("process {}", name.trim_end()),
            why: format!("it came by exec: its parent is not in the container{lasts}"),
            remedy: "end it before the checkpoint, give it time by --exec-timeout, or leave it out by --skip-exec"
                .into(),
        })
    };
    pids.iter().filter_map(blocker).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::process::{Child, Command};

    const LONG: Duration = Duration::from_secs(1000);

    /// A process that ends with its input, or with this one.
    fn cat() -> Child {
        Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap()
    }

    #[test]
    fn one_s_end_is_enough() {
        let mut cats = [cat(), cat()];
        let pids = cats.each_ref().map(|cat| cat.id() as i32);
        drop(cats[1].stdin.take());
        wait(&pids, None, LONG).unwrap();
        cats[1].wait().unwrap();
        // Nobody has the number any more.
        wait(&pids, None, LONG).unwrap();
        wait(&pids[..1], None, Duration::from_millis(1)).unwrap();
        drop(cats[0].stdin.take());
        cats[0].wait().unwrap();
    }

    #[test]
    fn a_caller_that_is_gone_ends_the_wait() {
        let mut cat = cat();
        let (read, write) = rustix::pipe::pipe().unwrap();
        drop(write);
        wait(&[cat.id() as i32], Some(read.as_fd()), LONG).unwrap();
        drop(cat.stdin.take());
        cat.wait().unwrap();
    }
}
