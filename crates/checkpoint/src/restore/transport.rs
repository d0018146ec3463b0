//! Brings descriptors of ours into the tables of the tasks.
//!
//! A socket pair is made in the first task; its children inherit the one end, the other is ours.
//! A received descriptor gets the lowest free number, so a table that holds nothing but the socket is filled from 0 up,
//! and moving the entries to their own numbers from the last down never hits one that hasn't been moved yet.

use super::batch::Batch;
use crate::error::{Context, Error, Kind, Result};
use crate::files::Descriptor;
use crate::program::{Arg, Program, TargetFd};
use crate::tracee::{Mode, Stopped, Zone};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use rtc_sys::CallExt;
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// SCM_MAX_FD: how many descriptors the kernel carries in one message.
const MAX_FDS: usize = 253;
/// Lengths of `struct msghdr`, `struct iovec`, `struct cmsghdr`.
const MSGHDR: usize = 56;
const IOVEC: usize = 16;
const CMSGHDR: usize = 16;

/// The way into the tasks' tables.
pub(super) struct Transport {
    ours: OwnedFd,
    theirs: TargetFd,
}

impl Transport {
    /// Makes the socket pair in `task`, moves its end to the number `at`, and closes everything else there.
    pub(super) fn new(task: &mut Stopped, zone: Zone, at: TargetFd) -> Result<Self> {
        let mut program = Program::new();
        let pair = program.reserve(8);
        let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
        program.call(libc::SYS_socketpair, [libc::AF_UNIX.into(), kind.into(), 0u64.into(), pair.into()]);
        let limit = program.reserve(16);
        program.call(libc::SYS_prlimit64, [0u64.into(), libc::RLIMIT_NOFILE.into(), 0u64.into(), limit.into()]);
        let results = task.run(Mode::Interp, zone, &program)?;
        let pair = results.word(pair);
        let hard = results.word(limit.from_offset(8));
        let (first, second) = (TargetFd(pair as u32 as i32), TargetFd((pair >> 32) as i32));
        let pidfd = rtc_sys::pidfd::open(task.tid())?;
        let ours = rtc_sys::pidfd::get_fd(pidfd.as_fd(), first.0)?;
        let mut program = Program::new();
        // As many descriptors as it may have, for the numbers wanted here; each process gets its own limit in the end.
        let limit = program.data(&[hard.to_ne_bytes(), hard.to_ne_bytes()].concat());
        program.call(libc::SYS_prlimit64, [0u64.into(), libc::RLIMIT_NOFILE.into(), limit.into(), 0u64.into()]);
        if second != at {
            program.call(libc::SYS_dup3, [second.into(), at.into(), libc::O_CLOEXEC.into()]);
        }
        close_all_but(&mut program, at);
        task.run(Mode::Interp, zone, &program)?;
        Ok(Self { ours, theirs: at })
    }

