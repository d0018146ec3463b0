//! A container's or exec's process in the foreground: its signals, its terminal, its exit status.
//!
//! SIGCHLD is blocked before the process is made and read from a signalfd afterwards, so that a process which ends at
//! once is noticed as surely as any other.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rtc_sys::process::send_signal;
use rtc_sys::{CallExt, Result};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, WaitOptions, WaitStatus, pidfd_open, set_child_subreaper, wait, waitpid};

use crate::terminal::{Interests, Terminal};

/// Signals that stay with rtc: faults of its own, job control of the caller's shell, and what out-of-band data of rtc's
/// own descriptors raise.
const OWN: [Signal; 8] = [
    Signal::SIGSEGV,
    Signal::SIGBUS,
    Signal::SIGFPE,
    Signal::SIGILL,
    Signal::SIGTRAP,
    Signal::SIGTTIN,
    Signal::SIGTTOU,
    Signal::SIGURG,
];

/// Signals held back for a process that is about to be made.
pub(crate) struct Foreground {
    signals: SignalFd,
}

impl Foreground {
    /// Blocks the signals that are to be passed on, and SIGCHLD. To be called before the process is made; the runtime
    /// gives the process an empty mask again.
    ///
    /// As a subreaper rtc is the parent of the container's orphans, as runc is.
    ///
    /// # Errors
    /// The kernel refuses the mask or the descriptor.
    pub(crate) fn prepare(subreaper: bool) -> Result<Self> {
        let mut mask = SigSet::all();
        for signal in OWN {
            mask.remove(signal);
        }
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&mask), None).call("sigprocmask", "SIG_SETMASK")?;
        let signals =
            SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).call("signalfd", "-1")?;
        if subreaper {
            set_child_subreaper(Some(rustix::process::getpid())).call("prctl", "PR_SET_CHILD_SUBREAPER, 1")?;
        }
        Ok(Self { signals })
    }

    /// Stays with child `pid` until it ends: its exit status, or 128 + the signal that ended it.
    ///
    /// # Errors
    /// `pid` isn't a child.
    pub(crate) fn wait(&self, pid: i32, mut terminal: Option<Terminal>) -> Result<i32> {
        let child = Pid::from_raw(pid).ok_or(rtc_sys::Errno::ECHILD).call("pidfd_open", pid)?;
        let pidfd = pidfd_open(child, PidfdFlags::empty()).call("pidfd_open", pid)?;
        loop {
            let ready = self.poll(&pidfd, terminal.as_ref())?;
            if let (Some(terminal), Some(events)) = (&mut terminal, &ready.terminal) {
                terminal.transfer(events);
            }
            if ready.signal {
                self.pass_on(&pidfd, terminal.as_ref())?;
            }
            if let Some(status) = reap(child)? {
                if let Some(terminal) = &mut terminal {
                    terminal.drain();
                }
                return Ok(status);
            }
            if ready.ended {
                // A debugger of it has to take its end in first.
                return wait_for(child);
            }
        }
    }

    /// Waits for a signal, the process's end, or something to move to or from its terminal.
    fn poll(&self, pidfd: &OwnedFd, terminal: Option<&Terminal>) -> Result<Ready> {
        let (stdin, stdout) = (io::stdin(), io::stdout());
        let mut fds =
            vec![PollFd::new(&self.signals, PollFlags::IN), PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN)];
        // An entry without interest would still report a hang-up, again and again.
        let mut at = [None; 3];
        if let Some(terminal) = terminal {
            let wanted = terminal.interests();
            let ends =
                [(stdin.as_fd(), wanted.stdin), (stdout.as_fd(), wanted.stdout), (terminal.master(), wanted.master)];
            for (slot, (fd, flags)) in at.iter_mut().zip(ends) {
                if !flags.is_empty() {
                    *slot = Some(fds.len());
                    fds.push(PollFd::from_borrowed_fd(fd, flags));
                }
            }
        }
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(e).call("poll", fds.len()),
        }
        let got = |slot: Option<usize>| slot.map_or(PollFlags::empty(), |n| fds[n].revents());
        Ok(Ready {
            signal: !got(Some(0)).is_empty(),
            ended: !got(Some(1)).is_empty(),
            terminal: terminal.is_some().then(|| Interests {
                stdin: got(at[0]),
                stdout: got(at[1]),
                master: got(at[2]),
            }),
        })
    }

    /// Hands the signals that have come to the process.
    fn pass_on(&self, pidfd: &OwnedFd, terminal: Option<&Terminal>) -> Result<()> {
        while let Some(info) = self.signals.read_signal().call("read", "signalfd")? {
            const SIGCHLD: u32 = Signal::SIGCHLD as u32;
            const SIGWINCH: u32 = Signal::SIGWINCH as u32;
            const SIGPIPE: u32 = Signal::SIGPIPE as u32;
            match (info.ssi_signo, terminal) {
                (SIGCHLD, _) => {}
                (SIGWINCH, Some(terminal)) => terminal.resize(),
                // It is of the caller's window, which a container without a terminal doesn't see: to a web server it
                // would be the order to end.
                (SIGWINCH, None) => {}
                // A broken pipe of rtc's own.
                (SIGPIPE, _) if info.ssi_pid == std::process::id() => {}
                // ESRCH: it has ended, and the next look finds it.
                (number, _) => drop(i32::try_from(number).map(|number| send_signal(pidfd.as_fd(), number))),
            }
        }
        Ok(())
    }
}

/// What poll found.
struct Ready {
    signal: bool,
    ended: bool,
    terminal: Option<Interests>,
}

/// Waits until `child` can be taken in: its status.
fn wait_for(child: Pid) -> Result<i32> {
    let status = rustix::io::retry_on_intr(|| waitpid(Some(child), WaitOptions::empty()));
    let status = status.call("waitpid", child.as_raw_pid())?;
    // Without a status there would have been an error: nothing but an end was asked for.
    Ok(status.and_then(|(_, status)| code(status)).unwrap_or(255))
}

/// The exit status, or 128 + the signal that ended the process.
fn code(status: WaitStatus) -> Option<i32> {
    status.exit_status().or(status.terminating_signal().map(|signal| 128 + signal))
}

/// Takes in all children that have ended; the status of `child` if it is among them.
fn reap(child: Pid) -> Result<Option<i32>> {
    let mut found = None;
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid == child => {
                found = code(status).or(found);
            }
            Ok(Some(_)) => {}
            Ok(None) | Err(Errno::CHILD) => return Ok(found),
            Err(Errno::INTR) => {}
            Err(e) => return Err(e).call("wait4", "-1, WNOHANG"),
        }
    }
}
