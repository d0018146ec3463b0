//! Pseudo terminals.
//!
//! A pair whose master is in the container is made anew under its number. A slave whose master is outside is either the
//! container's terminal, which comes from the caller as a file from outside, or can't be saved
//! (unless the caller allows it to be found hung up after the restore).
//! Saved are modes, size, owner, lock, packet mode, and what was written and not yet read on either side.
//! Left out: output stopped by ^S, end-of-file marks among unread input, the modes of the master itself.
//! Descriptions of /dev/tty become ones of the terminal itself.
//! Sessions and foreground groups are the processes', see `FileDumper::add_terminal`.

mod master;
mod slave;
mod state;

pub use master::PtyMaster;
pub use slave::{PtySlave, Side};
pub use state::{Modes, Terminal};

pub(super) use slave::{is_own, unread};
pub(crate) use slave::{number_of_slave, terminal};
pub(super) use state::put_input;

#[cfg(test)]
mod tests;
