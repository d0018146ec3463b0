//! Makes mounts by descriptors alone: each is built detached and then moved to its place.

use super::image::SavedMount;
use crate::error::Result;
use crate::image::path::ImagePath;
use crate::procfs::mountinfo::Mount;
use rtc_sys::CallExt as _;
use rtc_sys::mount::{MountAttr, attr, mount_setattr};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};
use std::os::fd::{AsFd as _, OwnedFd};

/// The root directory of the calling thread.
pub(super) fn root() -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open("/", flags, Mode::empty()).call("open", "/, O_PATH")?)
}

/// What a path of the container leads to, symbolic links at its end not followed.
fn look(root: &OwnedFd, path: &ImagePath) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let found = rustix::fs::openat2(root, path.as_path(), flags, Mode::empty(), resolve);
    Ok(found.call("openat2", format_args!("{path}, {flags:?}"))?)
}

/// A detached mount of what a path leads to, without what is mounted on it.
pub(super) fn clone_of(root: &OwnedFd, path: &ImagePath) -> Result<OwnedFd> {
    let at = look(root, path)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    Ok(open_tree(&at, "", flags).call("open_tree", format_args!("{path}, OPEN_TREE_CLONE"))?)
}

/// The same for a mount of which the path must lead to the mount itself.
pub(super) fn clone_of_mount(root: &OwnedFd, mount: &Mount) -> Result<OwnedFd> {
    let at = look(root, &mount.mountpoint)?;
    if crate::files::view::statx(at.as_fd())?.stx_mnt_id != mount.id as u64 {
        return Err(crate::error::bad_image(format!("{} leads to another mount", mount.mountpoint)));
    }
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    Ok(open_tree(&at, "", flags).call("open_tree", format_args!("{}, OPEN_TREE_CLONE", mount.mountpoint))?)
}

/// Lets a detached mount be written to even if the one it was cloned from is read-only.
pub(super) fn writable(mount: &OwnedFd) -> Result<()> {
    Ok(mount_setattr(mount.as_fd(), false, &MountAttr { clear: attr::RDONLY, ..MountAttr::default() })?)
}

fn attach(mount: &OwnedFd, root: &OwnedFd, at: &ImagePath) -> Result<()> {
    let place = look(root, at)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(mount, "", &place, "", flags).call("move_mount", at)?)
}

/// The attributes that a mount's options name.
fn attributes(options: &[String]) -> u64 {
    let has = |name: &str| options.iter().any(|option| option == name);
    let named = [
        ("ro", attr::RDONLY),
        ("nosuid", attr::NOSUID),
        ("nodev", attr::NODEV),
        ("noexec", attr::NOEXEC),
        ("nodiratime", attr::NODIRATIME),
        ("nosymfollow", attr::NOSYMFOLLOW),
    ];
    let set = named.iter().filter(|(name, _)| has(name)).fold(0, |bits, (_, bit)| bits | bit);
    let atime = match (has("noatime"), has("relatime")) {
        (true, _) => attr::NOATIME,
        (_, true) => attr::RELATIME,
        _ => attr::STRICTATIME,
    };
    set | atime
}

/// Options of tmpfs that can be given again; `rw` and `ro` among them are the mount's.
fn is_tmpfs_option(name: &str) -> bool {
    const NAMES: [&str; 11] =
        ["size", "nr_blocks", "nr_inodes", "mode", "uid", "gid", "huge", "mpol", "inode32", "inode64", "noswap"];
    NAMES.contains(&name)
}

/// Mounts a new tmpfs that the container had made.
pub(super) fn tmpfs(root: &OwnedFd, saved: &SavedMount, options: &[String]) -> Result<()> {
    let fs = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).call("fsopen", "tmpfs")?;
    for option in options {
        match option.split_once('=') {
            Some((key, value)) if is_tmpfs_option(key) => {
                fsconfig_set_string(&fs, key, value).call("fsconfig", format_args!("SET_STRING, {option}"))?;
            }
            None if is_tmpfs_option(option) => {
                fsconfig_set_flag(&fs, option.as_str()).call("fsconfig", format_args!("SET_FLAG, {option}"))?;
            }
            _ => {}
        }
    }
    fsconfig_create(&fs).call("fsconfig", "CMD_CREATE")?;
    let mount = fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).call("fsmount", "tmpfs")?;
    place(&mount, root, saved)
}

/// Mounts again what the container had bound from another place of its own.
pub(super) fn bind(root: &OwnedFd, saved: &SavedMount, source: &ImagePath) -> Result<()> {
    place(&clone_of(root, source)?, root, saved)
}

/// Gives a detached mount its attributes and its place.
fn place(mount: &OwnedFd, root: &OwnedFd, saved: &SavedMount) -> Result<()> {
    let set = attributes(&saved.options);
    // A bind made from another starts with that one's attributes; the image may add to those, not take away,
    // so that it can't open what config.json closes.
    let clear = attr::ATIME;
    mount_setattr(mount.as_fd(), false, &MountAttr { set, clear, ..MountAttr::default() })?;
    attach(mount, root, &saved.mountpoint)
}

/// Adds the restrictions that the container had put on a mount of the runtime's (a remount read-only).
pub(super) fn tighten(root: &OwnedFd, here: &Mount, saved: &SavedMount) -> Result<()> {
    const RESTRICTIONS: u64 = attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC | attr::NOSYMFOLLOW;
    let added = attributes(&saved.options) & !attributes(&here.options) & RESTRICTIONS;
    if added == 0 {
        return Ok(());
    }
    let mount = look(root, &saved.mountpoint)?;
    Ok(mount_setattr(mount.as_fd(), false, &MountAttr { set: added, ..MountAttr::default() })?)
}
