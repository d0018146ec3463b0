//! The actions of a profile as return values of a filter.

use oci_spec::runtime::LinuxSeccompAction as Action;

use crate::{Error, Kind, Result};

/// `SECCOMP_RET_...` of linux/seccomp.h.
pub(super) const KILL_PROCESS: u32 = 0x8000_0000;
pub(super) const KILL_THREAD: u32 = 0;
pub(super) const TRAP: u32 = 0x0003_0000;
pub(super) const ERRNO: u32 = 0x0005_0000;
pub(super) const NOTIFY: u32 = 0x7fc0_0000;
pub(super) const TRACE: u32 = 0x7ff0_0000;
pub(super) const LOG: u32 = 0x7ffc_0000;
pub(super) const ALLOW: u32 = 0x7fff_0000;

/// The kernel cuts larger numbers down to this.
const MAX_ERRNO: u32 = 4095;
/// A tracer gets any 16 bits (`SECCOMP_RET_DATA`).
const MAX_MESSAGE: u32 = 0xffff;

/// The return value for an action with its `errnoRet`, which is EPERM by default and belongs to ERRNO and TRACE alone.
///
/// # Errors
/// An errno beyond the kernel's range, or with an action that takes none (config-linux, "errnoRet").
pub(super) fn value(action: Action, errno: Option<u32>) -> Result<u32> {
    let (base, takes_errno) = match action {
        Action::ScmpActKill | Action::ScmpActKillThread => (KILL_THREAD, false),
        Action::ScmpActKillProcess => (KILL_PROCESS, false),
        Action::ScmpActTrap => (TRAP, false),
        Action::ScmpActErrno => (ERRNO, true),
        Action::ScmpActNotify => (NOTIFY, false),
        Action::ScmpActTrace => (TRACE, true),
        Action::ScmpActLog => (LOG, false),
        Action::ScmpActAllow => (ALLOW, false),
    };
    let max = if base == TRACE { MAX_MESSAGE } else { MAX_ERRNO };
    match errno {
        None if takes_errno => Ok(base | libc::EPERM as u32),
        None => Ok(base),
        Some(errno) if takes_errno && errno <= max => Ok(base | errno),
        Some(errno) if takes_errno => {
            Err(Error::new(Kind::Invalid, format!("seccomp: errnoRet {errno} is above {max}")))
        }
        Some(errno) => Err(Error::new(Kind::Invalid, format!("seccomp: {action} takes no errnoRet ({errno})"))),
    }
}

/// Whether a default action lets calls through, so that a younger call isn't the profile's business.
pub(super) fn is_permissive(action: Action) -> bool {
    // A tracer answers ENOSYS itself where it wants to.
    matches!(action, Action::ScmpActAllow | Action::ScmpActLog | Action::ScmpActTrace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errnos_belong_to_errno_and_trace() {
        assert_eq!(value(Action::ScmpActErrno, None).unwrap(), ERRNO | 1);
        assert_eq!(value(Action::ScmpActErrno, Some(38)).unwrap(), ERRNO | 38);
        assert_eq!(value(Action::ScmpActTrace, Some(7)).unwrap(), TRACE | 7);
        assert_eq!(value(Action::ScmpActKill, None).unwrap(), KILL_THREAD);
        let error = value(Action::ScmpActAllow, Some(1)).unwrap_err();
        assert_eq!(error.to_string(), "seccomp: SCMP_ACT_ALLOW takes no errnoRet (1)");
        assert!(value(Action::ScmpActErrno, Some(4096)).is_err());
        assert_eq!(value(Action::ScmpActTrace, Some(0xffff)).unwrap(), TRACE | 0xffff);
        assert!(value(Action::ScmpActTrace, Some(0x1_0000)).is_err());
    }
}
