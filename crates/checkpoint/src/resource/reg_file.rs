//! Regular files and directories, by path or deleted.
//!
//! Contents of files that have a path are not saved: they are the file system's.
//! At restore the file must be there and of the same type; one that is mapped must not have become shorter,
//! since touching the missing part would kill the program; other changes of size are warned of.

use super::attributes::{self, Attributes, Time};
use super::ghost::{self, Ghost};
use super::location::{Location, check_type, is_procfs, locate};
use crate::error::{Context as _, Result};
use crate::files::dumping::{Dump, Object};
use crate::files::resource::Resource;
use crate::files::restoring::Restore;
use crate::files::{FileId, FileRef, Found, Probe};
use crate::image::path::ImagePath;
use crate::{Error, Kind};
use rtc_sys::{CallExt as _, Errno};
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A description of a regular file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegFile {
    /// The path in the container; for a deleted file the one it had.
    pub path: ImagePath,
    /// File offset.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub pos: i64,
    /// Length at dump.
    pub size: u64,
    /// Time of the last change at dump.
    pub mtime: Time,
    /// It was found behind a mapping, or is a program.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub mapped: bool,
    /// Where its contents are.
    pub contents: Contents,
}

/// Where a file's contents are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Contents {
    /// At its path.
    InPlace,
    /// Deleted: in the image.
    Ghost(Ghost),
    /// Deleted: with the description named.
    GhostOf(FileId),
}

fn is_zero(pos: &i64) -> bool {
    *pos == 0
}

impl Resource for RegFile {
    fn recognises(probe: &Probe<'_>, _cx: &Dump<'_>) -> bool {
        probe.file_type() == libc::S_IFREG && probe.link.starts_with('/')
    }

    fn dump(probe: &Probe<'_>, cx: &mut Dump<'_>) -> Result<Option<Self>> {
        let Some(location) = locate(probe, cx)? else { return Ok(None) };
        let (path, contents) = match location {
            Location::Named(path) => (path, Contents::InPlace),
            Location::Deleted(path) => (path, ghost_contents(probe, cx)?),
        };
        Ok(Some(Self {
            path,
            pos: probe.info.pos,
            size: probe.stat.st_size as u64,
            mtime: attributes::times(&probe.stat).1,
            // The only link to a regular file is that to the program, which is mapped.
            mapped: matches!(probe.found, Found::Mapping | Found::Link),
            contents,
        }))
    }

    fn open(&self, file: FileRef, cx: &mut Restore<'_>) -> Result<OwnedFd> {
        let fd = match &self.contents {
            Contents::InPlace => {
                // Checked before it is opened: some files act when they are, or show more to us than to others.
                let found = cx.open_path(&self.path, libc::O_PATH)?;
                self.check(found.as_fd())?;
                if file.flags & libc::O_PATH != 0 {
                    found
                } else {
                    cx.reopen(found.as_fd(), file.flags | libc::O_NONBLOCK)?
                }
            }
            Contents::Ghost(ghost) => {
                ghost.open(&self.path, file.flags, cx).context(|| format!("deleted file {}", self.path))?
            }
            Contents::GhostOf(holder) => cx.reopen(cx.opened(*holder)?, file.flags)?,
        };
        seek(&fd, file.flags, self.pos)?;
        Ok(fd)
    }
}

/// The contents of a deleted file: saved with the first of its descriptions, named by the others.
fn ghost_contents(probe: &Probe<'_>, cx: &mut Dump<'_>) -> Result<Contents> {
    let object = Object { kind: "ghost", major: probe.stat.st_dev, minor: probe.stat.st_ino };
    let holder = cx.holder(object, probe.id);
    if holder == probe.id { Ghost::dump(probe, cx).map(Contents::Ghost) } else { Ok(Contents::GhostOf(holder)) }
}

impl RegFile {
    /// Whether the file is still fit for the programs that used it.
    fn check(&self, fd: BorrowedFd<'_>) -> Result<()> {
        check_type(fd, &self.path, libc::S_IFREG)?;
        if is_procfs(fd)? {
            return Err(crate::error::bad_image(format!("{} is a file of procfs here", self.path)));
        }
        let size = nix::sys::stat::fstat(fd).call("fstat", &self.path)?.st_size as u64;
        if size < self.size && self.mapped {
            let message = format!("{} is mapped and has {size} bytes here, and had {}", self.path, self.size);
            return Err(Error::new(Kind::Incompatible, message));
        }
        if size != self.size {
            log::warn!("{} has {size} bytes here, and had {} when it was saved", self.path, self.size);
        }
        Ok(())
    }
}

/// Puts a file's offset where it was.
pub(super) fn seek(fd: &OwnedFd, flags: i32, pos: i64) -> Result<()> {
    if pos == 0 || flags & libc::O_PATH != 0 {
        return Ok(());
    }
    // /proc/PID/mem has offsets that are negative as numbers.
    nix::unistd::lseek64(fd, pos, nix::unistd::Whence::SeekSet).call("lseek", format_args!("{pos}, SEEK_SET"))?;
    Ok(())
}

/// A description of a directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directory {
    /// The path in the container; for a removed one the one it had.
    pub path: ImagePath,
    /// Position for getdents64(2), a number that only the file system understands.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub pos: i64,
    /// How to make it anew if it was removed: the description that it shares it with, or its attributes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed: Option<Removed>,
}

/// A directory that was removed while it was open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Removed {
    /// It is made anew.
    Attributes(Attributes),
    /// It is made with the description named.
    SameAs(FileId),
}

impl Resource for Directory {
    fn recognises(probe: &Probe<'_>, _cx: &Dump<'_>) -> bool {
        probe.file_type() == libc::S_IFDIR
    }

    fn dump(probe: &Probe<'_>, cx: &mut Dump<'_>) -> Result<Option<Self>> {
        let Some(location) = locate(probe, cx)? else { return Ok(None) };
        let (path, removed) = match location {
            Location::Named(path) => (path, None),
            Location::Deleted(path) => (path, Some(removed(probe, cx))),
        };
        Ok(Some(Self { path, pos: probe.info.pos, removed }))
    }

    fn open(&self, file: FileRef, cx: &mut Restore<'_>) -> Result<OwnedFd> {
        let fd = match &self.removed {
            None => cx.open_path(&self.path, file.flags | libc::O_DIRECTORY)?,
            Some(Removed::Attributes(of)) => ghost::open_directory(of, &self.path, file.flags, cx)
                .context(|| format!("removed directory {}", self.path))?,
            Some(Removed::SameAs(holder)) => cx.reopen(cx.opened(*holder)?, file.flags)?,
        };
        check_type(fd.as_fd(), &self.path, libc::S_IFDIR)?;
        match seek(&fd, file.flags, self.pos) {
            // The numbers of another file system mean nothing here; reading goes on from the start.
            Err(e) if e.sys().is_some_and(|e| e.errno() == Errno::EINVAL) => {
                log::warn!("{}: the position in the directory can't be kept", self.path);
            }
            result => result?,
        }
        Ok(fd)
    }
}

fn removed(probe: &Probe<'_>, cx: &mut Dump<'_>) -> Removed {
    let object = Object { kind: "removed directory", major: probe.stat.st_dev, minor: probe.stat.st_ino };
    let holder = cx.holder(object, probe.id);
    if holder == probe.id { Removed::Attributes(Attributes::of(&probe.stat)) } else { Removed::SameAs(holder) }
}

#[cfg(test)]
mod tests;
