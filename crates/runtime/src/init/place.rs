//! The cgroup of a container in the making: made before its first process, or by systemd around it, and limited.
//!
//! Before: the process is born in it, and all it does counts there.
//! Around: systemd moves the process, which works meanwhile, as far as what it makes isn't to count in the cgroup
//! ([`MountPlan::may_precede_cgroup`](crate::rootfs::mount::MountPlan::may_precede_cgroup)).

use std::os::fd::OwnedFd;

use oci_spec::runtime::Spec;
use rtc_sys::clone::flags;

use crate::cgroup::{Made, Placement, Wanted};
use crate::error::Result;
use crate::namespaces::Namespaces;
use crate::process;
use crate::store::{Record, Store};

/// What config.json wants of it.
pub(super) fn wanted<'a>(id: &'a str, spec: &'a Spec, rootless: bool) -> Wanted<'a> {
    let resources = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
    Wanted { id, resources, annotations: spec.annotations().as_ref(), rootless }
}

/// Whether systemd is to make the cgroup around the first process.
///
/// Not where that has to see its cgroup before, or is another's child, or has ids that the user's systemd may not move.
pub(super) fn goes_around(placement: &Placement, spec: &Spec, namespaces: &Namespaces) -> bool {
    let is_shown = |mount: &oci_spec::runtime::Mount| matches!(mount.typ().as_deref(), Some("cgroup" | "cgroup2"));
    let sees_it = !namespaces.has(flags::NEWCGROUP) && spec.mounts().iter().flatten().any(is_shown);
    let of_user = placement.scope.as_ref().is_some_and(|scope| scope.user);
    let may_be_moved = !of_user || namespaces.new & flags::NEWUSER == 0;
    placement.takes_init() && !sees_it && may_be_moved && namespaces.join_user.is_none()
}

/// Makes the cgroup before the first process.
pub(super) fn make_before(record: &mut Record, store: &Store, wanted: &Wanted<'_>) -> Result<Option<Made>> {
    let Some(mut placement) = record.cgroup.clone() else {
        store.write(record)?;
        return Ok(None);
    };
    // Named before it is made, or a call that is killed in between would leave it for ever. As ours, which `delete`
    // may kill whole, before that only if nobody has it: that saves a record in nearly all cases.
    let made = placement.make(wanted, &mut |is_free| {
        record.cgroup_made = is_free;
        store.write(record)
    })?;
    let placement = made.is_some().then_some(placement);
    if record.cgroup_made != made.is_some() || record.cgroup != placement {
        record.cgroup_made = made.is_some();
        record.cgroup = placement;
        store.write(record)?;
    }
    if made.is_none() && !record.own_pid_namespace {
        log::warn!(
            "a rootless container with neither a cgroup nor a pid namespace of its own: its processes can't all be \
             found and killed. Such configuration is strongly discouraged"
        );
    }
    Ok(made)
}

/// Has systemd make the cgroup around the first process, which waits for it. When that fails, nothing is left of both.
pub(super) fn make_around(
    placement: &mut Placement,
    wanted: &Wanted<'_>,
    (pid, init): (i32, &mut Option<OwnedFd>),
) -> Result<Made> {
    let made = placement.make_around(pid, wanted);
    if made.is_err() {
        // The last process first: systemd removes a scope with it.
        init.take().map_or(Ok(()), |init| process::kill_and_reap(&init))?;
        placement.remove_leftover().unwrap_or_else(|e| log::debug!("{e}"));
    }
    made
}

/// Limits and device rules: while the child mounts, on another CPU, and before anything of the container's runs.
pub(super) fn limit(record: &Record, made: Option<&Made>, spec: &Spec, rootless: bool) -> Result<()> {
    let resources = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
    let (Some(Made { cgroup, .. }), Some(placement)) = (made, &record.cgroup) else { return Ok(()) };
    if let Some(resources) = resources {
        placement.limit(cgroup, resources)?;
    }
    let rules = resources.and_then(|resources| resources.devices().as_deref()).unwrap_or_default();
    match cgroup.set_devices(rules) {
        // Only root loads programs. A user opens what it may open anyway, and makes no nodes.
        Err(e) if rootless => {
            log::debug!("{e}");
            Ok(())
        }
        other => other,
    }
}
