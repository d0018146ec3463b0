//! The node in the file system that a unix socket is bound to.
//!
//! `sun_path` is only the text that was given to bind(2): it can be relative to a directory that the task has left
//! since, or lie below another root. The node itself is found by `SIOCUNIXFILE`.

use crate::error::{Context as _, Result};
use crate::files::Probe;
use crate::files::dumping::Dump;
use crate::image::path::ImagePath;
use rtc_sys::{CallExt as _, Errno, socket};
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, Stat};
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// A socket's node, and how its name leads there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its path in the container.
    pub path: ImagePath,
    /// The directory of the container that was the root for an absolute name, if it wasn't the container's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<ImagePath>,
    /// The directory of the container that a relative name starts from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<ImagePath>,
    /// Permissions.
    pub mode: u32,
    /// Owner, as the host counts.
    pub uid: u32,
    /// Group, as the host counts.
    pub gid: u32,
    /// Seconds and nanoseconds of last access and change of contents.
    pub times: [(i64, u32); 2],
}

/// Finds the node of the socket `probe` whose name is `name`.
/// None when it is bound to none, or when nobody can reach it by a path any more.
pub(super) fn find(probe: &Probe<'_>, cx: &Dump<'_>, name: &ImagePath) -> Result<Option<Node>> {
    let fd = match socket::bound_node(probe.fd) {
        Err(e) if e.errno() == Errno::ENOENT => return Ok(None),
        fd => fd?,
    };
    let stat = rustix::fs::fstat(&fd).call("fstat", "socket node")?;
    let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let path = rustix::fs::readlink(&link, Vec::new()).call("readlink", &link)?.into_bytes();
    let root = open_dir(&format!("/proc/{}/root", cx.init()))?;
    if stat.st_nlink == 0 || !leads_to(root.as_fd(), Path::new(std::ffi::OsStr::from_bytes(&path)), &stat) {
        return Ok(None);
    }
    let mut node = Node {
        path: path.into(),
        root: None,
        cwd: None,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        times: [(stat.st_atime as i64, stat.st_atime_nsec as u32), (stat.st_mtime as i64, stat.st_mtime_nsec as u32)],
    };
    node.find_start(probe.pid, root.as_fd(), name.as_path(), &stat)?;
    Ok(Some(node))
}

impl Node {
    /// Finds the directory from which `name` leads to the node. Where there is none, the path has to do as a name.
    fn find_start(&mut self, pid: i32, root: BorrowedFd<'_>, name: &Path, stat: &Stat) -> Result<()> {
        if name.is_absolute() {
            if !leads_to(root, name, stat) {
                let directory = open_dir(&format!("/proc/{pid}/root"))?;
                if leads_to(directory.as_fd(), name, stat) {
                    self.root = Some(link(&format!("/proc/{pid}/root"))?);
                }
            }
            return Ok(());
        }
        let before = self.path.as_bytes().strip_suffix(name.as_os_str().as_bytes());
        let before = before.map(|b| b.strip_suffix(b"/").filter(|b| !b.is_empty()).unwrap_or(b"/").to_vec().into());
        for start in [before, Some(link(&format!("/proc/{pid}/cwd"))?)].into_iter().flatten() {
            let directory = open_in(root, start.as_path(), OFlags::DIRECTORY);
            if directory.is_ok_and(|directory| relative_leads_to(directory.as_fd(), name, stat)) {
                self.cwd = Some(start);
                break;
            }
        }
        Ok(())
    }

    /// The name to bind with: the socket's own, unless nothing was found from where it leads to the node.
    pub(super) fn name<'a>(&'a self, name: &'a ImagePath) -> &'a ImagePath {
        if name.as_path().is_absolute() || self.cwd.is_some() { name } else { &self.path }
    }
}

fn open_dir(path: &str) -> Result<OwnedFd> {
    let fd = rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    fd.call("open", path).context(|| "find the node of a socket")
}

fn link(path: &str) -> Result<ImagePath> {
    Ok(rustix::fs::readlink(path, Vec::new()).call("readlink", path)?.into_bytes().into())
}

fn open_in(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let flags = flags | OFlags::PATH | OFlags::CLOEXEC;
    rustix::fs::openat2(root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
}

/// Whether `path` below `root` is the node of `stat`.
fn leads_to(root: BorrowedFd<'_>, path: &Path, stat: &Stat) -> bool {
    open_in(root, path, OFlags::NOFOLLOW).is_ok_and(|fd| is(rustix::fs::fstat(fd), stat))
}

fn relative_leads_to(directory: BorrowedFd<'_>, path: &Path, stat: &Stat) -> bool {
    is(rustix::fs::statat(directory, path, AtFlags::SYMLINK_NOFOLLOW), stat)
}

fn is(found: rustix::io::Result<Stat>, stat: &Stat) -> bool {
    found.is_ok_and(|found| (found.st_dev, found.st_ino) == (stat.st_dev, stat.st_ino))
}
