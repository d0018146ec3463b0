//! A task under ptrace: stop it, read and write its registers and memory, run programs in it, let it go.
//!
//! ptrace acts only on a stopped task, so [`Stopped`] and [`Running`] are types:
//! what needs a stop is a method of `Stopped`, and only waiting turns `Running` into it.
//! All of a tracee's calls must come from the thread that seized it, so neither type is `Send`.
//!
//! Needs kernel 5.13 (`PTRACE_GET_RSEQ_CONFIGURATION`).

mod execute;
mod mode;
mod zone;

pub use execute::Results;
pub use mode::Mode;
pub use zone::{ZONE_DATA, Zone, find_gap};

use crate::error::{Context, Error, Kind, Result};
use crate::program::Addr;
use rtc_sys::ptrace::{self, Wait};
use rtc_sys::regs::Regs;
use rtc_sys::{Errno, procmem};
use std::marker::PhantomData;
use std::time::{Duration, Instant};

/// Options while dumping: new tasks are caught, the death of the tracer lets the container run on.
///
/// Children of vfork are not: their parent waits for them without a chance to stop, and it is the parent that is
/// stopped first. They are seized like any other child once the parent has come back.
pub const DUMP_OPTIONS: i32 =
    libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_TRACECLONE | libc::PTRACE_O_TRACEFORK | ptrace::O_SUSPEND_SECCOMP;
/// Options while restoring: half-made tasks die with the tracer.
pub const RESTORE_OPTIONS: i32 = DUMP_OPTIONS | libc::PTRACE_O_EXITKILL;

/// Every signal but SIGTRAP, which the interpreter raises itself: a blocked one would lose its handler.
const ALL_BUT_TRAP: u64 = !(1 << (libc::SIGTRAP - 1));

/// How long a task may take to stop: it does so at once unless it sleeps uninterruptibly.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// A seized task that may be running.
#[derive(Debug)]
pub struct Running {
    tid: i32,
    not_send: PhantomData<*const ()>,
}

/// A seized task in a ptrace stop.
#[derive(Debug)]
pub struct Stopped {
    tid: i32,
    /// The signal of the group stop that it was in when it was stopped; 0 if it ran.
    group_stop: i32,
    /// Stop signals that arrived while a program ran; they are sent again when the task is let go.
    deferred: Vec<i32>,
    /// What it was doing when it was stopped, put back after programs.
    saved: Option<Saved>,
    /// Whether its signals are blocked for our programs.
    blocked: bool,
    /// Tasks that its programs made and nobody has taken yet.
    born: Vec<i32>,
    not_send: PhantomData<*const ()>,
}

#[derive(Clone, Copy, Debug)]
struct Saved {
    regs: Regs,
    mask: u64,
}

impl Running {
    /// Attaches to a task without stopping it.
    ///
    /// # Errors
    /// When the task is traced already, out of reach, or gone.
    pub fn seize(tid: i32, options: i32) -> Result<Self> {
        match ptrace::seize(tid, options) {
            Err(e) if e.errno() == Errno::EPERM => Err(Error::wrap(Kind::Unsupported, e)
                .context(format!("seize task {tid}"))
                .with_hint("a task that a debugger traces can't be saved: detach the debugger first")),
            r => r.context(|| format!("seize task {tid}")).map(|()| Self::attached(tid)),
        }
    }

    /// A task that ptrace attached by itself because a tracee made it.
    pub fn attached(tid: i32) -> Self {
        Self { tid, not_send: PhantomData }
    }

    /// Asks the task to stop; [`Running::wait`] then waits for it.
    ///
    /// # Errors
    /// When the task is gone.
    pub fn interrupt(&self) -> Result<()> {
        ptrace::interrupt(self.tid).context(|| format!("stop task {}", self.tid))
    }

    /// Waits for the stop of a task that was interrupted or has just been made.
    ///
    /// A signal that arrives in between is delivered first.
    ///
    /// # Errors
    /// When the task died.
    pub fn wait(self) -> Result<Stopped> {
        match self.wait_or_end()? {
            Ok(stopped) => Ok(stopped),
            Err(end) => Err(died(self.tid, end)),
        }
    }

    /// Waits as [`Running::wait`] does; `None` when the task died meanwhile.
    ///
    /// # Errors
    /// When the task isn't ours.
    pub fn wait_if_alive(self) -> Result<Option<Stopped>> {
        Ok(self.wait_or_end()?.ok())
    }

