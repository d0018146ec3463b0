//! What the managers of cgroups do differently: making one, changing its limits, removing it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use oci_spec::runtime::LinuxResources;

use super::create::descend;
use super::holder::Holder;
use super::systemd::{self, Manager};
use super::{Cgroup, CgroupManager, Hierarchy, Placement, Scope, devices, limits};
use crate::{Error, Kind, Result};

/// What a container's cgroup is to be, besides where.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The container.
    pub id: &'a str,
    /// Its limits.
    pub resources: Option<&'a LinuxResources>,
    /// config.json's annotations.
    pub annotations: &'a HashMap<String, String>,
}

/// A cgroup that was made for a container.
#[derive(Debug)]
pub struct Made {
    /// Where limits, device rules and the freezer act.
    pub cgroup: Cgroup,
    /// Where the container lives, if that is below.
    pub home: Option<Cgroup>,
    /// Keeps it until the container is there.
    holder: Option<Holder>,
}

impl Made {
    /// Lets go: the container's own process keeps the cgroup from now on.
    pub fn release(&mut self) {
        self.holder = None;
    }

    /// Where the container's first process is to be born.
    pub fn home(&self) -> &Cgroup {
        self.home.as_ref().unwrap_or(&self.cgroup)
    }
}

impl Placement {
    /// Takes from annotations what they say about the place: `run.oci.systemd.subgroup`, as in crun.
    ///
    /// # Errors
    /// `Kind::Invalid` for a path that leads out of the scope.
    pub fn annotate(&mut self, annotations: &HashMap<String, String>) -> Result<()> {
        const KEY: &str = "run.oci.systemd.subgroup";
        let (Some(scope), Some(below)) = (&mut self.scope, annotations.get(KEY)) else { return Ok(()) };
        let below = Path::new(below);
        if below.components().any(|part| part == std::path::Component::ParentDir) {
            return Err(Error::new(Kind::Invalid, format!("annotation {KEY}: {below:?} leads out of the scope")));
        }
        let path: PathBuf =
            super::placement::normalize(below).strip_prefix("/").map(Path::to_owned).unwrap_or_default();
        scope.below = (!path.as_os_str().is_empty()).then_some(path);
        Ok(())
    }

    /// Makes the cgroup, empty but for what keeps it.
    ///
    /// systemd's answer says where it is, so `path` may be another afterwards.
    ///
    /// # Errors
    /// [`Hierarchy::create`]'s, or systemd's.
    pub fn make(&mut self, wanted: Wanted<'_>) -> Result<Made> {
        match self.scope.clone() {
            None => Ok(Made { cgroup: Hierarchy::find()?.create(self)?, home: None, holder: None }),
            Some(scope) => self.make_scope(&scope, wanted),
        }
    }

    fn make_scope(&mut self, scope: &Scope, wanted: Wanted<'_>) -> Result<Made> {
        let hierarchy = Hierarchy::find()?;
        let mut holder = Holder::start(None)?;
        let mut properties = systemd::base(scope, wanted.id, holder.pid.unsigned_abs());
        if let Some(resources) = wanted.resources {
            properties.extend(systemd::limits(&limits::plan(resources)?, &|_| None));
        }
        if !scope.user {
            let rules = wanted.resources.and_then(|resources| resources.devices().as_deref()).unwrap_or_default();
            properties.extend(systemd::device_rules(&devices::rule::rules(rules)?));
        }
        // Behind ours: the last word is config.json's.
        properties.extend(systemd::from_annotations(wanted.annotations)?);
        Manager::connect(scope.user)?.start(&scope.unit, properties)?;
        let cgroup = hierarchy.open_of(holder.pid)?;
        self.path = cgroup.path().to_owned();
        if cgroup.path().file_name() != Some(scope.unit.as_ref()) {
            let message = format!("{} was made, but its process is in {}", scope.unit, cgroup.path().display());
            return Err(Error::new(Kind::System, message));
        }
        if let Some(below) = &scope.below {
            let home = descend(&cgroup, below)?;
            // Only a cgroup without processes hands controllers down, and only one with some lives.
            holder = Holder::start(Some(&home))?;
            descend(&cgroup, below)?;
            return Ok(Made { cgroup, home: Some(home), holder: Some(holder) });
        }
        Ok(Made { cgroup, home: None, holder: Some(holder) })
    }

    /// Opens the cgroup that the container lives in; `None` when it is gone.
    ///
    /// # Errors
    /// It can't be reached or opened.
    pub fn open_home(&self, hierarchy: &Hierarchy) -> Result<Option<Cgroup>> {
        match self.scope.as_ref().and_then(|scope| scope.below.as_ref()) {
            Some(below) => hierarchy.open_path(&self.path.join(below)),
            None => hierarchy.open(self),
        }
    }

    /// Sets new limits, so that the manager knows them too.
    ///
    /// # Errors
    /// As [`Cgroup::apply`]; systemd's own.
    pub fn update(&self, cgroup: &Cgroup, resources: &LinuxResources) -> Result<()> {
        let Some(scope) = &self.scope else { return cgroup.apply(resources) };
        let mut plan = limits::plan(resources)?;
        // Refused before systemd has heard of any.
        cgroup.check(&plan, resources)?;
        drop_weight_of_idle(&mut plan);
        let current = |file: &str| cgroup.read_optional(file).ok().flatten();
        let properties = systemd::limits(&plan, &current);
        if !properties.is_empty() {
            Manager::connect(scope.user)?.set(&scope.unit, properties)?;
        }
        // What systemd has no property for, or only a rounded one.
        cgroup.carry_out(&plan)
    }

    /// Removes the cgroup, in which only dying processes may be left.
    ///
    /// # Errors
    /// As [`Cgroup::remove`]; systemd's own.
    pub fn remove(&self, cgroup: Option<Cgroup>, timeout: Duration) -> Result<()> {
        let Some(scope) = &self.scope else { return cgroup.map_or(Ok(()), |cgroup| cgroup.remove(timeout)) };
        // Stopping waits for processes, and systemd's own removal doesn't reach below what it doesn't know.
        let removed = cgroup.map_or(Ok(()), |cgroup| cgroup.wait_empty(timeout).and_then(|()| cgroup.remove(timeout)));
        Manager::connect(scope.user)?.stop(&scope.unit)?;
        removed
    }
}

/// systemd has one property for weight and idleness, and the kernel refuses a weight to an idle cgroup.
fn drop_weight_of_idle(plan: &mut Vec<limits::Setting>) {
    let has = |plan: &[limits::Setting], file: &str, value: Option<&str>| {
        plan.iter().flat_map(|setting| &setting.files).any(|(name, wanted)| {
            name == file && value.is_none_or(|value| *wanted == limits::Value::Text(value.to_owned()))
        })
    };
    if has(plan, "cpu.idle", Some("1")) && has(plan, "cpu.weight", None) {
        log::warn!("unable to apply both cpu.idle and a weight (cpu.shares, cpu.weight): the weight is left out");
        plan.retain(|setting| setting.files.iter().all(|(file, _)| file != "cpu.weight"));
    }
}

impl CgroupManager {
    /// As `--cgroup-manager` names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cgroupfs => "cgroupfs",
            Self::Systemd => "systemd",
            Self::Disabled => "disabled",
        }
    }
}
