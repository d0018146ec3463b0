//! All that the new process needs, made by the parent before the clone: the child only does what stands here.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use oci_spec::runtime::{Hook, Linux, LinuxMemoryPolicy, LinuxPersonality, Mount, Process, Spec, User};
use rtc_sys::clone::flags;
use rtc_sys::mount::attr;

use crate::bundle::Bundle;
use crate::capabilities::Sets;
use crate::cgroup::{Cgroup, Hierarchy};
use crate::error::{Context, Error, Kind, Result};
use crate::idmap::IdMaps;
use crate::lsm;
use crate::namespaces::Namespaces;
use crate::options::CreateOptions;
use crate::proc::Proc;
use crate::rootfs::device::{self, Device};
use crate::rootfs::mount::{BindSource, MountKind, MountPlan};
use crate::rootfs::options::{Bind, Idmap, MountOptions, propagation_type};
use crate::rootfs::pivot::RootPlan;
use crate::rootfs::tree;
use crate::seccomp::{self, Filter};
use crate::spec::annotations;

/// What the process is to be, whether the container's first or a later one.
#[derive(Debug)]
pub(crate) struct ProcessPlan {
    /// `process` of config.json or process.json.
    pub(crate) process: Process,
    pub(crate) capabilities: Sets,
    pub(crate) filter: Option<Filter>,
    /// `linux.memoryPolicy`.
    pub(crate) memory_policy: Option<LinuxMemoryPolicy>,
    /// `linux.personality`.
    pub(crate) personality: Option<LinuxPersonality>,
    /// Descriptors from 3 up that stay open.
    pub(crate) preserve_fds: u32,
    /// The caller's supplementary groups stay.
    pub(crate) keep_groups: bool,
    /// `LISTEN_FDS` of the caller, when it is meant for this process.
    pub(crate) listen_fds: u32,
    /// The CPUs for the program, by `execCPUAffinity.final`; `None`: all that the cgroup allows.
    pub(crate) affinity: Option<String>,
    /// Hooks that the process runs itself, right before its program.
    pub(crate) start_hooks: Option<Vec<Hook>>,
}

/// What the container's first process does on the way.
#[derive(Debug)]
pub(crate) struct InitPlan {
    pub(crate) id: String,
    pub(crate) spec: Rc<Spec>,
    pub(crate) namespaces: Namespaces,
    pub(crate) id_maps: IdMaps,
    pub(crate) root: RootPlan,
    /// The root file system, a detached clone; taken by the child.
    pub(crate) tree: Option<OwnedFd>,
    pub(crate) mounts: Vec<MountPlan>,
    /// The option for `linux.mountLabel`, where the kernel has SELinux.
    pub(crate) mount_label: Option<String>,
    pub(crate) devices: Vec<Device>,
    /// config.json binds its own `/dev`: nothing is made in it.
    pub(crate) foreign_dev: bool,
    pub(crate) no_pivot: bool,
    pub(crate) new_keyring: bool,
}

impl ProcessPlan {
    /// From a process object and the container's configuration.
    pub(crate) fn new(process: Process, linux: Option<&Linux>, preserve_fds: u32) -> Result<Self> {
        let filter = match linux.and_then(|linux| linux.seccomp().as_ref()) {
            Some(seccomp) => Some(seccomp::compile(seccomp).context(|| "linux.seccomp")?),
            None => None,
        };
        if let Some(filter) = &filter {
            log::debug!("seccomp filter flags: {}", filter.flags());
        }
        Ok(Self {
            capabilities: Sets::new(process.capabilities().as_ref()),
            filter,
            memory_policy: linux.and_then(|linux| linux.memory_policy().clone()),
            personality: linux.and_then(|linux| linux.personality().clone()),
            keep_groups: false,
            preserve_fds,
            listen_fds: listen_fds(),
            start_hooks: None,
            affinity: None,
            process,
        })
    }

    /// The user.
    pub(crate) fn user(&self) -> &User {
        self.process.user()
    }
}

/// How many descriptors the caller passes to this very process by systemd's protocol (sd_listen_fds(3)).
///
/// A caller that names no process means the one that it executes, as crun takes it.
pub(crate) fn listen_fds() -> u32 {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
    match number("LISTEN_PID") {
        Some(pid) if pid != std::process::id() => 0,
        _ => number("LISTEN_FDS").unwrap_or(0),
    }
}

