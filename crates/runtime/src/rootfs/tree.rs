//! Detached mounts: made or cloned, changed, and attached, always from descriptor to descriptor.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rtc_sys::mount::{MountAttr, attr, mount_setattr};
use rtc_sys::{CallExt, Errno};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags};

use super::options::{Attrs, Bind};
use crate::error::{Error, Kind, Result};

/// A new file system of type `kind`, mounted nowhere yet. `data` is `key=value` or a flag, as in mount(8).
///
/// # Errors
/// What the kernel says in the file system's own words, where it says something (fsopen(2), "message log").
pub(crate) fn new_filesystem<'a>(
    kind: &str,
    source: &str,
    data: impl IntoIterator<Item = &'a str>,
    attrs: u64,
) -> Result<OwnedFd> {
    let fs = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).call("fsopen", kind)?;
    let set = |key: &str, value: Option<&str>| {
        match value {
            Some(value) => rustix::mount::fsconfig_set_string(&fs, key, value),
            None => rustix::mount::fsconfig_set_flag(&fs, key),
        }
        .call("fsconfig", format_args!("{kind}, {key}={}", value.unwrap_or_default()))
        .map_err(|e| with_log(&fs, e))
    };
    set("source", Some(source))?;
    for entry in data {
        match entry.split_once('=') {
            Some((key, value)) => set(key, Some(value))?,
            None => set(entry, None)?,
        }
    }
    rustix::mount::fsconfig_create(&fs)
        .call("fsconfig", format_args!("{kind}, CMD_CREATE"))
        .map_err(|e| with_log(&fs, e))?;
    let flags = MountAttrFlags::from_bits_retain(attrs as u32);
    rustix::mount::fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, flags)
        .call("fsmount", format_args!("{kind}, {attrs:#x}"))
        .map_err(|e| with_log(&fs, e))
}

/// The error with what the file system logged about it.
fn with_log(fs: &OwnedFd, error: rtc_sys::Error) -> Error {
    let mut buffer = [0; 512];
    let error_text = match rustix::io::read(fs, &mut buffer) {
        Ok(n) => String::from_utf8_lossy(&buffer[..n]).trim_end().trim_start_matches("e ").to_owned(),
        Err(_) => return error.into(),
    };
    Error::from(error).context(error_text)
}

/// A detached clone of the mount at a path of this mount namespace.
pub(crate) fn clone_path(path: &Path, how: Bind) -> rtc_sys::Result<OwnedFd> {
    rustix::mount::open_tree(rustix::fs::CWD, path, clone_flags(how))
        .call("open_tree", format_args!("{}, CLONE", path.display()))
}

/// A detached clone of the mount at a path; a symlink at its end is followed or not.
pub(crate) fn clone_source(path: &Path, how: Bind, follow: bool) -> rtc_sys::Result<OwnedFd> {
    if follow {
        return clone_path(path, how);
    }
    rustix::mount::open_tree(rustix::fs::CWD, path, clone_flags(how) | OpenTreeFlags::AT_SYMLINK_NOFOLLOW)
        .call("open_tree", format_args!("{}, CLONE, NOFOLLOW", path.display()))
}

/// A detached clone of the mount that `fd` is in, with what `fd` refers to as its root.
pub(crate) fn clone_fd(fd: impl AsFd, how: Bind) -> rtc_sys::Result<OwnedFd> {
    rustix::mount::open_tree(&fd, "", clone_flags(how) | OpenTreeFlags::AT_EMPTY_PATH)
        .call("open_tree", format_args!("{}, CLONE", fd.as_fd().as_raw_fd()))
}

fn clone_flags(how: Bind) -> OpenTreeFlags {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    match how {
        Bind::One => flags,
        Bind::Recursive => flags | OpenTreeFlags::AT_RECURSIVE,
    }
}

/// Mounts a detached mount (or moves an attached one) onto what `target` refers to.
pub(crate) fn attach(tree: impl AsFd, target: impl AsFd) -> rtc_sys::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(&tree, "", &target, "", flags)
        .call("move_mount", format_args!("{}, {}", tree.as_fd().as_raw_fd(), target.as_fd().as_raw_fd()))
}

/// Changes the attributes of a mount.
pub(crate) fn set_attrs(mount: BorrowedFd<'_>, recursive: bool, attrs: Attrs) -> rtc_sys::Result<()> {
    if attrs.is_empty() {
        return Ok(());
    }
    let change = MountAttr { set: attrs.set, clear: attrs.clear, ..MountAttr::default() };
    mount_setattr(mount, recursive, &change)
}

/// Makes a mount read-only.
pub(crate) fn set_readonly(mount: BorrowedFd<'_>) -> rtc_sys::Result<()> {
    set_attrs(mount, false, Attrs { set: attr::RDONLY, clear: 0 })
}

/// Changes the propagation type of a mount.
pub(crate) fn set_propagation(mount: BorrowedFd<'_>, recursive: bool, kind: u64) -> rtc_sys::Result<()> {
    mount_setattr(mount, recursive, &MountAttr { propagation: kind, ..MountAttr::default() })
}

/// Gives a detached mount the id mapping of a user namespace.
pub(crate) fn set_idmap(mount: BorrowedFd<'_>, recursive: bool, userns: BorrowedFd<'_>) -> Result<()> {
    let userns_fd = u64::try_from(userns.as_raw_fd()).unwrap_or(u64::MAX);
    let change = MountAttr { set: attr::IDMAP, userns_fd, ..MountAttr::default() };
    mount_setattr(mount, recursive, &change).map_err(|e| match e.errno() {
        Errno::EINVAL => Error::new(Kind::Invalid, format!("the file system doesn't support id mappings: {e}")),
        _ => e.into(),
    })
}
