//! A container's or exec's process in the foreground: its signals, its terminal, its exit status.
//!
//! SIGCHLD is blocked before the process is made and read from a signalfd afterwards, so that a process which ends at
//! once is noticed as surely as any other.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal, SigmaskHow, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;
use rtc_sys::{CallExt, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::terminal::{Interests, Terminal};

/// Signals that stay with rtc: faults of its own, job control of the caller's shell, and what a broken pipe or
/// out-of-band data of rtc's own descriptors raise.
const OWN: [Signal; 9] = [
    Signal::SIGSEGV,
    Signal::SIGBUS,
    Signal::SIGFPE,
    Signal::SIGILL,
    Signal::SIGTRAP,
    Signal::SIGTTIN,
    Signal::SIGTTOU,
    Signal::SIGPIPE,
    Signal::SIGURG,
];

/// Signals held back for a process that is about to be made.
pub(crate) struct Foreground {
    signals: SignalFd,
}
