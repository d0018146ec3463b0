//! Reads a tree.

use super::super::attributes::Attributes;
use super::{Entry, Node, Tmpfs, join, names, open_directory};
use crate::error::{Context as _, Result};
use crate::image::blob::Writer;
use crate::image::path::ImagePath;
use nix::fcntl::AtFlags;
use rtc_sys::CallExt as _;
use rustix::fs::{Mode, OFlags};
use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

/// Saves the tree below `root`.
///
/// # Errors
/// When something can't be read or stored.
pub fn save(root: BorrowedFd<'_>, blobs: &mut Writer) -> Result<Tmpfs> {
    let attributes = Attributes::read(open_directory(root, &ImagePath::default())?.as_fd())?;
    let mut saver = Saver { blobs, entries: Vec::new(), linked: HashMap::new(), directories: VecDeque::new() };
    saver.directories.push_back(ImagePath::default());
    while let Some(path) = saver.directories.pop_front() {
        let dir = open_directory(root, &path)?;
        for name in names(&dir)? {
            let path = join(&path, &name);
            saver.entry(&dir, &name, &path).context(|| path.to_string())?;
        }
    }
    Ok(Tmpfs { root: attributes, entries: saver.entries })
}

struct Saver<'a> {
    blobs: &'a mut Writer,
    entries: Vec<Entry>,
    /// The first path of each inode that has several.
    linked: HashMap<u64, ImagePath>,
    /// Still to be read.
    directories: VecDeque<ImagePath>,
}

impl Saver<'_> {
    fn entry(&mut self, dir: &OwnedFd, name: &[u8], path: &ImagePath) -> Result<()> {
        let stat = nix::sys::stat::fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW).call("fstatat", path)?;
        let first = (stat.st_mode & libc::S_IFMT != libc::S_IFDIR && stat.st_nlink > 1)
            .then(|| self.linked.entry(stat.st_ino).or_insert_with(|| path.clone()).clone());
        let (node, attributes) = match first {
            Some(first) if first != *path => (Node::HardLink(first), Attributes::of(&stat)),
            _ => self.node(dir, name, path, &stat)?,
        };
        self.entries.push(Entry { path: path.clone(), node, attributes });
        Ok(())
    }

    fn node(&mut self, dir: &OwnedFd, name: &[u8], path: &ImagePath, stat: &libc::stat) -> Result<(Node, Attributes)> {
        let rdev = (libc::major(stat.st_rdev), libc::minor(stat.st_rdev));
        let node = match stat.st_mode & libc::S_IFMT {
            libc::S_IFREG => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NOATIME | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let file = rustix::fs::openat(dir, name, flags, Mode::empty()).call("openat", path)?;
                let attributes = Attributes::read(file.as_fd())?;
                return Ok((Node::File(self.blobs.file(&file.into(), stat.st_size as u64)?), attributes));
            }
            libc::S_IFDIR => {
                self.directories.push_back(path.clone());
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::NOATIME | OFlags::CLOEXEC;
                let opened = rustix::fs::openat(dir, name, flags, Mode::empty()).call("openat", path)?;
                return Ok((Node::Directory, Attributes::read(opened.as_fd())?));
            }
            libc::S_IFLNK => {
                let target = rustix::fs::readlinkat(dir, name, Vec::new()).call("readlinkat", path)?;
                Node::Symlink(target.into_bytes().into())
            }
            libc::S_IFIFO => Node::Fifo,
            libc::S_IFSOCK => Node::Socket,
            libc::S_IFCHR => Node::CharDevice(rdev.0, rdev.1),
            _ => Node::BlockDevice(rdev.0, rdev.1),
        };
        Ok((node, Attributes::of(stat)))
    }
}
