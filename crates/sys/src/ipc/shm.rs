//! Shared memory segments (shmget(2), shmctl(2), shmat(2)).

use super::{Perm, check, each_index};
use crate::{Errno, Error, Result};
use std::mem::MaybeUninit;

/// In [`Perm::mode`]: the segment goes when its last user detaches.
pub const DEST: u32 = 0o1000;
/// In [`Perm::mode`]: the segment is locked in memory.
pub const LOCKED: u32 = 0o2000;

const SHM_LOCK: i32 = 11;
const SHM_INFO: i32 = 14;
const SHM_STAT_ANY: i32 = 15;

/// A segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its id.
    pub id: i32,
    /// Who may do what with it.
    pub perm: Perm,
    /// Its length in bytes as it was asked for.
    pub size: u64,
    /// How many mappings it has.
    pub attached: u64,
}

/// All segments of the namespace (`SHM_STAT_ANY`, Linux 4.17).
///
/// # Errors
/// The errno of the call.
pub fn list() -> Result<Vec<Segment>> {
    // struct shm_info is four integers wide at most on all architectures: 48 bytes on 64-bit ones.
    let mut info = [0_u64; 8];
    let last = control(0, SHM_INFO, info.as_mut_ptr().cast(), "SHM_INFO")?;
    each_index(last, |index| stat(index, SHM_STAT_ANY, "SHM_STAT_ANY"))
}

/// The segment `id`.
///
/// # Errors
/// The errno of the call: `EINVAL` or `EIDRM` when there is none.
pub fn get(id: i32) -> Result<Segment> {
    Ok(Segment { id, ..stat(id, libc::IPC_STAT, "IPC_STAT")? })
}

/// Makes a segment of `size` bytes; `flags` are permission bits and the `SHM_*` flags of shmget(2).
/// Fails when the key is in use.
///
/// # Errors
/// The errno of the call.
pub fn create(key: i32, size: u64, flags: i32) -> Result<i32> {
    let flags = flags | libc::IPC_CREAT | libc::IPC_EXCL;
    // SAFETY: the call takes three integers.
    let id = unsafe { libc::shmget(key, size as usize, flags) };
    check(id.into(), "shmget", format_args!("{key:#x}, {size}, {flags:#o}")).map(|id| id as i32)
}

/// Sets owner and permission bits of a segment (`IPC_SET`).
///
/// # Errors
/// The errno of the call.
pub fn set(id: i32, perm: &Perm) -> Result<()> {
    // SAFETY: the structure consists of integers, for which zero is a value.
    let mut raw: libc::shmid_ds = unsafe { MaybeUninit::zeroed().assume_init() };
    perm.put(&mut raw.shm_perm);
    control(id, libc::IPC_SET, &raw mut raw, "IPC_SET").map(drop)
}

/// Locks a segment in memory (`SHM_LOCK`).
///
/// # Errors
/// The errno of the call.
pub fn lock(id: i32) -> Result<()> {
    control(id, SHM_LOCK, std::ptr::null_mut(), "SHM_LOCK").map(drop)
}

/// Removes a segment, or marks it to be removed when its last user detaches (`IPC_RMID`).
///
/// # Errors
/// The errno of the call.
pub fn remove(id: i32) -> Result<()> {
    control(id, libc::IPC_RMID, std::ptr::null_mut(), "IPC_RMID").map(drop)
}

/// A segment that is mapped here, until it is dropped.
#[derive(Debug)]
pub struct Attached {
    at: *mut u8,
    len: usize,
}

impl Attached {
    /// Maps the segment `id`, of `size` bytes.
    ///
    /// # Errors
    /// The errno of shmat(2).
    pub fn new(id: i32, read_only: bool) -> Result<Self> {
        let len = get(id)?.size as usize;
        let flags = if read_only { libc::SHM_RDONLY } else { 0 };
        // SAFETY: the kernel chooses a free place for the mapping.
        let at = unsafe { libc::shmat(id, std::ptr::null(), flags) };
        if at as isize == -1 {
            return Err(Error::last("shmat", format_args!("{id}, NULL, {flags:#o}")));
        }
        Ok(Self { at: at.cast(), len })
    }

