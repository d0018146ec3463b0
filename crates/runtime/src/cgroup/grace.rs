//! The wait that moving a process costs, begun ahead of the move.
//!
//! A write to `cgroup.procs` locks all forks out, by a lock that is cheap for those who fork: the first who takes it in a
//! while waits for an RCU grace period, 8 ms on an idle machine, and those who follow soon don't (kernel/rcu/sync.c,
//! `rcu_sync_enter`). systemd makes such a write for each scope, some milliseconds after it was asked to.
//! So a process of no use moves itself to where it is already, while this program prepares its request and systemd looks
//! at it. Nothing changes but when the grace period begins; where there is none (`favordynmods`), or the caller may not
//! write to its own cgroup, nothing at all.

use std::os::fd::{AsFd, OwnedFd};

use rtc_sys::clone::{self, Clone3, Cloned};

use super::Hierarchy;
use super::membership;
use crate::Result;
use crate::process;

/// The process. It ends by itself, and is waited for when this is dropped.
#[derive(Debug)]
pub(crate) struct Grace(OwnedFd);

impl Grace {
    /// Begins the grace period.
    ///
    /// # Errors
    /// clone3's.
    pub(crate) fn begin() -> Result<Self> {
        match clone::clone3(&Clone3::default())? {
            Cloned::Child => {
                // Who can't do it has lost nothing.
                let _ = move_nowhere();
                clone::exit(0)
            }
            Cloned::Parent { pidfd, .. } => Ok(Self(pidfd)),
        }
    }
}

/// Moves this process to its own cgroup.
fn move_nowhere() -> Result<()> {
    let own = Hierarchy::find()?.open_path(&membership::own_path()?)?;
    own.map_or(Ok(()), |own| own.write("cgroup.procs", "0"))
}

impl Drop for Grace {
    fn drop(&mut self) {
        if let Err(e) = process::wait_status(&self.0.as_fd()) {
            log::debug!("wait for the process that began the grace period: {e}");
        }
    }
}