    fn wait_or_end(&self) -> Result<std::result::Result<Stopped, String>> {
        let deadline = Instant::now() + STOP_TIMEOUT;
        loop {
            let Some(wait) = ptrace::wait_until(self.tid, deadline)? else {
                return Err(Error::new(
                    Kind::System,
                    format!("task {} doesn't stop: it sleeps uninterruptibly", self.tid),
                )
                .with_hint("see /proc/PID/stack for what it waits for; try again when that is over"));
            };
            match wait {
                Wait::Stopped(signal, event) if event == ptrace::EVENT_STOP => {
                    let group_stop = if signal == libc::SIGTRAP { 0 } else { signal };
                    return Ok(Ok(Stopped::new(self.tid, group_stop)));
                }
                // A signal in flight: deliver it and wait on. Events of forks before the stop need no answer here:
                // the new task is attached and found when the tree is walked again.
                // Any stop takes back the one that was asked for (ptrace_stop in kernel/signal.c), so it is asked for
                // again: a parent that waits for its child, which is stopped already, would never come by.
                Wait::Stopped(signal, event) => {
                    let signal = if event == 0 && signal & 0x80 == 0 { signal } else { 0 };
                    self.interrupt()?;
                    ptrace::cont(self.tid, signal)?;
                }
                Wait::Exited(status) => return Ok(Err(format!("exited with status {status}"))),
                Wait::Killed(signal) => return Ok(Err(format!("was killed by signal {signal}"))),
            }
        }
    }

    /// The task's tid as the tracer counts.
    pub fn tid(&self) -> i32 {
        self.tid
    }
}

impl Stopped {
    fn new(tid: i32, group_stop: i32) -> Self {
        Self {
            tid,
            group_stop,
            deferred: Vec::new(),
            saved: None,
            blocked: false,
            born: Vec::new(),
            not_send: PhantomData,
        }
    }

    /// The task's tid as the tracer counts.
    pub fn tid(&self) -> i32 {
        self.tid
    }

    /// The signal of the group stop it was in when it was stopped; 0 if it ran.
    pub fn group_stop(&self) -> i32 {
        self.group_stop
    }

    /// Its registers: those it was stopped with, also while a program has others in them.
    ///
    /// # Errors
    /// When the task died, or runs 32-bit code.
    pub fn regs(&self) -> Result<Regs> {
        match self.saved {
            Some(saved) => Ok(saved.regs),
            None => Ok(Regs::get(self.tid)?),
        }
    }

    /// Its mask of blocked signals, as it was when it was stopped.
    ///
    /// # Errors
    /// When the task died.
    pub fn sigmask(&self) -> Result<u64> {
        match self.saved {
            Some(saved) => Ok(saved.mask),
            None => Ok(ptrace::get_sigmask(self.tid)?),
        }
    }

    /// Decides what the task has when it is let go, instead of what it was stopped with.
    pub fn set_final(&mut self, regs: Regs, mask: u64) {
        self.saved = Some(Saved { regs, mask });
    }

    /// Fills `buffer` from its memory.
    ///
    /// # Errors
    /// When not all of it is mapped readable.
    pub fn read(&self, at: Addr, buffer: &mut [u8]) -> Result<()> {
        Ok(procmem::read(self.tid, at.0, buffer)?)
    }

    /// Writes into its memory.
    ///
    /// # Errors
    /// When not all of it is mapped writable.
    pub fn write(&self, at: Addr, contents: &[u8]) -> Result<()> {
        Ok(procmem::write(self.tid, at.0, contents)?)
    }

    /// Takes the tasks its programs made since the last call, in order.
    pub fn take_born(&mut self) -> Vec<Running> {
        std::mem::take(&mut self.born).into_iter().map(Running::attached).collect()
    }

    /// Puts back the registers and the signal mask it was stopped with. Nothing is lost if the tracer dies from here on.
    ///
    /// # Errors
    /// When the task died.
    pub fn restore(&mut self) -> Result<()> {
        let Some(saved) = self.saved.take() else { return Ok(()) };
        self.blocked = false;
        saved.regs.set(self.tid)?;
        ptrace::set_sigmask(self.tid, saved.mask)?;
        Ok(())
    }

    /// Lets it stop by a signal as soon as it is let go.
    pub fn stop_when_detached(&mut self, signal: i32) {
        self.deferred.push(signal);
    }

    /// Puts back what it was stopped with and lets it go; a group stop goes on.
    ///
    /// # Errors
    /// When the task died.
    pub fn detach(mut self) -> Result<()> {
        self.restore()?;
        let deferred = std::mem::take(&mut self.deferred);
        for signal in deferred {
            // The stop signal is for the process; the thread group's leader stands for it.
            ptrace::tgkill(self.tid, self.tid, signal)?;
        }
        ptrace::detach(self.tid, 0).context(|| format!("let go of task {}", self.tid))
    }

    /// Saves registers and mask before the first program and blocks signals.
    fn prepare(&mut self) -> Result<Regs> {
        let saved = match self.saved {
            Some(saved) => saved,
            None => Saved { regs: Regs::get(self.tid)?, mask: ptrace::get_sigmask(self.tid)? },
        };
        if !self.blocked {
            ptrace::set_sigmask(self.tid, ALL_BUT_TRAP)?;
            self.blocked = true;
        }
        self.saved = Some(saved);
        Ok(saved.regs)
    }
}

/// The error for a task that died under the tracer's hands.
fn died(tid: i32, how: String) -> Error {
    Error::new(Kind::System, format!("task {tid} {how} while it was traced"))
}
