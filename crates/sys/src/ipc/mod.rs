//! System V IPC of the calling thread's IPC namespace: listing, making and filling what shm, sem and msg have.
//!
//! Ids of users and groups are as the calling thread's user namespace counts them, pids as its pid namespace does.

pub mod msg;
pub mod sem;
pub mod shm;

use crate::{Errno, Error, Result};

/// Who may do what with an object (`struct ipc_perm`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Perm {
    /// The key it is found by; 0 (`IPC_PRIVATE`) for none.
    pub key: i32,
    /// Its owner.
    pub uid: u32,
    /// Its owner's group.
    pub gid: u32,
    /// Who made it.
    pub creator_uid: u32,
    /// The group of who made it.
    pub creator_gid: u32,
    /// Permission bits; for shared memory, [`shm::DEST`] and [`shm::LOCKED`], too.
    pub mode: u32,
}

impl Perm {
    fn from_raw(raw: &libc::ipc_perm) -> Self {
        Self {
            key: raw.__key,
            uid: raw.uid,
            gid: raw.gid,
            creator_uid: raw.cuid,
            creator_gid: raw.cgid,
            mode: raw.mode.into(),
        }
    }

    /// What `IPC_SET` takes: owner and permission bits.
    fn put(&self, raw: &mut libc::ipc_perm) {
        (raw.uid, raw.gid, raw.mode) = (self.uid, self.gid, (self.mode & 0o777) as _);
    }
}

/// Runs `act` with the effective user and group of the calling thread changed, and changes them back.
/// Only this thread's credentials change: the C library's functions would change all threads'.
///
/// # Errors
/// The errno of setresuid(2) or setresgid(2), or the error of `act`.
pub fn as_creator<T>(uid: u32, gid: u32, act: impl FnOnce() -> Result<T>) -> Result<T> {
    let set = |call: libc::c_long, name, id: u32| {
        // SAFETY: the calls take three integers; real and saved ids stay, so the way back is open.
        let done = unsafe { libc::syscall(call, u32::MAX, id, u32::MAX) };
        if done < 0 { Err(Error::last(name, format_args!("-1, {id}, -1"))) } else { Ok(()) }
    };
    // SAFETY: these calls take no arguments and can't fail.
    let (old_uid, old_gid) = unsafe { (libc::geteuid(), libc::getegid()) };
    if (old_uid, old_gid) == (uid, gid) {
        return act();
    }
    set(libc::SYS_setresgid, "setresgid", gid)?;
    let result = match set(libc::SYS_setresuid, "setresuid", uid) {
        Ok(()) => {
            let result = act();
            set(libc::SYS_setresuid, "setresuid", old_uid)?;
            result
        }
        Err(e) => Err(e),
    };
    set(libc::SYS_setresgid, "setresgid", old_gid)?;
    result
}

/// Collects what `stat` gives for each index up to `last`; indices without an object are left out.
fn each_index<T>(last: i64, mut stat: impl FnMut(i32) -> Result<T>) -> Result<Vec<T>> {
    let mut all = Vec::new();
    for index in 0..=last {
        match stat(index as i32) {
            Ok(one) => all.push(one),
            Err(e) if matches!(e.errno(), Errno::EINVAL | Errno::EIDRM) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(all)
}

/// A negative return value as an error.
fn check(returned: i64, call: &'static str, arguments: std::fmt::Arguments<'_>) -> Result<i64> {
    if returned < 0 { Err(Error::last(call, arguments)) } else { Ok(returned) }
}
