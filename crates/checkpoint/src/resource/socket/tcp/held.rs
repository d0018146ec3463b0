//! Keeps connections to the outside as they were read, until the dump is over.

use super::repair;
use crate::error::{Context as _, Result};
use crate::files::Held;
use crate::links;
use crate::netlock::{self, Lock, Locked, road};
use crate::netns;
use rtc_sys::guard::Guard;
use std::os::fd::{AsFd as _, OwnedFd};

/// Seconds for which the other ends hear nothing after the container's end, also if its network namespace lives on.
const SILENCE: u64 = 120;

/// Connections whose other ends are out of the container.
pub(super) struct Outside {
    /// With the values of `SO_REUSEADDR`.
    sockets: Vec<(OwnedFd, i32)>,
    /// Nothing reaches them.
    _lock: Lock,
    locked: Vec<Locked>,
    namespace: OwnedFd,
    /// Brings them back if we die between switching repair mode on and their end, or if there is no end.
    guard: Option<Guard>,
    /// The other ends would hear nothing for [`SILENCE`], though the container may live on.
    silenced: bool,
}

impl Outside {
    /// `locked` are those of them that the image keeps: by these a restore finds what was left for it.
    pub(super) fn new(sockets: Vec<(OwnedFd, i32)>, lock: Lock, locked: Vec<Locked>, namespace: OwnedFd) -> Self {
        Self { sockets, _lock: lock, locked, namespace, guard: None, silenced: false }
    }
}

impl Held for Outside {
    /// In repair mode they end without a word to the other end.
    fn before_kill(&mut self) -> Result<()> {
        // Those that have ended meanwhile need nothing.
        if !self.locked.is_empty() {
            self.silence()?;
        }
        let undo = self.sockets.iter().flat_map(|(fd, reuse)| repair::undo(fd.as_fd(), *reuse));
        let guard = Guard::start(&undo.collect::<Vec<_>>())?;
        for (fd, _) in &self.sockets {
            // On failure the guard goes, and switches off those before.
            repair::on(fd.as_fd())?;
        }
        self.guard = Some(guard);
        Ok(())
    }

    fn after_kill(&mut self) {
        self.silenced = false;
        if let Some(guard) = self.guard.take() {
            if let Err(e) = self.end(guard) {
                log::warn!("{e}");
            }
        }
    }
}

impl Outside {
    fn silence(&mut self) -> Result<()> {
        self.silenced = true;
        // When this process ends, its own lock does, and what is left of the namespace would answer with a reset.
        netlock::keep(Some(self.namespace.as_fd()), &self.locked, SILENCE)?;
        if let Err(e) = road::close(self.namespace.as_fd(), &self.locked, SILENCE) {
            // It is for what may happen while the container is away; saved it is without.
            log::warn!("{e}");
        }
        Ok(())
    }

    /// Undoes what was done for an end that did not come.
    fn hear_again(&self) -> Result<()> {
        netlock::forget(Some(self.namespace.as_fd()), &self.locked)?;
        road::open(road::ours()?.as_fd(), &self.locked)
    }

    fn end(&mut self, guard: Guard) -> Result<()> {
        // The guard's copies go first: the last one to close a socket ends it silently.
        guard.dismiss().context(|| "end the guard of TCP connections")?;
        self.sockets.clear();
        // A namespace that ends loses its rules some time before its interfaces.
        if netns::is_deserted(self.namespace.as_fd())? {
            links::set_down(self.namespace.as_fd())?;
        }
        Ok(())
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        drop(self.guard.take());
        if self.silenced {
            if let Err(e) = self.hear_again() {
                log::warn!("connections to the outside are silent for {SILENCE} seconds: {e}");
            }
        }
    }
}
