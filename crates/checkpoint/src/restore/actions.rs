//! Signal handlers.

use crate::image::tree::Action;
use crate::program::Program;

const SIGNALS: i32 = 64;
const SIGACTION: usize = 32;

/// Adds calls that set every signal's handler to the default. Pending signals that are ignored by default are dropped.
pub(super) fn default_actions(program: &mut Program) {
    let default = program.data(&[0; SIGACTION]);
    for signal in (1..=SIGNALS).filter(|s| !matches!(*s, libc::SIGKILL | libc::SIGSTOP)) {
        program.call(libc::SYS_rt_sigaction, [signal.into(), default.into(), 0u64.into(), 8u64.into()]);
    }
}

/// Calls that set the handlers of an image, and the default for all others.
pub(super) fn actions(actions: &[Action]) -> Program {
    let mut program = Program::new();
    // Helpers and zombies have ended by now, and their SIGCHLD must not be seen.
    default_actions(&mut program);
    for action in actions {
        let words = [action.handler, action.flags, action.restorer, action.mask].map(u64::to_ne_bytes);
        let at = program.data(&words.concat());
        program.call(libc::SYS_rt_sigaction, [action.signal.into(), at.into(), 0u64.into(), 8u64.into()]);
    }
    program
}
