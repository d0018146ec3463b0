//! The change of root: pivot_root, or `MS_MOVE` with chroot where the root can't be pivoted (`--no-pivot`).

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rtc_sys::mount::propagation;
use rtc_sys::{CallExt, Errno};
use rustix::fs::{Mode, OFlags};
use rustix::mount::UnmountFlags;

use super::path::RootDir;
use super::tree;
use crate::error::{Context, Result};

/// Where a container's root is attached in the new mount namespace before the pivot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RootPlan {
    /// `rootfsPropagation`: the type and whether it is the recursive form.
    pub(crate) propagation: Option<(u64, bool)>,
    /// The root file system on the host.
    pub(crate) rootfs: PathBuf,
    /// Where it is attached in the runtime's mount namespace, if the container has none of its own.
    pub(crate) anchor: Option<PathBuf>,
    /// It is attached to the root file system's own directory, and not over `/`: where mounts are to propagate to the
    /// host, or hooks run that look for the container's root, or mount below it, by that path.
    pub(crate) own_place: bool,
}

/// Cuts the new mount namespace off from the host's and attaches the root.
///
/// `tree` is a detached clone of the root file system. It is mounted over `/`, which needs no path and no permission on
/// the way; paths from `/` still lead to the host's files below until the pivot, as the bind mounts' sources need.
/// With shared propagation that mount would show on the host: then it goes to the root file system's own directory. So
/// it does for hooks, but where a user namespace has no way to that directory.
pub(crate) fn attach_root(plan: &mut RootPlan, tree: OwnedFd) -> Result<RootDir> {
    let host = open_directory(Path::new("/"))?;
    let kind = of_the_hosts_mounts(plan.propagation, false);
    if is_shared(plan) {
        plan.own_place = true;
        let target = open_directory(&plan.rootfs)?;
        make_parent_private(&plan.rootfs)?;
        make_root_private(&tree)?;
        tree::attach(&tree, &target).context(|| "attach the root file system")?;
    } else {
        tree::set_propagation(host.as_fd(), true, kind).context(|| "mount propagation of /")?;
        tree::set_propagation(tree.as_fd(), true, kind).context(|| "mount propagation of the root file system")?;
        if plan.propagation.is_none() {
            // What the host mounts below the root file system's directory later is not for the container.
            make_root_private(&tree)?;
        }
        let own = if plan.own_place { open_directory(&plan.rootfs).ok() } else { None };
        plan.own_place = own.is_some();
        tree::attach(&tree, own.as_ref().unwrap_or(&host)).context(|| "attach the root file system")?;
    }
    Ok(RootDir::new(tree))
}

/// What the host's mounts become in a container whose root is to have a type, in a user namespace or not.
pub(crate) fn of_the_hosts_mounts(root: Option<(u64, bool)>, user_namespace: bool) -> u64 {
    match root {
        // In a mount namespace of another owner's the kernel has made them slaves (mount_namespaces(7)).
        Some((propagation::SHARED, _)) if !user_namespace => propagation::SHARED,
        Some((propagation::PRIVATE, _)) => propagation::PRIVATE,
        // An unbindable host tree couldn't be the source of bind mounts.
        _ => propagation::SLAVE,
    }
}

/// Whether mounts are to propagate from the container to the host.
fn is_shared(plan: &RootPlan) -> bool {
    matches!(plan.propagation, Some((propagation::SHARED, _)))
}

/// pivot_root refuses a new root whose parent mount is shared.
fn make_parent_private(rootfs: &Path) -> Result<()> {
    for ancestor in rootfs.ancestors() {
        let directory = open_directory(ancestor)?;
        match tree::set_propagation(directory.as_fd(), false, propagation::PRIVATE) {
            // Not the root of a mount: go up.
            Err(e) if e.errno() == Errno::EINVAL && ancestor != Path::new("/") => {}
            other => return Ok(other?),
        }
    }
    Ok(())
}

/// A clone of a shared mount is shared with it: pivot_root refuses that too, and the specification wants a peer group of
/// the container's own, which [`propagate_root`] makes.
fn make_root_private(tree: &OwnedFd) -> Result<()> {
    tree::set_propagation(tree.as_fd(), false, propagation::PRIVATE).context(|| "mount propagation of the root")
}

