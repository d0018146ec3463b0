//! The mounts of config.json, one after the other in its order.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rtc_sys::mount::attr;
use rtc_sys::{CallExt, Errno};
use rustix::fs::{Mode, OFlags, XattrFlags};

use super::options::{Attrs, Bind, Idmap, MountOptions};
use super::path::{self, RootDir};
use super::{copyup, inherited, procfs, tree};
use crate::error::{Context, Error, Kind, Result};

/// One mount of config.json, parsed.
#[derive(Debug)]
pub(crate) struct MountPlan {
    /// Where, in the container; a relative one counts from its root.
    pub(crate) destination: PathBuf,
    /// What.
    pub(crate) kind: MountKind,
    /// How.
    pub(crate) options: MountOptions,
    /// The source as a detached mount, where the parent has opened it: the child couldn't (user namespaces).
    pub(crate) opened: Option<OwnedFd>,
    /// A user namespace with the mount's id mapping, where the child opens the source.
    pub(crate) ids: Option<OwnedFd>,
    /// A later mount goes below it, whose mountpoint may have to be made there.
    pub(crate) holds_others: bool,
}

impl MountPlan {
    /// Whether it shows the container's cgroup and lets it be changed.
    pub(crate) fn is_writable_cgroup(&self) -> bool {
        self.kind == MountKind::Cgroup && self.options.attrs.set & attr::RDONLY == 0
    }

    /// Whether a process may make it that isn't in the container's cgroup yet: it doesn't show the cgroup, and brings no
    /// memory along that is to count there, but for the kernel's own few hundred bytes per mount.
    pub(crate) fn may_precede_cgroup(&self) -> bool {
        match &self.kind {
            MountKind::Cgroup => false,
            MountKind::Bind(_) | MountKind::Symlink(_) => true,
            MountKind::Filesystem { kind, .. } => match kind.as_str() {
                "proc" | "sysfs" | "mqueue" | "devpts" => true,
                "tmpfs" => !self.options.copy_up,
                _ => false,
            },
        }
    }
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MountKind {
    /// A file or directory of the host (absolute), or of the container's own root (relative to that).
    Bind(BindSource),
    /// The container's cgroup.
    Cgroup,
    /// No mount but a symlink with this text.
    Symlink(PathBuf),
    /// A new instance of a file system.
    Filesystem { kind: String, source: String },
}

/// Where a bind mount's source is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BindSource {
    /// On the host.
    Host(PathBuf),
    /// In the container's root, where earlier mounts may already be.
    Root(PathBuf),
}

/// Mounts onto the root, and remembers what is to become read-only once its content is there.
#[derive(Debug)]
pub(crate) struct Mounter<'a> {
    root: &'a RootDir,
    /// The container has a cgroup namespace of its own.
    private_cgroup: bool,
    /// The option for `linux.mountLabel`, where the kernel has SELinux.
    label: Option<&'a str>,
    /// The mounts are made in the runtime's own mount namespace.
    pub(crate) shares_namespace: bool,
    readonly_later: Vec<OwnedFd>,
}

impl<'a> Mounter<'a> {
    pub(crate) fn new(root: &'a RootDir, private_cgroup: bool, label: Option<&'a str>) -> Self {
        Self { root, private_cgroup, label, shares_namespace: false, readonly_later: Vec::new() }
    }

    /// Does one mount, and gives it, where it is one.
    pub(crate) fn mount(&mut self, plan: &mut MountPlan) -> Result<Option<OwnedFd>> {
        let destination = plan.destination.clone();
        self.dispatch(plan).context(|| format!("mount {}", destination.display()))
    }

    /// The mounts that are to be made read-only at the end.
    pub(crate) fn into_readonly_later(self) -> Vec<OwnedFd> {
        self.readonly_later
    }

    fn dispatch(&mut self, plan: &mut MountPlan) -> Result<Option<OwnedFd>> {
        match plan.kind.clone() {
            MountKind::Bind(source) => self.bind(plan, &source).map(Some),
            MountKind::Cgroup => self.cgroup(plan).map(Some),
            MountKind::Symlink(target) => self.root.symlink(&plan.destination, &target).map(|()| None),
            MountKind::Filesystem { kind, source } => self.filesystem(plan, &kind, &source).map(Some),
        }
    }

    /// Makes sure that a mount may go to the place that its destination leads to.
    fn check_place(&self, destination: &Path, place: path::Place) -> Result<path::Place> {
        procfs::check_place(destination, &place.fd)?;
        // Nobody whose root it covers would see it, by whatever dots and links it got there.
        if self.root.is(&place.fd)? {
            return Err(Error::new(Kind::Invalid, "a mount can't cover the container's root"));
        }
        Ok(place)
    }

