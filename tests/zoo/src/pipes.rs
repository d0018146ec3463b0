//! Pipes and FIFOs: content, size, flags, ends that are closed or held by several.

use crate::base::{Check, Child, Named, Prepare, Result, check, fails, pipe, read, ready, same, sys, write};
use std::fs::{self, File};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

pub(crate) const ZOO: &[(&str, Prepare)] = &[
    ("pipes", pipes),
    ("pipe_half_closed", pipe_half_closed),
    ("pipe_full", pipe_full),
    ("pipe_between_processes", pipe_between_processes),
    ("pipe_packets", pipe_packets),
    ("fifo", fifo),
    ("fifo_deleted", fifo_deleted),
];

fn flags(fd: &impl AsRawFd) -> Result<(i32, i32)> {
    let number = fd.as_raw_fd();
    Ok((sys!(libc::fcntl(number, libc::F_GETFL))?, sys!(libc::fcntl(number, libc::F_GETFD))?))
}

/// Data on its way, a size that is not the default, flags of each end.
fn pipes() -> Result<Check> {
    let (end, write_end) = pipe(libc::O_CLOEXEC)?;
    let (other, other_end) = pipe(0)?;
    sys!(libc::fcntl(end.as_raw_fd(), libc::F_SETPIPE_SZ, 16384))?;
    sys!(libc::fcntl(end.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK))?;
    write(&write_end, b"queued")?;
    let all: [OwnedFd; 4] = [end, write_end, other, other_end];
    let before: Vec<_> = all.iter().map(flags).collect::<Result<_>>()?;
    check(move || {
        let now: Vec<_> = all.iter().map(flags).collect::<Result<_>>()?;
        same("flags", &now, &before)?;
        same("size", sys!(libc::fcntl(all[1].as_raw_fd(), libc::F_GETPIPE_SZ))?, 16384)?;
        same("data", read(&all[0], 100)?, b"queued".to_vec())?;
        fails("no more", read(&all[0], 100), libc::EAGAIN)?;
        write(&all[1], b"queued")?;
        write(&all[3], b"other")?;
        same("the other pipe", read(&all[2], 100)?, b"other".to_vec())
    })
}

/// A reader whose writers are gone, with data left; a writer whose readers are gone.
fn pipe_half_closed() -> Result<Check> {
    // SAFETY: takes plain values.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    let unread = || -> Result<OwnedFd> {
        let (end, write_end) = pipe(0)?;
        write(&write_end, b"rest")?;
        Ok(end)
    };
    let (_, orphan) = pipe(0)?;
    let mut end = unread()?;
    check(move || {
        same("hang-up", ready(&end, libc::POLLIN)?, libc::POLLIN | libc::POLLHUP)?;
        same("the rest", read(&end, 100)?, b"rest".to_vec())?;
        same("the end", read(&end, 100)?, vec![])?;
        fails("no reader", write(&orphan, b"x"), libc::EPIPE)?;
        end = unread()?;
        Ok(())
    })
}

/// A pipe into which nothing more fits.
fn pipe_full() -> Result<Check> {
    let (end, write_end) = pipe(libc::O_NONBLOCK)?;
    let block: Vec<u8> = (0..65536_u32).map(|at| (at * 31 % 251) as u8).collect();
    write(&write_end, &block)?;
    check(move || {
        fails("full", write(&write_end, b"x"), libc::EAGAIN)?;
        let mut all = Vec::new();
        while all.len() < block.len() {
            all.extend(read(&end, 70_000)?);
        }
        same("content", all == block, true)?;
        write(&write_end, &block)
    })
}

/// Both ends inherited: what one process writes, the other reads.
fn pipe_between_processes() -> Result<Check> {
    let (end, write_end) = pipe(0)?;
    let mut child = Child::fork(move || check(move || write(&write_end, b"from the child")))?;
    check(move || {
        child.check()?;
        same("data", read(&end, 100)?, b"from the child".to_vec())
    })
}

/// Packets keep their boundaries.
fn pipe_packets() -> Result<Check> {
    let (end, write_end) = pipe(libc::O_DIRECT)?;
    let fill = move |to: &OwnedFd| [&b"one"[..], b"three", b"x"].iter().try_for_each(|packet| write(to, packet));
    fill(&write_end)?;
    check(move || {
        for packet in [&b"one"[..], b"three", b"x"] {
            same("packet", read(&end, 100)?, packet.to_vec())?;
        }
        fill(&write_end)
    })
}

fn make_fifo(path: &std::ffi::CStr) -> Result<File> {
    sys!(libc::mkfifo(path.as_ptr(), 0o600))?;
    let path = path.to_string_lossy().into_owned();
    File::options().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(&path).named(&path)
}

/// FIFOs on disk and in memory with unread data; a second reader, opened only to read.
fn fifo() -> Result<Check> {
    let (disk, memory) = (make_fifo(c"/var/fifo")?, make_fifo(c"/tmp/fifo")?);
    let reader = File::options().read(true).custom_flags(libc::O_NONBLOCK).open("/tmp/fifo").named("open")?;
    write(&disk, b"on disk")?;
    write(&memory, b"in memory")?;
    check(move || {
        same("on disk", read(&disk, 100)?, b"on disk".to_vec())?;
        same("in memory", read(&reader, 100)?, b"in memory".to_vec())?;
        write(&disk, b"on disk")?;
        // A new writer finds the same FIFO under its name.
        let again = File::options().write(true).open("/tmp/fifo").named("open")?;
        write(&again, b"in memory")
    })
}

/// A FIFO that has lost its name.
fn fifo_deleted() -> Result<Check> {
    let fifo = make_fifo(c"/var/nameless")?;
    write(&fifo, b"still here")?;
    fs::remove_file("/var/nameless").named("unlink")?;
    check(move || {
        same("data", read(&fifo, 100)?, b"still here".to_vec())?;
        write(&fifo, b"still here")
    })
}