    /// The first address of the mapping, by which /proc/self/map_files names it.
    pub fn address(&self) -> u64 {
        self.at as u64
    }

    /// Copies `bytes` into the segment. It must be mapped writable.
    ///
    /// # Errors
    /// `ERANGE` when they don't fit.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        let to = self.range("write", offset, bytes.len())?;
        // SAFETY: the range was checked; other processes may look at it, but no reference to it exists here.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
        Ok(())
    }

    /// Copies a part of the segment out.
    ///
    /// # Errors
    /// `ERANGE` when it has no such part.
    pub fn read(&self, offset: u64, into: &mut [u8]) -> Result<()> {
        let from = self.range("read", offset, into.len())?;
        // SAFETY: as in `write`.
        unsafe { std::ptr::copy_nonoverlapping(from, into.as_mut_ptr(), into.len()) };
        Ok(())
    }

    fn range(&self, call: &'static str, offset: u64, len: usize) -> Result<*mut u8> {
        match usize::try_from(offset).ok().filter(|o| o.checked_add(len).is_some_and(|end| end <= self.len)) {
            // SAFETY: offset is within the mapping.
            Some(offset) => Ok(unsafe { self.at.add(offset) }),
            None => {
                Err(Error::new(call, format_args!("segment of {} bytes, {offset}, {len}", self.len), Errno::ERANGE))
            }
        }
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by shmat and nothing refers to it any more.
        unsafe { libc::shmdt(self.at.cast()) };
    }
}

fn stat(id: i32, command: i32, name: &str) -> Result<Segment> {
    // SAFETY: the structure consists of integers, for which zero is a value.
    let mut raw: libc::shmid_ds = unsafe { MaybeUninit::zeroed().assume_init() };
    let id = control(id, command, &raw mut raw, name)? as i32;
    Ok(Segment { id, perm: Perm::from_raw(&raw.shm_perm), size: raw.shm_segsz as u64, attached: raw.shm_nattch })
}

fn control(id: i32, command: i32, argument: *mut libc::shmid_ds, name: &str) -> Result<i64> {
    // SAFETY: every caller passes what its command reads or writes: a shmid_ds, room for a shm_info, or nothing.
    let done = unsafe { libc::shmctl(id, command, argument) };
    check(done.into(), "shmctl", format_args!("{id}, {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_holds_what_was_written_and_goes_with_its_last_user() {
        let id = create(0, 5000, 0o640).unwrap();
        set(id, &Perm { uid: 12, gid: 13, mode: 0o600, ..Perm::default() }).unwrap();
        let attached = Attached::new(id, false).unwrap();
        attached.write(4990, b"0123456789").unwrap();
        assert_eq!(attached.write(4991, b"0123456789").unwrap_err().errno(), Errno::ERANGE);
        let mut back = [0; 4];
        attached.read(4996, &mut back).unwrap();
        assert_eq!(&back, b"6789");
        remove(id).unwrap();
        let found = list().unwrap().into_iter().find(|s| s.id == id).unwrap();
        assert_eq!((found.size, found.attached, found.perm.mode), (5000, 1, 0o600 | DEST));
        assert_eq!((found.perm.uid, found.perm.gid, found.perm.creator_uid), (12, 13, 0));
        drop(attached);
        assert!(list().unwrap().iter().all(|s| s.id != id));
    }

    #[test]
    fn the_creator_is_who_the_thread_says_it_is() {
        let id = super::super::as_creator(1234, 2345, || create(0, 1, 0o600)).unwrap();
        let perm = get(id).unwrap().perm;
        remove(id).unwrap();
        assert_eq!((perm.creator_uid, perm.creator_gid), (1234, 2345));
        assert_eq!(nix::unistd::geteuid().as_raw(), 0);
    }
}