    fn bind(&mut self, plan: &mut MountPlan, source: &BindSource) -> Result<OwnedFd> {
        let how = plan.options.bind.unwrap_or(Bind::One);
        let tree = match (plan.opened.take(), source) {
            (Some(opened), _) => opened,
            (None, BindSource::Host(path)) => tree::clone_source(path, how, !plan.options.source_nofollow)?,
            (None, BindSource::Root(path)) if plan.options.source_nofollow => {
                tree::clone_fd(self.root.resolve_unfollowed(path)?, how)?
            }
            (None, BindSource::Root(path)) => tree::clone_fd(self.root.resolve(path)?, how)?,
        };
        procfs::check_path(&plan.destination, procfs::is_procfs(&tree)?)?;
        let place = self.bind_place(plan, path::is_directory(&tree)?)?;
        let place = self.check_place(&plan.destination, place)?;
        if let Some(ids) = plan.ids.take() {
            tree::set_idmap(tree.as_fd(), plan.options.idmap == Some(Idmap::Recursive), ids.as_fd())?;
        }
        self.cut_off(&tree)?;
        // On the detached clone, so that it is never visible without them.
        let mut attrs = plan.options.attrs;
        let later = plan.holds_others && attrs.set & attr::RDONLY != 0;
        if later {
            // podman's /run/secrets: an empty directory for files that are bound into it, read-only like them.
            attrs.set &= !attr::RDONLY;
        }
        tree::set_attrs(tree.as_fd(), false, attrs)?;
        tree::set_attrs(tree.as_fd(), true, plan.options.recursive)?;
        attach(&tree, &place)?;
        propagate(&tree, &plan.options)?;
        if later {
            self.make_readonly_later(&tree)?;
        }
        Ok(tree)
    }

    fn make_readonly_later(&mut self, mount: &OwnedFd) -> Result<()> {
        self.readonly_later.push(mount.try_clone().call("dup", "a mount")?);
        Ok(())
    }

    /// Keeps what is mounted below a clone of one of the host's mounts from showing below that.
    fn cut_off(&self, tree: &OwnedFd) -> rtc_sys::Result<()> {
        if self.shares_namespace { inherited::cut_off(tree) } else { Ok(()) }
    }

    /// Where a bind mount goes.
    fn bind_place(&self, plan: &MountPlan, directory: bool) -> Result<path::Place> {
        if plan.options.destination_nofollow {
            if let Some(fd) = self.root.unfollowed(&plan.destination)? {
                return Ok(path::Place { fd, made: false });
            }
        }
        if directory { self.root.directory(&plan.destination) } else { self.root.file(&plan.destination) }
    }

    fn filesystem(&mut self, plan: &MountPlan, kind: &str, source: &str) -> Result<OwnedFd> {
        procfs::check_path(&plan.destination, kind == "proc")?;
        let place = match kind {
            "proc" | "sysfs" => self.ordinary_directory(&plan.destination, kind)?,
            _ => self.root.directory(&plan.destination)?,
        };
        let place = self.check_place(&plan.destination, place)?;
        let options = &plan.options;
        let mut data: Vec<String> = options.superblock.iter().map(|flag| (*flag).to_owned()).collect();
        data.extend(options.data.iter().cloned());
        if let (Some(label), false) = (self.label, matches!(kind, "proc" | "sysfs" | "mqueue")) {
            data.push(label.to_owned());
        }
        let mut attrs = options.attrs.set;
        let readonly = attrs & attr::RDONLY != 0;
        match kind {
            "tmpfs" => {
                if !place.made && !data.iter().any(|entry| entry.starts_with("mode=")) {
                    data.push(format!("mode={:o}", path::stat(&place.fd)?.st_mode & 0o7777));
                }
                attrs &= !attr::RDONLY;
            }
            "proc" | "sysfs" | "mqueue" | "devpts" => {}
            _ if readonly => data.push("ro".to_owned()),
            _ => {}
        }
        let mount = match new_filesystem(kind, source, &data, attrs, &place) {
            // The network namespace, which sysfs shows, belongs to another user namespace: the host's is the same.
            Err(e) if kind == "sysfs" && is(&e, Errno::EPERM) => return self.host_sysfs(plan, &place),
            // The user namespace has no group 5, so nobody in it misses it.
            Err(e) if kind == "devpts" && is(&e, Errno::EINVAL) => {
                data.retain(|entry| !entry.starts_with("gid="));
                tree::new_filesystem(kind, source, data.iter().map(String::as_str), attrs)?
            }
            other => other?,
        };
        if let ("mqueue", Some((_, label))) = (kind, self.label.and_then(|option| option.split_once('='))) {
            set_label(&mount, label)?;
        }
        // A directory made for the mount has nothing to copy, and its mode is not what anyone asked for.
        if options.copy_up && kind == "tmpfs" && !place.made {
            copyup::copy(place.fd.as_fd(), mount.as_fd()).context(|| "tmpcopyup")?;
        }
        attach(&mount, &place)?;
        tree::set_attrs(mount.as_fd(), true, options.recursive)?;
        propagate(&mount, options)?;
        if kind == "tmpfs" && readonly {
            self.make_readonly_later(&mount)?;
        }
        Ok(mount)
    }

