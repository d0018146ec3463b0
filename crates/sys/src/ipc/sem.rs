//! Semaphore sets (semget(2), semctl(2)).

use super::{Perm, check, each_index};
use crate::Result;
use std::mem::MaybeUninit;

const GETPID: i32 = 11;
const GETALL: i32 = 13;
const SETALL: i32 = 17;
/// The command of semctl(2) that sets one semaphore, and makes its caller the last one that changed it.
pub const SETVAL: i32 = 16;
const SEM_INFO: i32 = 19;
const SEM_STAT_ANY: i32 = 20;

/// A semaphore set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Set {
    /// Its id.
    pub id: i32,
    /// Who may do what with it.
    pub perm: Perm,
    /// How many semaphores it has.
    pub count: u64,
}

/// All sets of the namespace (`SEM_STAT_ANY`, Linux 4.17).
///
/// # Errors
/// The errno of the call.
pub fn list() -> Result<Vec<Set>> {
    // struct seminfo is ten integers.
    let mut info = [0_u64; 8];
    let last = control(0, 0, SEM_INFO, info.as_mut_ptr() as u64, "SEM_INFO")?;
    each_index(last, |index| {
        // SAFETY: the structure consists of integers, for which zero is a value.
        let mut raw: libc::semid_ds = unsafe { MaybeUninit::zeroed().assume_init() };
        let id = control(index, 0, SEM_STAT_ANY, &raw mut raw as u64, "SEM_STAT_ANY")? as i32;
        Ok(Set { id, perm: Perm::from_raw(&raw.sem_perm), count: raw.sem_nsems })
    })
}

/// Makes a set of `count` semaphores. Fails when the key is in use.
///
/// # Errors
/// The errno of the call.
pub fn create(key: i32, count: i32, mode: u32) -> Result<i32> {
    let flags = mode as i32 & 0o777 | libc::IPC_CREAT | libc::IPC_EXCL;
    // SAFETY: the call takes three integers.
    let id = unsafe { libc::semget(key, count, flags) };
    check(id.into(), "semget", format_args!("{key:#x}, {count}, {flags:#o}")).map(|id| id as i32)
}

/// Sets owner and permission bits of a set (`IPC_SET`).
///
/// # Errors
/// The errno of the call.
pub fn set(id: i32, perm: &Perm) -> Result<()> {
    // SAFETY: the structure consists of integers, for which zero is a value.
    let mut raw: libc::semid_ds = unsafe { MaybeUninit::zeroed().assume_init() };
    perm.put(&mut raw.sem_perm);
    control(id, 0, libc::IPC_SET, &raw mut raw as u64, "IPC_SET").map(drop)
}

/// The values of all semaphores of a set that has `count` of them.
///
/// # Errors
/// The errno of the call.
pub fn values(id: i32, count: u64) -> Result<Vec<u16>> {
    // The kernel limits a set's size to 32000 unless an administrator raises it; it writes exactly sem_nsems values,
    // which never changes during a set's life.
    let mut values = vec![0_u16; count as usize];
    control(id, 0, GETALL, values.as_mut_ptr() as u64, "GETALL")?;
    Ok(values)
}

/// Sets the values of all semaphores of a set, which must be as many as it has.
///
/// # Errors
/// The errno of the call; `ERANGE` for a value above 32767.
pub fn set_values(id: i32, values: &[u16]) -> Result<()> {
    // SETALL reads sem_nsems values; a shorter slice would be read beyond its end.
    let count = list()?.into_iter().find(|s| s.id == id).map_or(0, |s| s.count);
    if count != values.len() as u64 {
        let arguments = format_args!("{id}, SETALL, {} values for {count} semaphores", values.len()).to_string();
        return Err(crate::Error::new("semctl", arguments, crate::Errno::EINVAL));
    }
    control(id, 0, SETALL, values.as_ptr() as u64, "SETALL").map(drop)
}

/// Who changed the semaphore `number` of a set last; 0 for nobody that can be seen.
///
/// # Errors
/// The errno of the call.
pub fn last_pid(id: i32, number: i32) -> Result<i32> {
    control(id, number, GETPID, 0, "GETPID").map(|pid| pid as i32)
}

/// Removes a set.
///
/// # Errors
/// The errno of the call.
pub fn remove(id: i32) -> Result<()> {
    control(id, 0, libc::IPC_RMID, 0, "IPC_RMID").map(drop)
}

fn control(id: i32, number: i32, command: i32, argument: u64, name: &str) -> Result<i64> {
    // SAFETY: every caller passes what its command reads or writes: a semid_ds, room for a seminfo, as many values as
    // the set has, or nothing.
    let done = unsafe { libc::syscall(libc::SYS_semctl, id, number, command, argument) };
    check(done, "semctl", format_args!("{id}, {number}, {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_its_values_and_its_last_pid() {
        let id = create(0, 3, 0o600).unwrap();
        let wrong = set_values(id, &[1, 2]).unwrap_err();
        set_values(id, &[7, 0, 32767]).unwrap();
        let found = list().unwrap().into_iter().find(|s| s.id == id).unwrap();
        let (values, pid) = (values(id, found.count), last_pid(id, 1));
        remove(id).unwrap();
        assert_eq!(wrong.errno(), crate::Errno::EINVAL);
        assert_eq!(values.unwrap(), [7, 0, 32767]);
        assert_eq!(pid.unwrap(), std::process::id() as i32);
    }
}
