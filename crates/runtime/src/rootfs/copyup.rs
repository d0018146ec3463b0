//! `tmpcopyup`: a tmpfs that begins with a copy of the directory it covers.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rtc_sys::CallExt;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Timestamps};

use super::path;
use crate::error::{Context, Error, Kind, Result};

/// Copies what is below the directory `from` into the directory `to`: files, directories, symlinks, devices, with owner,
/// mode and times; links between files are not kept. `to` itself stays the owner's that it has, with the mode that the
/// mount's options gave it, as in runc and crun.
pub(crate) fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
    copy_content(from, to, 0).map(drop)
}

/// How deep directories may lie in each other: each level holds descriptors and a piece of the stack.
const DEEPEST: usize = 200;

/// Gives what `from` is.
fn copy_content(from: BorrowedFd<'_>, to: BorrowedFd<'_>, level: usize) -> Result<rustix::fs::Stat> {
    if level > DEEPEST {
        return Err(Error::new(Kind::Invalid, format!("more than {DEEPEST} directories lie in each other")));
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let from = rustix::fs::openat(from, ".", flags, Mode::empty()).call("openat", ".")?;
    for entry in Dir::read_from(&from).call("getdents", "")? {
        let entry = entry.call("getdents", "")?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        copy_entry(from.as_fd(), to, name, level).context(|| name.to_string_lossy().into_owned())?;
    }
    Ok(path::stat(&from)?)
}

fn copy_entry(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &std::ffi::CStr, level: usize) -> Result<()> {
    let open = |dir: BorrowedFd<'_>, flags: OFlags| -> rtc_sys::Result<OwnedFd> {
        rustix::fs::openat(dir, name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()).call("openat", "")
    };
    let stat = path::stat(open(from, OFlags::PATH)?)?;
    let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {
            rustix::fs::mkdirat(to, name, mode).call("mkdirat", "")?;
            let (from, to) = (open(from, OFlags::PATH)?, open(to, OFlags::RDONLY | OFlags::DIRECTORY)?);
            return attributes(&copy_content(from.as_fd(), to.as_fd(), level + 1)?, to.as_fd());
        }
        FileType::RegularFile => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let mut target = File::from(rustix::fs::openat(to, name, flags, mode).call("openat", "CREAT")?);
            // Non-blocking, and the same file as before: others may share the directory and put a FIFO or a device there.
            let source = open(from, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
            let opened = path::stat(&source)?;
            if (opened.st_dev, opened.st_ino) != (stat.st_dev, stat.st_ino) {
                return Err(Error::new(Kind::System, "the file is being replaced"));
            }
            let mut source = File::from(source);
            io::copy(&mut source, &mut target).call("copy", "")?;
            return attributes(&stat, target.as_fd());
        }
        FileType::Symlink => {
            let text = rustix::fs::readlinkat(from, name, Vec::new()).call("readlinkat", "")?;
            rustix::fs::symlinkat(&text, to, name).call("symlinkat", "")?;
        }
        kind => rustix::fs::mknodat(to, name, kind, mode, stat.st_rdev).call("mknodat", "")?,
    }
    path::set_owner(open(to, OFlags::PATH)?.as_fd(), stat.st_uid, stat.st_gid)?;
    Ok(())
}

fn attributes(stat: &rustix::fs::Stat, to: BorrowedFd<'_>) -> Result<()> {
    let mut flags = AtFlags::EMPTY_PATH;
    flags |= AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::chownat(
        to,
        "",
        Some(rustix::fs::Uid::from_raw(stat.st_uid)),
        Some(rustix::fs::Gid::from_raw(stat.st_gid)),
        flags,
    )
    .call("fchownat", format_args!("{}, {}", stat.st_uid, stat.st_gid))?;
    let to = rustix::fs::openat(to, ".", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .or_else(|_| rustix::io::fcntl_dupfd_cloexec(to, 0))
        .call("openat", ".")?;
    rustix::fs::fchmod(&to, Mode::from_raw_mode(stat.st_mode & 0o7777))
        .call("fchmod", format_args!("{:o}", stat.st_mode))?;
    let time = |sec: i64, nsec: u64| rustix::fs::Timespec { tv_sec: sec, tv_nsec: nsec as i64 };
    let times = Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    };
    rustix::fs::futimens(&to, &times).call("futimens", "")?;
    Ok(())
}
