//! A session keyring of the container's own, so that it can't see the caller's keys.

use std::collections::hash_map::RandomState;
use std::ffi::CString;
use std::hash::{BuildHasher, Hasher};

use rtc_sys::{Errno, process};

use crate::error::Result;
use crate::lsm;
use crate::proc::Proc;

/// The user's right to search a keyring (keyutils.h, `KEY_USR_SEARCH`), as runc adds it.
const USER_SEARCH: u32 = 0x8_0000;

/// What a new container's keyring is called, for later processes to join it: the container's name, and what nobody can
/// guess. Whoever has the name may make a keyring under it beforehand, or join this one: names are those of all
/// processes in a user namespace, and with the user's right to search, the same user's in another container.
pub(crate) fn name(id: &str) -> String {
    // Keyed with random bytes of the kernel's (std::collections::hash_map::RandomState).
    let secret = RandomState::new().build_hasher().finish();
    format!("{id}.{secret:016x}")
}

/// Joins the session keyring of a name, which is made if there is none, under a SELinux label if one is given.
pub(crate) fn join(proc: &Proc, name: &str, selinux: Option<&str>) -> Result<()> {
    let label = selinux.filter(|label| !label.is_empty() && lsm::has_selinux(proc));
    if let Some(label) = label {
        lsm::set_key_label(proc, label)?;
    }
    let name = CString::new(format!("_ses.{name}")).unwrap_or_default();
    let joined = match process::join_session_keyring(&name) {
        Ok(serial) => process::add_key_permissions(serial, USER_SEARCH).map_err(Into::into),
        // A kernel without keys, or a filter around us that forbids them.
        Err(e) if matches!(e.errno(), Errno::ENOSYS | Errno::EPERM) => Ok(()),
        Err(e) => Err(e.into()),
    };
    // The program's own keys have its own label.
    label.map_or(Ok(()), |_| lsm::set_key_label(proc, "\n")).and(joined)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_can_not_be_guessed() {
        assert_ne!(name("web"), name("web"));
        assert!(name("web").starts_with("web.") && name("web").len() == 20);
    }
}
