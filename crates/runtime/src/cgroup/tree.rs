//! Walking a cgroup and all below it.
//!
//! A container that may make cgroups chooses their names, which needn't be text, and how deep they lie in each other, which
//! the kernel doesn't limit. So names are bytes, nothing recurses, and one directory is open at a time: the way back is
//! `..`, and a cgroup can't be moved.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rtc_sys::{CallExt, Errno};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};

use super::control::is_gone;
use super::hierarchy::open_beneath;

/// Opens the directory above a cgroup's.
pub(super) fn open_parent(dir: BorrowedFd<'_>) -> rtc_sys::Result<OwnedFd> {
    rustix::fs::openat(dir, "..", OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY, Mode::empty())
        .call("openat", "..")
}

/// Calls `visit` with a cgroup's directory, then with all below it.
pub(super) fn walk(
    dir: BorrowedFd<'_>,
    visit: &mut dyn FnMut(BorrowedFd<'_>) -> rtc_sys::Result<()>,
) -> rtc_sys::Result<()> {
    visit(dir)?;
    // What is still to be visited of each cgroup on the way down.
    let mut levels = vec![children(dir)?];
    if levels[0].is_empty() {
        return Ok(());
    }
    let mut here = open_beneath(dir, Path::new(""))?;
    while let Some(names) = levels.last_mut() {
        let next = match names.pop() {
            Some(name) => open_beneath(&here, Path::new(&name)),
            None => {
                levels.pop();
                if levels.is_empty() {
                    break;
                }
                here = open_parent(here.as_fd())?;
                continue;
            }
        };
        match next {
            Ok(child) => {
                visit(child.as_fd())?;
                levels.push(children(child.as_fd())?);
                here = child;
            }
            Err(e) if is_gone(&e) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// A cgroup that is being emptied.
struct Level {
    /// The cgroups below it that are left.
    names: Vec<OsString>,
    /// The last of them has been emptied.
    is_last_empty: bool,
}

/// Removes all cgroups below a cgroup, the deepest first.
///
/// # Errors
/// EBUSY for one in which a process lives, or somebody makes cgroups.
pub(super) fn remove_below(dir: BorrowedFd<'_>) -> rtc_sys::Result<()> {
    let level = |names| Level { names, is_last_empty: false };
    let mut levels = vec![level(children(dir)?)];
    if levels[0].names.is_empty() {
        return Ok(());
    }
    let mut here = open_beneath(dir, Path::new(""))?;
    while let Some(Level { names, is_last_empty }) = levels.last_mut() {
        let Some(name) = names.last() else {
            levels.pop();
            if let Some(above) = levels.last_mut() {
                above.is_last_empty = true;
                here = open_parent(here.as_fd())?;
            }
            continue;
        };
        match remove_directory(here.as_fd(), Path::new(name)) {
            Ok(()) => {
                names.pop();
                *is_last_empty = false;
            }
            Err(e) if e.errno() == Errno::EBUSY && !*is_last_empty => match open_beneath(&here, Path::new(name)) {
                Ok(child) => {
                    levels.push(level(children(child.as_fd())?));
                    here = child;
                }
                Err(e) if is_gone(&e) => {}
                Err(e) => return Err(e),
            },
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

pub(super) fn remove_directory(parent: BorrowedFd<'_>, name: &Path) -> rtc_sys::Result<()> {
    match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR).call("rmdir", name.display()) {
        Err(e) if !is_gone(&e) => Err(e),
        _ => Ok(()),
    }
}

/// The names of the cgroups directly below a cgroup.
fn children(dir: BorrowedFd<'_>) -> rtc_sys::Result<Vec<OsString>> {
    let mut names = Vec::new();
    let entries = match Dir::read_from(dir) {
        Ok(entries) => entries,
        Err(rustix::io::Errno::NOENT) => return Ok(names),
        Err(e) => return Err(e).call("getdents64", "cgroup"),
    };
    for entry in entries {
        let entry = match entry {
            Ok(entry) => entry,
            // The directory was removed while it was read.
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NODEV) => break,
            Err(e) => return Err(e).call("getdents64", "cgroup"),
        };
        let name = entry.file_name().to_bytes();
        if entry.file_type() == FileType::Directory && name != b"." && name != b".." {
            names.push(OsStr::from_bytes(name).to_owned());
        }
    }
    Ok(names)
}
