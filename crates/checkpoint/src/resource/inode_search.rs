//! Which file is it? Finds the path of an inode of which only device, number and perhaps a file handle are known.
//!
//! Whatever a search brings up is tried: a watch of ours on it must look in fdinfo like the one that is asked for.
//! So a search may guess. In order, the cheap and exact first:
//!
//! 1. The handle, on each of the container's mounts of that device (open_by_handle_at(2)).
//! 2. For overlay, the handle of the file in the layer below, which is part of overlay's own (Linux 6.6): where it is
//!    in the layer, it is in the overlay, too.
//! 3. Files that the container has open: the only way to one that is deleted.
//! 4. A walk through the container's mounts of that device, level by level, up to a number of entries.

use crate::error::Result;
use crate::files::FileId;
use crate::files::dumping::Dump;
use crate::files::view::View;
use crate::image::path::ImagePath;
use crate::proc::Proc;
use crate::procfs::fdinfo::{self, InotifyWatch};
use crate::procfs::mountinfo::{self, Mount};
use rtc_sys::CallExt as _;
use rtc_sys::handle::{FileHandle, open_by_handle};
use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init, remove_watch};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use std::collections::{HashSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

/// How many names a walk looks at, some tenths of a second's worth.
const MOST_NAMES: usize = 200_000;
/// Handle types of overlay (`OVL_FILEID_V0`, `OVL_FILEID_V1`).
const OVERLAY_V0: i32 = 0xfb;
const OVERLAY_V1: i32 = 0xf8;
/// File systems that are no overlay's layer, or can't be opened without harm.
const NO_LAYERS: [&str; 12] =
    ["overlay", "proc", "sysfs", "cgroup", "cgroup2", "devpts", "mqueue", "autofs", "fuse", "nfs", "nfs4", "tracefs"];

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Watched {
    /// A path of the container.
    Path(ImagePath),
    /// A file that is open.
    File(FileId),
}

/// Searches of one dump, with what they have in common.
#[derive(Default)]
pub(super) struct Search {
    /// An inotify instance of ours, to try watches with.
    trial: Option<OwnedFd>,
    /// Mounts outside the container that may hold layers.
    layers: Option<Vec<OwnedFd>>,
    /// Names that walks may still look at.
    names: Option<usize>,
}

impl Search {
    /// Finds what is watched. None when it has no path, or none that can be found.
    ///
    /// # Errors
    /// When something fails that should not.
    pub(super) fn find(&mut self, watch: &InotifyWatch, cx: &Dump<'_>) -> Result<Option<Watched>> {
        let (major, minor) = watch.device();
        let device = libc::makedev(major, minor);
        let mounts: Vec<&Mount> = cx.view().mounts().iter().filter(|mount| mount.dev == device).collect();
        let path = match self.by_handle(watch, &mounts, cx.view())? {
            Some(path) => Some(path),
            None => self.by_layer(watch, &mounts, cx.view())?,
        };
        if let Some(path) = path {
            return Ok(Some(Watched::Path(path)));
        }
        if let Some(file) = self.among_open(watch, cx)? {
            return Ok(Some(Watched::File(file)));
        }
        Ok(self.by_walk(watch, &mounts, cx.view())?.map(Watched::Path))
    }

    fn by_handle(&mut self, watch: &InotifyWatch, mounts: &[&Mount], view: &View) -> Result<Option<ImagePath>> {
        let Some((kind, bytes)) = &watch.handle else { return Ok(None) };
        let handle = FileHandle { kind: *kind, bytes: bytes.clone() };
        for mount in mounts {
            let Some(place) = open_dir(view, &mount.mountpoint) else { continue };
            let Some(path) = decode(&place, &handle) else { continue };
            if let Some(path) = self.confirm(watch, path.into_os_string(), view)? {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }

    fn by_layer(&mut self, watch: &InotifyWatch, mounts: &[&Mount], view: &View) -> Result<Option<ImagePath>> {
        let Some(handle) = watch.handle.as_ref().and_then(|(kind, bytes)| layer_handle(*kind, bytes)) else {
            return Ok(None);
        };
        let mut layers = match self.layers.take() {
            Some(layers) => layers,
            None => layer_mounts()?,
        };
        let found = layers.iter().find_map(|layer| self.in_layer(watch, layer, &handle, mounts, view).transpose());
        self.layers = Some(std::mem::take(&mut layers));
        found.transpose()
    }

    /// A path in a layer ends like the path in the overlay; where the layer begins in it doesn't matter.
    fn in_layer(
        &mut self,
        watch: &InotifyWatch,
        layer: &OwnedFd,
        handle: &FileHandle,
        mounts: &[&Mount],
        view: &View,
    ) -> Result<Option<ImagePath>> {
        let Some(path) = decode(layer, handle) else { return Ok(None) };
        for mount in mounts {
            let mut rest = path.components();
            loop {
                let candidate = mount.mountpoint.as_path().join(relative(rest.as_path()));
                if let Some(path) = self.confirm(watch, candidate.into_os_string(), view)? {
                    return Ok(Some(path));
                }
                if rest.next().is_none() {
                    break;
                }
            }
        }
        Ok(None)
    }

    fn among_open(&mut self, watch: &InotifyWatch, cx: &Dump<'_>) -> Result<Option<FileId>> {
        for id in (0..).map(FileId).take_while(|id| cx.handle(*id).is_some()) {
            // In a preflight it may have been closed meanwhile.
            let Ok(fd) = cx.fetch(id) else { continue };
            let same = rustix::fs::fstat(&fd).is_ok_and(|stat| stat.st_ino == watch.ino);
            if same && self.is_it(watch, &fd)? {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    fn by_walk(&mut self, watch: &InotifyWatch, mounts: &[&Mount], view: &View) -> Result<Option<ImagePath>> {
        let mut seen = HashSet::new();
        for mount in mounts {
            let mut queue = VecDeque::from([mount.mountpoint.as_path().to_owned()]);
            if let Some(path) = self.confirm(watch, mount.mountpoint.as_path().as_os_str().to_owned(), view)? {
                return Ok(Some(path));
            }
            while let Some(dir) = queue.pop_front() {
                let Some(fd) = open_dir(view, &ImagePath::from(&dir)) else { continue };
                // What is mounted within is another file system, or is walked in its turn.
                let here = rustix::fs::fstat(&fd).is_ok_and(|stat| seen.insert((stat.st_dev, stat.st_ino)));
                if !here || mount_of(&fd) != Some(mount.id) {
                    continue;
                }
                if let Some(path) = self.in_directory(watch, &dir, fd, &mut queue, view)? {
                    return Ok(Some(path));
                }
            }
        }
        Ok(None)
    }

    /// Looks at the names of a directory and appends its subdirectories to `queue`.
    fn in_directory(
        &mut self,
        watch: &InotifyWatch,
        dir: &Path,
        fd: OwnedFd,
        queue: &mut VecDeque<PathBuf>,
        view: &View,
    ) -> Result<Option<ImagePath>> {
        let names = self.names.get_or_insert(MOST_NAMES);
        let mut candidates = Vec::new();
        for entry in rustix::fs::Dir::new(fd).call("fdopendir", dir.display())? {
            // A directory that can't be read holds nothing for us.
            let Ok(entry) = entry else { break };
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            if *names == 0 {
                queue.clear();
                break;
            }
            *names -= 1;
            let path = dir.join(OsStr::from_bytes(name));
            if entry.ino() == watch.ino {
                candidates.push(path.clone());
            }
            if matches!(entry.file_type(), FileType::Directory | FileType::Unknown) {
                queue.push_back(path);
            }
        }
        for candidate in candidates {
            if let Some(path) = self.confirm(watch, candidate.into_os_string(), view)? {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }

    /// The path, if it leads to what is watched.
    fn confirm(&mut self, watch: &InotifyWatch, path: OsString, view: &View) -> Result<Option<ImagePath>> {
        let path = ImagePath::from(&path);
        match view.look(&path) {
            Ok(Some(fd)) if self.is_it(watch, &fd)? => Ok(Some(path)),
            // What can't be opened isn't it.
            _ => Ok(None),
        }
    }

    /// Whether a watch on `fd` looks like `watch`: number, device and handle are the inode's.
    fn is_it(&mut self, watch: &InotifyWatch, fd: &OwnedFd) -> Result<bool> {
        let trial = match self.trial.take() {
            Some(trial) => trial,
            None => init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).call("inotify_init1", "")?,
        };
        let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
        // Moving is seen by nobody while all tasks are stopped, so that the queue stays empty.
        let Ok(number) = add_watch(&trial, &path, WatchFlags::MOVE_SELF) else {
            self.trial = Some(trial);
            return Ok(false);
        };
        let shown = Proc(std::process::id() as i32).text(&format!("fdinfo/{}", trial.as_raw_fd()))?;
        let shown = fdinfo::inotify(&shown)?;
        // Fails only if the file has been deleted meanwhile, which has removed the watch.
        let _ = remove_watch(&trial, number);
        self.trial = Some(trial);
        Ok(shown.iter().any(|ours| {
            ours.wd == number && (ours.ino, ours.sdev, &ours.handle) == (watch.ino, watch.sdev, &watch.handle)
        }))
    }
}

fn open_dir(view: &View, path: &ImagePath) -> Option<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(view.root(), path.as_path(), flags, Mode::empty(), resolve).ok()
}

fn mount_of(fd: &OwnedFd) -> Option<i32> {
    crate::files::view::statx(fd.as_fd()).ok().map(|stat| stat.stx_mnt_id as i32)
}

/// The path of what a handle names, seen from the root of the mount's own namespace.
fn decode(mount: &OwnedFd, handle: &FileHandle) -> Option<PathBuf> {
    let fd = open_by_handle(mount.as_fd(), handle).ok()?;
    let link = rustix::fs::readlink(format!("/proc/self/fd/{}", fd.as_raw_fd()), Vec::new()).ok()?;
    Some(PathBuf::from(OsString::from_vec(link.into_bytes()))).filter(|path| path.is_absolute())
}

fn relative(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

/// The handle of the file in a layer that overlay's handle contains (`struct ovl_fb`): version, magic, length, flags,
/// type, 16 bytes that name the file system, then the handle. Version 1 begins with three bytes of padding.
fn layer_handle(kind: i32, bytes: &[u8]) -> Option<FileHandle> {
    const MAGIC: u8 = 0xfb;
    const HEADER: usize = 21;
    let inner = match kind {
        OVERLAY_V0 => bytes,
        OVERLAY_V1 => bytes.get(3..)?,
        _ => return None,
    };
    let len = usize::from(*inner.get(2)?);
    if *inner.get(1)? != MAGIC {
        return None;
    }
    Some(FileHandle { kind: i32::from(*inner.get(4)?), bytes: inner.get(HEADER..len)?.to_vec() })
}

/// One mount of each file system outside that a layer can be on.
fn layer_mounts() -> Result<Vec<OwnedFd>> {
    let text = Proc(std::process::id() as i32).text("mountinfo")?;
    let mut devices = HashSet::new();
    let mut all = Vec::new();
    for mount in mountinfo::parse(&text)? {
        let base = mount.fs_type.split('.').next().unwrap_or_default();
        if NO_LAYERS.contains(&base) || devices.contains(&mount.dev) {
            continue;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if let Ok(fd) = rustix::fs::open(mount.mountpoint.as_path(), flags, Mode::empty()) {
            // Another mount can hide it.
            if mount_of(&fd) == Some(mount.id) {
                devices.insert(mount.dev);
                all.push(fd);
            }
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layers_handle_is_within_overlays() {
        let mut bytes = vec![0, 0, 0, 0, 0xfb, 29, 0, 1];
        bytes.extend([9; 16]);
        bytes.extend([1, 2, 3, 4, 5, 6, 7, 8]);
        let inner = FileHandle { kind: 1, bytes: vec![1, 2, 3, 4, 5, 6, 7, 8] };
        assert_eq!(layer_handle(OVERLAY_V1, &bytes), Some(inner.clone()));
        assert_eq!(layer_handle(OVERLAY_V0, &bytes[3..]), Some(inner));
        assert_eq!(layer_handle(1, &bytes), None);
        for len in 0..bytes.len() {
            assert_eq!(layer_handle(OVERLAY_V1, &bytes[..len]), None);
        }
    }
}
