//! The cgroup2 file system of this host: where it is mounted and what it offers.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rtc_sys::{CallExt, Errno};
use rustix::fs::{Mode, OFlags, ResolveFlags};

use super::{Cgroup, Placement, membership};
use crate::error::Context;
use crate::{Error, Kind, Result};

/// Where systemd mounts it, on machines with version 2 alone and on hybrid ones.
const USUAL: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
/// `CGROUP2_SUPER_MAGIC` (linux/magic.h).
const CGROUP2_SUPER_MAGIC: u64 = 0x6367_7270;
/// The inode number of the hierarchy's root directory (fs/kernfs: ids count from 1).
const ROOT_INO: u64 = 1;
/// The first cgroup namespace, with its fixed number (linux/proc_ns.h, `PROC_CGROUP_INIT_INO`).
const INITIAL_NAMESPACE: &[u8] = b"cgroup:[4026531835]";

/// The mounted cgroup2 file system.
#[derive(Debug)]
pub struct Hierarchy {
    root: OwnedFd,
    mountpoint: PathBuf,
    /// The cgroup that the mount shows at its mount point; `/` unless only a part of the hierarchy is mounted.
    shown: PathBuf,
}

impl Hierarchy {
    /// Finds the cgroup2 mount of this mount namespace.
    ///
    /// First where it usually is, then by `/proc/self/mountinfo` (proc_pid_mountinfo(5)), whose lines cost the kernel
    /// microseconds each; of several mounts, one that shows the root wins.
    ///
    /// # Errors
    /// No cgroup2 file system is mounted, with a hint; or the mount can't be opened.
    pub fn find() -> Result<Self> {
        if let Some(usual) = Self::usual() {
            return Ok(usual);
        }
        let table = fs::read_to_string("/proc/self/mountinfo").call("read", "/proc/self/mountinfo")?;
        let Some((shown, mountpoint)) = choose(&table) else {
            return Err(Error::new(Kind::System, "no cgroup2 file system is mounted")
                .with_hint("mount one: mount -t cgroup2 cgroup2 /sys/fs/cgroup"));
        };
        let root = rustix::fs::open(&mountpoint, OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY, Mode::empty())
            .call("open", mountpoint.display())?;
        Ok(Self { root, mountpoint, shown })
    }

    /// The whole hierarchy at one of its usual mount points, seen from the host's own cgroup namespace.
    fn usual() -> Option<Self> {
        // In another cgroup namespace paths count from elsewhere, and only mountinfo says from where.
        if rustix::fs::readlink("/proc/self/ns/cgroup", Vec::new()).ok()?.to_bytes() != INITIAL_NAMESPACE {
            return None;
        }
        USUAL.iter().find_map(|path| {
            let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
            let root = rustix::fs::open(*path, flags, Mode::empty()).ok()?;
            let is_cgroup2 = rustix::fs::fstatfs(&root).ok()?.f_type as u64 == CGROUP2_SUPER_MAGIC;
            let is_whole = rustix::fs::fstat(&root).ok()?.st_ino == ROOT_INO;
            (is_cgroup2 && is_whole).then(|| Self { root, mountpoint: path.into(), shown: "/".into() })
        })
    }

    /// Where it is mounted.
    pub fn mountpoint(&self) -> &Path {
        &self.mountpoint
    }

    /// The controllers that exist at its root, from `cgroup.controllers`.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn controllers(&self) -> Result<Vec<String>> {
        let text = super::control::read_at(&self.root, "cgroup.controllers").context(|| "cgroup /")?;
        Ok(text.split_ascii_whitespace().map(str::to_owned).collect())
    }

    /// Opens the cgroup of a container; `None` when it is gone.
    ///
    /// # Errors
    /// It is outside of the mounted part, or can't be opened.
    pub fn open(&self, placement: &Placement) -> Result<Option<Cgroup>> {
        self.open_path(&placement.path)
    }

    /// Opens a cgroup by its path in the hierarchy; `None` when there is none.
    ///
    /// # Errors
    /// It is outside of the mounted part, or can't be opened.
    pub fn open_path(&self, path: &Path) -> Result<Option<Cgroup>> {
        match open_beneath(&self.root, self.below(path)?) {
            Ok(dir) => Ok(Some(Cgroup { dir, path: path.to_owned() })),
            Err(e) if e.errno() == Errno::ENOENT => Ok(None),
            Err(e) => Err(e).context(|| format!("cgroup {}", path.display())),
        }
    }

    /// Opens the cgroup that a process is in.
    ///
    /// `pid` is a pid of this pid namespace.
    ///
    /// # Errors
    /// The process is gone, or its cgroup is removed or outside of the mounted part.
    pub fn open_of(&self, pid: i32) -> Result<Cgroup> {
        let path = membership::path_of(&format!("/proc/{pid}/cgroup"))?;
        self.open_path(&path)?
            .ok_or_else(|| Error::new(Kind::System, format!("cgroup {} of pid {pid} is removed", path.display())))
    }

    /// The part of a cgroup's path that is below the mount point; empty for the cgroup shown there.
    pub(super) fn below<'a>(&self, path: &'a Path) -> Result<&'a Path> {
        path.strip_prefix(&self.shown).map_err(|_| {
            let (path, shown, mountpoint) = (path.display(), self.shown.display(), self.mountpoint.display());
            Error::new(Kind::Invalid, format!("cgroup {path} can't be reached: {mountpoint} shows {shown} only"))
        })
    }

    /// The descriptor of the mount's root directory.
    pub(super) fn root(&self) -> &OwnedFd {
        &self.root
    }
}

