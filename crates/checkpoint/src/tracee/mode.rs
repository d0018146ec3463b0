//! The ways to run a program.

use crate::program::Addr;

/// How a program is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One ptrace'd system call at a time, with the `syscall` instruction at this address.
    Step {
        /// Where the instruction stands in the target.
        syscall_insn: Addr,
    },
    /// The interpreter that is mapped in the zone.
    Interp,
}
