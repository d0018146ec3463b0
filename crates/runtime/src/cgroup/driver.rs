//! What the managers of cgroups do differently: making one, changing its limits, removing it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use oci_spec::runtime::LinuxResources;

use super::create::{Controllers, descend};
use super::holder::Holder;
use super::systemd::{self, Manager};
use super::{Cgroup, CgroupManager, Hierarchy, Placement, Scope, devices, limits};
use crate::dbus::Value;
use crate::{Error, Kind, Result};

/// How many processes may live in a scope while a container is made: what holds it, and those that lead to init.
const TASKS_AT_START: u64 = 4;

/// What a container's cgroup is to be, besides where.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The container.
    pub id: &'a str,
    /// Its limits.
    pub resources: Option<&'a LinuxResources>,
    /// config.json's annotations.
    pub annotations: Option<&'a HashMap<String, String>>,
    /// The caller is an ordinary user.
    pub rootless: bool,
}

/// A cgroup that was made for a container.
#[derive(Debug)]
pub struct Made {
    /// Where limits, device rules and the freezer act.
    pub cgroup: Cgroup,
    /// Where the container lives, if that is below.
    pub home: Option<Cgroup>,
    /// Where its processes go once its cgroup namespace is made, further below.
    delegated: Option<PathBuf>,
    /// Keeps it until the container is there.
    holder: Option<Holder>,
    /// It was there already, without a process.
    ///
    /// Whoever is born in a cgroup that was once killed (`cgroup.kill`) dies at once, where his parent's was not: the
    /// kernel compares the count of such kills of the wrong two (cgroup_css_set_fork, since 6.14 and its stable
    /// kernels).
    pub taken_over: bool,
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

    /// Makes the delegated cgroup, where there is to be one, and moves the container's first process there. Only then can
    /// its home, which has no processes any more, hand controllers down.
    ///
    /// # Errors
    /// The cgroup can't be made, or the process can't be moved.
    pub fn settle(&self, pid: i32, owner: Option<(u32, u32)>) -> Result<()> {
        let Some(below) = &self.delegated else { return Ok(()) };
        descend(self.home(), below, Controllers::Stay)?.add(pid)?;
        let delegated = descend(self.home(), below, Controllers::HandDown)?;
        owner.map_or(Ok(()), |(uid, gid)| delegated.delegate(uid, gid))
    }
}

/// A path below a cgroup, as an annotation says it.
fn path_below(annotations: &HashMap<String, String>, key: &str) -> Result<Option<PathBuf>> {
    let Some(below) = annotations.get(key).map(Path::new) else { return Ok(None) };
    if below.components().any(|part| part == std::path::Component::ParentDir) {
        return Err(Error::new(
            Kind::Invalid,
            format!("annotation {key}: {below:?} leads out of the container's cgroup"),
        ));
    }
    let path = super::placement::normalize(below).strip_prefix("/").map(Path::to_owned).unwrap_or_default();
    Ok((!path.as_os_str().is_empty()).then_some(path))
}

impl Placement {
    /// Where the cgroup of a container is to be: [`Placement::resolve`], with what annotations say, and for a user with
    /// the user's own systemd, or beside the user's own cgroup instead of the top, which isn't the user's.
    ///
    /// # Errors
    /// As those two.
    pub fn of_container(
        manager: CgroupManager,
        cgroups_path: Option<&Path>,
        wanted: &Wanted<'_>,
    ) -> Result<Option<Self>> {
        let given = cgroups_path.filter(|path| !path.as_os_str().is_empty());
        let scope_of_user = wanted.rootless && manager == CgroupManager::Systemd;
        let mut placement = match given {
            None if wanted.rootless && manager == CgroupManager::Cgroupfs => {
                Self::resolve(manager, Some(Path::new(wanted.id)), wanted.id)?
            }
            _ => Self::resolve(manager, given, wanted.id)?,
        };
        if let Some(placement) = &mut placement {
            if scope_of_user {
                placement.scope =
                    Some(Scope::parse(&given.unwrap_or(Path::new("")).to_string_lossy(), wanted.id, true)?);
            }
            wanted.annotations.map_or(Ok(()), |annotations| placement.annotate(annotations))?;
        }
        Ok(placement)
    }

    /// Takes from annotations what they say about the place: `run.oci.systemd.subgroup` and `run.oci.delegate-cgroup`, as
    /// in crun.
    ///
    /// # Errors
    /// `Kind::Invalid` for a path that leads out of the cgroup.
    pub fn annotate(&mut self, annotations: &HashMap<String, String>) -> Result<()> {
        self.delegated = path_below(annotations, "run.oci.delegate-cgroup")?;
        if let Some(scope) = &mut self.scope {
            scope.below = path_below(annotations, "run.oci.systemd.subgroup")?;
        }
        Ok(())
    }

