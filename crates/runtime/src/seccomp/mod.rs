//! Seccomp: the filter that config.json asks for, compiled, loaded, and announced to an agent.
//!
//! [`compile`] makes a [`Filter`] once, in the process that reads config.json: it fails early, and after `rlimits` or a
//! fork nothing is allocated any more. [`Filter::load`] then is one system call.
//!
//! Left out: PR_SET_NO_NEW_PRIVS, which the caller sets or not as `process.noNewPrivileges` says (without it, loading
//! needs CAP_SYS_ADMIN).

pub mod notify;

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use oci_spec::runtime::LinuxSeccomp;

use crate::Result;

/// A compiled filter.
#[derive(Clone, Debug)]
pub struct Filter {
    /// Flags of seccomp(2).
    flags: u32,
    notify: Option<Notify>,
}

/// Whom to tell about the system calls that the filter reports (`SCMP_ACT_NOTIFY`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notify {
    /// The socket of the agent: `linux.seccomp.listenerPath`.
    pub path: PathBuf,
    /// Handed to the agent as it is: `linux.seccomp.listenerMetadata`.
    pub metadata: Option<String>,
}

/// Compiles `linux.seccomp` of config.json.
///
/// The decisions are those of runc with libseccomp: see docs of the module for the rules.
///
/// # Errors
/// `Kind::Invalid`: `SCMP_ACT_NOTIFY` for `write` or as the default action, or without a `listenerPath`; an argument
/// index above 5; a program of more than 4096 instructions.
pub fn compile(seccomp: &LinuxSeccomp) -> Result<Filter> {
    let _ = seccomp;
    unimplemented!()
}

impl Filter {
    /// Whom to tell; `None` when no rule notifies. [`Filter::load`] then returns a descriptor.
    pub fn notify(&self) -> Option<&Notify> {
        self.notify.as_ref()
    }

    /// The flags for seccomp(2), for the log.
    pub fn flags(&self) -> u32 {
        self.flags
    }

    /// Puts the calling thread and its future children under the filter; it can't be taken off again.
    ///
    /// With [`Filter::notify`], returns the descriptor that the agent needs, with close-on-exec.
    /// From then on a reported call blocks until the agent answers: the only call that never does is write(2), so tell
    /// the parent the descriptor's number by write, let it fetch the descriptor by `pidfd_getfd`, and pass it on with
    /// [`notify::send`].
    ///
    /// # Errors
    /// EACCES without both PR_SET_NO_NEW_PRIVS and CAP_SYS_ADMIN; EBUSY when a filter with a listener is loaded already.
    pub fn load(&self) -> Result<Option<OwnedFd>> {
        unimplemented!()
    }
}
