//! Makes a container: the parent's part, the child's part, and the words between them.
//!
//! `plan` is what the parent decides before the clone, `steps` what the child does, in order, `sync` the words
//! between them, `conversation` what the parent does in answer, `place` how it comes to its cgroup, `life` the child's way as a whole.

mod attributes;
mod child;
mod conversation;
mod keyring;
mod life;
mod mounts;
mod parent;
mod place;
mod plan;
mod program;
mod steps;
mod sync;
mod user;

pub(crate) use attributes::{node_mask, set_affinity};
pub(crate) use child::{Child, current_root};
pub(crate) use conversation::{Side, Talk, seal_descriptors, set_oom_score, write_pid_file};
pub(crate) use keyring::{join as join_keyring, name as keyring_name};
pub(crate) use life::{become_program, end};
pub(crate) use mounts::Opener;
pub(crate) use plan::{ProcessPlan, listen_fds};
pub(crate) use steps::{Step, die_with_parent, run as run_steps, step};
pub(crate) use sync::channel;
pub(crate) use user::become_root;

use crate::container::Container;
use crate::error::Result;
use crate::host::Host;
use crate::options::{CreateOptions, Payload};

/// Makes a container up to the point where init waits for `start`, or holds ([`Payload::Hold`]).
///
/// The calling process must have one thread; it becomes non-dumpable.
///
/// # Errors
/// Nothing is left of a container that can't be created. [`Kind::Exists`] when the id is taken; [`Kind::Exec`] when the
/// program can't be found, without further context so that the text is `exec: "x": executable file not found in $PATH`.
///
/// [`Kind::Exists`]: crate::Kind::Exists
/// [`Kind::Exec`]: crate::Kind::Exec
pub fn create(host: &Host, options: &CreateOptions, payload: Payload<'_>) -> Result<Container> {
    let held = matches!(payload, Payload::Hold(_));
    let container = parent::make(host, options, payload.into())?;
    if held { poststart(container) } else { Ok(container) }
}

/// Creates and starts at once: as [`create`] and then [`Container::start`], without the wait between them.
///
/// # Errors
/// As those two.
pub fn run(host: &Host, options: &CreateOptions) -> Result<Container> {
    let container = parent::make(host, options, parent::Goal::Run)?;
    poststart(container)
}

/// Runs the poststart hooks of a container that was made in this call: when one fails, nothing is left of it.
fn poststart(container: Container) -> Result<Container> {
    match container.run_poststart() {
        Ok(()) => Ok(container),
        Err(error) => {
            if let Err(e) = container.delete(true) {
                log::warn!("delete the container: {e}");
            }
            Err(error)
        }
    }
}