/// Makes `root` the root directory and lets go of the old one with all its mounts.
pub(crate) fn pivot(root: &RootDir, plan: &RootPlan) -> Result<()> {
    let old = open_directory(Path::new("/"))?;
    rustix::process::fchdir(root.fd()).call("fchdir", "the new root")?;
    rustix::process::pivot_root(".", ".").call("pivot_root", "., .")?;
    rustix::process::fchdir(&old).call("fchdir", "the old root")?;
    if is_shared(plan) {
        // Or the host would lose the mounts too.
        tree::set_propagation(old.as_fd(), true, propagation::SLAVE)?;
    }
    rustix::mount::unmount(".", UnmountFlags::DETACH).call("umount2", "., DETACH")?;
    rustix::process::chdir("/").call("chdir", "/")?;
    Ok(())
}

/// Makes `root` the root directory where it stands over the old one, for hosts whose root is the ramfs that can't be
/// pivoted.
///
/// The host's mounts stay below it. Those of proc and sysfs are taken away or covered, for their being visible in full
/// is what would let a user namespace within mount fresh ones (fs/namespace.c, `mount_too_revealing`).
pub(crate) fn move_root(root: &RootDir, plan: &RootPlan, mountinfo: &str) -> Result<()> {
    for mountpoint in revealing(mountinfo) {
        let Ok(directory) = open_directory(&mountpoint) else { continue };
        tree::set_propagation(directory.as_fd(), false, propagation::PRIVATE).ok();
        drop(directory);
        if rustix::mount::unmount(&mountpoint, UnmountFlags::DETACH).is_err() {
            let cover = tree::new_filesystem("tmpfs", "tmpfs", ["mode=0"], 0)?;
            tree::attach(&cover, open_directory(&mountpoint)?)?;
        }
    }
    rustix::process::fchdir(root.fd()).call("fchdir", "the new root")?;
    if plan.own_place {
        // Elsewhere it has been attached over `/` from the start.
        rustix::mount::mount_move(".", "/").call("mount", "., /, MOVE")?;
    }
    rustix::process::chroot(".").call("chroot", ".")?;
    rustix::process::chdir("/").call("chdir", "/")?;
    Ok(())
}

/// The mount points of whole proc and sysfs mounts, the last mounted first.
fn revealing(mountinfo: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for line in mountinfo.lines() {
        let Some((mount, filesystem)) = line.split_once(" - ") else { continue };
        let mut fields = mount.split(' ').skip(3);
        let (Some("/"), Some(mountpoint)) = (fields.next(), fields.next()) else { continue };
        if filesystem.starts_with("proc ") || filesystem.starts_with("sysfs ") {
            found.push(PathBuf::from(unescape(mountpoint)));
        }
    }
    found.reverse();
    found
}

/// Undoes procfs's escapes of space, tab, newline and backslash.
fn unescape(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (escape, plain)| text.replace(escape, plain))
}

/// Gives the container's root the propagation type that config.json asks for. Private it is from the start, with all
/// but what an option of a mount has made otherwise.
pub(crate) fn propagate_root(plan: &RootPlan) -> Result<()> {
    let Some((kind, recursive)) = plan.propagation else { return Ok(()) };
    if kind == propagation::PRIVATE {
        return Ok(());
    }
    tree::set_propagation(open_directory(Path::new("/"))?.as_fd(), recursive, kind).context(|| "rootfsPropagation")
}

fn open_directory(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty()).call("open", path.display())?)
}

/// Reads the mount table for [`move_root`].
pub(crate) fn own_mountinfo(proc: &crate::proc::Proc) -> Result<String> {
    Ok(proc.read("self/mountinfo")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_proc_and_sysfs_mounts_reveal() {
        let table = "22 27 0:21 / /proc rw,relatime - proc proc rw\n\
                     23 27 0:22 / /sys rw shared:3 - sysfs sysfs rw\n\
                     24 22 0:21 /sys /proc/sys ro - proc proc rw\n\
                     25 27 0:9 / /a\\040b rw - proc p rw\n";
        assert_eq!(revealing(table), [PathBuf::from("/a b"), PathBuf::from("/sys"), PathBuf::from("/proc")]);
    }
}
