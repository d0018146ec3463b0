//! A compiled filter, ready to be loaded.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompFilterFlag as Flag};
use rtc_sys::seccomp::{self, Insn};

use super::abi::Machine;
use super::profile::Profile;
use super::program;
use crate::{Error, Kind, Result};

/// A compiled filter.
#[derive(Clone, Debug)]
pub struct Filter {
    program: Vec<Insn>,
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
    /// sendmsg(2) is among the calls that are reported.
    pub reports_sendmsg: bool,
}

/// Compiles `linux.seccomp` of config.json for this machine.
///
/// # Errors
/// `Kind::Invalid`: `SCMP_ACT_NOTIFY` for `write` or as the default action, or without a `listenerPath`; an argument
/// index above 5; an `errnoRet` where none belongs; a flag that the kernel lacks; a program of more than 4096
/// instructions.
pub fn compile(seccomp: &LinuxSeccomp) -> Result<Filter> {
    let profile = Profile::new(seccomp, Machine::THIS)?;
    let notify = match (profile.notifies(), seccomp.listener_path().as_ref().filter(|p| !p.as_os_str().is_empty())) {
        (false, _) => None,
        (true, Some(path)) => Some(Notify {
            path: path.clone(),
            metadata: seccomp.listener_metadata().clone(),
            reports_sendmsg: seccomp.syscalls().iter().flatten().any(|entry| {
                entry.action() == Action::ScmpActNotify && entry.names().iter().any(|name| name == "sendmsg")
            }),
        }),
        (true, None) => {
            let message = "linux.seccomp.listenerPath is not set, but SCMP_ACT_NOTIFY is used";
            return Err(Error::new(Kind::Invalid, message));
        }
    };
    let flags = flags(seccomp.flags().as_deref(), notify.is_some())?;
    Ok(Filter { program: program::compile(&profile)?, flags, notify })
}

/// The flags of seccomp(2) for those of config.json.
fn flags(listed: Option<&[Flag]>, notify: bool) -> Result<u32> {
    let mut flags = if notify { seccomp::FLAG_NEW_LISTENER } else { 0 };
    let Some(listed) = listed else {
        // Without a word about flags, as runc does: the mitigation that this one leaves off costs much and protects little.
        let known = seccomp::knows_flags(seccomp::FLAG_SPEC_ALLOW);
        return Ok(if known { flags | seccomp::FLAG_SPEC_ALLOW } else { flags });
    };
    for flag in listed {
        let bit = match flag {
            Flag::SeccompFilterFlagTsync => 0,
            Flag::SeccompFilterFlagLog => seccomp::FLAG_LOG,
            Flag::SeccompFilterFlagSpecAllow => seccomp::FLAG_SPEC_ALLOW,
            // The kernel refuses it without a listener, for which alone it means something.
            Flag::SeccompFilterFlagWaitKillableRecv if !notify => 0,
            Flag::SeccompFilterFlagWaitKillableRecv => seccomp::FLAG_WAIT_KILLABLE_RECV,
        };
        if bit != 0 && !seccomp::knows_flags(bit | flags) {
            return Err(Error::new(Kind::Invalid, format!("linux.seccomp.flags: this kernel lacks {flag}")));
        }
        flags |= bit;
    }
    Ok(flags)
}

impl Filter {
    /// A program that was compiled elsewhere, without flags and without anybody to tell.
    pub(super) fn of(program: Vec<Insn>) -> Self {
        Self { program, flags: 0, notify: None }
    }

    /// Whom to tell; `None` when no rule notifies. [`Filter::load`] then returns a descriptor.
    pub fn notify(&self) -> Option<&Notify> {
        self.notify.as_ref()
    }

    /// The flags for seccomp(2), for the log.
    pub fn flags(&self) -> u32 {
        self.flags
    }

    /// The program, as the kernel takes it.
    pub fn program(&self) -> &[Insn] {
        &self.program
    }

    /// Puts the calling thread and its future children under the filter; it can't be taken off again.
    ///
    /// Allocates nothing on success.
    /// With [`Filter::notify`], returns the descriptor that the agent needs, with close-on-exec.
    /// From then on a reported call blocks until the agent answers: the only call that never does is write(2), so tell
    /// the parent the descriptor's number by write, let it fetch the descriptor by `pidfd_getfd`, and pass it on with
    /// [`super::notify::send`].
    ///
    /// # Errors
    /// EACCES without both PR_SET_NO_NEW_PRIVS and CAP_SYS_ADMIN; EBUSY when a filter with a listener is loaded already.
    pub fn load(&self) -> Result<Option<OwnedFd>> {
        Ok(seccomp::load(&self.program, self.flags)?)
    }
}
