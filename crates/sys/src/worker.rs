//! A second process of ours that does work which must not be cut off in the middle.
//!
//! While code of ours runs in a traced task, the tracer's death would leave the task with our registers. So the tracer
//! is a fork that signals to its caller don't reach: when the caller is told to end, or is killed, the worker notices
//! at its next look ([`Worker::is_abandoned`]), puts everything back, and ends by itself.
//! Against a SIGKILL of the worker itself, as by `cgroup.kill` of our own control group, nothing helps.

use crate::{CallExt, Errno, Error, Result};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, WaitIdOptions};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Which of the two processes this is.
#[derive(Debug)]
pub enum Side {
    /// The one that was there before. The work has ended with this exit status; 128 + signal if one ended it.
    Caller(i32),
    /// The one that does the work, and then ends like any process.
    Worker(Worker),
}

/// The worker's end.
#[derive(Debug)]
pub struct Worker {
    /// Its only write end is the caller's.
    caller: OwnedFd,
    /// The caller's mask.
    mask: SigSet,
}

impl Worker {
    /// Whether the caller is gone, or was told to end.
    pub fn is_abandoned(&self) -> bool {
        let mut fds = [PollFd::new(&self.caller, PollFlags::IN)];
        // Nothing is ever written: whatever there is to be seen is the end.
        matches!(poll(&mut fds, Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(1..))
    }

    /// What there is to be read from as soon as it is abandoned.
    pub fn caller(&self) -> BorrowedFd<'_> {
        self.caller.as_fd()
    }

    /// Lets signals act again, for what may be cut off and for children that inherit the mask. Those that have come
    /// are forgotten.
    ///
    /// # Errors
    /// When there are too many open files.
    pub fn allow_signals(&self) -> Result<()> {
        forget(&signalfd(&SigSet::all())?)?;
        self.mask.thread_set_mask().call("rt_sigprocmask", "SIG_SETMASK")
    }
}

/// Splits this process, which must have one thread, in two. The caller's side returns when the worker has ended.
///
/// # Errors
/// When there are several threads, or no process can be made.
pub fn split() -> Result<Side> {
    if std::fs::read_dir("/proc/self/task").call("open", "/proc/self/task")?.count() != 1 {
        return Err(Error::from_raw("fork", "with several threads", Errno::EINVAL as i32));
    }
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).call("pipe2", "O_CLOEXEC")?;
    // What ends a process by default and can be sent by people, terminals and service managers.
    let ends = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT]);
    let mask = ends.thread_swap_mask(SigmaskHow::SIG_BLOCK).call("rt_sigprocmask", "SIG_BLOCK")?;
    // SAFETY: there is one thread, so the child has everything that the parent has, in a sound state.
    match unsafe { libc::fork() } {
        0 => {
            drop(write);
            block_all()?;
            Ok(Side::Worker(Worker { caller: read, mask }))
        }
        pid => {
            let failed = (pid < 0).then(|| Error::last("fork", ""));
            drop(read);
            let result = failed.map_or_else(|| wait(pid, write, &ends), Err);
            mask.thread_set_mask().call("rt_sigprocmask", "SIG_SETMASK")?;
            result.map(Side::Caller)
        }
    }
}

/// Blocks all signals but those that a fault of our own raises.
fn block_all() -> Result<()> {
    let mut all = SigSet::all();
    for fault in [Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGILL, Signal::SIGFPE, Signal::SIGTRAP, Signal::SIGABRT] {
        all.remove(fault);
    }
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&all), None).call("rt_sigprocmask", "SIG_SETMASK")
}

/// Waits for the worker, and abandons it at the first of the signals `ends`.
fn wait(pid: i32, pipe: OwnedFd, ends: &SigSet) -> Result<i32> {
    let pid = Pid::from_raw(pid).expect("fork gave a process");
    let worker = rustix::process::pidfd_open(pid, PidfdFlags::empty()).call("pidfd_open", pid)?;
    let signals = signalfd(ends)?;
    let mut pipe = Some(pipe);
    loop {
        let mut fds = vec![PollFd::new(&worker, PollFlags::IN)];
        if pipe.is_some() {
            fds.push(PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN));
        }
        rustix::io::retry_on_intr(|| poll(&mut fds, None)).call("poll", "worker")?;
        if !fds[0].revents().is_empty() {
            break;
        }
        // Once is enough: the signals stay pending, and would end us before the worker if they were let in.
        pipe = None;
    }
    let ended = rustix::process::waitid(rustix::process::WaitId::PidFd(worker.as_fd()), WaitIdOptions::EXITED);
    let status = ended.call("waitid", pid)?;
    if pipe.is_none() {
        // They have been heeded.
        forget(&signals)?;
    }
    let by_signal = || status.as_ref().and_then(|s| s.terminating_signal()).map_or(1, |signal| 128 + signal);
    Ok(status.as_ref().and_then(|s| s.exit_status()).unwrap_or_else(by_signal))
}

fn signalfd(signals: &SigSet) -> Result<SignalFd> {
    SignalFd::with_flags(signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).call("signalfd4", "SFD_NONBLOCK")
}

/// Takes all that are pending.
fn forget(signals: &SignalFd) -> Result<()> {
    while signals.read_signal().call("read", "signalfd")?.is_some() {}
    Ok(())
}
