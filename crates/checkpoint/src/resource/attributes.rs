//! What an inode has besides its contents: owner, mode, times, extended attributes.
//!
//! Left out: creation time (can't be set), file attribute flags (chattr), project ids.

use crate::error::Result;
use crate::image::path::ImagePath;
use nix::unistd::{Gid, Uid};
use rtc_sys::{CallExt as _, Errno};
use rustix::fs::{Mode, Timespec, Timestamps, XattrFlags};
use serde::{Deserialize, Serialize};
use std::os::fd::BorrowedFd;

/// A point in time: seconds since 1970 and nanoseconds.
pub type Time = (i64, u32);

/// Owner, mode, times and extended attributes of an inode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    /// Permissions with set-id and sticky bits, without the type.
    pub mode: u32,
    /// As the host counts.
    pub uid: u32,
    /// As the host counts.
    pub gid: u32,
    /// Last access.
    pub atime: Time,
    /// Last change of the contents.
    pub mtime: Time,
    /// Name and value of each extended attribute, sorted by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub xattrs: Vec<(ImagePath, ImagePath)>,
}

/// The access and change time of `stat`.
pub fn times(stat: &libc::stat) -> (Time, Time) {
    ((stat.st_atime, stat.st_atime_nsec as u32), (stat.st_mtime, stat.st_mtime_nsec as u32))
}

impl Attributes {
    /// Reads them; `fd` must not be `O_PATH`, for which extended attributes can't be read.
    ///
    /// # Errors
    /// The errno of fstat(2), flistxattr(2), fgetxattr(2).
    pub fn read(fd: BorrowedFd<'_>) -> Result<Self> {
        let stat = nix::sys::stat::fstat(fd).call("fstat", "")?;
        let list = read_value(|buffer| rustix::fs::flistxattr(fd, buffer)).call("flistxattr", "");
        let mut xattrs = Vec::new();
        for name in absent_is_empty(list)?.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
            let value = read_value(|buffer| rustix::fs::fgetxattr(fd, name, buffer));
            let value = value.call("fgetxattr", name.escape_ascii())?;
            xattrs.push((name.to_vec().into(), value.into()));
        }
        xattrs.sort_unstable();
        Ok(Self { xattrs, ..Self::of(&stat) })
    }

    /// Those that stat(2) gives; no extended attributes.
    pub fn of(stat: &libc::stat) -> Self {
        let (atime, mtime) = times(stat);
        Self { mode: stat.st_mode & 0o7777, uid: stat.st_uid, gid: stat.st_gid, atime, mtime, xattrs: Vec::new() }
    }

    /// Sets them, the times last; contents must be in place. `fd` must not be `O_PATH`.
    ///
    /// # Errors
    /// The errno of the call that failed. A file system that has no extended attributes of a kind is an error, too,
    /// except for SELinux labels, which the target's own policy gives.
    pub fn apply(&self, fd: BorrowedFd<'_>) -> Result<()> {
        // By nix: rustix refuses the id -1, which an image can have, with a panic.
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        nix::unistd::fchown(fd, Some(uid), Some(gid)).call("fchown", format_args!("{}, {}", self.uid, self.gid))?;
        // After the owner: chown clears set-id bits and capabilities.
        let mode = Mode::from_raw_mode(self.mode & 0o7777);
        rustix::fs::fchmod(fd, mode).call("fchmod", format_args!("{:o}", self.mode))?;
        for (name, value) in &self.xattrs {
            let set = rustix::fs::fsetxattr(fd, name.as_path(), value.as_bytes(), XattrFlags::empty());
            match set.call("fsetxattr", name) {
                Err(e) if e.errno() == Errno::EOPNOTSUPP && name.as_bytes() == b"security.selinux" => {}
                result => result?,
            }
        }
        rustix::fs::futimens(fd, &self.timestamps()).call("futimens", "")?;
        Ok(())
    }

    /// The times in the form that calls take.
    pub fn timestamps(&self) -> Timestamps {
        let time = |(seconds, nanoseconds): Time| Timespec {
            tv_sec: seconds,
            // UTIME_NOW and UTIME_OMIT lie beyond, so that an image can't say them.
            tv_nsec: nanoseconds.min(999_999_999).into(),
        };
        Timestamps { last_access: time(self.atime), last_modification: time(self.mtime) }
    }
}

/// Calls `read` with a buffer that is large enough; the kernel's limit for values and lists is 64 KiB.
fn read_value(read: impl Fn(&mut [u8]) -> rustix::io::Result<usize>) -> rustix::io::Result<Vec<u8>> {
    let mut buffer = vec![0; 256];
    loop {
        match read(&mut buffer) {
            Err(rustix::io::Errno::RANGE) if buffer.len() < 65536 => buffer.resize(65536, 0),
            Err(e) => return Err(e),
            Ok(len) => {
                buffer.truncate(len);
                return Ok(buffer);
            }
        }
    }
}

fn absent_is_empty(list: rtc_sys::Result<Vec<u8>>) -> rtc_sys::Result<Vec<u8>> {
    match list {
        Err(e) if e.errno() == Errno::EOPNOTSUPP => Ok(Vec::new()),
        list => list,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::testing::TempDir;
    use std::os::fd::AsFd as _;

    #[test]
    fn attributes_are_carried_to_another_file() {
        let dir = TempDir::new();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        let (from, to) = (std::fs::File::create(from).unwrap(), std::fs::File::create(to).unwrap());
        let wanted = Attributes {
            mode: 0o6751,
            uid: 1234,
            gid: 4321,
            atime: (1_000_000_000, 5),
            mtime: (-7, 999_999_999),
            xattrs: vec![(ImagePath::from("user.note"), ImagePath::from(b"\xff\0x".to_vec()))],
        };
        wanted.apply(from.as_fd()).unwrap();
        Attributes::read(from.as_fd()).unwrap().apply(to.as_fd()).unwrap();
        assert_eq!(Attributes::read(to.as_fd()).unwrap(), wanted);
    }
}
