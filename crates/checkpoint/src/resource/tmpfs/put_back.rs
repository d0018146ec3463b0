//! Makes a tree equal to the one saved.
//!
//! The runtime has put things there already (device nodes, mountpoints, copies of the image's files):
//! what is right is left alone, the rest is removed and made anew.
//! Device nodes are made as the image says: whether they can be opened is for the cgroup's device rules,
//! which come from config.json.

use super::super::attributes::Attributes;
use super::{Entry, Node, Tmpfs, join, names, open_directory};
use crate::error::{Context as _, Result, bad_image};
use crate::image::blob::Reader;
use crate::image::path::ImagePath;
use nix::fcntl::AtFlags;
use nix::unistd::{Gid, Uid};
use rtc_sys::CallExt as _;
use rustix::fs::{FileType, Mode, OFlags};
use std::collections::HashMap;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Component, Path};

/// Makes the tree below `root` equal to `tree`.
///
/// # Errors
/// When the image is wrong (nothing is touched then), or a file can't be made.
pub fn put_back(tree: &Tmpfs, root: BorrowedFd<'_>, blobs: &Reader) -> Result<()> {
    let wanted = check(tree)?;
    remove_others(root, &wanted)?;
    let mut parents = Parents { root, last: None };
    for entry in &tree.entries {
        let (parent, name) = split(&entry.path);
        let dir = parents.open(&parent)?;
        make(entry, dir, name, &mut Parents { root, last: None }, blobs).context(|| entry.path.to_string())?;
    }
    // A directory's time changes with what is made in it, so the deepest come first, and all after that.
    for entry in tree.entries.iter().rev().filter(|entry| entry.node == Node::Directory) {
        set(&entry.attributes, &open_directory(root, &entry.path)?).context(|| entry.path.to_string())?;
    }
    set(&tree.root, &open_directory(root, &ImagePath::default())?)
}

/// The entries by path, if the tree makes sense: relative paths without `..`, directories before what is in them,
/// no name twice, hard links of files that come earlier.
fn check(tree: &Tmpfs) -> Result<HashMap<&ImagePath, &Entry>> {
    let mut known: HashMap<&ImagePath, &Entry> = HashMap::with_capacity(tree.entries.len());
    for entry in &tree.entries {
        let bad = |why: &str| Err(bad_image(format!("\"{}\": {why}", entry.path)));
        let path = entry.path.as_path();
        let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
        // Components pass over "a//b" and "a/./b", which would be other names for a/b.
        let length: usize = path.components().map(|part| part.as_os_str().len() + 1).sum();
        if !plain || length != entry.path.as_bytes().len() + 1 || entry.path.as_bytes().contains(&0) {
            return bad("not a path below a root");
        }
        let (parent, _) = split(&entry.path);
        let in_directory = known.get(&parent).is_some_and(|parent| parent.node == Node::Directory);
        if !in_directory && !parent.as_bytes().is_empty() {
            return bad("in no directory of the image");
        }
        if let Node::HardLink(first) = &entry.node {
            let ok = known.get(first).is_some_and(|f| !matches!(f.node, Node::Directory | Node::HardLink(_)));
            if !ok {
                return bad("a hard link of nothing");
            }
        }
        if known.insert(&entry.path, entry).is_some() {
            return bad("there twice");
        }
    }
    Ok(known)
}

/// Directory and name of a path.
fn split(path: &ImagePath) -> (ImagePath, &Path) {
    let path = path.as_path();
    let parent = path.parent().unwrap_or(Path::new(""));
    (ImagePath::from(parent), path.file_name().map_or(Path::new(""), Path::new))
}

/// Removes what the image does not have, or has as something else.
fn remove_others(root: BorrowedFd<'_>, wanted: &HashMap<&ImagePath, &Entry>) -> Result<()> {
    let mut directories = vec![ImagePath::default()];
    let mut unwanted = Vec::new();
    while let Some(path) = directories.pop() {
        let dir = open_directory(root, &path)?;
        for name in names(&dir)? {
            let path = join(&path, &name);
            let stat = nix::sys::stat::fstatat(&dir, &*name, AtFlags::AT_SYMLINK_NOFOLLOW).call("fstatat", &path)?;
            let directory = stat.st_mode & libc::S_IFMT == libc::S_IFDIR;
            let keep = wanted.get(&path).is_some_and(|entry| can_stay(&entry.node, &stat));
            if directory {
                directories.push(path.clone());
            }
            if !keep {
                unwanted.push((path, directory));
            }
        }
    }
    // Found before what is in them, directories are removed after it.
    for (path, directory) in unwanted.iter().rev() {
        let (parent, name) = split(path);
        let dir = open_directory(root, &parent)?;
        let flag = if *directory { rustix::fs::AtFlags::REMOVEDIR } else { rustix::fs::AtFlags::empty() };
        match rustix::fs::unlinkat(&dir, name, flag) {
            // The runtime has mounted something on it (or below), which config.json wants there.
            Err(rustix::io::Errno::BUSY | rustix::io::Errno::NOTEMPTY) if !wanted.contains_key(path) => {}
            removed => removed.call("unlinkat", path)?,
        }
    }
    Ok(())
}

