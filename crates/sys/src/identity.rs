//! Another user's credentials for a moment, in the calling thread alone.
//!
//! The kernel writes the caller's effective user, group and supplementary groups into a unix socket when it listens or
//! connects (`SO_PEERCRED`, `SO_PEERGROUPS`). Raw calls are used: the C library's change all threads.

use crate::{Error, Result};

/// Whom to be.
#[derive(Clone, Copy, Debug)]
pub struct Identity<'a> {
    /// Effective user.
    pub uid: u32,
    /// Effective group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: &'a [u32],
}

/// Set user ids don't change capabilities: `SECBIT_NO_SETUID_FIXUP` of <linux/securebits.h>.
const NO_SETUID_FIXUP: libc::c_ulong = 1 << 2;

/// Runs `act` as somebody else, with all capabilities kept, and changes back.
/// The kernel makes the whole process undumpable, as for any such change.
///
/// # Errors
/// The errno of the call that failed; the thread should end when it is one of those that change back.
pub fn acting_as<T>(who: Identity<'_>, act: impl FnOnce() -> T) -> Result<T> {
    // SAFETY: these calls take integers and can't fail.
    let (uid, gid, bits) = unsafe { (libc::geteuid(), libc::getegid(), libc::prctl(libc::PR_GET_SECUREBITS)) };
    let groups = supplementary_groups()?;
    // Without the privilege for it the path's permissions are those of `who`, which is mostly right, too.
    // SAFETY: integers only; securebits are the thread's own.
    unsafe { libc::prctl(libc::PR_SET_SECUREBITS, bits as libc::c_ulong | NO_SETUID_FIXUP, 0, 0, 0) };
    set_groups(who.groups)?;
    set_ids(libc::SYS_setresgid, "setresgid", who.gid)?;
    set_ids(libc::SYS_setresuid, "setresuid", who.uid)?;
    let result = act();
    set_ids(libc::SYS_setresuid, "setresuid", uid)?;
    set_ids(libc::SYS_setresgid, "setresgid", gid)?;
    set_groups(&groups)?;
    // SAFETY: as above.
    unsafe { libc::prctl(libc::PR_SET_SECUREBITS, bits as libc::c_ulong, 0, 0, 0) };
    Ok(result)
}

/// Sets the effective id; real and saved ones stay, so the way back is open.
fn set_ids(number: libc::c_long, name: &'static str, effective: u32) -> Result<()> {
    // SAFETY: three integers.
    let done = unsafe { libc::syscall(number, u32::MAX, effective, u32::MAX) };
    if done < 0 { Err(Error::last(name, format_args!("-1, {effective}, -1"))) } else { Ok(()) }
}

fn supplementary_groups() -> Result<Vec<u32>> {
    // SAFETY: with a size of 0 only the count is given.
    let count = unsafe { libc::getgroups(0, std::ptr::null_mut()) };
    let mut list = vec![0; usize::try_from(count).unwrap_or(0)];
    // SAFETY: there is room for `count` groups.
    let count = unsafe { libc::getgroups(list.len() as i32, list.as_mut_ptr()) };
    if count < 0 {
        return Err(Error::last("getgroups", list.len()));
    }
    list.truncate(count as usize);
    Ok(list)
}

fn set_groups(list: &[u32]) -> Result<()> {
    // SAFETY: the kernel reads `list.len()` groups.
    let done = unsafe { libc::syscall(libc::SYS_setgroups, list.len(), list.as_ptr()) };
    if done < 0 { Err(Error::last("setgroups", format_args!("{list:?}"))) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::socket::{option, pair};
    use std::os::fd::AsFd;

    #[test]
    fn a_pair_remembers_who_made_it() {
        let who = Identity { uid: 1234, gid: 2345, groups: &[7, 9] };
        let (socket, _peer) = acting_as(who, || pair(libc::SOCK_STREAM)).unwrap().unwrap();
        let mut ucred = [0; 12];
        option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_PEERCRED, &mut ucred).unwrap();
        assert_eq!(ucred[4..], [1234_u32.to_ne_bytes(), 2345_u32.to_ne_bytes()].concat());
        let mut groups = [0; 16];
        assert_eq!(option(socket.as_fd(), libc::SOL_SOCKET, 59, &mut groups).unwrap(), 8);
        assert_eq!(groups[..8], [7_u32.to_ne_bytes(), 9_u32.to_ne_bytes()].concat());
        // SAFETY: takes nothing, can't fail.
        assert_eq!(unsafe { libc::geteuid() }, 0);
    }
}
