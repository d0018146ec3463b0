//! The container's file system as dump sees it from outside: its mounts, and what a path of its leads to.

use crate::error::Result;
use crate::image::path::ImagePath;
use crate::procfs::mountinfo::Mount;
use rtc_sys::CallExt as _;
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, Statx, StatxFlags};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The container's mounts and root directory.
pub struct View {
    root: OwnedFd,
    mounts: Vec<Mount>,
}

impl View {
    /// The view of a task's root directory, which is given, and its mounts.
    pub(crate) fn new(root: OwnedFd, mounts: Vec<Mount>) -> Self {
        Self { root, mounts }
    }

    /// The root directory (`O_PATH`).
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// All mounts, in the kernel's order.
    pub fn mounts(&self) -> &[Mount] {
        &self.mounts
    }

    /// The mount with the id that fdinfo shows.
    pub fn mount(&self, id: i32) -> Option<&Mount> {
        self.mounts.iter().find(|mount| mount.id == id)
    }

    /// Opens what a path leads to, with `O_PATH`; the last component may be a symbolic link and is not followed.
    /// None when there is nothing.
    ///
    /// # Errors
    /// The errno of openat2(2) other than `ENOENT` and `ENOTDIR`.
    pub fn look(&self, path: &ImagePath) -> Result<Option<OwnedFd>> {
        self.open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC)
    }

    /// As [`View::look`], with a symbolic link at the end followed.
    ///
    /// # Errors
    /// As [`View::look`].
    pub fn follow(&self, path: &ImagePath) -> Result<Option<OwnedFd>> {
        self.open(path, OFlags::PATH | OFlags::CLOEXEC)
    }

    fn open(&self, path: &ImagePath, flags: OFlags) -> Result<Option<OwnedFd>> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        match rustix::fs::openat2(&self.root, path.as_path(), flags, Mode::empty(), resolve) {
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => Ok(None),
            found => Ok(Some(found.call("openat2", format_args!("{path}, {flags:?}"))?)),
        }
    }

    /// What a path leads to, as [`View::look`].
    ///
    /// # Errors
    /// As [`View::look`].
    pub fn stat(&self, path: &ImagePath) -> Result<Option<Statx>> {
        let Some(fd) = self.look(path)? else { return Ok(None) };
        statx(fd.as_fd()).map(Some)
    }

    /// The mount that a path is on, judged by mountpoints alone: the last one that has it below.
    pub fn covering(&self, path: &ImagePath) -> Option<&Mount> {
        let on = |mount: &&Mount| path.as_path().starts_with(mount.mountpoint.as_path());
        self.mounts.iter().rev().filter(on).max_by_key(|mount| mount.mountpoint.as_bytes().len())
    }
}

/// Identity, type, size and times of a file; `stx_mnt_id` is the number that mountinfo shows (Linux 5.8).
///
/// # Errors
/// The errno of statx(2).
pub fn statx(fd: BorrowedFd<'_>) -> Result<Statx> {
    let mask = StatxFlags::BASIC_STATS | StatxFlags::MNT_ID;
    let stat = rustix::fs::statx(fd, "", AtFlags::EMPTY_PATH, mask);
    Ok(stat.call("statx", "AT_EMPTY_PATH")?)
}

/// A number of the mount that a file is on: each mount of the machine gets a higher one than those before, and none gets it
/// again (`STATX_MNT_ID_UNIQUE`, Linux 6.8; None on older ones).
///
/// # Errors
/// The errno of statx(2).
pub fn mount_birth(fd: BorrowedFd<'_>) -> Result<Option<u64>> {
    const UNIQUE: u32 = 0x4000;
    let stat = rustix::fs::statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::from_bits_retain(UNIQUE));
    let stat = stat.call("statx", "AT_EMPTY_PATH, STATX_MNT_ID_UNIQUE")?;
    Ok((stat.stx_mask & UNIQUE != 0).then_some(stat.stx_mnt_id))
}
