//! The mounts of a configuration as plans, with those sources opened that whoever mounts couldn't open.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::Mount;
use rtc_sys::CallExt;
use rtc_sys::clone::flags;
use rtc_sys::mount::{attr, propagation};

use crate::cgroup::{Cgroup, Hierarchy};
use crate::error::{Context, Error, Kind, Result};
use crate::idmap::IdMaps;
use crate::namespaces::Namespaces;
use crate::proc::Proc;
use crate::rootfs::mount::{BindSource, MountKind, MountPlan};
use crate::rootfs::options::{Attrs, Bind, Idmap, MountOptions};
use crate::rootfs::tree;

/// Plans mounts, and opens those sources that the child couldn't.
pub(crate) struct Opener<'a> {
    pub(crate) namespaces: &'a Namespaces,
    pub(crate) id_maps: &'a IdMaps,
    pub(crate) cgroup: Option<&'a Cgroup>,
    pub(crate) proc: &'a Proc,
    /// Who mounts sees nothing of the host: every source of its is opened here.
    pub(crate) from_outside: bool,
    /// What the host's mounts become for the container ([`of_the_hosts_mounts`](crate::rootfs::pivot::of_the_hosts_mounts)).
    pub(crate) propagation: u64,
}

impl Opener<'_> {
    /// Plans a list of mounts. Relative sources count from `bundle`.
    pub(crate) fn all(&self, mounts: &[Mount], bundle: &Path, rootfs: &Path) -> Result<Vec<MountPlan>> {
        let mut plans: Vec<MountPlan> = Vec::with_capacity(mounts.len());
        for mount in mounts {
            let plan = self.plan(mount, bundle, rootfs);
            let plan = plan.context(|| format!("mount {}", mount.destination().display()))?;
            let below = |earlier: &&mut MountPlan| {
                plan.destination != earlier.destination && plan.destination.starts_with(&earlier.destination)
            };
            plans.iter_mut().filter(below).for_each(|earlier| earlier.holds_others = true);
            plans.push(plan);
        }
        Ok(plans)
    }

    fn plan(&self, mount: &Mount, bundle: &Path, rootfs: &Path) -> Result<MountPlan> {
        let mut options = MountOptions::parse(mount.options().as_deref().unwrap_or_default());
        let typ = mount.typ().as_deref().unwrap_or_default();
        let source = mount.source().clone().unwrap_or_default();
        if options.copy_symlink {
            if let Some(target) = symlink_target(&bundle.join(&source)) {
                let destination = destination(mount);
                return Ok(MountPlan {
                    destination,
                    kind: MountKind::Symlink(target),
                    options,
                    opened: None,
                    ids: None,
                    holds_others: false,
                });
            }
        }
        let kind = if typ == "bind" || options.bind.is_some() {
            options.bind = options.bind.or(Some(Bind::One));
            MountKind::Bind(bind_source(&source, bundle, rootfs)?)
        } else if typ == "cgroup" || typ == "cgroup2" {
            MountKind::Cgroup
        } else if typ.is_empty() {
            return Err(Error::new(Kind::Invalid, "the mount has no type and is no bind mount"));
        } else {
            let source = source.to_str().filter(|source| !source.is_empty()).unwrap_or(typ).to_owned();
            MountKind::Filesystem { kind: typ.to_owned(), source }
        };
        if kind == MountKind::Cgroup && self.cgroup.is_none() && !self.namespaces.has(flags::NEWCGROUP) {
            // What it can show is the caller's, and not the container's to change (CVE-2023-25809).
            options.attrs.set |= attr::RDONLY;
            options.attrs.clear &= !attr::RDONLY;
        }
        let ids = self.ids(mount, &options)?;
        let opened = self.open(&kind, &options, ids.is_some())?;
        if let (Some(opened), Some(ids)) = (&opened, &ids) {
            tree::set_idmap(opened.as_fd(), options.idmap == Some(Idmap::Recursive), ids.as_fd())?;
        }
        let ids = if opened.is_some() { None } else { ids };
        Ok(MountPlan { destination: destination(mount), kind, options, opened, ids, holds_others: false })
    }

    /// Opens the source where the child couldn't, or couldn't map its ids.
    ///
    /// A clone of a shared mount is its peer, and what the container mounts or unmounts below it would be so on the
    /// host: it gets the type that the child gives to its copy of the host's mounts.
    fn open(&self, kind: &MountKind, options: &MountOptions, idmapped: bool) -> Result<Option<OwnedFd>> {
        let tree = self.clone_source(kind, options, idmapped)?;
        match &tree {
            Some(tree) if self.propagation != propagation::SHARED => {
                tree::set_propagation(tree.as_fd(), true, self.propagation)?;
            }
            _ => {}
        }
        Ok(tree)
    }

    fn clone_source(&self, kind: &MountKind, options: &MountOptions, idmapped: bool) -> Result<Option<OwnedFd>> {
        match kind {
            MountKind::Bind(BindSource::Host(source))
                if idmapped || self.from_outside || self.namespaces.has_user() =>
            {
                let tree = tree::clone_source(source, options.bind.unwrap_or(Bind::One), !options.source_nofollow)?;
                if self.namespaces.has_user() {
                    locked(&tree, options.attrs)?;
                    locked(&tree, options.recursive)?;
                }
                Ok(Some(tree))
            }
            MountKind::Cgroup if !self.namespaces.has(flags::NEWCGROUP) => self.hierarchy().map(Some),
            _ => Ok(None),
        }
    }

    /// What a container without a cgroup namespace sees of the hierarchy: all of it, for /proc/PID/cgroup has paths from
    /// its root; in a user namespace its own cgroup alone, as rootless containers are each other's owners
    /// (CVE-2023-25809).
    ///
    /// It is no new mount: one made in the host's cgroup namespace takes nsdelegate and the like from all others
    /// (kernel/cgroup/cgroup.c, `apply_cgroup_root_flags`).
    fn hierarchy(&self) -> Result<OwnedFd> {
        let hierarchy = Hierarchy::find()?;
        if !self.namespaces.has_user() {
            return Ok(tree::clone_path(hierarchy.mountpoint(), Bind::One)?);
        }
        match self.cgroup {
            Some(cgroup) => Ok(tree::clone_fd(cgroup.dirfd(), Bind::One)?),
            None => {
                let own = hierarchy.open_of(i32::try_from(std::process::id()).unwrap_or(0))?;
                Ok(tree::clone_fd(own.dirfd(), Bind::One)?)
            }
        }
    }

    /// A user namespace with the mount's own mapping, or that of the container's.
    fn ids(&self, mount: &Mount, options: &MountOptions) -> Result<Option<OwnedFd>> {
        let own = match &options.idmap_text {
            Some(text) => IdMaps::from_option(text, self.id_maps)?,
            None => IdMaps::new(
                mount.uid_mappings().as_deref().unwrap_or_default(),
                mount.gid_mappings().as_deref().unwrap_or_default(),
            ),
        };
        if options.idmap.is_none() && own.is_empty() {
            return Ok(None);
        }
        if options.bind.is_none() {
            return Err(Error::new(Kind::Invalid, "only a bind mount can have id mappings"));
        }
        let maps = if own.is_empty() { self.id_maps } else { &own };
        match &self.namespaces.join_user {
            _ if !maps.is_empty() => maps.user_namespace(self.proc).map(Some),
            Some(path) => crate::namespaces::open_namespace(path).map(Some),
            None => Err(Error::new(Kind::Invalid, "an id-mapped mount needs uidMappings and gidMappings")),
        }
    }
}

