//! The ends of a pipe or FIFO at dump: which sorts there are, and whether the missing sort is held outside.

use super::pipe_buffer::PipeBuffer;
use crate::error::{Context as _, Result};
use crate::files::dumping::Dump;
use crate::files::{Blocker, FileId};
use crate::proc::Proc;
use nix::fcntl::{FcntlArg, fcntl};
use rtc_sys::CallExt as _;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags};
use std::ffi::OsStr;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// A sort of end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    Read,
    Write,
}

/// The ends of one pipe, as descriptors of ours: one of each sort that the container has.
pub(super) struct Ends {
    reader: Option<OwnedFd>,
    writer: Option<OwnedFd>,
}

impl Ends {
    /// One of each sort among `ids`, which are ends of one pipe.
    pub(super) fn new(ids: &[FileId], cx: &Dump<'_>) -> Result<Self> {
        let mut ends = Self { reader: None, writer: None };
        for id in ids {
            let fd = cx.fetch(*id)?;
            let flags = fcntl(&fd, FcntlArg::F_GETFL).call("fcntl", "pipe, F_GETFL")?;
            let slot = match flags & libc::O_ACCMODE {
                libc::O_RDONLY => &mut ends.reader,
                libc::O_WRONLY => &mut ends.writer,
                _ => {
                    ends.reader = Some(fd.try_clone().call("dup", fd.as_raw_fd())?);
                    &mut ends.writer
                }
            };
            *slot = Some(fd);
        }
        Ok(ends)
    }

    /// The sort that the container has none of, with an end of the other sort.
    fn missing(&self) -> Option<(Sort, &OwnedFd)> {
        match self {
            Self { reader: Some(reader), writer: None } => Some((Sort::Write, reader)),
            Self { reader: None, writer: Some(writer) } => Some((Sort::Read, writer)),
            _ => None,
        }
    }

    /// A pipe whose only ends here are of one sort, while the other sort is still open.
    pub(super) fn pipe_to_outside(&self, id: FileId, cx: &mut Dump<'_>) -> Result<Option<Blocker>> {
        let Some((missing, fd)) = self.missing() else { return Ok(None) };
        // The kernel says on each end of a pipe whether the other sort is gone.
        if is_gone(missing, fd.as_fd())? {
            return Ok(None);
        }
        let ino = rustix::fs::fstat(fd).call("fstat", fd.as_raw_fd())?.st_ino;
        let link = format!("pipe:[{ino}]");
        let who = outsider(missing, cx, |found, _| found == OsStr::new(&link));
        Ok(Some(blocker(id, &link, missing, who, cx)))
    }

    /// The same for a FIFO, of which `path` is the container's.
    pub(super) fn fifo_to_outside(&self, id: FileId, path: &Path, cx: &mut Dump<'_>) -> Result<Option<Blocker>> {
        let Some((missing, fd)) = self.missing() else { return Ok(None) };
        if is_gone(missing, fd.as_fd())? {
            return Ok(None);
        }
        let stat = rustix::fs::fstat(fd).call("fstat", fd.as_raw_fd())?;
        let same = |link: &OsStr, place: &str| {
            // Asking the file system of every file that is open anywhere could take long; names are cheap.
            Path::new(link).file_name() == path.file_name()
                && rustix::fs::stat(place).is_ok_and(|s| (s.st_dev, s.st_ino) == (stat.st_dev, stat.st_ino))
        };
        let who = outsider(missing, cx, same);
        // A reader that came when no writer was there isn't told that there is none.
        let certain = missing == Sort::Read || !has_no_writer(fd.as_fd())?;
        if who.is_none() && !certain {
            return Ok(None);
        }
        Ok(Some(blocker(id, &path.display().to_string(), missing, who, cx)))
    }

    /// Capacity and contents.
    pub(super) fn dump(&self, cx: &mut Dump<'_>) -> Result<PipeBuffer> {
        if let Some(reader) = &self.reader {
            return PipeBuffer::dump(reader.as_fd(), cx.blobs());
        }
        let writer = self.writer.as_ref().expect("a description of a pipe is open for reading, writing or both");
        if rustix::io::ioctl_fionread(writer).call("ioctl", "pipe, FIONREAD")? == 0 {
            return PipeBuffer::capacity(writer.as_fd());
        }
        // Nobody can read what is in it, but for those who open it through /proc/PID/fd, as is done here.
        let reader = cx.reopen(writer.as_fd(), OFlags::RDONLY | OFlags::NONBLOCK)?;
        PipeBuffer::dump(reader.as_fd(), cx.blobs())
    }
}

/// Whether a read end has been told that all writers are gone (and one was there), or a write end that all readers are.
pub(super) fn is_hung_up(reader: BorrowedFd<'_>) -> Result<bool> {
    is_gone(Sort::Write, reader)
}

fn is_gone(sort: Sort, fd: BorrowedFd<'_>) -> Result<bool> {
    let mut state = [PollFd::from_borrowed_fd(fd, PollFlags::empty())];
    poll(&mut state, Some(&rustix::time::Timespec::default())).call("poll", "pipe, 0")?;
    Ok(state[0].revents().contains(if sort == Sort::Write { PollFlags::HUP } else { PollFlags::ERR }))
}

/// Whether an empty FIFO certainly has no writer: tee(2) finds its end then, and would wait otherwise.
/// Of one that isn't empty it can't be said, and true is the answer.
fn has_no_writer(reader: BorrowedFd<'_>) -> Result<bool> {
    let (_out, own) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).call("pipe2", "O_CLOEXEC")?;
    match rustix::pipe::tee(reader, &own, 1, SpliceFlags::NONBLOCK) {
        Err(Errno::AGAIN) => Ok(false),
        result => result.call("tee", "FIFO, own pipe, 1").map(|_| true).context(|| "look for writers"),
    }
}

fn blocker(id: FileId, link: &str, missing: Sort, who: Option<String>, cx: &mut Dump<'_>) -> Blocker {
    let missing = if missing == Sort::Write { "write" } else { "read" };
    let who = who.map_or_else(|| "someone outside the container".to_owned(), |who| format!("{who} outside"));
    let (pid, number) = cx.handle(id).unwrap_or_default();
    Blocker {
        pid: cx.container_pid(pid).unwrap_or(0),
        what: format!("fd {number} ({link})"),
        why: format!("the {missing} end of the pipe is held by {who}"),
        remedy: "start the container with the pipe as its stdin, stdout or stderr, or close it first".to_owned(),
    }
}

/// A process outside the container that has a descriptor of the sort. `is_it` is given its link and its place in /proc.
fn outsider(sort: Sort, cx: &Dump<'_>, is_it: impl Fn(&OsStr, &str) -> bool) -> Option<String> {
    let wanted = if sort == Sort::Write { 0o200 } else { 0o400 };
    for entry in std::fs::read_dir("/proc").ok()? {
        let Some(pid) = entry.ok()?.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        if cx.table(pid).is_some() || pid == std::process::id() as i32 {
            continue;
        }
        for fd in Proc(pid).numbers("fd").unwrap_or_default() {
            let place = format!("/proc/{pid}/fd/{fd}");
            // The link's own permissions show how the file is open.
            let mode = std::fs::symlink_metadata(&place).map_or(0, |m| m.mode());
            if mode & wanted != 0 && std::fs::read_link(&place).is_ok_and(|link| is_it(link.as_os_str(), &place)) {
                let name = Proc(pid).text("comm").unwrap_or_default();
                return Some(format!("pid {pid} ({})", name.trim_end()));
            }
        }
    }
    None
}
