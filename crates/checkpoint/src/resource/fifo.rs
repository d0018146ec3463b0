//! Named pipes (fifo(7)), also deleted ones: what is in them, and any number of ends.
//!
//! They are opened without waiting for the other side. A read end remembers whether a writer has ever been there, which
//! poll(2) shows as the difference between silence and a hang-up; it is kept, unless read ends of one FIFO differ in it.
//! The FIFO itself is in the file system and not saved, unless it is deleted.

use super::attributes::Attributes;
use super::ghost::{nearest_parent, with_free_name};
use super::location::{Location, check_type, locate};
use super::pipe_buffer::PipeBuffer;
use super::pipe_ends::{Ends, is_hung_up};
use crate::error::{Context as _, Result, bad_image};
use crate::files::dumping::{Dump, Object};
use crate::files::resource::Resource;
use crate::files::restoring::Restore;
use crate::files::{FileId, FileRef, Probe};
use crate::image::path::ImagePath;
use rtc_sys::CallExt as _;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::fd::{AsFd as _, OwnedFd};

/// One end of a FIFO, or both (`O_RDWR`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FifoEnd {
    /// The path in the container; for a deleted one the one it had.
    pub path: ImagePath,
    /// The end that carries what is in the FIFO.
    pub fifo: FileId,
    /// A read end whose writers are gone, having been there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hung_up: bool,
    /// What is in the FIFO.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carried: Option<Fifo>,
}

/// A FIFO.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fifo {
    /// Contents and capacity.
    #[serde(flatten)]
    pub buffer: PipeBuffer,
    /// What it takes to make it, if it is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted: Option<Attributes>,
}

type End<'a> = (FileRef, &'a FifoEnd);

impl Resource for FifoEnd {
    fn recognises(probe: &Probe<'_>, _cx: &Dump<'_>) -> bool {
        probe.file_type() == libc::S_IFIFO && probe.flags & libc::O_PATH == 0 && probe.link.starts_with('/')
    }

    fn dump(probe: &Probe<'_>, cx: &mut Dump<'_>) -> Result<Option<Self>> {
        let Some(location) = locate(probe, cx)? else { return Ok(None) };
        let (path, deleted) = match location {
            Location::Named(path) => (path, None),
            Location::Deleted(path) => (path, Some(Attributes::of(&probe.stat))),
        };
        let object = Object { kind: "fifo", major: probe.stat.st_dev, minor: probe.stat.st_ino };
        let fifo = cx.holder(object, probe.id);
        let carried = (fifo == probe.id).then(|| Fifo { buffer: PipeBuffer::default(), deleted });
        let reads = probe.flags & libc::O_ACCMODE == libc::O_RDONLY;
        Ok(Some(Self { path, fifo, hung_up: reads && is_hung_up(probe.fd)?, carried }))
    }

    fn conclude(all: &mut [(FileId, &mut Self)], cx: &mut Dump<'_>) -> Result<()> {
        let mut fifos: BTreeMap<FileId, Vec<FileId>> = BTreeMap::new();
        for (id, end) in all.iter() {
            fifos.entry(end.fifo).or_default().push(*id);
        }
        for (id, end) in all {
            let Some(fifo) = &mut end.carried else { continue };
            let ends = Ends::new(&fifos[id], cx)?;
            if let Some(blocker) = ends.fifo_to_outside(*id, end.path.as_path(), cx)? {
                cx.block_other(blocker);
            } else if !cx.check_only() {
                fifo.buffer = ends.dump(cx).context(|| format!("{id} (FIFO {})", end.path))?;
            }
        }
        Ok(())
    }

    const TOGETHER: bool = true;

    fn open_together(all: &[End<'_>], cx: &mut Restore<'_>) -> Result<()> {
        let mut fifos: BTreeMap<FileId, Vec<End<'_>>> = BTreeMap::new();
        for (file, end) in all {
            fifos.entry(end.fifo).or_default().push((*file, end));
        }
        for (id, ends) in fifos {
            let carrier = ends.iter().find(|(file, _)| file.id == id).and_then(|(_, end)| end.carried.as_ref());
            let fifo = carrier.ok_or_else(|| bad_image(format!("{id}: the FIFO itself is missing")))?;
            let path = ends[0].1.path.clone();
            open_ends(fifo, ends, cx).context(|| format!("FIFO {path}"))?;
        }
        Ok(())
    }

    fn open(&self, file: FileRef, _cx: &mut Restore<'_>) -> Result<OwnedFd> {
        Err(bad_image(format!("{}: an end of a FIFO that doesn't exist", file.id)))
    }
}

/// Fills a FIFO and opens all its ends.
fn open_ends(fifo: &Fifo, mut ends: Vec<End<'_>>, cx: &mut Restore<'_>) -> Result<()> {
    // Keeps what is in it, and lets writers be opened without waiting.
    let keeper = match &fifo.deleted {
        Some(attributes) => make_deleted(attributes, &ends[0].1.path, cx)?,
        None => open_named(&ends[0].1.path, libc::O_RDONLY, cx)?,
    };
    let filler = cx.reopen(keeper.as_fd(), libc::O_WRONLY | libc::O_NONBLOCK)?;
    fifo.buffer.fill(filler.as_fd(), cx.env().blobs)?;
    // Those that know of a writer are opened while one is there; then the writer goes, and the others come.
    ends.sort_by_key(|(file, end)| (!end.hung_up, file.flags & libc::O_ACCMODE));
    let mut filler = Some(filler);
    for (file, end) in ends {
        if !end.hung_up {
            filler = None;
        }
        let access = file.flags & libc::O_ACCMODE;
        let fd = match fifo.deleted {
            Some(_) => cx.reopen(keeper.as_fd(), access | libc::O_NONBLOCK)?,
            None => open_named(&end.path, access, cx)?,
        };
        cx.place(file.id, fd)?;
    }
    drop(filler);
    Ok(())
}

fn open_named(path: &ImagePath, access: i32, cx: &Restore<'_>) -> Result<OwnedFd> {
    // Looked at first: opening a device that has taken its place could do anything.
    let place = cx.open_path(path, libc::O_PATH | libc::O_NOFOLLOW)?;
    check_type(place.as_fd(), path, libc::S_IFIFO)?;
    cx.reopen(place.as_fd(), access | libc::O_NONBLOCK)
}

/// Makes a FIFO that has no name when this returns; open for reading.
fn make_deleted(attributes: &Attributes, path: &ImagePath, cx: &Restore<'_>) -> Result<OwnedFd> {
    let parent = nearest_parent(path, cx)?;
    let make = |name: &OsStr| rustix::fs::mknodat(&parent, name, FileType::Fifo, Mode::from_raw_mode(0o600), 0);
    let ((), name) = with_free_name(path, make).call("mknodat", format_args!("{path}, S_IFIFO"))?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = rustix::fs::openat(&parent, &name, flags, Mode::empty()).call("openat", format_args!("{name:?}"));
    let unlinked = rustix::fs::unlinkat(&parent, &name, AtFlags::empty()).call("unlinkat", format_args!("{name:?}"));
    let made = made?;
    unlinked?;
    attributes.apply(made.as_fd())?;
    Ok(made)
}