    /// Makes the cgroup, empty but for what keeps it.
    ///
    /// systemd's answer says where it is, so `path` may be another afterwards.
    /// `None` for a user who may make none here and wants no limits: the container stays in the user's own cgroup.
    ///
    /// `note` is called before anything is made, with whether the place is known to be free.
    ///
    /// # Errors
    /// [`Hierarchy::create`]'s, or systemd's; `cannot set LIMIT: container could not join or create cgroup` for a user;
    /// `note`'s.
    pub fn make(&mut self, wanted: &Wanted<'_>, note: &mut dyn FnMut(bool) -> Result<()>) -> Result<Option<Made>> {
        if let Some(scope) = self.scope.clone() {
            note(false)?;
            let made = self.make_scope(&scope, wanted);
            // systemd keeps a slice that was made by request, whatever became of the scope in it.
            if made.is_err() && scope.inner.is_some() {
                self.remove_leftover().unwrap_or_else(|e| log::debug!("{e}"));
            }
            return made.map(Some);
        }
        let made = Hierarchy::find().and_then(|hierarchy| {
            let taken_over = hierarchy.open(self)?.is_some();
            note(!taken_over)?;
            Ok((hierarchy.create(self)?, taken_over))
        });
        match made {
            Ok((cgroup, taken_over)) => {
                Ok(Some(Made { cgroup, home: None, delegated: self.delegated.clone(), holder: None, taken_over }))
            }
            Err(error) if wanted.rootless && !is_taken(&error) => without(wanted, error),
            Err(error) => Err(error),
        }
    }

    /// Whether systemd can make the cgroup around the container's first process, and needs no other for that.
    pub fn takes_init(&self) -> bool {
        self.scope.as_ref().is_some_and(|scope| scope.below.is_none())
    }

    /// Makes the cgroup around a process, which is in it afterwards: [`Self::make`] for one that is there already.
    ///
    /// # Errors
    /// systemd's.
    pub fn make_around(&mut self, pid: i32, wanted: &Wanted<'_>) -> Result<Made> {
        let scope = self.scope.clone().ok_or_else(|| Error::new(Kind::System, "only systemd makes cgroups so"))?;
        self.make_units(&scope, wanted, pid)
    }

    fn make_scope(&mut self, scope: &Scope, wanted: &Wanted<'_>) -> Result<Made> {
        let mut holder = Holder::start(None)?;
        let mut made = self.make_units(scope, wanted, holder.pid)?;
        if let Some(below) = &scope.below {
            let lowest = descend(made.home(), below, Controllers::HandDown)?;
            // Only a cgroup without processes hands controllers down, and only one with some lives.
            holder = Holder::start(Some(&lowest))?;
            descend(made.home(), below, Controllers::HandDown)?;
            made.home = Some(lowest);
        }
        made.holder = Some(holder);
        Ok(made)
    }

    /// Has systemd make the scope, and the slice around it if that is the container's own, around a process.
    fn make_units(&mut self, scope: &Scope, wanted: &Wanted<'_>, pid: i32) -> Result<Made> {
        let hierarchy = Hierarchy::find()?;
        let plan = wanted.resources.map_or(Ok(Vec::new()), limits::plan)?;
        let mut manager = Manager::connect(scope.user)?;
        let cgroup = if let Some(inner) = &scope.inner {
            manager.start(&scope.unit, unit_properties(systemd::common(wanted.id), scope, &plan, wanted)?)?;
            manager.start(inner, systemd::base(&scope.unit, wanted.id, pid.unsigned_abs()))?;
            let path = manager.control_group(&scope.unit)?;
            let gone = || Error::new(Kind::System, format!("{} was made, but {path} isn't there", scope.unit));
            hierarchy.open_path(Path::new(&path))?.ok_or_else(gone)?
        } else {
            let base = systemd::base(&scope.slice, wanted.id, pid.unsigned_abs());
            manager.start(&scope.unit, unit_properties(base, scope, &plan, wanted)?)?;
            hierarchy.open_of(pid)?
        };
        self.path = cgroup.path().to_owned();
        if cgroup.path().file_name() != Some(scope.unit.as_ref()) {
            let message = format!("{} was made, but its process is in {}", scope.unit, cgroup.path().display());
            return Err(Error::new(Kind::System, message));
        }
        let controllers: Vec<&str> = plan.iter().map(|setting| setting.controller.as_str()).collect();
        hierarchy.hand_down_to(&cgroup, &controllers)?;
        let home = scope.inner.is_some().then(|| hierarchy.open_of(pid)).transpose()?;
        Ok(Made { cgroup, home, delegated: self.delegated.clone(), holder: None, taken_over: false })
    }

    /// Whether processes can be moved there that may not be born there: by the user's systemd.
    pub fn can_move(&self) -> bool {
        self.scope.as_ref().is_some_and(|scope| scope.user)
    }

    /// Has the user's systemd move a process to where the container lives.
    ///
    /// # Errors
    /// systemd's own.
    pub fn move_process(&self, pid: i32) -> Result<()> {
        let Some(scope) = &self.scope else { return Ok(()) };
        let below = scope.below.as_ref().map_or_else(String::new, |below| format!("/{}", below.display()));
        Manager::connect(scope.user)?.attach(scope.holds(), &below, pid.unsigned_abs())
    }