/// What restricts a mount of the host stays so for who has another root than the host's (mount_namespaces(7),
/// "Restrictions on mount namespaces"): an option that says otherwise is an error, and not left out.
fn locked(tree: &OwnedFd, attrs: Attrs) -> Result<()> {
    use rustix::fs::StatVfsMountFlags as F;
    let has = rustix::fs::fstatvfs(tree).call("fstatvfs", "the source")?.f_flag;
    let flags = [
        (attr::RDONLY, F::RDONLY, "ro"),
        (attr::NOSUID, F::NOSUID, "nosuid"),
        (attr::NODEV, F::NODEV, "nodev"),
        (attr::NOEXEC, F::NOEXEC, "noexec"),
    ];
    for (bit, flag, name) in flags {
        if attrs.clear & bit != 0 && has.contains(flag) {
            let message = format!("operation not permitted: the source is mounted with {name}");
            return Err(Error::new(Kind::Invalid, message)
                .with_hint("a container with a user namespace can't take that off: leave the option out"));
        }
    }
    Ok(())
}

/// The destination from the container's root on.
fn destination(mount: &Mount) -> PathBuf {
    Path::new("/").join(mount.destination()).components().filter(|part| *part != Component::CurDir).collect()
}

/// Brings mounts into the order that a saved container's had, as far as one would hide another otherwise: what was
/// mounted below another comes after that.
pub(crate) fn nest(mounts: &mut Vec<Mount>, saved: &[PathBuf]) {
    let place = |path: &Path| saved.iter().position(|at| at == path);
    let mut rest: Vec<Mount> = std::mem::take(mounts);
    while !rest.is_empty() {
        let holds = |upper: &Mount, lower: &Mount| {
            let (upper, lower) = (destination(upper), destination(lower));
            upper != lower && lower.starts_with(&upper) && place(&upper).is_some() && place(&upper) < place(&lower)
        };
        // The first that nobody later holds; the order of paths has no circles.
        let next = (0..rest.len()).find(|&i| !rest[i + 1..].iter().any(|later| holds(later, &rest[i])));
        mounts.push(rest.remove(next.unwrap_or(0)));
    }
}

