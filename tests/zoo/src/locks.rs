//! File locks of the three kinds.

use crate::base::{Check, Child, Named, Prepare, Result, check, fails, same, sys};
use std::fs::File;
use std::os::fd::AsRawFd;

pub(crate) const ZOO: &[(&str, Prepare)] =
    &[("lock_flock", flock), ("lock_posix", posix), ("lock_open_description", open_description)];

fn open(path: &str) -> Result<File> {
    File::options().read(true).write(true).create(true).truncate(false).open(path).named(path)
}

/// Whole-file locks, shared and exclusive: others are kept out.
fn flock() -> Result<Check> {
    let (exclusive, shared) = (open("/var/exclusive")?, open("/tmp/shared")?);
    sys!(libc::flock(exclusive.as_raw_fd(), libc::LOCK_EX))?;
    sys!(libc::flock(shared.as_raw_fd(), libc::LOCK_SH))?;
    check(move || {
        let _held = (&exclusive, &shared);
        let try_lock = |path: &str, kind: i32| {
            let other = open(path)?;
            sys!(libc::flock(other.as_raw_fd(), kind | libc::LOCK_NB)).map(drop)
        };
        fails("a second lock", try_lock("/var/exclusive", libc::LOCK_SH), libc::EAGAIN)?;
        fails("an exclusive lock", try_lock("/tmp/shared", libc::LOCK_EX), libc::EAGAIN)?;
        try_lock("/tmp/shared", libc::LOCK_SH)
    })
}

fn range(kind: i32, start: i64, len: i64) -> libc::flock {
    libc::flock { l_type: kind as i16, l_whence: libc::SEEK_SET as i16, l_start: start, l_len: len, l_pid: 0 }
}

/// Who holds a lock in the way: kind, start, length, pid.
fn in_the_way(file: &File, call: i32, start: i64, len: i64) -> Result<(i32, i64, i64, i32)> {
    let mut lock = range(libc::F_WRLCK, start, len);
    sys!(libc::fcntl(file.as_raw_fd(), call, &raw mut lock))?;
    Ok((lock.l_type.into(), lock.l_start, lock.l_len, lock.l_pid))
}

/// Ranges locked by a process.
fn posix() -> Result<Check> {
    let file = open("/var/ranges")?;
    sys!(libc::fcntl(file.as_raw_fd(), libc::F_SETLK, &range(libc::F_WRLCK, 10, 5)))?;
    sys!(libc::fcntl(file.as_raw_fd(), libc::F_SETLK, &range(libc::F_RDLCK, 100, 0)))?;
    // SAFETY: takes nothing.
    let owner = unsafe { libc::getpid() };
    let mut child = Child::fork(move || {
        let file = open("/var/ranges")?;
        check(move || {
            let first = in_the_way(&file, libc::F_GETLK, 0, 20)?;
            same("the written range", first, (libc::F_WRLCK, 10, 5, owner))?;
            let second = in_the_way(&file, libc::F_GETLK, 50, 0)?;
            same("the range that is read", second, (libc::F_RDLCK, 100, 0, owner))?;
            same("nothing between", in_the_way(&file, libc::F_GETLK, 15, 80)?.0, libc::F_UNLCK)
        })
    })?;
    check(move || {
        let _held = &file;
        child.check()
    })
}

/// A range locked by an open file description.
fn open_description() -> Result<Check> {
    let file = open("/var/description-lock")?;
    sys!(libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &range(libc::F_WRLCK, 3, 4)))?;
    check(move || {
        let _held = &file;
        let other = open("/var/description-lock")?;
        let found = in_the_way(&other, libc::F_OFD_GETLK, 0, 0)?;
        same("the range", found, (libc::F_WRLCK, 3, 4, -1))
    })
}
