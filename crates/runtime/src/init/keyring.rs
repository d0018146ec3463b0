//! A session keyring of the container's own, so that it can't see the caller's keys.

use std::ffi::CString;

use rtc_sys::{Errno, process};

use crate::error::Result;

/// The user's right to search a keyring (keyutils.h, `KEY_USR_SEARCH`), as runc adds it.
const USER_SEARCH: u32 = 0x8_0000;

/// Joins a new session keyring named after the container.
pub(crate) fn join(id: &str) -> Result<()> {
    let name = CString::new(format!("_ses.{id}")).unwrap_or_default();
    match process::join_session_keyring(&name) {
        Ok(serial) => Ok(process::add_key_permissions(serial, USER_SEARCH)?),
        // A kernel without keys, or a filter around us that forbids them.
        Err(e) if matches!(e.errno(), Errno::ENOSYS | Errno::EPERM) => Ok(()),
        Err(e) => Err(e.into()),
    }
}
