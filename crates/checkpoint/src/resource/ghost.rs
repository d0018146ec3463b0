//! Files and directories that were deleted while they were open or mapped.
//!
//! The contents go into the image, whatever their size, with holes kept. Restore makes the file again under the name
//! it had, so that the link in /proc reads the same, and removes the name; where the name is taken, or the directory
//! is gone too, a hidden name or the nearest directory above takes its place.
//! Exchanging names for a moment would give the exact link even then, but a kill in that moment would leave a file
//! of the container under a wrong name.
//!
//! A file that is deleted by its path but has other hard links elsewhere is saved as a copy, with a warning in the log:
//! what is written to it after the restore is not seen through those links. `location` finds links in the same
//! directory, which is where lock files have them.

use super::attributes::Attributes;
use crate::error::{Context as _, Result};
use crate::files::Probe;
use crate::files::dumping::Dump;
use crate::files::restoring::Restore;
use crate::image::blob::Blob;
use crate::image::path::ImagePath;
use rtc_sys::{CallExt as _, Errno};
use rustix::fs::{AtFlags, Mode, OFlags};
use serde::{Deserialize, Serialize};
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

/// A deleted file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ghost {
    /// Owner, mode, times, extended attributes.
    pub attributes: Attributes,
    /// Its bytes.
    pub contents: Blob,
}

impl Ghost {
    /// Saves the file of `probe`; its own position is left alone.
    ///
    /// # Errors
    /// When it can't be read or stored.
    pub fn dump(probe: &Probe<'_>, cx: &mut Dump<'_>) -> Result<Self> {
        if cx.check_only() {
            return Ok(Self { attributes: Attributes::of(&probe.stat), contents: cx.blobs().bytes(&[])? });
        }
        // Through another description: this one may be write-only, and its position must not move.
        let file = cx.reopen(probe.fd, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOATIME)?;
        let attributes = Attributes::read(file.as_fd())?;
        let contents = cx.blobs().file(&file.into(), probe.stat.st_size as u64)?;
        Ok(Self { attributes, contents })
    }

    /// Makes the file and opens it with `flags`; when this returns, it has no name.
    ///
    /// # Errors
    /// When it can't be made where it was.
    pub fn open(&self, path: &ImagePath, flags: i32, cx: &Restore<'_>) -> Result<OwnedFd> {
        let parent = nearest_parent(path, cx)?;
        const UNNAMED: i32 = libc::O_TMPFILE & !libc::O_DIRECTORY;
        if flags & UNNAMED != 0 {
            let how = OFlags::from_bits_retain(flags as u32) | OFlags::CLOEXEC;
            // Filled through a description of its own, as the wanted one may be write-only or append.
            let made = rustix::fs::openat(&parent, ".", how, Mode::from_raw_mode(0o600));
            let made = made.call("openat", format_args!("{path}, O_TMPFILE"))?;
            self.fill(&cx.reopen(made.as_fd(), libc::O_RDWR)?, cx)?;
            return Ok(made);
        }
        let how = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let make = |name: &OsStr| rustix::fs::openat(&parent, name, how, Mode::from_raw_mode(0o600));
        let (made, name) = with_free_name(path, make).call("openat", format_args!("{path}, O_CREAT|O_EXCL"))?;
        let opened = self.fill(&made, cx).and_then(|()| cx.reopen(made.as_fd(), flags));
        rustix::fs::unlinkat(&parent, &name, AtFlags::empty()).call("unlinkat", format_args!("{name:?}"))?;
        opened
    }

    fn fill(&self, file: &OwnedFd, cx: &Restore<'_>) -> Result<()> {
        cx.env().blobs.copy_to(self.contents, file.as_fd()).context(|| "contents")?;
        self.attributes.apply(file.as_fd())
    }
}

/// Makes a directory that was removed while it was open, and opens it with `flags`.
pub(super) fn open_directory(of: &Attributes, path: &ImagePath, flags: i32, cx: &Restore<'_>) -> Result<OwnedFd> {
    let parent = nearest_parent(path, cx)?;
    let make = |name: &OsStr| rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o700));
    let ((), name) = with_free_name(path, make).call("mkdirat", path)?;
    let how = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = rustix::fs::openat(&parent, &name, how, Mode::empty()).call("openat", format_args!("{name:?}"));
    let opened = made.map_err(Into::into).and_then(|made| {
        of.apply(made.as_fd())?;
        cx.reopen(made.as_fd(), flags)
    });
    rustix::fs::unlinkat(&parent, &name, AtFlags::REMOVEDIR).call("rmdir", format_args!("{name:?}"))?;
    opened
}

/// The directory that a path is in, or the nearest above it that exists.
pub(super) fn nearest_parent(path: &ImagePath, cx: &Restore<'_>) -> Result<OwnedFd> {
    let mut error = None;
    for parent in path.as_path().ancestors().skip(1) {
        match cx.open_path(&ImagePath::from(parent), libc::O_PATH | libc::O_DIRECTORY) {
            Ok(fd) => return Ok(fd),
            Err(e) if e.sys().is_some_and(|e| matches!(e.errno(), Errno::ENOENT | Errno::ENOTDIR)) => error = Some(e),
            Err(e) => return Err(e),
        }
    }
    Err(error.unwrap_or_else(|| crate::error::bad_image(format!("\"{path}\" has no directory"))))
}

/// Makes something under the last name of `path`, or where that is taken under a hidden one.
pub(super) fn with_free_name<T>(
    path: &ImagePath,
    make: impl Fn(&OsStr) -> rustix::io::Result<T>,
) -> rustix::io::Result<(T, OsString)> {
    let own = path.as_path().file_name().unwrap_or(OsStr::new(".rtc-deleted"));
    match make(own) {
        Ok(made) => return Ok((made, own.to_owned())),
        Err(rustix::io::Errno::EXIST) => {}
        Err(e) => return Err(e),
    }
    let pid = std::process::id();
    let mut n = 0;
    loop {
        let name = format!(".rtc-deleted-{pid}-{n}");
        match make(Path::new(&name).as_os_str()) {
            Err(rustix::io::Errno::EXIST) if n < 1000 => n += 1,
            result => return result.map(|made| (made, name.into())),
        }
    }
}
