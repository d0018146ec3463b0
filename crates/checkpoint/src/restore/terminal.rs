//! Controlling terminals and foreground groups.
//!
//! A session's leader takes its terminal before it makes children, who inherit it: nothing else gives it to them.

use super::Builder;
use crate::error::{Context as _, Result};
use crate::image::tree::SessionTerminal;
use crate::program::Program;
use crate::tracee::Mode;

impl Builder<'_> {
    /// Gives the session that a process leads its terminal.
    pub(super) fn take_terminal(&mut self, process: usize) -> Result<()> {
        let session = self.tree.processes[process].pid;
        let Some(terminal) = self.tree.terminals.iter().find(|t| t.session == session).copied() else {
            return Ok(());
        };
        self.control(process, terminal, libc::TIOCSCTTY, 0).context(|| format!("terminal of session {session}"))
    }

    /// Puts the groups that were in the foreground there; all groups exist.
    pub(super) fn set_foreground(&mut self) -> Result<()> {
        for terminal in self.tree.terminals.iter().filter(|t| t.foreground != 0).copied().collect::<Vec<_>>() {
            let SessionTerminal { session, foreground, .. } = terminal;
            let leader = self.living().map(|(process, _)| process);
            let leader = leader.into_iter().find(|p| self.tree.processes[*p].pid == session);
            if let Some(leader) = leader {
                let done = self.control(leader, terminal, libc::TIOCSPGRP, foreground);
                done.context(|| format!("foreground group {foreground} of session {session}"))?;
            }
        }
        Ok(())
    }

    /// Lets a process call ioctl on a terminal that isn't in its table yet.
    fn control(&mut self, process: usize, terminal: SessionTerminal, request: u64, argument: i32) -> Result<()> {
        let numbers = self.receive(process, &[terminal.file])?;
        let number = numbers.get(&terminal.file).copied().unwrap_or(-1);
        let given = self.files.files.get(terminal.file.index()).is_some_and(|file| file.file.is_external());
        let mut program = Program::new();
        let group = program.data(&argument.to_ne_bytes());
        let argument = if request == libc::TIOCSPGRP { group.into() } else { argument.into() };
        let call = program.try_call(libc::SYS_ioctl, [number.into(), request.into(), argument]);
        let (task, zone) = self.leader(process);
        let results = task.run(Mode::Interp, zone, &program)?;
        match results.ok(call) {
            // The terminal that the caller gave can be another session's: then the container goes on without one.
            Err(errno) if given => log::warn!("session {}: ioctl({request:#x}) = {errno:?}", terminal.session),
            result => {
                result.map_err(|errno| {
                    let arguments = format!("{number}, {request:#x}, {}", terminal.foreground);
                    rtc_sys::Error::new("ioctl", arguments, errno)
                })?;
            }
        }
        Ok(())
    }
}
