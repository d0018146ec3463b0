//! The two executors: one system call at a time by ptrace (`Step`), or the whole program at once by the injected
//! interpreter (`Interp`). Both give the same results; `Step` needs no code of ours in the target.

use super::mode::Mode;
use super::zone::{ZONE_DATA, Zone};
use super::{Stopped, died};
use crate::error::{Error, Kind, Result};
use crate::program::{Addr, Arg, Call, CallRef, DataRef, Program};
use rtc_sys::ptrace::{self, Wait};
use rtc_sys::regs::Regs;
use rtc_sys::{Errno, interp};
use std::fmt::Write as _;

/// What a program's calls returned, and its data afterwards.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Results {
    returned: Vec<i64>,
    data: Vec<u8>,
}

impl Results {
    /// What a call returned: a value, or -errno for a call that was allowed to fail.
    pub fn of(&self, call: CallRef) -> i64 {
        self.returned[call.0]
    }

    /// What a call returned, as a result.
    ///
    /// # Errors
    /// The call's errno.
    pub fn ok(&self, call: CallRef) -> std::result::Result<u64, Errno> {
        match self.returned[call.0] {
            r @ -4095..=-1 => Err(Errno::from_raw(-r as i32)),
            r => Ok(r as u64),
        }
    }

    /// A piece of the program's data as it is now.
    pub fn data(&self, at: DataRef) -> &[u8] {
        &self.data[at.offset()..at.offset() + at.len()]
    }

    /// A 64-bit word of the program's data.
    pub fn word(&self, at: DataRef) -> u64 {
        u64::from_ne_bytes(self.data(at)[..8].try_into().expect("eight bytes were asked for"))
    }
}

impl Stopped {
    /// Runs a program to its end. Registers and mask stay changed until [`Stopped::restore`] or [`Stopped::detach`].
    ///
    /// # Errors
    /// The first call that failed without being allowed to, printed with its arguments; a program too long for the
    /// zone; the task's death.
    pub fn run(&mut self, mode: Mode, zone: Zone, program: &Program) -> Result<Results> {
        if program.is_empty() {
            return Ok(Results::default());
        }
        match mode {
            Mode::Step { syscall_insn } => self.run_step(syscall_insn, zone, program),
            Mode::Interp => self.run_interp(zone, program),
        }
    }

    fn run_step(&mut self, syscall_insn: Addr, zone: Zone, program: &Program) -> Result<Results> {
        let before = self.prepare()?;
        let layout = Layout::new(zone, program, 0)?;
        if !program.bytes().is_empty() {
            self.write(layout.data, &layout.data_bytes(program))?;
        }
        let mut returned = Vec::with_capacity(program.calls().len());
        for call in program.calls() {
            let mut args = [0; 6];
            for (value, arg) in args.iter_mut().zip(&call.args) {
                *value = match *arg {
                    Arg::Value(v) => v,
                    Arg::Data(d) => layout.address(d),
                    Arg::Result(CallRef(i)) => returned[i] as u64,
                    Arg::Load(d) => {
                        let mut word = [0; 8];
                        self.read(Addr(layout.address(d)), &mut word)?;
                        u64::from_ne_bytes(word)
                    }
                };
            }
            let result = self.step(&before, syscall_insn, call.nr, args)?;
            if is_errno(result) && !call.may_fail {
                return Err(failed(self.tid, call, &args, result));
            }
            returned.push(result);
        }
        self.back_to_signal_stop()?;
        let mut data = vec![0; program.bytes().len()];
        if !data.is_empty() {
            self.read(layout.data, &mut data)?;
        }
        Ok(Results { returned, data })
    }

    /// One system call by two syscall stops.
    fn step(&mut self, before: &Regs, ip: Addr, nr: i64, args: [u64; 6]) -> Result<i64> {
        before.at_syscall(ip.0, nr, args).set(self.tid)?;
        let mut stops = 0;
        while stops < 2 {
            ptrace::syscall(self.tid, 0)?;
            match self.wait_stop()? {
                (signal, 0) if signal == libc::SIGTRAP | 0x80 => stops += 1,
                other => self.note(other)?,
            }
        }
        Ok(Regs::get(self.tid)?.result())
    }

    /// Leaves the syscall-exit stop for a stop in signal delivery: only there does the kernel look at an interrupted
    /// system call in the registers and restart it.
    fn back_to_signal_stop(&mut self) -> Result<()> {
        ptrace::interrupt(self.tid)?;
        ptrace::cont(self.tid, 0)?;
        loop {
            match self.wait_stop()? {
                (_, ptrace::EVENT_STOP) => return Ok(()),
                other => {
                    self.note(other)?;
                    // That stop has taken ours back.
                    ptrace::interrupt(self.tid)?;
                    ptrace::cont(self.tid, 0)?;
                }
            }
        }
    }

