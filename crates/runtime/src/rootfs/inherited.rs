//! A container without a mount namespace of its own: its mounts are made in the runtime's, and taken away again.
//!
//! The root file system is bound to a directory of the container's state and made private, and all else is mounted below
//! it: what is mounted there shows in no other mount namespace, and one call takes it all away, by a path that nobody
//! else mounts to. runc and crun mount onto the root file system's own directory and leave that to whoever cleans up.
//!
//! The root is changed by chroot(2), which a program with CAP_SYS_CHROOT can leave: there is nothing to pivot, the old
//! root being everybody's.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rtc_sys::mount::propagation;
use rtc_sys::{CallExt, Errno};
use rustix::fs::{Mode, OFlags};
use rustix::mount::UnmountFlags;

use super::path::{self, RootDir};
use super::tree;
use crate::error::{Context, Error, Kind, Result};

/// Attaches a detached clone of the root file system to `anchor`.
pub(crate) fn attach_root(anchor: &Path, tree: OwnedFd) -> Result<RootDir> {
    let private = || tree::set_propagation(tree.as_fd(), true, propagation::PRIVATE).context(|| "private mounts");
    let target = open_directory(anchor)?;
    private()?;
    tree::attach(&tree, &target).context(|| "attach the root file system")?;
    // Where the anchor's own mount is shared, this one is now too, and the kernel has put copies elsewhere, which go
    // with it. Nothing is below them, and nothing will be.
    private()?;
    Ok(RootDir::new(tree))
}

/// Opens what is mounted at `anchor`.
///
/// # Errors
/// Nothing is: this process is in another mount namespace than the one that made the container.
pub(crate) fn open_root(anchor: &Path) -> Result<OwnedFd> {
    let root = open_directory(anchor)?;
    if path::is_mount_root(&root)? {
        return Ok(root);
    }
    let message = format!("the container's mounts are not in this mount namespace: nothing is at {}", anchor.display());
    Err(Error::new(Kind::WrongState, message)
        .with_hint("call it in the mount namespace that the container was made in"))
}

/// Whether a directory is a place that [`attach_root`] has made: something is mounted there, or nothing is in it.
pub(crate) fn is_anchor(path: &Path) -> Result<bool> {
    let mounted = path::is_mount_root(&open_directory(path)?)?;
    Ok(mounted || std::fs::read_dir(path).call("opendir", path.display())?.next().is_none())
}

fn open_directory(path: &Path) -> rtc_sys::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).call("open", path.display())
}

/// Cuts a mount that was cloned from the host's off from its source: what is mounted below one doesn't show below the
/// other. (With a mount namespace of its own the container's copy of the host's mounts is cut off as a whole.)
pub(super) fn cut_off(tree: &OwnedFd) -> rtc_sys::Result<()> {
    tree::set_propagation(tree.as_fd(), true, propagation::SLAVE)
}

/// Makes a directory the root directory of this process.
pub(crate) fn change_root(root: impl AsFd) -> Result<()> {
    rustix::process::fchdir(&root).call("fchdir", "the container's root")?;
    rustix::process::chroot(".").call("chroot", ".")?;
    rustix::process::chdir("/").call("chdir", "/")?;
    Ok(())
}

/// Takes away what is mounted at `anchor`, with all below it. Nothing there is no error.
///
/// # Errors
/// umount2's, but for EINVAL: it is no mount (any more).
pub(crate) fn detach_root(anchor: &Path) -> Result<()> {
    loop {
        match rustix::mount::unmount(anchor, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)
            .call("umount2", format_args!("{}, DETACH", anchor.display()))
        {
            // The container may have mounted over its own root.
            Ok(()) => {}
            Err(e) if matches!(e.errno(), Errno::EINVAL | Errno::ENOENT) => return Ok(()),
            Err(e) => return Err(e.into()),
        }
    }
}