    /// The host's sysfs, with all that is mounted in it; where flags are set on it, they stay.
    fn host_sysfs(&self, plan: &MountPlan, place: &path::Place) -> Result<OwnedFd> {
        let tree = tree::clone_path(Path::new("/sys"), Bind::Recursive)?;
        self.cut_off(&tree)?;
        for Attrs { set, clear } in [plan.options.attrs, plan.options.recursive] {
            // Times of access are one value, cleared before it is set.
            tree::set_attrs(tree.as_fd(), true, Attrs { set, clear: clear & attr::ATIME })?;
        }
        attach(&tree, place)?;
        propagate(&tree, &plan.options)?;
        Ok(tree)
    }

    /// The cgroup hierarchy: a new mount in a private cgroup namespace, which shows the container's own; without one,
    /// what the parent has opened of it.
    fn cgroup(&mut self, plan: &mut MountPlan) -> Result<OwnedFd> {
        procfs::check_path(&plan.destination, false)?;
        let place = self.ordinary_directory(&plan.destination, "cgroup")?;
        let place = self.check_place(&plan.destination, place)?;
        let attrs = plan.options.attrs;
        let mount = match plan.opened.take() {
            Some(tree) => {
                self.cut_off(&tree)?;
                tree::set_attrs(tree.as_fd(), false, attrs)?;
                tree
            }
            None if self.private_cgroup => tree::new_filesystem("cgroup2", "cgroup", [], attrs.set)?,
            None => {
                return Err(Error::new(Kind::Invalid, "the container has no cgroup to show")
                    .with_hint("leave the mount out, or give the container a cgroup namespace"));
            }
        };
        tree::set_attrs(mount.as_fd(), true, plan.options.recursive)?;
        attach(&mount, &place)?;
        propagate(&mount, &plan.options)?;
        Ok(mount)
    }

    /// A directory that no symlink leads to: proc and sysfs elsewhere would let an image choose what later writes to
    /// `/proc` reach (CVE-2023-27561).
    fn ordinary_directory(&self, destination: &Path, kind: &str) -> Result<path::Place> {
        let made = match self.root.resolve_plain(destination) {
            Ok(fd) if path::is_directory(&fd)? => return Ok(path::Place { fd, made: false }),
            Err(e) if e.errno() == Errno::ENOENT => self.root.directory(destination)?.made,
            Ok(_) => return Err(not_ordinary(kind)),
            Err(e) if matches!(e.errno(), Errno::ELOOP | Errno::ENOTDIR) => return Err(not_ordinary(kind)),
            Err(e) => return Err(e.into()),
        };
        // Asked again: between the two calls someone may have put a link there.
        match self.root.resolve_plain(destination) {
            Ok(fd) if path::is_directory(&fd)? => Ok(path::Place { fd, made }),
            _ => Err(not_ordinary(kind)),
        }
    }
}

/// The file system that is to be attached to `place`.
fn new_filesystem(kind: &str, source: &str, data: &[String], attrs: u64, place: &path::Place) -> Result<OwnedFd> {
    if tree::has_long_value(data) {
        return tree::new_filesystem_by_mount(kind, source, data, attrs, &place.fd);
    }
    tree::new_filesystem(kind, source, data.iter().map(String::as_str), attrs)
}

/// Attaches a mount to its place, which must be of its kind.
fn attach(mount: &OwnedFd, place: &path::Place) -> Result<()> {
    tree::attach(mount, &place.fd).map_err(|e| match (e.errno(), path::is_directory(mount)) {
        (Errno::ENOTDIR, Ok(true)) => Error::from(e).context("a directory can't be mounted on a file"),
        (Errno::ENOTDIR, Ok(false)) => Error::from(e).context("a file can't be mounted on a directory"),
        _ => e.into(),
    })
}

fn is(error: &Error, errno: Errno) -> bool {
    error.sys().is_some_and(|e| e.errno() == errno)
}

fn not_ordinary(kind: &str) -> Error {
    Error::new(Kind::Invalid, format!("filesystem {kind:?} must be mounted on ordinary directory"))
}

/// Gives the root of a file system that takes no label as an option its SELinux label, as runc does.
fn set_label(mount: &OwnedFd, label: &str) -> Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::openat(mount, ".", flags, Mode::empty()).call("openat", ".")?;
    match rustix::fs::fsetxattr(&root, "security.selinux", label.as_bytes(), XattrFlags::empty()) {
        Err(rustix::io::Errno::OPNOTSUPP) => Ok(()),
        other => Ok(other.call("fsetxattr", format_args!("security.selinux, {label}"))?),
    }
}

fn propagate(mount: &OwnedFd, options: &MountOptions) -> Result<()> {
    for (kind, recursive) in &options.propagation {
        tree::set_propagation(mount.as_fd(), *recursive, *kind)?;
    }
    Ok(())
}
