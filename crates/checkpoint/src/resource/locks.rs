//! File locks and leases.
//!
//! flock(2) and `F_OFD_SETLK` locks belong to the description, and are taken again by the tracer.
//! POSIX locks belong to a descriptor table, and leases remember the descriptor: both are taken by a task.
//! A task that waits for a lock does so in a system call, which goes on by itself.
//! Left out: leases that are being broken, and delegations of an NFS server.

use crate::error::{Context as _, Result, bad_image};
use crate::files::Probe;
use crate::files::dumping::Dump;
use crate::procfs::descriptor::{LockLine, LockType};
use crate::program::{Program, TargetFd};
use nix::fcntl::{FcntlArg, fcntl};
use rtc_sys::CallExt as _;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use std::os::fd::BorrowedFd;

/// A lock of a description.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    /// Which call takes it.
    pub kind: LockKind,
    /// Exclusive, or shared.
    pub exclusive: bool,
    /// First byte; 0 for flock and leases.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub start: u64,
    /// Last byte; none for all that follow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<u64>,
}

/// Which call takes a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LockKind {
    /// flock(2).
    Flock,
    /// `F_OFD_SETLK`.
    Ofd,
    /// `F_SETLK`, by a task that has the table of this pid of the container's.
    Posix(i32),
    /// `F_SETLEASE`.
    Lease,
}

fn is_zero(start: &u64) -> bool {
    *start == 0
}

/// The locks of `probe` that belong to the description; what can't be saved is noted.
pub fn of_description(probe: &Probe<'_>, cx: &mut Dump<'_>) -> Vec<Lock> {
    let mut locks = Vec::new();
    for line in &probe.info.locks {
        let kind = match line.kind {
            LockType::Flock => LockKind::Flock,
            LockType::Ofd => LockKind::Ofd,
            LockType::Lease if line.state != "BREAKING" => LockKind::Lease,
            LockType::Lease => {
                cx.block(probe, "its lease is being broken", "try again when the program has given the lease up");
                continue;
            }
            LockType::Delegation => {
                cx.block(probe, "an NFS server has delegated it", "stop exporting the file");
                continue;
            }
            // Of this table only; each table's are asked for by itself.
            LockType::Posix => continue,
        };
        locks.push(lock(line, kind));
    }
    locks
}

/// A POSIX lock of the table of `pid` (the container's count).
pub fn of_table(line: &LockLine, pid: i32) -> Lock {
    lock(line, LockKind::Posix(pid))
}

fn lock(line: &LockLine, kind: LockKind) -> Lock {
    Lock { kind, exclusive: line.mode == "WRITE", start: line.start, end: line.end }
}

impl Lock {
    /// Takes it on the description `fd` if the tracer can.
    ///
    /// # Errors
    /// `EAGAIN` when somebody else has a lock on the file now.
    pub fn take(&self, fd: BorrowedFd<'_>) -> Result<()> {
        let taken = match self.kind {
            LockKind::Flock => {
                let operation = match self.exclusive {
                    true => FlockOperation::NonBlockingLockExclusive,
                    false => FlockOperation::NonBlockingLockShared,
                };
                rustix::fs::flock(fd, operation).call("flock", format_args!("{operation:?}"))
            }
            LockKind::Ofd => {
                let flock = self.range()?;
                fcntl(fd, FcntlArg::F_OFD_SETLK(&flock)).call("fcntl", "F_OFD_SETLK").map(drop)
            }
            LockKind::Posix(_) | LockKind::Lease => Ok(()),
        };
        taken.context(|| "lock the file again, which someone else may have locked since")
    }

    /// Adds what a task of the table of `pid`, which has the description as `fd`, must do to take it.
    ///
    /// # Errors
    /// When the image is wrong.
    pub fn take_in_task(&self, pid: i32, fd: TargetFd, first: bool, program: &mut Program) -> Result<()> {
        match self.kind {
            LockKind::Posix(holder) if holder == pid => {
                let flock = self.range()?;
                let data = program.data(&bytes(&flock));
                program.call(libc::SYS_fcntl, [fd.into(), libc::F_SETLK.into(), data.into()]);
            }
            LockKind::Lease if first => {
                let kind = if self.exclusive { libc::F_WRLCK } else { libc::F_RDLCK };
                program.call(libc::SYS_fcntl, [fd.into(), libc::F_SETLEASE.into(), kind.into()]);
            }
            _ => {}
        }
        Ok(())
    }