    /// Puts the files at 0, 1, 2, … of the task's table, which holds only the socket.
    pub(super) fn send(&self, task: &mut Stopped, zone: Zone, fds: &[BorrowedFd<'_>]) -> Result<()> {
        for fds in fds.chunks(MAX_FDS) {
            let raw: Vec<_> = fds.iter().map(AsRawFd::as_raw_fd).collect();
            let control = [ControlMessage::ScmRights(&raw)];
            sendmsg::<()>(self.ours.as_raw_fd(), &[IoSlice::new(b"F")], &control, MsgFlags::empty(), None)
                .call("sendmsg", format_args!("{} descriptors", raw.len()))?;
            self.receive(task, zone, fds.len()).context(|| "receive descriptors")?;
        }
        Ok(())
    }

    fn receive(&self, task: &mut Stopped, zone: Zone, count: usize) -> Result<()> {
        let mut program = Program::new();
        let control_len = CMSGHDR + (count * 4).next_multiple_of(8);
        let (header, vector) = (program.reserve(MSGHDR), program.reserve(IOVEC));
        let (byte, control) = (program.reserve(1), program.reserve(control_len));
        program.pointer(header.from_offset(16), vector);
        program.set_data(header.from_offset(24), &1u64.to_ne_bytes());
        program.pointer(header.from_offset(32), control);
        program.set_data(header.from_offset(40), &control_len.to_ne_bytes());
        program.pointer(vector, byte);
        program.set_data(vector.from_offset(8), &1u64.to_ne_bytes());
        program.call(libc::SYS_recvmsg, [self.theirs.into(), header.into(), 0u64.into()]);
        let results = task.run(Mode::Interp, zone, &program)?;
        let flags = results.word(header.from_offset(48)) as i32;
        let expected = (CMSGHDR + count * 4) as u64;
        if flags & libc::MSG_CTRUNC != 0 || results.word(control) != expected {
            return Err(Error::new(Kind::System, format!("{count} descriptors don't fit in the task's table"))
                .with_hint("the limit of open files (RLIMIT_NOFILE) is too low"));
        }
        Ok(())
    }

    /// Closes everything but the socket in the task's table.
    pub(super) fn clear(&self, task: &mut Stopped, zone: Zone) -> Result<()> {
        let mut program = Program::new();
        close_all_but(&mut program, self.theirs);
        task.run(Mode::Interp, zone, &program).map(drop)
    }

    /// Fills the task's table and closes the socket in it. `fds` are in the order of `table`, which is by number.
    pub(super) fn fill(
        &self,
        task: &mut Stopped,
        zone: Zone,
        table: &[Descriptor],
        fds: &[BorrowedFd<'_>],
    ) -> Result<()> {
        self.clear(task, zone)?;
        self.send(task, zone, fds)?;
        let mut batch = Batch::new(task, zone);
        for (at, descriptor) in table.iter().enumerate().rev() {
            let cloexec = if descriptor.cloexec { libc::O_CLOEXEC } else { 0 };
            if descriptor.fd.0 != at as i32 {
                batch.call(libc::SYS_dup3, [at.into(), descriptor.fd.into(), cloexec.into()])?;
                batch.call(libc::SYS_close, [at.into()])?;
            } else if descriptor.cloexec {
                batch.call(libc::SYS_fcntl, [at.into(), libc::F_SETFD.into(), libc::FD_CLOEXEC.into()])?;
            }
        }
        batch.call(libc::SYS_close, [self.theirs.into()])?;
        batch.finish()
    }
}

fn close_all_but(program: &mut Program, kept: TargetFd) {
    if kept.0 > 0 {
        program.call(libc::SYS_close_range, [0u64.into(), Arg::from(kept.0 - 1), 0u64.into()]);
    }
    program.call(libc::SYS_close_range, [(kept.0 + 1).into(), Arg::Value(u64::from(u32::MAX)), 0u64.into()]);
}

/// A number for the socket that no table uses, above all numbers that descriptors get on arrival.
pub(super) fn free_number<'a>(tables: impl Iterator<Item = &'a [Descriptor]> + Clone, most: usize) -> TargetFd {
    let longest = tables.clone().map(<[_]>::len).max().unwrap_or(0).max(most);
    let used: std::collections::BTreeSet<i32> = tables.flatten().map(|d| d.fd.0).collect();
    TargetFd((longest as i32..).find(|n| !used.contains(n)).expect("a table is never full"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::FileId;

    #[test]
    fn the_socket_is_out_of_the_way() {
        let table = |fds: &[i32]| -> Vec<Descriptor> {
            fds.iter().map(|n| Descriptor { fd: TargetFd(*n), file: FileId(0), cloexec: false }).collect()
        };
        let tables = [table(&[0, 1, 2]), table(&[0, 1, 2, 3, 7])];
        let all = || tables.iter().map(Vec::as_slice);
        assert_eq!(free_number(all(), 0), TargetFd(5));
        assert_eq!(free_number(all(), 7), TargetFd(8));
    }
}