    fn run_interp(&mut self, zone: Zone, program: &Program) -> Result<Results> {
        let before = self.prepare()?;
        let calls_len = (program.calls().len() + 1) * interp::CALL_SIZE;
        let layout = Layout::new(zone, program, calls_len)?;
        let mut bytes = Vec::with_capacity(calls_len + program.bytes().len());
        for call in program.calls() {
            bytes.extend_from_slice(&layout.encode(call));
        }
        bytes.extend_from_slice(&interp::encode(interp::END, 0, [0; 6]));
        bytes.extend_from_slice(&layout.data_bytes(program));
        self.write(zone.data(), &bytes)?;
        before.at_interpreter(zone.code().0, zone.data().0).set(self.tid)?;
        self.run_to_trap()?;
        let stopped_at = (Regs::get(self.tid)?.cursor().wrapping_sub(zone.data().0)) / interp::CALL_SIZE as u64;
        self.read(zone.data(), &mut bytes)?;
        let result_of = |i: usize| {
            let at = i * interp::CALL_SIZE + interp::RESULT_OFFSET;
            i64::from_ne_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
        };
        if let Some(call) = program.calls().get(stopped_at as usize) {
            let at = stopped_at as usize * interp::CALL_SIZE + 8;
            let mut args = [0; 6];
            for (i, arg) in args.iter_mut().enumerate() {
                *arg = u64::from_ne_bytes(bytes[at + i * 8..at + i * 8 + 8].try_into().expect("eight bytes"));
            }
            return Err(failed(self.tid, call, &args, result_of(stopped_at as usize)));
        }
        let returned = (0..program.calls().len()).map(result_of).collect();
        Ok(Results { returned, data: bytes.split_off(calls_len) })
    }

    /// Lets the interpreter run until it traps.
    fn run_to_trap(&mut self) -> Result<()> {
        loop {
            ptrace::cont(self.tid, 0)?;
            match self.wait_stop()? {
                (libc::SIGTRAP, 0) => return Ok(()),
                other => self.note(other)?,
            }
        }
    }

    fn wait_stop(&mut self) -> Result<(i32, i32)> {
        match ptrace::wait(self.tid)? {
            Wait::Stopped(signal, event) => Ok((signal, event)),
            Wait::Exited(status) => Err(died(self.tid, format!("exited with status {status}"))),
            Wait::Killed(signal) => Err(died(self.tid, format!("was killed by signal {signal}"))),
        }
    }

    /// Takes note of a stop that isn't the awaited one.
    fn note(&mut self, stop: (i32, i32)) -> Result<()> {
        match stop {
            (_, libc::PTRACE_EVENT_CLONE | libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_VFORK) => {
                self.born.push(ptrace::event_message(self.tid)? as i32);
            }
            // SIGSTOP can't be blocked: it is kept back and sent again when the task is let go.
            (signal @ (libc::SIGSTOP | libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU), 0) => {
                self.deferred.push(signal);
            }
            (_, ptrace::EVENT_STOP) => {}
            (signal @ (libc::SIGSEGV | libc::SIGBUS | libc::SIGILL | libc::SIGFPE | libc::SIGSYS), 0) => {
                return Err(Error::new(Kind::System, format!("task {} got signal {signal} in a program", self.tid)));
            }
            // Anything else was blocked and came through all the same (a forced signal): nothing to add.
            _ => {}
        }
        Ok(())
    }
}

/// Where a program's calls and data are in a zone.
struct Layout {
    calls: Addr,
    data: Addr,
}

impl Layout {
    fn new(zone: Zone, program: &Program, calls_len: usize) -> Result<Self> {
        let len = calls_len + program.bytes().len();
        if len as u64 > ZONE_DATA {
            return Err(Error::new(Kind::System, format!("a program of {len} bytes doesn't fit in its zone")));
        }
        Ok(Self { calls: zone.data(), data: Addr(zone.data().0 + calls_len as u64) })
    }

    fn address(&self, d: DataRef) -> u64 {
        self.data.0 + d.offset() as u64
    }

    fn data_bytes(&self, program: &Program) -> Vec<u8> {
        let mut bytes = program.bytes().to_vec();
        for (at, to) in program.pointers() {
            bytes[at.offset()..at.offset() + 8].copy_from_slice(&self.address(*to).to_ne_bytes());
        }
        bytes
    }

    fn encode(&self, call: &Call) -> [u8; interp::CALL_SIZE] {
        let mut flags = if call.may_fail { interp::MAY_FAIL } else { 0 };
        let mut args = [0; 6];
        for (i, (value, arg)) in args.iter_mut().zip(&call.args).enumerate() {
            let (v, load) = match *arg {
                Arg::Value(v) => (v, false),
                Arg::Data(d) => (self.address(d), false),
                Arg::Load(d) => (self.address(d), true),
                Arg::Result(CallRef(c)) => {
                    (self.calls.0 + (c * interp::CALL_SIZE + interp::RESULT_OFFSET) as u64, true)
                }
            };
            *value = v;
            flags |= u16::from(load) << i;
        }
        interp::encode(call.nr as u32, flags, args)
    }
}

fn is_errno(result: i64) -> bool {
    (-4095..0).contains(&result)
}

/// The error for a failed call, printed as strace prints it.
fn failed(tid: i32, call: &Call, args: &[u64; 6], result: i64) -> Error {
    let mut text = String::new();
    for (i, arg) in args.iter().take(call.args.len()).enumerate() {
        let _ = write!(text, "{}{arg:#x}", if i == 0 { "" } else { ", " });
    }
    let name = crate::program::call_name(call.nr);
    let error = rtc_sys::Error::from_raw(name, text, -result as i32);
    Error::from(error).context(format!("in task {tid}"))
}
