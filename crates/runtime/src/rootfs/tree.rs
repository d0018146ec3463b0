//! Detached mounts: made or cloned, changed, and attached, always from descriptor to descriptor.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rtc_sys::mount::{MountAttr, attr, mount_setattr};
use rtc_sys::{CallExt, Errno};
use rustix::fs::{Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
};

use super::options::{Attrs, Bind};
use super::path::is_mount_root;
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

/// Longest value that fsconfig(2) takes, in bytes.
const LONGEST_VALUE: usize = 255;

/// Bytes of options that mount(2) takes: a page, with a byte for its end. More would be cut off without a word.
const LONGEST_DATA: usize = 4095;

/// Whether an option is too long for [`new_filesystem`], as a list of overlay's layers may be.
pub(crate) fn has_long_value(data: &[String]) -> bool {
    data.iter().any(|entry| entry.split_once('=').is_some_and(|(_, value)| value.len() > LONGEST_VALUE))
}

/// As [`new_filesystem`], by mount(2), for options that fsconfig(2) doesn't take.
///
/// mount(2) wants an attached place, and gives no descriptor: so it mounts within a tmpfs that is attached to `place` for
/// that long. Changes the working directory meanwhile.
pub(crate) fn new_filesystem_by_mount(
    kind: &str,
    source: &str,
    data: &[String],
    attrs: u64,
    place: impl AsFd,
) -> Result<OwnedFd> {
    let (flags, text) = mount_data(data)?;
    let scratch = new_filesystem("tmpfs", "tmpfs", ["size=4k", "mode=700"], attr::NOSUID | attr::NODEV | attr::NOEXEC)?;
    rustix::fs::mkdirat(&scratch, "new", Mode::RWXU).call("mkdirat", "new")?;
    let flags_of_here = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let here = rustix::fs::open(".", flags_of_here, Mode::empty()).call("open", ".")?;
    let new = rustix::fs::openat(&scratch, "new", flags_of_here, Mode::empty()).call("openat", "new")?;
    attach(&scratch, place)?;
    // From here on a container that runs already sees the folder, and may put a link in its place: it is mounted onto by
    // its descriptor, and then can't be moved any more.
    rustix::process::fchdir(&new).call("fchdir", "new")?;
    let made = rustix::mount::mount(source, ".", kind, flags, Some(text.as_c_str()))
        .call("mount", format_args!("{kind}, {}", text.to_string_lossy()));
    rustix::process::fchdir(&scratch).call("fchdir", "tmpfs")?;
    let made = made.map_err(Error::from).and_then(|()| cloned_mount(Path::new("new")));
    let swept = rustix::mount::unmount(".", UnmountFlags::DETACH).call("umount2", ".");
    rustix::process::fchdir(&here).call("fchdir", "back")?;
    let tree = made?;
    swept?;
    let clear = if attrs & attr::ATIME == 0 { 0 } else { attr::ATIME };
    set_attrs(tree.as_fd(), false, Attrs { set: attrs, clear })?;
    Ok(tree)
}

/// A detached clone of what is mounted at a path, and of nothing that a symlink leads to.
fn cloned_mount(path: &Path) -> Result<OwnedFd> {
    let tree = clone_source(path, Bind::One, false)?;
    if is_mount_root(&tree)? { Ok(tree) } else { Err(Error::new(Kind::System, "the new mount has been moved away")) }
}

/// Options as mount(2) takes them: those of every file system as flags, the others as one text.
fn mount_data(data: &[String]) -> Result<(MountFlags, CString)> {
    let mut flags = MountFlags::empty();
    let mut rest = Vec::new();
    for entry in data {
        match entry.as_str() {
            "rw" => {}
            "ro" => flags |= MountFlags::RDONLY,
            "sync" => flags |= MountFlags::SYNCHRONOUS,
            "dirsync" => flags |= MountFlags::DIRSYNC,
            "lazytime" => flags |= MountFlags::LAZYTIME,
            "mand" => flags |= MountFlags::PERMIT_MANDATORY_FILE_LOCKING,
            other => rest.push(quoted(other)),
        }
    }
    let text = rest.join(",");
    if text.len() > LONGEST_DATA {
        let why = format!("{} bytes of mount options are more than the {LONGEST_DATA} that mount(2) takes", text.len());
        return Err(Error::new(Kind::Invalid, why));
    }
    let text = CString::new(text).map_err(|_| Error::new(Kind::Invalid, "a mount option has a zero byte"))?;
    Ok((flags, text))
}