    fn range(&self) -> Result<libc::flock> {
        let bad = || bad_image(format!("a lock from {} to {:?}", self.start, self.end));
        let len = match self.end {
            None => 0,
            Some(end) => end.checked_sub(self.start).and_then(|len| len.checked_add(1)).ok_or_else(bad)?,
        };
        let (l_start, l_len) = (i64::try_from(self.start), i64::try_from(len));
        Ok(libc::flock {
            l_type: if self.exclusive { libc::F_WRLCK } else { libc::F_RDLCK } as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: l_start.map_err(|_| bad())?,
            l_len: l_len.map_err(|_| bad())?,
            l_pid: 0,
        })
    }
}

/// struct flock as the kernel reads it (x86-64, aarch64: 4 bytes of padding after the two shorts and at the end).
fn bytes(flock: &libc::flock) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(32);
    bytes.extend(flock.l_type.to_ne_bytes());
    bytes.extend(flock.l_whence.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend(flock.l_start.to_ne_bytes());
    bytes.extend(flock.l_len.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::testing::{How, TempDir, dump_with, us};
    use std::fs::File;
    use std::os::fd::{AsFd as _, AsRawFd as _};

    /// The lock lines of a descriptor of ours.
    fn lines(file: &impl std::os::fd::AsRawFd) -> Vec<(LockType, String, u64, Option<u64>)> {
        let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd())).unwrap();
        let info = crate::procfs::descriptor::parse(&text).unwrap();
        info.locks.into_iter().map(|l| (l.kind, l.mode, l.start, l.end)).collect()
    }

    #[test]
    fn locks_of_descriptions_are_taken_again() {
        let dir = TempDir::new();
        let file =
            File::options().read(true).write(true).create(true).truncate(false).open(dir.path().join("f")).unwrap();
        let flock = Lock { kind: LockKind::Flock, exclusive: false, start: 0, end: None };
        flock.take(file.as_fd()).unwrap();
        let ofd = |exclusive, start, end| Lock { kind: LockKind::Ofd, exclusive, start, end };
        ofd(true, 10, Some(10)).take(file.as_fd()).unwrap();
        ofd(false, 1000, None).take(file.as_fd()).unwrap();
        let before = lines(&file);
        assert_eq!(before.len(), 3);
        let dumped = dump_with(us(), &How::default(), |dumper| {
            dumper.add_descriptor_of_ours(file.try_clone().unwrap().into(), us(), "test").unwrap()
        });
        let conflict = dumped.restore_in(us()).err().unwrap().to_string();
        assert!(conflict.contains("which someone else may have locked since"), "{conflict}");
        drop(file);
        let restored = dumped.restore().copy(dumped.added);
        assert_eq!(lines(&restored), before);
    }

    #[test]
    fn a_posix_lock_is_the_tables_and_a_lease_the_descriptions() {
        let dir = TempDir::new();
        let posix = Lock { kind: LockKind::Posix(7), exclusive: true, start: 5, end: Some(9) };
        let lease = Lock { kind: LockKind::Lease, exclusive: false, start: 0, end: None };
        let mut program = Program::new();
        for (pid, first) in [(6, true), (7, false)] {
            posix.take_in_task(pid, TargetFd(3), first, &mut program).unwrap();
            lease.take_in_task(pid, TargetFd(4), first, &mut program).unwrap();
        }
        assert_eq!(program.calls().len(), 2);
        // The bytes are what the kernel understands: an OFD lock made of them.
        let file = File::create(dir.path().join("f")).unwrap();
        let ofd = Lock { kind: LockKind::Ofd, ..posix };
        assert_eq!(bytes(&ofd.range().unwrap()), program.bytes()[..32]);
        ofd.take(file.as_fd()).unwrap();
        assert_eq!(lines(&file), [(LockType::Ofd, "WRITE".into(), 5, Some(9))]);
        assert!(file.as_raw_fd() > 2);
    }

    #[test]
    fn ranges_of_an_image_are_checked() {
        for (start, end) in [(5, Some(4)), (0, Some(u64::MAX)), (u64::MAX, None)] {
            let lock = Lock { kind: LockKind::Ofd, exclusive: true, start, end };
            assert!(lock.range().is_err(), "{start} {end:?}");
        }
    }
}
