//! A program of any length: run in pieces that fit in the zone.

use crate::error::Result;
use crate::program::{Arg, Program};
use crate::tracee::{Mode, Stopped, Zone};

/// How many bytes of calls and data are run at once; well below what a zone holds.
const PIECE: usize = 64 * 1024;
/// The length of an encoded call.
const CALL: usize = rtc_sys::interp::CALL_SIZE;

/// Collects calls whose results nobody needs, and runs them.
pub(super) struct Batch<'a> {
    task: &'a mut Stopped,
    zone: Zone,
    program: Program,
}

impl<'a> Batch<'a> {
    pub(super) fn new(task: &'a mut Stopped, zone: Zone) -> Self {
        Self { task, zone, program: Program::new() }
    }

    /// Adds a call that must succeed.
    pub(super) fn call<const N: usize>(&mut self, nr: i64, args: [Arg; N]) -> Result<()> {
        self.program.call(nr, args);
        self.run_if_long()
    }

    /// Adds a call with one argument in memory: `args` is given the place of `data`.
    pub(super) fn call_with<const N: usize>(
        &mut self,
        nr: i64,
        data: &[u8],
        args: impl FnOnce(Arg) -> [Arg; N],
    ) -> Result<()> {
        let at = self.program.data(data);
        self.program.call(nr, args(at.into()));
        self.run_if_long()
    }

    fn run_if_long(&mut self) -> Result<()> {
        if self.program.calls().len() * CALL + self.program.bytes().len() > PIECE { self.run() } else { Ok(()) }
    }

    fn run(&mut self) -> Result<()> {
        let program = std::mem::take(&mut self.program);
        self.task.run(Mode::Interp, self.zone, &program).map(drop)
    }

    /// Runs what is left.
    pub(super) fn finish(mut self) -> Result<()> {
        self.run()
    }
}