/// What a symlink says; `None` for anything else.
fn symlink_target(source: &Path) -> Option<PathBuf> {
    std::fs::read_link(source).ok()
}

/// Where a bind mount's source is. One below the root file system is looked up in the container's root, where mounts
/// done before it are seen.
fn bind_source(source: &Path, bundle: &Path, rootfs: &Path) -> Result<BindSource> {
    if source.as_os_str().is_empty() {
        return Err(Error::new(Kind::Invalid, "the bind mount has no source"));
    }
    let source = bundle.join(source);
    Ok(match source.strip_prefix(rootfs) {
        Ok(inside) if rootfs != Path::new("/") && !inside.components().any(|part| part == Component::ParentDir) => {
            BindSource::Root(Path::new("/").join(inside))
        }
        _ => BindSource::Host(source),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_below_another_mount_comes_after_it() {
        let nested = |config: &[&str], saved: &[&str]| {
            let mount = |path: &&str| {
                let mut mount = Mount::default();
                mount.set_destination(path.into());
                mount
            };
            let mut mounts: Vec<Mount> = config.iter().map(mount).collect();
            nest(&mut mounts, &saved.iter().map(PathBuf::from).collect::<Vec<_>>());
            mounts.iter().map(|mount| mount.destination().display().to_string()).collect::<Vec<_>>().join(" ")
        };
        let config = ["/proc", "/run/s/word", "/a", "/run/s", "/run", "/a/b"];
        let saved = ["/run", "/run/s", "/a", "/a/b", "/proc", "/run/s/word"];
        assert_eq!(nested(&config, &saved), "/proc /a /run /run/s /run/s/word /a/b");
        // It was hidden then, and is again; nothing is known of it.
        assert_eq!(nested(&["/x/y", "/x"], &["/x/y", "/x"]), "/x/y /x");
        assert_eq!(nested(&["/x/y", "/x"], &["/x/y"]), "/x/y /x");
    }

    #[test]
    fn sources_are_found_relative_to_the_bundle_or_in_the_root() {
        let find = |source: &str| bind_source(Path::new(source), Path::new("/b"), Path::new("/b/rootfs")).unwrap();
        assert_eq!(find("data"), BindSource::Host("/b/data".into()));
        assert_eq!(find("/etc/hosts"), BindSource::Host("/etc/hosts".into()));
        assert_eq!(find("/b/rootfs/var/x"), BindSource::Root("/var/x".into()));
        assert_eq!(find("/b/rootfs/../x"), BindSource::Host("/b/rootfs/../x".into()));
        assert!(bind_source(Path::new(""), Path::new("/b"), Path::new("/b/rootfs")).is_err());
    }
}
