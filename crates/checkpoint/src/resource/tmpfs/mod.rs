//! The contents of tmpfs file systems: a tree of files that lives only in the kernel.
//!
//! All work is done below one descriptor of a clone of the mount, which nothing is mounted on: files under the
//! mountpoints of other mounts are seen, and no symbolic link or `..` leads out.
//! Left out: extended attributes of nodes that are neither files nor directories.

mod put_back;
mod save;

pub use put_back::put_back;
pub use save::save;

use super::attributes::Attributes;
use crate::error::Result;
use crate::image::blob::Blob;
use crate::image::path::ImagePath;
use rtc_sys::CallExt as _;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use serde::{Deserialize, Serialize};
use std::os::fd::{BorrowedFd, OwnedFd};

/// The contents of one file system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tmpfs {
    /// The root directory's attributes.
    pub root: Attributes,
    /// Everything below it, directories before what is in them.
    pub entries: Vec<Entry>,
}

/// A file of any type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The path below the root, without a slash at its beginning.
    pub path: ImagePath,
    /// What it is.
    pub node: Node,
    /// Owner, mode, times, extended attributes; for a hard link those of the file, again.
    pub attributes: Attributes,
}

/// What a file is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Node {
    /// A directory.
    Directory,
    /// A regular file with its bytes.
    File(Blob),
    /// Another name of the entry with this path, which comes earlier.
    HardLink(ImagePath),
    /// A symbolic link with its target.
    Symlink(ImagePath),
    /// A FIFO; what is in it is saved with the descriptions that hold it.
    Fifo,
    /// A socket's name; whoever is bound to it is saved with the sockets.
    Socket,
    /// A character device.
    CharDevice(u32, u32),
    /// A block device.
    BlockDevice(u32, u32),
}

/// Opens the directory `path` below `root`; the empty path is `root` itself.
fn open_directory(root: BorrowedFd<'_>, path: &ImagePath) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::NOATIME | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let below = if path.as_bytes().is_empty() { ".".as_ref() } else { path.as_path() };
    let opened = rustix::fs::openat2(root, below, flags, Mode::empty(), resolve);
    Ok(opened.call("openat2", format_args!("{path}, {flags:?}"))?)
}

/// The path of `name` in the directory `parent`.
fn join(parent: &ImagePath, name: &[u8]) -> ImagePath {
    let mut path = parent.as_bytes().to_vec();
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend(name);
    path.into()
}

/// The names in a directory, sorted, without `.` and `..`.
fn names(dir: &OwnedFd) -> Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(dir).call("getdents64", "")? {
        let entry = entry.call("getdents64", "")?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    names.sort_unstable();
    Ok(names)
}

#[cfg(test)]
mod tests;