impl InitPlan {
    /// From a bundle and the caller's options.
    pub(crate) fn new(bundle: &Bundle, options: &CreateOptions, cgroup: Option<&Cgroup>, proc: &Proc) -> Result<Self> {
        let spec = &bundle.spec;
        let linux = spec.linux().as_ref().ok_or_else(|| Error::new(Kind::Invalid, "config.json: linux is missing"))?;
        let mut namespaces = Namespaces::plan(linux);
        if bundle.entered_by.is_some() {
            namespaces.user_is_entered();
        }
        let list = |maps: &Option<Vec<_>>| maps.clone().unwrap_or_default();
        let id_maps = IdMaps::new(&list(linux.uid_mappings()), &list(linux.gid_mappings()));
        let mounts = mounts(bundle, &namespaces, &id_maps, cgroup, proc)?;
        let is_dev = |mount: &MountPlan| mount.destination == Path::new("/dev");
        Ok(Self {
            id: options.id.clone(),
            root: RootPlan {
                propagation: linux.rootfs_propagation().as_deref().and_then(propagation_type),
                rootfs: bundle.rootfs.clone(),
            },
            tree: Some(tree::clone_path(&bundle.rootfs, Bind::Recursive).context(|| "root file system")?),
            foreign_dev: mounts.iter().any(|mount| is_dev(mount) && matches!(mount.kind, MountKind::Bind(_))),
            mounts,
            mount_label: linux
                .mount_label()
                .as_deref()
                .filter(|label| !label.is_empty() && lsm::has_selinux(proc))
                .map(|label| annotations::label_option(spec, label)),
            devices: device::plan(linux.devices().as_deref().unwrap_or_default()),
            namespaces,
            id_maps,
            no_pivot: options.no_pivot,
            new_keyring: !options.no_new_keyring,
            spec: Rc::clone(&bundle.spec),
        })
    }

    /// `linux` of config.json.
    pub(crate) fn linux(&self) -> Option<&Linux> {
        self.spec.linux().as_ref()
    }
}

fn mounts(
    bundle: &Bundle,
    namespaces: &Namespaces,
    id_maps: &IdMaps,
    cgroup: Option<&Cgroup>,
    proc: &Proc,
) -> Result<Vec<MountPlan>> {
    let opener = Opener { namespaces, id_maps, cgroup, proc };
    let mut plans = Vec::new();
    for mount in bundle.spec.mounts().iter().flatten() {
        let plan = opener
            .plan(mount, &bundle.dir, &bundle.rootfs)
            .context(|| format!("mount {}", mount.destination().display()))?;
        plans.push(plan);
    }
    Ok(plans)
}

/// Plans mounts, and opens those sources that the child couldn't.
struct Opener<'a> {
    namespaces: &'a Namespaces,
    id_maps: &'a IdMaps,
    cgroup: Option<&'a Cgroup>,
    proc: &'a Proc,
}

impl Opener<'_> {
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
        Ok(MountPlan { destination: destination(mount), kind, options, opened, ids })
    }

    /// Opens the source where the child couldn't, or couldn't map its ids.
    fn open(&self, kind: &MountKind, options: &MountOptions, idmapped: bool) -> Result<Option<OwnedFd>> {
        match kind {
            MountKind::Bind(BindSource::Host(source)) if idmapped || self.namespaces.has_user() => {
                Ok(Some(tree::clone_source(source, options.bind.unwrap_or(Bind::One), !options.source_nofollow)?))
            }
            MountKind::Cgroup if !self.namespaces.has(flags::NEWCGROUP) => match self.cgroup {
                Some(cgroup) => Ok(Some(tree::clone_fd(cgroup.dirfd(), Bind::One)?)),
                None => {
                    let own = Hierarchy::find()?.open_of(i32::try_from(std::process::id()).unwrap_or(0))?;
                    Ok(Some(tree::clone_fd(own.dirfd(), Bind::One)?))
                }
            },
            _ => Ok(None),
        }
    }

    /// A user namespace with the mount's own mapping, or that of the container's.
    fn ids(&self, mount: &Mount, options: &MountOptions) -> Result<Option<OwnedFd>> {
        let own = match &options.idmap_text {
            Some(text) => IdMaps::from_option(text)?,
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

/// The destination from the container's root on.
fn destination(mount: &Mount) -> PathBuf {
    Path::new("/").join(mount.destination()).components().filter(|part| *part != Component::CurDir).collect()
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
    fn sources_are_found_relative_to_the_bundle_or_in_the_root() {
        let find = |source: &str| bind_source(Path::new(source), Path::new("/b"), Path::new("/b/rootfs")).unwrap();
        assert_eq!(find("data"), BindSource::Host("/b/data".into()));
        assert_eq!(find("/etc/hosts"), BindSource::Host("/etc/hosts".into()));
        assert_eq!(find("/b/rootfs/var/x"), BindSource::Root("/var/x".into()));
        assert_eq!(find("/b/rootfs/../x"), BindSource::Host("/b/rootfs/../x".into()));
        assert!(bind_source(Path::new(""), Path::new("/b"), Path::new("/b/rootfs")).is_err());
    }
}
