//! All that the new process needs, made by the parent before the clone: the child only does what stands here.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use oci_spec::runtime::{Hook, Linux, LinuxIdMapping, LinuxMemoryPolicy, LinuxPersonality, Process, Spec, User};

use rtc_sys::clone::flags;

use super::mounts::Opener;
use crate::bundle::Bundle;
use crate::capabilities::Sets;
use crate::cgroup::Cgroup;
use crate::error::{Context, Error, Kind, Result};
use crate::hooks::{self, Outputs};
use crate::idmap::IdMaps;
use crate::lsm;
use crate::namespaces::Namespaces;
use crate::options::CreateOptions;
use crate::proc::Proc;
use crate::rootfs::device::{self, Device};
use crate::rootfs::mount::{MountKind, MountPlan};
use crate::rootfs::options::{Bind, propagation_type};
use crate::rootfs::pivot::{self, RootPlan};
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
    /// Where what those write goes.
    pub(crate) hook_outputs: Outputs,
}

/// What the container's first process does on the way.
#[derive(Debug)]
pub(crate) struct InitPlan {
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
    /// The name of the session keyring that it gets.
    pub(crate) keyring: Option<String>,
}

impl ProcessPlan {
    /// From a process object and the container's configuration.
    pub(crate) fn new(process: Process, linux: Option<&Linux>, preserve_fds: u32, proc: &Proc) -> Result<Self> {
        lsm::check(proc, &process)?;
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
            hook_outputs: Outputs::default(),
            affinity: None,
            process,
        })
    }

    /// Heeds what annotations say about processes.
    pub(crate) fn heed(&mut self, spec: &Spec) -> Result<()> {
        self.keep_groups = annotations::keeps_groups(spec);
        if let Some(filter) = annotations::filter(spec)? {
            self.filter = Some(filter);
        }
        Ok(())
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
    ///
    /// `anchor` is where the root goes in a container without a mount namespace of its own.
    pub(crate) fn new(
        bundle: &Bundle,
        options: &CreateOptions,
        cgroup: Option<&Cgroup>,
        proc: &Proc,
        anchor: Option<PathBuf>,
    ) -> Result<Self> {
        let spec = &bundle.spec;
        let linux = spec.linux().as_ref().ok_or_else(|| Error::new(Kind::Invalid, "config.json: linux is missing"))?;
        let mut namespaces = Namespaces::plan(linux);
        if bundle.entered_by.is_some() {
            namespaces.user_is_entered();
        }
        let list = |maps: &Option<Vec<_>>| maps.clone().unwrap_or_default();
        let id_maps = IdMaps::new(&list(linux.uid_mappings()), &list(linux.gid_mappings()));
        let propagation = linux.rootfs_propagation().as_deref().and_then(propagation_type);
        let opener = Opener {
            namespaces: &namespaces,
            id_maps: &id_maps,
            cgroup,
            proc,
            from_outside: false,
            propagation: pivot::of_the_hosts_mounts(propagation, namespaces.has_user()),
        };
        let mounts = opener.all(spec.mounts().as_deref().unwrap_or_default(), &bundle.dir, &bundle.rootfs)?;
        let is_dev = |mount: &MountPlan| mount.destination == Path::new("/dev");
        Ok(Self {
            root: RootPlan {
                propagation,
                rootfs: bundle.rootfs.clone(),
                anchor,
                own_place: spec.hooks().as_ref().is_some_and(hooks::before_the_pivot),
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
            keyring: None,
            spec: Rc::clone(&bundle.spec),
        })
    }

    /// Who gets the cgroup: the container's root, where that is a user of its own, sees only this cgroup, and has it
    /// mounted for writing.
    pub(super) fn owner_of_cgroup(&self) -> Option<(u32, u32)> {
        let own = flags::NEWUSER | flags::NEWCGROUP;
        if self.namespaces.new & own != own || !self.mounts.iter().any(MountPlan::is_writable_cgroup) {
            return None;
        }
        let root_of = |maps: Option<&Vec<LinuxIdMapping>>| {
            maps.into_iter().flatten().find(|map| map.container_id() == 0).map(LinuxIdMapping::host_id)
        };
        let linux = self.linux()?;
        root_of(linux.uid_mappings().as_ref()).zip(root_of(linux.gid_mappings().as_ref()))
    }

    /// `linux` of config.json.
    pub(crate) fn linux(&self) -> Option<&Linux> {
        self.spec.linux().as_ref()
    }
}
