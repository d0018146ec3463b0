//! Pipes (pipe(2)): contents with packet boundaries, capacity, owner, and any number of read and write ends,
//! each with its own flags; also with all readers or all writers gone.
//!
//! A pipe whose other end is held outside the container can't be saved, unless the pipe is one of those that the
//! caller brings anew. Not kept: the inode number; pages that were spliced in are bytes afterwards.

use super::pipe_buffer::PipeBuffer;
use super::pipe_ends::Ends;
use crate::error::{Context as _, Result, bad_image};
use crate::files::dumping::Dump;
use crate::files::resource::Resource;
use crate::files::restoring::Restore;
use crate::files::{FileId, FileRef, Probe};
use rtc_sys::CallExt as _;
use rustix::fs::Mode;
use rustix::pipe::PipeFlags;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// open(2) sets it, pipe(2) doesn't: the two kinds of ends can be told apart by F_GETFL.
const O_LARGEFILE: i32 = 0o100000;

/// One end of a pipe, or both (`O_RDWR`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PipeEnd {
    /// The end that carries the pipe itself.
    pub pipe: FileId,
    /// The pipe itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carried: Option<Pipe>,
}

/// A pipe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pipe {
    /// Contents and capacity.
    #[serde(flatten)]
    pub buffer: PipeBuffer,
    /// Permission bits, which count when it is opened through /proc/PID/fd.
    pub mode: u32,
    /// Owner and group, as the host counts.
    pub owner: (u32, u32),
}

impl Resource for PipeEnd {
    fn recognises(probe: &Probe<'_>, _cx: &Dump<'_>) -> bool {
        probe.flags & libc::O_PATH == 0 && probe.link.starts_with("pipe:[")
    }

    fn dump(probe: &Probe<'_>, cx: &mut Dump<'_>) -> Result<Option<Self>> {
        let object = crate::files::dumping::Object { kind: "pipe", major: probe.stat.st_dev, minor: probe.stat.st_ino };
        let pipe = cx.holder(object, probe.id);
        let carried = (pipe == probe.id).then(|| Pipe {
            buffer: PipeBuffer::default(),
            mode: probe.stat.st_mode & 0o7777,
            owner: (probe.stat.st_uid, probe.stat.st_gid),
        });
        Ok(Some(Self { pipe, carried }))
    }

    fn conclude(all: &mut [(FileId, &mut Self)], cx: &mut Dump<'_>) -> Result<()> {
        let mut pipes: BTreeMap<FileId, Vec<FileId>> = BTreeMap::new();
        for (id, end) in all.iter() {
            pipes.entry(end.pipe).or_default().push(*id);
        }
        for (id, end) in all {
            let Some(pipe) = &mut end.carried else { continue };
            let ends = Ends::new(&pipes[id], cx)?;
            if let Some(blocker) = ends.pipe_to_outside(*id, cx)? {
                cx.block_other(blocker);
            } else if !cx.check_only() {
                pipe.buffer = ends.dump(cx).context(|| format!("{id} (pipe)"))?;
            }
        }
        Ok(())
    }

    const TOGETHER: bool = true;

    fn open_together(all: &[(FileRef, &Self)], cx: &mut Restore<'_>) -> Result<()> {
        let mut pipes: BTreeMap<FileId, (Option<&Pipe>, Vec<FileRef>)> = BTreeMap::new();
        for (file, end) in all {
            let (carried, ends) = pipes.entry(end.pipe).or_default();
            ends.push(*file);
            if file.id == end.pipe {
                *carried = end.carried.as_ref();
            }
        }
        for (id, (pipe, ends)) in pipes {
            let pipe = pipe.ok_or_else(|| bad_image(format!("{id}: the pipe itself is missing")))?;
            open_ends(pipe, &ends, cx).context(|| format!("{id} (pipe)"))?;
        }
        Ok(())
    }

    fn open(&self, file: FileRef, _cx: &mut Restore<'_>) -> Result<OwnedFd> {
        Err(bad_image(format!("{}: an end of a pipe that doesn't exist", file.id)))
    }
}

/// Makes a pipe with all its ends; those that nobody had are closed in the end.
fn open_ends(pipe: &Pipe, ends: &[FileRef], cx: &mut Restore<'_>) -> Result<()> {
    let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).call("pipe2", "O_CLOEXEC")?;
    set_owner(reader.as_fd(), pipe)?;
    pipe.buffer.fill(writer.as_fd(), cx.env().blobs)?;
    let mut own = BTreeMap::new();
    let mut reopened = Vec::new();
    for end in ends {
        let access = end.flags & libc::O_ACCMODE;
        if end.flags & O_LARGEFILE == 0 && access != libc::O_RDWR && !own.contains_key(&access) {
            own.insert(access, end.id);
        } else {
            // O_DIRECT is refused by open(2) and set later; every access mode can be had through either end.
            reopened.push((end.id, cx.reopen(reader.as_fd(), end.flags & (libc::O_ACCMODE | libc::O_NONBLOCK))?));
        }
    }
    for (id, fd) in reopened {
        cx.place(id, fd)?;
    }
    for (access, fd) in [(libc::O_RDONLY, reader), (libc::O_WRONLY, writer)] {
        if let Some(id) = own.get(&access) {
            cx.place(*id, fd)?;
        }
    }
    Ok(())
}

fn set_owner(pipe: BorrowedFd<'_>, image: &Pipe) -> Result<()> {
    let stat = rustix::fs::fstat(pipe).call("fstat", "pipe")?;
    if (stat.st_uid, stat.st_gid) != image.owner {
        let (uid, gid) = image.owner;
        let (user, group) = (rustix::fs::Uid::from_raw_unchecked(uid), rustix::fs::Gid::from_raw_unchecked(gid));
        rustix::fs::fchown(pipe, Some(user), Some(group)).call("fchown", format_args!("pipe, {uid}, {gid}"))?;
    }
    if stat.st_mode & 0o7777 != image.mode {
        let mode = Mode::from_raw_mode(image.mode & 0o7777);
        rustix::fs::fchmod(pipe, mode).call("fchmod", format_args!("pipe, {mode:?}"))?;
    }
    Ok(())
}