/// SELinux contexts may have commas, and are quoted then.
fn quoted(entry: &str) -> String {
    match entry.split_once('=') {
        Some((key, value)) if key.ends_with("context") && value.contains(',') && !value.starts_with('"') => {
            format!("{key}=\"{value}\"")
        }
        _ => entry.to_owned(),
    }
}

/// The error with what the file system logged about it (fsopen(2), "message log"): its errors, or else its warnings.
fn with_log(fs: &OwnedFd, error: rtc_sys::Error) -> Error {
    let mut buffer = [0; 512];
    let mut log = Vec::new();
    // One message with each call; at the end ENODATA.
    while let Ok(length) = rustix::io::read(fs, &mut buffer) {
        log.push(String::from_utf8_lossy(&buffer[..length]).trim_end().to_owned());
    }
    match told(&log) {
        Some(text) => Error::from(error).context(text),
        None => error.into(),
    }
}

/// What of a log is worth telling. Each message begins with its level: `e`, `w` or `i`.
fn told(log: &[String]) -> Option<String> {
    let of = |level: &str| -> Vec<&str> { log.iter().filter_map(|line| line.strip_prefix(level)).collect() };
    [of("e "), of("w ")].into_iter().find(|lines| !lines.is_empty()).map(|lines| lines.join("; "))
}

/// A detached clone of the mount at a path of this mount namespace.
pub(crate) fn clone_path(path: &Path, how: Bind) -> rtc_sys::Result<OwnedFd> {
    rustix::mount::open_tree(rustix::fs::CWD, path, clone_flags(how))
        .call("open_tree", format_args!("{}, CLONE", path.display()))
}

/// A detached clone of the mount at a path; a symlink at its end is followed or not.
pub(crate) fn clone_source(path: &Path, how: Bind, follow: bool) -> Result<OwnedFd> {
    let nofollow = if follow { OpenTreeFlags::empty() } else { OpenTreeFlags::AT_SYMLINK_NOFOLLOW };
    let words = if follow { "" } else { ", NOFOLLOW" };
    rustix::mount::open_tree(rustix::fs::CWD, path, clone_flags(how) | nofollow)
        .call("open_tree", format_args!("{}, CLONE{words}", path.display()))
        .map_err(|e| match (e.errno(), how) {
            (Errno::EINVAL, Bind::One) => Error::from(e)
                .with_hint("give rbind: a user namespace can't leave out what is mounted below; or it is unbindable"),
            (Errno::EINVAL, Bind::Recursive) => Error::from(e).with_hint("it is unbindable, or of no mount namespace"),
            _ => e.into(),
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(entries: &[&str]) -> Vec<String> {
        entries.iter().map(|&entry| entry.to_owned()).collect()
    }

    #[test]
    fn only_long_values_need_mount() {
        let value = |length| strings(&["ro", &format!("lowerdir={}", "x".repeat(length))]);
        assert!(!has_long_value(&value(255)));
        assert!(has_long_value(&value(256)));
    }

    #[test]
    fn errors_are_told_before_warnings() {
        let log = strings(&["w overlay: odd", "e overlay: no upper", "i x", "e overlay: no work"]);
        assert_eq!(told(&log).as_deref(), Some("overlay: no upper; overlay: no work"));
        assert_eq!(told(&log[..1]).as_deref(), Some("overlay: odd"));
        assert_eq!(told(&[]), None);
    }

    #[test]
    fn options_become_flags_and_a_text() {
        let data = strings(&["ro", "lowerdir=/a:/b", "rw", "lazytime", "mand", "context=u:r:t:s0:c1,c2", "volatile"]);
        let (flags, text) = mount_data(&data).unwrap();
        let wanted = MountFlags::RDONLY | MountFlags::LAZYTIME | MountFlags::PERMIT_MANDATORY_FILE_LOCKING;
        assert_eq!(flags, wanted);
        assert_eq!(text.to_str(), Ok("lowerdir=/a:/b,context=\"u:r:t:s0:c1,c2\",volatile"));
        let error = mount_data(&strings(&[&"x".repeat(4096)])).unwrap_err();
        assert_eq!(error.to_string(), "4096 bytes of mount options are more than the 4095 that mount(2) takes");
    }
}