/// Opens a directory below another, never leaving it: a cgroup2 tree has no links, and mounts in it are not followed.
pub(super) fn open_beneath(dir: impl AsFd, path: &Path) -> rtc_sys::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    rustix::fs::openat2(dir, path, OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY, Mode::empty(), resolve)
        .call("openat2", path.display())
}

/// Picks the cgroup2 mount of a mountinfo table: (what it shows, where it is mounted).
fn choose(table: &str) -> Option<(PathBuf, PathBuf)> {
    let mut partial = None;
    for line in table.lines() {
        // ID PARENT MAJ:MIN ROOT MOUNTPOINT OPTIONS [TAGS...] - TYPE SOURCE SUPEROPTIONS
        let Some((front, back)) = line.split_once(" - ") else { continue };
        if back.split(' ').next() != Some("cgroup2") {
            continue;
        }
        let mut fields = front.split(' ').skip(3);
        let (Some(root), Some(mountpoint)) = (fields.next(), fields.next()) else { continue };
        let found = (unescape(root), unescape(mountpoint));
        if root == "/" {
            return Some(found);
        }
        // A root of "/.." is above this process's cgroup namespace: nothing in it has a path here.
        if !root.starts_with("/..") {
            partial.get_or_insert(found);
        }
    }
    partial
}

/// Undoes mountinfo's escapes: `\040` for a space, and so on (proc_pid_mountinfo(5)).
fn unescape(field: &str) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    let bytes = field.as_bytes();
    let mut result = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let octal = bytes.get(at + 1..at + 4).filter(|_| bytes[at] == b'\\');
        let code =
            octal.and_then(|digits| std::str::from_utf8(digits).ok()).and_then(|d| u8::from_str_radix(d, 8).ok());
        result.push(code.unwrap_or(bytes[at]));
        at += if code.is_some() { 4 } else { 1 };
    }
    std::ffi::OsString::from_vec(result).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 master:2 - cgroup2 cgroup2 rw
";

    #[test]
    fn the_mount_is_found_by_its_type() {
        assert_eq!(choose(HYBRID), Some(("/".into(), "/sys/fs/cgroup/unified".into())));
        assert_eq!(choose("31 23 0:28 / /sys/fs/cgroup rw - tmpfs cgroup2 rw\n"), None);
    }

    #[test]
    fn a_mount_of_the_root_wins_over_one_of_a_part() {
        let part = "50 23 0:38 /a /mnt/part rw - cgroup2 none rw\n";
        let above = "51 23 0:38 /../b /mnt/above rw - cgroup2 none rw\n";
        assert_eq!(choose(&format!("{part}{HYBRID}")), Some(("/".into(), "/sys/fs/cgroup/unified".into())));
        assert_eq!(choose(&format!("{above}{part}")), Some(("/a".into(), "/mnt/part".into())));
        assert_eq!(choose(above), None);
    }

    #[test]
    fn escaped_mount_points_are_read() {
        let table = "50 23 0:38 / /mnt/a\\040b\\134 rw - cgroup2 none rw\n";
        assert_eq!(choose(table), Some(("/".into(), "/mnt/a b\\".into())));
    }

    #[test]
    fn the_usual_place_is_that_of_mountinfo() {
        let Some(usual) = Hierarchy::usual() else { return };
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let (shown, mountpoint) = choose(&table).unwrap();
        assert_eq!((usual.shown, usual.mountpoint), (shown, mountpoint));
    }

    #[test]
    fn this_machine_has_one_and_this_process_is_in_it() {
        let hierarchy = Hierarchy::find().unwrap();
        let own = hierarchy.open_of(std::process::id() as i32).unwrap();
        assert_eq!(own.path(), membership::own_path().unwrap());
        assert!(hierarchy.open_path(Path::new("/cgroup-eng-no-such")).unwrap().is_none());
    }
}
