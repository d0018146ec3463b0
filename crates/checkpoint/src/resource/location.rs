//! Where a file with a path is in the container: by its path, or deleted.

use crate::error::Result;
use crate::files::Probe;
use crate::files::dumping::Dump;
use crate::files::view::{View, statx};
use crate::image::path::ImagePath;
use rtc_sys::CallExt as _;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// Where a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// The path leads to it.
    Named(ImagePath),
    /// No path leads to it; it had this one.
    Deleted(ImagePath),
}

/// Finds out where the file of `probe` is. None when it can't be saved, and a blocker was noted.
///
/// # Errors
/// When a call fails for another reason than that something is absent.
pub fn locate(probe: &Probe<'_>, cx: &mut Dump<'_>) -> Result<Option<Location>> {
    if cx.view().mount(probe.info.mnt_id).is_none() {
        let why = "it was opened on a mount that the container's first task does not have";
        cx.block(probe, why, "pass it as an external file, or let the program close it");
        return Ok(None);
    }
    let whole = ImagePath::from(probe.raw_link);
    if leads_to(cx.view(), &whole, probe)? {
        return Ok(Some(Location::Named(whole)));
    }
    let Some(gone) = without_deleted(probe.raw_link) else {
        let why = match cx.view().covering(&whole) {
            Some(mount) if mount.id != probe.info.mnt_id => format!("the mount on {} hides it", mount.mountpoint),
            _ => "its path leads to another file or to none".to_owned(),
        };
        cx.block(probe, why, "unmount what hides it, or let the program close it");
        return Ok(None);
    };
    if probe.stat.st_nlink > 0 && probe.file_type() != libc::S_IFDIR {
        if let Some(name) = other_name(cx.view(), &gone, probe)? {
            return Ok(Some(Location::Named(name)));
        }
        log::warn!("{} ({}): saved as a copy: its other hard links are elsewhere", probe.place, probe.link);
    }
    Ok(Some(Location::Deleted(gone)))
}

/// Whether a path leads to the file of `probe`. The mount may differ: a bind mount over the place shows the same file.
fn leads_to(view: &View, path: &ImagePath, probe: &Probe<'_>) -> Result<bool> {
    let Some(stat) = view.stat(path)? else { return Ok(false) };
    let dev = libc::makedev(stat.stx_dev_major, stat.stx_dev_minor);
    Ok((dev, stat.stx_ino) == (probe.stat.st_dev, probe.stat.st_ino))
}

/// The path before " (deleted)", which d_path appends.
pub(crate) fn without_deleted(link: &OsStr) -> Option<ImagePath> {
    link.as_bytes().strip_suffix(b" (deleted)").map(|path| path.to_vec().into())
}

/// Another hard link of the file in the directory where it was. Lock files are made so: written under a temporary name,
/// linked to their own, the temporary name removed. A search further out would have to read the whole file system.
fn other_name(view: &View, gone: &ImagePath, probe: &Probe<'_>) -> Result<Option<ImagePath>> {
    let Some(parent) = gone.as_path().parent() else { return Ok(None) };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let Ok(dir) = rustix::fs::openat2(view.root(), parent, flags, Mode::empty(), resolve) else { return Ok(None) };
    for entry in rustix::fs::Dir::new(dir).call("fdopendir", parent.display())? {
        let entry = entry.call("getdents64", parent.display())?;
        // d_ino may be another file system's number, so it only saves looking at every file.
        if entry.ino() == probe.stat.st_ino {
            let path = ImagePath::from(&parent.join(Path::new(OsStr::from_bytes(entry.file_name().to_bytes()))));
            if leads_to(view, &path, probe)? {
                return Ok(Some(path));
            }
        }
    }
    Ok(None)
}

/// Whether `fd` is what an image says stands at its path: only the type is compared.
///
/// # Errors
/// `Incompatible` when the type is another.
pub(crate) fn check_type(fd: std::os::fd::BorrowedFd<'_>, path: &ImagePath, wanted: u32) -> Result<()> {
    let found = u32::from(statx(fd)?.stx_mode) & libc::S_IFMT;
    if found == wanted {
        return Ok(());
    }
    let message = format!("{path} is {} here, and was {}", type_name(found), type_name(wanted));
    Err(crate::Error::new(crate::Kind::Incompatible, message))
}

/// Whether a file is one of procfs.
pub(super) fn is_procfs(fd: std::os::fd::BorrowedFd<'_>) -> Result<bool> {
    Ok(rustix::fs::fstatfs(fd).call("fstatfs", "a file of the image")?.f_type == libc::PROC_SUPER_MAGIC)
}

fn type_name(file_type: u32) -> &'static str {
    match file_type {
        libc::S_IFREG => "a regular file",
        libc::S_IFDIR => "a directory",
        libc::S_IFLNK => "a symbolic link",
        libc::S_IFCHR => "a character device",
        libc::S_IFBLK => "a block device",
        libc::S_IFIFO => "a FIFO",
        libc::S_IFSOCK => "a socket",
        _ => "no file",
    }
}