    /// Opens the cgroup that the container lives in; `None` when it is gone.
    ///
    /// # Errors
    /// It can't be reached or opened.
    pub fn open_home(&self, hierarchy: &Hierarchy) -> Result<Option<Cgroup>> {
        let mut path = self.path.clone();
        path.extend(self.scope.as_ref().map(Scope::home));
        path.extend(self.delegated.as_ref());
        hierarchy.open_path(&path)
    }

    /// Whether the container lives below its cgroup.
    pub fn has_home(&self) -> bool {
        self.delegated.is_some() || self.scope.is_some()
    }

    /// Sets the limits of a new container, where the manager doesn't know them all yet.
    ///
    /// # Errors
    /// As [`Self::update`].
    pub fn limit(&self, cgroup: &Cgroup, resources: &LinuxResources) -> Result<()> {
        let few =
            resources.pids().is_some_and(|pids| u64::try_from(pids.limit()).is_ok_and(|limit| limit < TASKS_AT_START));
        if few && self.scope.is_some() { self.update(cgroup, resources) } else { cgroup.apply(resources) }
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
        // Halves of pairs are completed first: systemd rounds, and what it has written isn't what was.
        cgroup.complete(&mut plan)?;
        let current = |file: &str| cgroup.read_optional(file).ok().flatten();
        let properties = systemd::limits(&plan, &current);
        if !properties.is_empty() {
            let before = current("cpu.max");
            Manager::connect(scope.user)?.set(&scope.unit, properties)?;
            // It has written all that it knows, and it knows quotas in whole percents.
            if let Some(text) = before.as_deref().filter(|_| current("cpu.max") != before) {
                cgroup.write("cpu.max", text.trim())?;
            }
        }
        // What systemd has no property for, or only a rounded one.
        cgroup.carry_out(&plan)
    }

    /// Removes the scope that a call which was killed may have left; whatever has processes in it is another's.
    ///
    /// # Errors
    /// systemd's own.
    pub fn remove_leftover(&self) -> Result<()> {
        match &self.scope {
            Some(scope) => {
                let mut manager = Manager::connect(scope.user)?;
                scope.inner.as_ref().map_or(Ok(()), |inner| manager.stop_empty(inner))?;
                manager.stop_empty(&scope.unit)
            }
            None => Ok(()),
        }
    }

    /// Removes the cgroup, and kills what is left in it.
    ///
    /// # Errors
    /// As [`Cgroup::kill`] and [`Cgroup::remove`]; systemd's own.
    pub fn remove(&self, cgroup: Option<Cgroup>, timeout: Duration) -> Result<()> {
        if let Some(cgroup) = &cgroup {
            // Nobody is left in most, and one rmdir does; systemd has to be told in any case.
            if self.scope.is_none() && cgroup.remove_if_empty()? {
                return Ok(());
            }
            cgroup.kill()?;
        }
        let Some(scope) = &self.scope else { return cgroup.map_or(Ok(()), |cgroup| cgroup.remove(timeout)) };
        // Stopping waits for processes, and systemd's own removal doesn't reach below what it doesn't know.
        let removed = cgroup.map_or(Ok(()), |cgroup| cgroup.wait_empty(timeout).and_then(|()| cgroup.remove(timeout)));
        let mut manager = Manager::connect(scope.user)?;
        scope.inner.as_ref().map_or(Ok(()), |inner| manager.stop(inner))?;
        manager.stop(&scope.unit)?;
        removed
    }
}

/// `base` with limits, device rules, and config.json's own properties.
fn unit_properties(
    base: Vec<systemd::Property>,
    scope: &Scope,
    plan: &[limits::Setting],
    wanted: &Wanted<'_>,
) -> Result<Vec<systemd::Property>> {
    let mut properties = base;
    properties.extend(systemd::limits(plan, &|_| None));
    for (_, value) in properties.iter_mut().filter(|(name, _)| name == "TasksMax") {
        if let Value::Uint64(most) = value {
            *most = (*most).max(TASKS_AT_START);
        }
    }
    if !scope.user {
        let rules = wanted.resources.and_then(|resources| resources.devices().as_deref()).unwrap_or_default();
        properties.extend(systemd::device_rules(&devices::rule::rules(rules)?));
    }
    // Behind ours: the last word is config.json's.
    properties.extend(wanted.annotations.map_or(Ok(Vec::new()), systemd::from_annotations)?);
    Ok(properties)
}

/// Whether a cgroup is refused for what is in it, and not for want of rights.
fn is_taken(error: &Error) -> bool {
    *error.kind() == Kind::WrongState
}

/// A user's container without a cgroup, if it can do without.
fn without(wanted: &Wanted<'_>, error: Error) -> Result<Option<Made>> {
    let plan = wanted.resources.map_or(Ok(Vec::new()), limits::plan)?;
    match plan.iter().find(|setting| setting.missing == limits::Missing::Refuse) {
        Some(limit) => {
            let message = format!("cannot set {}: container could not join or create cgroup", limit.property);
            Err(error.context(message).with_hint(
                "leave out linux.resources, or have a cgroup delegated: --systemd-cgroup asks the user's systemd",
            ))
        }
        None => {
            log::debug!("no cgroup is made: {error}");
            Ok(None)
        }
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
