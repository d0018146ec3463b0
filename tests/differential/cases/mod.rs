//! The cases.

mod hooks;
mod lifecycle;
mod mounts;
mod namespaces;
mod process;

use crate::case::Case;

/// All of them.
pub(crate) fn all() -> Vec<Case> {
    [process::all(), mounts::all(), namespaces::all(), lifecycle::all(), hooks::all()].into_iter().flatten().collect()
}
