//! Waiting for what happens in a cgroup: the last process ends, memory runs out.

use std::time::Duration;

use super::Cgroup;
use crate::Result;

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
pub struct Watch {}

impl Cgroup {
    /// Starts to watch.
    ///
    /// # Errors
    /// `cgroup.events` can't be opened.
    pub fn watch(&self) -> Result<Watch> {
        unimplemented!()
    }
}

impl Watch {
    /// Waits for the next event, for `timeout` at most.
    ///
    /// # Errors
    /// poll(2) or a read fails.
    pub fn next(&mut self, timeout: Duration) -> Result<Event> {
        let _ = timeout;
        unimplemented!()
    }
}
