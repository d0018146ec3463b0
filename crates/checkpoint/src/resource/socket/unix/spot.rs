//! Where a unix socket is bound at restore, and how to reach it there.
//!
//! A socket whose node is gone needs its name all the same: it is bound in a scratch file system that nobody else sees,
//! whose directory becomes our root for that moment. The thread's root and working directory are its own.

use super::Unix;
use super::node::Node;
use crate::error::{Context as _, Result, bad_image};
use crate::files::restoring::Restore;
use crate::image::path::ImagePath;
use crate::resource::socket::address;
use rtc_sys::{CallExt as _, socket};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Component;

/// Where a name is resolved, and the name as the kernel's bytes.
pub(super) struct Spot {
    /// The root directory there; none for the container's.
    root: Option<OwnedFd>,
    /// The working directory there; none for the root.
    cwd: Option<OwnedFd>,
    address: Vec<u8>,
}

/// A file system of our own for names whose nodes are gone; a directory for each.
#[derive(Default)]
pub(super) struct Scratch {
    mount: Option<OwnedFd>,
    used: u32,
}

impl Spot {
    /// Binds `fd` as `unix` was: to its node, in the scratch file system, or abstractly. None without a name.
    pub(super) fn bind(
        fd: BorrowedFd<'_>,
        unix: &Unix,
        scratch: &mut Scratch,
        cx: &Restore<'_>,
    ) -> Result<Option<Self>> {
        let Some(name) = &unix.name else { return Ok(None) };
        let spot = match &unix.node {
            Some(node) if !address::is_abstract(name) => {
                let spot = Self::real(name, node, cx)?;
                node_made(node, cx, || spot.within(cx, |address| Ok(socket::bind(fd, address)?)))?;
                spot
            }
            _ => Self::bind_aside(fd, name, scratch, cx)?,
        };
        Ok(Some(spot))
    }

    /// Binds `fd` to a name that no node has: in the scratch file system, or abstractly.
    pub(super) fn bind_aside(
        fd: BorrowedFd<'_>,
        name: &ImagePath,
        scratch: &mut Scratch,
        cx: &Restore<'_>,
    ) -> Result<Self> {
        let address = bytes(name)?;
        let spot = if address::is_abstract(name) {
            Self { root: None, cwd: None, address }
        } else {
            Self { root: Some(scratch.directory_for(name)?), cwd: None, address }
        };
        spot.within(cx, |address| Ok(socket::bind(fd, address)?))?;
        Ok(spot)
    }

    /// The spot of a name outside of this restore: a service that the container is to be connected to again.
    pub(super) fn named(name: &ImagePath) -> Result<Self> {
        Ok(Self { root: None, cwd: None, address: bytes(name)? })
    }

    fn real(name: &ImagePath, node: &Node, cx: &Restore<'_>) -> Result<Self> {
        let open = |path: &Option<ImagePath>| {
            path.as_ref().map(|path| cx.open_path(path, libc::O_PATH | libc::O_DIRECTORY)).transpose()
        };
        Ok(Self { root: open(&node.root)?, cwd: open(&node.cwd)?, address: bytes(node.name(name))? })
    }

    /// Calls `act` with the name, where it leads to the socket.
    pub(super) fn within<T>(&self, cx: &Restore<'_>, act: impl FnOnce(&[u8]) -> Result<T>) -> Result<T> {
        if self.root.is_none() && self.cwd.is_none() {
            return act(&self.address);
        }
        if let Some(root) = &self.root {
            change_root(root.as_fd())?;
        }
        if let Some(cwd) = &self.cwd {
            rustix::process::fchdir(cwd).call("fchdir", "the directory of a socket")?;
        }
        let result = act(&self.address);
        change_root(cx.root())?;
        result
    }
}

fn bytes(name: &ImagePath) -> Result<Vec<u8>> {
    address::unix_bytes(name).ok_or_else(|| bad_image(format!("\"{name}\" is no name of a unix socket")))
}

fn change_root(directory: BorrowedFd<'_>) -> Result<()> {
    rustix::process::fchdir(directory).call("fchdir", "")?;
    rustix::process::chroot(".").call("chroot", ".")?;
    Ok(())
}

