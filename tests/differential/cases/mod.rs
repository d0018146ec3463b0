//! The cases.

mod corners;
mod habits;
mod hooks;
mod lifecycle;
mod mounts;
mod namespaces;
mod process;
mod statements;

use crate::case::Case;

/// All of them.
pub(crate) fn all() -> Vec<Case> {
    [
        process::all(),
        mounts::all(),
        namespaces::all(),
        lifecycle::all(),
        hooks::all(),
        statements::all(),
        corners::all(),
        habits::all(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