/// Whether what is there can become `node` without being made anew.
fn can_stay(node: &Node, stat: &libc::stat) -> bool {
    let rdev = (libc::major(stat.st_rdev), libc::minor(stat.st_rdev));
    match (stat.st_mode & libc::S_IFMT, node) {
        (libc::S_IFDIR, Node::Directory) | (libc::S_IFIFO, Node::Fifo) | (libc::S_IFSOCK, Node::Socket) => true,
        (libc::S_IFREG, Node::File(_)) => stat.st_nlink == 1,
        (libc::S_IFCHR, Node::CharDevice(major, minor)) | (libc::S_IFBLK, Node::BlockDevice(major, minor)) => {
            rdev == (*major, *minor)
        }
        _ => false,
    }
}

/// The directory last used, kept open: entries of one directory follow each other.
struct Parents<'a> {
    root: BorrowedFd<'a>,
    last: Option<(ImagePath, OwnedFd)>,
}

impl Parents<'_> {
    fn open(&mut self, path: &ImagePath) -> Result<&OwnedFd> {
        if self.last.as_ref().is_none_or(|(last, _)| last != path) {
            self.last = Some((path.clone(), open_directory(self.root, path)?));
        }
        Ok(&self.last.as_ref().expect("set above").1)
    }
}

/// Makes one entry in its directory; a directory's attributes come later.
fn make(entry: &Entry, dir: &OwnedFd, name: &Path, others: &mut Parents<'_>, blobs: &Reader) -> Result<()> {
    match &entry.node {
        Node::File(contents) => {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
            let mode = Mode::from_raw_mode(0o600);
            let file = rustix::fs::openat(dir, name, flags | OFlags::CLOEXEC, mode).call("openat", &entry.path)?;
            blobs.copy_to(*contents, file.as_fd())?;
            return set(&entry.attributes, &file);
        }
        Node::HardLink(first) => {
            let (parent, first) = split(first);
            let from = others.open(&parent)?;
            let linked = rustix::fs::linkat(from, first, dir, name, rustix::fs::AtFlags::empty());
            return Ok(linked.call("linkat", &entry.path)?);
        }
        Node::Directory => {
            return Ok(unless_there(rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(0o700)))
                .call("mkdirat", format_args!("{}", ImagePath::from(name)))?);
        }
        Node::Symlink(target) => {
            rustix::fs::symlinkat(target.as_path(), dir, name).call("symlinkat", target)?;
        }
        Node::Fifo => make_node(dir, name, FileType::Fifo, 0)?,
        Node::Socket => make_node(dir, name, FileType::Socket, 0)?,
        Node::CharDevice(major, minor) => {
            make_node(dir, name, FileType::CharacterDevice, libc::makedev(*major, *minor))?;
        }
        Node::BlockDevice(major, minor) => make_node(dir, name, FileType::BlockDevice, libc::makedev(*major, *minor))?,
    }
    set_by_name(&entry.attributes, dir, name, matches!(entry.node, Node::Symlink(_)))
}

fn make_node(dir: &OwnedFd, name: &Path, file_type: FileType, device: u64) -> Result<()> {
    let made = rustix::fs::mknodat(dir, name, file_type, Mode::from_raw_mode(0o600), device);
    Ok(unless_there(made).call("mknodat", format_args!("{}", ImagePath::from(name)))?)
}

/// What could stay is there already.
fn unless_there(made: rustix::io::Result<()>) -> rustix::io::Result<()> {
    match made {
        Err(rustix::io::Errno::EXIST) => Ok(()),
        made => made,
    }
}

/// Sets attributes if they are others.
fn set(attributes: &Attributes, of: &OwnedFd) -> Result<()> {
    if Attributes::read(of.as_fd())? == *attributes { Ok(()) } else { attributes.apply(of.as_fd()) }
}

/// Sets the attributes of what can't be opened.
fn set_by_name(to: &Attributes, dir: &OwnedFd, name: &Path, symlink: bool) -> Result<()> {
    let no_follow = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
    let (uid, gid) = (Uid::from_raw(to.uid), Gid::from_raw(to.gid));
    nix::unistd::fchownat(dir, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)
        .call("fchownat", format_args!("{}", ImagePath::from(name)))?;
    if !symlink {
        let mode = Mode::from_raw_mode(to.mode & 0o7777);
        rustix::fs::chmodat(dir, name, mode, rustix::fs::AtFlags::empty())
            .call("fchmodat", format_args!("{}", ImagePath::from(name)))?;
    }
    Ok(rustix::fs::utimensat(dir, name, &to.timestamps(), no_follow)
        .call("utimensat", format_args!("{}", ImagePath::from(name)))?)
}

#[cfg(test)]
pub(super) fn checks(tree: &Tmpfs) -> Result<()> {
    check(tree).map(|_| ())
}
