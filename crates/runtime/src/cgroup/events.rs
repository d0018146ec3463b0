//! Waiting for what happens in a cgroup: the last process ends, memory runs out.

use std::fs::File;
use std::time::Duration;

use super::Cgroup;
use super::control::is_gone;
use super::wait::{Deadline, flag, reread, wait_for_change};
use crate::Result;
use crate::error::Context;

/// What a [`Watch`] saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The kernel killed a process of this cgroup, or below it, for want of memory.
    OutOfMemory,
    /// No process is left, or the cgroup is removed.
    Empty,
    /// The time is over.
    Timeout,
}

/// A watch on a cgroup.
#[derive(Debug)]
pub struct Watch {
    events: File,
    /// Absent without the memory controller.
    memory: Option<File>,
    kills: u64,
}

impl Cgroup {
    /// Starts to watch.
    ///
    /// # Errors
    /// `cgroup.events` can't be opened.
    pub fn watch(&self) -> Result<Watch> {
        let events = self.open_control("cgroup.events").context(|| self.noun())?;
        let memory = match self.open_control("memory.events") {
            Ok(file) => Some(file),
            Err(e) if is_gone(&e) => None,
            Err(e) => return Err(e).context(|| self.noun()),
        };
        let kills = match &memory {
            Some(file) => oom_kills(&reread(file).context(|| self.noun())?),
            None => 0,
        };
        Ok(Watch { events, memory, kills })
    }
}

impl Watch {
    /// Waits for the next event, for `timeout` at most.
    ///
    /// # Errors
    /// poll(2) or a read fails.
    pub fn next(&mut self, timeout: Duration) -> Result<Event> {
        let deadline = Deadline::after(timeout);
        loop {
            if self.new_kills()? {
                return Ok(Event::OutOfMemory);
            }
            match reread(&self.events) {
                Ok(text) if flag(&text, "populated") => {}
                Ok(_) => return Ok(Event::Empty),
                Err(e) if is_gone(&e) => return Ok(Event::Empty),
                Err(e) => return Err(e.into()),
            }
            let left = deadline.left();
            if left.is_zero() {
                return Ok(Event::Timeout);
            }
            let files: Vec<&File> = std::iter::once(&self.events).chain(&self.memory).collect();
            wait_for_change(&files, left)?;
        }
    }

    fn new_kills(&mut self) -> Result<bool> {
        let Some(memory) = &self.memory else { return Ok(false) };
        let kills = match reread(memory) {
            Ok(text) => oom_kills(&text),
            Err(e) if is_gone(&e) => return Ok(false),
            Err(e) => return Err(e.into()),
        };
        let more = kills > self.kills;
        self.kills = kills;
        Ok(more)
    }
}

fn oom_kills(text: &str) -> u64 {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_kills_count() {
        assert_eq!(oom_kills("low 0\nhigh 0\nmax 7\noom 3\noom_kill 2\noom_group_kill 1\n"), 2);
        assert_eq!(oom_kills(""), 0);
    }
}
