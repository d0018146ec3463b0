//! The one trusted handle on procfs: everything that is written to or reopened through procfs goes through it.
//!
//! It is the host's `/proc`, opened before the child is cloned and verified to be the root of a real procfs.
//! `self` in it is resolved by the kernel for the process that asks, and `sys` shows the asker's own namespaces, so the
//! handle stays right in the child, and whatever an image or volume puts at the container's `/proc` is never asked
//! (CVE-2019-16884, CVE-2025-52881).

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rtc_sys::{CallExt, Errno, fdio};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::mount::UnmountFlags;

use crate::error::{Error, Kind, Result};

/// `PROC_SUPER_MAGIC` (linux/magic.h).
const PROC_SUPER_MAGIC: u64 = 0x9fa0;
/// The inode number of procfs's root directory (fs/proc/root.c, `PROC_ROOT_INO`).
const PROC_ROOT_INO: u64 = 1;

/// A handle on the root of the host's procfs.
#[derive(Debug)]
pub(crate) struct Proc {
    root: OwnedFd,
}

impl Proc {
    /// Opens `/proc` and verifies what it is.
    pub(crate) fn open() -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = rustix::fs::open("/proc", flags, Mode::empty()).call("open", "/proc, PATH")?;
        Self::verified(root)
    }

    /// A handle on the procfs whose root directory `root` is.
    pub(crate) fn verified(root: OwnedFd) -> Result<Self> {
        let fs = rustix::fs::fstatfs(&root).call("fstatfs", "/proc")?;
        let stat = rustix::fs::fstat(&root).call("fstat", "/proc")?;
        if fs.f_type as u64 != PROC_SUPER_MAGIC || stat.st_ino != PROC_ROOT_INO {
            return Err(Error::new(Kind::System, "/proc is not the root of a procfs: mount one there"));
        }
        Ok(Self { root })
    }

    /// The descriptor of the root.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Opens `path` below the root; no mount on the way and no symlink but `self` is followed.
    pub(crate) fn open_file(&self, path: impl AsRef<Path>, flags: OFlags) -> rtc_sys::Result<File> {
        let path = path.as_ref();
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(&self.root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
            .call("openat2", format_args!("/proc/{}, {flags:?}", path.display()))
            .map(File::from)
    }

    /// Writes `data` to a file in one call.
    pub(crate) fn write(&self, path: impl AsRef<Path>, data: &[u8]) -> rtc_sys::Result<()> {
        let path = path.as_ref();
        let mut file = self.open_file(path, OFlags::WRONLY)?;
        let written = file.write(data).call("write", format_args!("/proc/{}, {:?}", path.display(), lossy(data)))?;
        if written == data.len() {
            Ok(())
        } else {
            Err(rtc_sys::Error::new("write", format_args!("/proc/{}", path.display()), Errno::EIO))
        }
    }

    /// Reads a file.
    pub(crate) fn read(&self, path: impl AsRef<Path>) -> rtc_sys::Result<String> {
        let path = path.as_ref();
        let file = self.open_file(path, OFlags::RDONLY)?;
        let bytes = fdio::read_whole(file.as_fd()).call("read", format_args!("/proc/{}", path.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Reads a symlink's text.
    pub(crate) fn readlink(&self, path: impl AsRef<Path>) -> rtc_sys::Result<PathBuf> {
        use std::os::unix::ffi::OsStringExt;
        let path = path.as_ref();
        let text = rustix::fs::readlinkat(&self.root, path, Vec::new())
            .call("readlink", format_args!("/proc/{}", path.display()))?;
        Ok(std::ffi::OsString::from_vec(text.into_bytes()).into())
    }

    /// The attributes of what a magic link leads to.
    pub(crate) fn stat(&self, path: impl AsRef<Path>) -> rtc_sys::Result<rustix::fs::Stat> {
        let path = path.as_ref();
        rustix::fs::statat(&self.root, path, rustix::fs::AtFlags::empty())
            .call("stat", format_args!("/proc/{}", path.display()))
    }

    /// The caller's pid as the host counts.
    pub(crate) fn own_pid(&self) -> Result<i32> {
        let text = self.readlink("self")?;
        let pid = text.to_str().and_then(|pid| pid.parse().ok());
        pid.ok_or_else(|| Error::new(Kind::System, format!("/proc/self names no pid: {}", text.display())))
    }

    /// Opens the file of one of the caller's own namespaces; for `pid` and `time` that of its future children.
    pub(crate) fn open_namespace(&self, file: &str) -> rtc_sys::Result<OwnedFd> {
        let path = match file {
            "pid" | "time" => format!("self/ns/{file}_for_children"),
            _ => format!("self/ns/{file}"),
        };
        self.open_link(path, OFlags::RDONLY)
    }

    /// Opens what a magic link leads to. No mount on the way to the link, nor on the link itself, is crossed (`EXDEV`).
    pub(crate) fn open_link(&self, path: impl AsRef<Path>, flags: OFlags) -> rtc_sys::Result<OwnedFd> {
        let path = path.as_ref();
        self.check_link(path)?;
        self.follow_link(path, flags)
    }

    /// Makes sure that no mount covers a magic link or stands in the way to it.
    ///
    /// The link can't be opened and its way be watched at once: following it is a change of mount itself. A mount that
    /// covers it could only be one of config.json's: nothing runs in the container yet that could make one.
    pub(crate) fn check_link(&self, path: impl AsRef<Path>) -> rtc_sys::Result<()> {
        let path = path.as_ref();
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
        let look = |dir: BorrowedFd<'_>, part: &Path, flags: OFlags| {
            rustix::fs::openat2(dir, part, OFlags::PATH | OFlags::CLOEXEC | flags, Mode::empty(), resolve)
                .call("openat2", format_args!("/proc/{}, PATH", path.display()))
        };
        let folder = look(self.fd(), path.parent().unwrap_or(Path::new(".")), OFlags::DIRECTORY)?;
        look(folder.as_fd(), Path::new(path.file_name().unwrap_or_default()), OFlags::NOFOLLOW).map(drop)
    }

    /// Takes away the mount whose root `mount` is, wherever that is by now. Changes the working directory.
    pub(crate) fn unmount(&self, mount: impl AsFd) -> rtc_sys::Result<()> {
        rustix::process::fchdir(&self.root).call("fchdir", "/proc")?;
        let link = format!("self/fd/{}", mount.as_fd().as_raw_fd());
        rustix::mount::unmount(link.as_str(), UnmountFlags::DETACH)
            .call("umount2", format_args!("/proc/{link}, DETACH"))
    }

    /// Opens what a magic link that has been checked leads to.
    pub(crate) fn follow_link(&self, path: impl AsRef<Path>, flags: OFlags) -> rtc_sys::Result<OwnedFd> {
        let path = path.as_ref();
        rustix::fs::openat(&self.root, path, flags | OFlags::CLOEXEC | OFlags::NOCTTY, Mode::empty())
            .call("open", format_args!("/proc/{}, {flags:?}", path.display()))
    }
}

fn lossy(data: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(&data[..data.len().min(64)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_followed_and_nothing_else_is() {
        let proc = Proc::open().unwrap();
        let file = File::open("/dev/null").unwrap();
        let again = proc.open_link(format!("self/fd/{}", file.as_raw_fd()), OFlags::WRONLY).unwrap();
        assert_eq!(rustix::io::write(&again, b"x").unwrap(), 1);
        assert_eq!(proc.open_file("self/root/etc", OFlags::PATH).unwrap_err().errno(), Errno::ELOOP);
        assert_eq!(proc.open_file("../etc/passwd", OFlags::PATH).unwrap_err().errno(), Errno::EXDEV);
        assert_eq!(proc.open_link("self/root/etc/passwd", OFlags::PATH).unwrap_err().errno(), Errno::ELOOP);
    }

    #[test]
    fn a_directory_that_only_looks_like_procfs_is_refused() {
        let open = |path: &str| rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        assert!(Proc::verified(open("/tmp")).is_err());
        assert!(Proc::verified(open("/proc/self")).is_err());
        assert!(Proc::verified(open("/proc")).is_ok());
    }
}