/// Makes a node by `bind`, in place of the socket that may be there, and gives it owner, mode and times;
/// its directory's times stay.
fn node_made(node: &Node, cx: &Restore<'_>, bind: impl FnOnce() -> Result<()>) -> Result<()> {
    let path = node.path.as_path();
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(bad_image(format!("\"{}\" is no path of a socket", node.path)));
    };
    let directory = cx.open_path(&ImagePath::from(parent), libc::O_RDONLY | libc::O_DIRECTORY)?;
    let before = rustix::fs::fstat(&directory).call("fstat", parent.display())?;
    remove(directory.as_fd(), name).context(|| format!("{}", node.path))?;
    bind().context(|| format!("bind {}", node.path))?;
    let (uid, gid) = (Uid::from_raw_unchecked(node.uid), Gid::from_raw_unchecked(node.gid));
    rustix::fs::chownat(&directory, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
        .call("fchownat", path.display())?;
    rustix::fs::chmodat(&directory, name, Mode::from_raw_mode(node.mode), AtFlags::empty())
        .call("fchmodat", path.display())?;
    rustix::fs::utimensat(&directory, name, &times(node.times), AtFlags::SYMLINK_NOFOLLOW)
        .call("utimensat", path.display())?;
    let old =
        [(before.st_atime as i64, before.st_atime_nsec as u32), (before.st_mtime as i64, before.st_mtime_nsec as u32)];
    rustix::fs::futimens(&directory, &times(old)).call("futimens", parent.display())?;
    Ok(())
}

/// Removes the socket's node that an earlier life left.
fn remove(directory: BorrowedFd<'_>, name: &OsStr) -> Result<()> {
    match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(e) => Err(rtc_sys::Error::from_raw("fstatat", text(name), e.raw_os_error()).into()),
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Socket => {
            Ok(rustix::fs::unlinkat(directory, name, AtFlags::empty()).call("unlinkat", text(name))?)
        }
        Ok(_) => Err(crate::Error::new(crate::Kind::Incompatible, "exists and is no socket")
            .with_hint("move it away: the restored container binds a socket there")),
    }
}

fn times(times: [(i64, u32); 2]) -> Timestamps {
    let [access, modification] = times.map(|(seconds, nanoseconds)| Timespec {
        tv_sec: seconds,
        // Beyond a second the kernel takes it as a command (UTIME_NOW).
        tv_nsec: i64::from(nanoseconds.min(999_999_999)),
    });
    Timestamps { last_access: access, last_modification: modification }
}

impl Scratch {
    /// A new directory in which the parents of `name` exist.
    fn directory_for(&mut self, name: &ImagePath) -> Result<OwnedFd> {
        let number = self.used.to_string();
        self.used += 1;
        let mount = match &mut self.mount {
            Some(mount) => mount,
            none => none.insert(mounted()?),
        };
        let root = make_directory(mount.as_fd(), OsStr::new(&number))?;
        let parts: Vec<Component<'_>> = name.as_path().components().collect();
        let mut above = vec![root.try_clone().call("dup", "")?];
        // The last part is the node's.
        for part in parts.iter().take(parts.len().saturating_sub(1)) {
            match part {
                Component::Normal(part) => above.push(make_directory(above[above.len() - 1].as_fd(), part)?),
                Component::ParentDir if above.len() > 1 => drop(above.pop()),
                _ => {}
            }
        }
        Ok(root)
    }
}

fn text(name: &OsStr) -> std::borrow::Cow<'_, str> {
    name.to_string_lossy()
}

fn make_directory(at: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd> {
    match rustix::fs::mkdirat(at, name, Mode::RWXU) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
        error => error.call("mkdirat", text(name))?,
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(at, name, flags, Mode::empty()).call("openat", text(name))?)
}

/// A tmpfs that is mounted nowhere.
fn mounted() -> Result<OwnedFd> {
    let fs = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).call("fsopen", "tmpfs")?;
    rustix::mount::fsconfig_create(fs.as_fd()).call("fsconfig", "FSCONFIG_CMD_CREATE")?;
    let mount = rustix::mount::fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty());
    Ok(mount.call("fsmount", "tmpfs")?)
}
