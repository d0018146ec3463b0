//! Keeps connections to the outside as they were read, until the dump is over.

use super::repair;
use crate::error::{Context as _, Result};
use crate::files::Held;
use crate::netlock::Lock;
use rtc_sys::guard::Guard;
use std::os::fd::{AsFd as _, OwnedFd};

/// Connections whose other ends are out of the container.
pub(super) struct Outside {
    /// With the values of `SO_REUSEADDR`.
    pub(super) sockets: Vec<(OwnedFd, i32)>,
    /// Nothing reaches them.
    pub(super) _lock: Lock,
    /// Brings them back if we die between switching repair mode on and their end.
    pub(super) guard: Option<Guard>,
}

impl Held for Outside {
    /// In repair mode they end without a word to the other end.
    fn before_kill(&mut self) -> Result<()> {
        let undo = self.sockets.iter().flat_map(|(fd, reuse)| repair::undo(fd.as_fd(), *reuse));
        let guard = Guard::start(&undo.collect::<Vec<_>>())?;
        for (fd, _) in &self.sockets {
            // On failure the guard goes, and switches off those before.
            repair::on(fd.as_fd())?;
        }
        self.guard = Some(guard);
        Ok(())
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        // The guard's copies go first, then ours, then the lock: the last one to close a socket ends it silently.
        if let Some(guard) = self.guard.take() {
            if let Err(e) = guard.dismiss().context(|| "end the guard of TCP connections") {
                log::warn!("{e}");
            }
        }
        self.sockets.clear();
    }
}
