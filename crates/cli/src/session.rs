//! What the global flags mean for every command.

use std::path::PathBuf;

use rtc_runtime::{CgroupManager, Container, Host};

use crate::global::{Global, Manager, Rootless};

/// The host of this call.
pub(crate) struct Session {
    /// Where containers are kept, and who makes their cgroups.
    pub(crate) host: Host,
    /// `--root` was given.
    pub(crate) root_given: bool,
}

impl Session {
    /// The meaning of the global flags. The last word on cgroups has `--cgroup-manager`.
    pub(crate) fn new(global: &Global) -> Self {
        let cgroup_manager = match global.cgroup_manager {
            Some(Manager::Cgroupfs) => CgroupManager::Cgroupfs,
            Some(Manager::Systemd) => CgroupManager::Systemd,
            Some(Manager::Disabled) => CgroupManager::Disabled,
            None if global.systemd_cgroup => CgroupManager::Systemd,
            None => CgroupManager::default(),
        };
        let default = Host::default();
        let rootless = match global.rootless {
            Rootless::True => true,
            Rootless::False => false,
            Rootless::Auto => default.rootless,
        };
        let root: Option<PathBuf> = global.root.clone().filter(|root| !root.as_os_str().is_empty());
        let root_given = root.is_some();
        Self { root_given, host: Host { root: root.unwrap_or(default.root), cgroup_manager, rootless } }
    }

    /// Refuses what a user can't do, before anything is touched: looking into all of a process, choosing pids.
    ///
    /// # Errors
    /// The caller is an ordinary user, or root of a user's namespace.
    pub(crate) fn require_root(&self, what: &str) -> anyhow::Result<()> {
        if self.host.rootless {
            anyhow::bail!("{what} needs the machine's root, and not that of a user namespace: call it as root");
        }
        Ok(())
    }

    /// The container named `id`.
    ///
    /// # Errors
    /// "container does not exist", or its state can't be read.
    pub(crate) fn container(&self, id: &str) -> rtc_runtime::Result<Container> {
        self.host.load(id)
    }

    /// The containers whose names a regular expression matches, sorted by name.
    ///
    /// # Errors
    /// It is no such expression, or a state can't be read.
    pub(crate) fn matching(&self, expression: &str) -> anyhow::Result<Vec<Container>> {
        let expression = rtc_sys::regex::Regex::new(expression)?;
        if !self.host.root.exists() {
            return Ok(Vec::new());
        }
        Ok(self.host.list()?.into_iter().filter(|container| expression.matches(container.id())).collect())
    }
}
