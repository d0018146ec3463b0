//! What config.json must not say, found before anything is touched.
//!
//! A table of checks, each with one clear line. What only the kernel can judge is left to it.

use std::collections::HashSet;
use std::path::Path;

use oci_spec::runtime::{
    Linux, LinuxDeviceType, LinuxNamespace, LinuxNamespaceType, LinuxSchedulerPolicy, Process, Scheduler, Spec,
};

use crate::error::{Error, Kind, Result};

/// A check: an error is the line for the user.
type Check = fn(&Facts<'_>) -> std::result::Result<(), String>;

/// The checks, from the general to the particular.
const CHECKS: &[Check] = &[
    version,
    namespaces,
    hostname,
    user_namespace,
    time_offsets,
    sysctl,
    devices,
    net_devices,
    memory_policy,
    personality,
    scheduler,
    annotations,
    paths,
];

/// The id that system calls take for none, -1.
const NO_ID: u32 = u32::MAX;

struct Facts<'a> {
    spec: &'a Spec,
    linux: &'a Linux,
    kinds: HashSet<LinuxNamespaceType>,
}

/// Checks a configuration.
pub(crate) fn validate(spec: &Spec) -> Result<()> {
    let invalid = |message: String| Error::new(Kind::Invalid, message).context("config.json");
    let Some(linux) = spec.linux() else { return Err(invalid("linux is missing".into())) };
    let list = linux.namespaces().as_deref().unwrap_or_default();
    let kinds = list.iter().map(|namespace| namespace.typ()).collect();
    let facts = Facts { spec, linux, kinds };
    for check in CHECKS {
        check(&facts).map_err(invalid)?;
    }
    if let Some(process) = spec.process() {
        validate_process(process).map_err(|e| e.context("config.json"))?;
    }
    Ok(())
}

/// Checks a process object, of config.json or for `exec`.
pub(crate) fn validate_process(process: &Process) -> Result<()> {
    let invalid = |message: String| Err(Error::new(Kind::Invalid, message));
    if process.args().as_ref().is_none_or(Vec::is_empty) {
        return invalid("process.args is empty".into());
    }
    if !process.cwd().is_absolute() {
        return invalid(format!("process.cwd {:?} is not an absolute path", process.cwd()));
    }
    let user = process.user();
    for id in user.additional_gids().iter().flatten().chain([&user.uid(), &user.gid()]) {
        if *id == NO_ID {
            return invalid(format!("process.user: {id} is no id: the kernel has it for none"));
        }
    }
    for entry in process.env().iter().flatten() {
        if !entry.contains('=') || entry.starts_with('=') || entry.contains('\0') {
            return invalid(format!("process.env entry {entry:?} is not NAME=VALUE"));
        }
    }
    let mut seen = HashSet::new();
    for limit in process.rlimits().iter().flatten() {
        if !seen.insert(limit.typ() as i32) {
            return invalid(format!("process.rlimits names {:?} twice", limit.typ()));
        }
        if limit.soft() > limit.hard() {
            return invalid(format!(
                "process.rlimits: {:?} has soft {} above hard {}",
                limit.typ(),
                limit.soft(),
                limit.hard()
            ));
        }
    }
    if let Some(priority) =
        process.io_priority().as_ref().map(|io| io.priority()).filter(|level| !(0..8).contains(level))
    {
        return invalid(format!("process.ioPriority: priority {priority} is not in 0 to 7"));
    }
    match process.scheduler().as_ref().and_then(wrong_scheduler) {
        Some(message) => invalid(format!("process.scheduler: {message}")),
        None => Ok(()),
    }
}

/// Values that don't belong to the policy: the kernel would ignore some and refuse others.
fn wrong_scheduler(scheduler: &Scheduler) -> Option<String> {
    use LinuxSchedulerPolicy as P;
    let policy = *scheduler.policy();
    let nice = scheduler.nice().unwrap_or(0);
    if matches!(policy, P::SchedOther | P::SchedBatch) && !(-20..20).contains(&nice) {
        return Some(format!("invalid scheduler.nice: {nice}"));
    }
    if scheduler.priority().unwrap_or(0) != 0 && !matches!(policy, P::SchedFifo | P::SchedRr) {
        return Some("scheduler.priority can only be specified for SchedFIFO or SchedRR policy".to_owned());
    }
    let times = [scheduler.runtime(), scheduler.deadline(), scheduler.period()];
    if policy != P::SchedDeadline && times.iter().any(|time| time.unwrap_or(0) != 0) {
        let message = "scheduler runtime/deadline/period can only be specified for SchedDeadline policy";
        return Some(message.to_owned());
    }
    None
}

fn version(facts: &Facts<'_>) -> std::result::Result<(), String> {
    let version = facts.spec.version();
    match version.split('.').next().and_then(|major| major.parse::<u32>().ok()) {
        Some(1) => Ok(()),
        Some(_) => Err(format!("ociVersion {version:?} is not supported: rtc knows 1.x")),
        None => Err(format!("ociVersion {version:?} is not a version")),
    }
}

fn namespaces(facts: &Facts<'_>) -> std::result::Result<(), String> {
    let list = facts.linux.namespaces().as_deref().unwrap_or_default();
    if list.len() != facts.kinds.len() {
        return Err("linux.namespaces names a kind twice".into());
    }
    let has = |kind| facts.kinds.contains(&kind);
    if has(LinuxNamespaceType::User) && !has(LinuxNamespaceType::Mount) {
        // The runtime's mount namespace belongs to another.
        return Err("a user namespace without a mount namespace can't mount anything: add {\"type\": \"mount\"}".into());
    }
    match list.iter().filter_map(joined).find(|path| !path.is_absolute()) {
        Some(path) => Err(format!("namespace path {path:?} is not absolute")),
        None => Ok(()),
    }
}

/// The path of a namespace that is joined; an empty one is none.
fn joined(namespace: &LinuxNamespace) -> Option<&Path> {
    namespace.path().as_deref().filter(|path| !path.as_os_str().is_empty())
}

fn hostname(facts: &Facts<'_>) -> std::result::Result<(), String> {
    let wanted = [("hostname", facts.spec.hostname()), ("domainname", facts.spec.domainname())];
    for (what, value) in wanted {
        if value.as_ref().is_some_and(|v| !v.is_empty()) && !facts.kinds.contains(&LinuxNamespaceType::Uts) {
            return Err(format!("unable to set {what} without a private UTS namespace"));
        }
    }
    Ok(())
}

fn user_namespace(facts: &Facts<'_>) -> std::result::Result<(), String> {
    let mapped = |list: &Option<Vec<_>>| list.as_ref().is_some_and(|list| !list.is_empty());
    let list = facts.linux.namespaces().as_deref().unwrap_or_default();
    let user = list.iter().find(|namespace| namespace.typ() == LinuxNamespaceType::User);
    match user {
        // Mappings without one mean nothing.
        Some(user) if joined(user).is_none() => {
            if !mapped(facts.linux.uid_mappings()) || !mapped(facts.linux.gid_mappings()) {
                return Err("a new user namespace needs linux.uidMappings and gidMappings".into());
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

fn time_offsets(facts: &Facts<'_>) -> std::result::Result<(), String> {
    let offsets = facts.linux.time_offsets().as_ref().filter(|offsets| !offsets.is_empty());
    let Some(offsets) = offsets else { return Ok(()) };
    let list = facts.linux.namespaces().as_deref().unwrap_or_default();
    match list.iter().find(|namespace| namespace.typ() == LinuxNamespaceType::Time) {
        None => return Err("time namespace offsets are set, but there is no time namespace".into()),
        Some(time) if joined(time).is_some() => {
            return Err("time namespace offsets can't be set for a time namespace that is joined".into());
        }
        Some(_) => {}
    }
    match offsets.keys().find(|clock| !matches!(clock.as_str(), "monotonic" | "boottime")) {
        Some(clock) => Err(format!("unknown clock {clock:?} in linux.timeOffsets: monotonic or boottime")),
        None => Ok(()),
    }
}

/// The `kernel.*` settings that an IPC namespace has of its own.
const IPC_SYSCTLS: &[&str] = &[
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

/// A setting that no namespace of the container has would be the host's.
fn sysctl(facts: &Facts<'_>) -> std::result::Result<(), String> {
    let list = facts.linux.namespaces().as_deref().unwrap_or_default();
    for key in facts.linux.sysctl().iter().flatten().map(|(key, _)| key) {
        if key.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(format!("sysctl {key:?} is not the name of a setting"));
        }
        let name = key.replace('/', ".");
        let needs = if IPC_SYSCTLS.contains(&name.as_str()) || name.starts_with("fs.mqueue.") {
            LinuxNamespaceType::Ipc
        } else if name.starts_with("net.") {
            LinuxNamespaceType::Network
        } else if name == "kernel.domainname" || name == "kernel.hostname" {
            LinuxNamespaceType::Uts
        } else if name.starts_with("user.") {
            LinuxNamespaceType::User
        } else {
            return Err(format!("sysctl {key:?} is not in a separate kernel namespace"));
        };
        if !list.iter().any(|namespace| namespace.typ() == needs) {
            return Err(format!("sysctl {key:?} is not allowed in the hosts {needs} namespace"));
        }
        if name == "kernel.hostname" && facts.spec.hostname().is_some() {
            return Err("sysctl \"kernel.hostname\" would undo hostname: leave one of them out".into());
        }
    }
    Ok(())
}

/// A node has a place and, but for FIFOs, numbers.
fn devices(facts: &Facts<'_>) -> std::result::Result<(), String> {
    for device in facts.linux.devices().iter().flatten() {
        let path = device.path().display();
        if device.path().as_os_str().is_empty() {
            return Err("linux.devices: an entry has no path".into());
        }
        if device.typ() == LinuxDeviceType::A {
            return Err(format!("linux.devices: {path}: a node is of type c, b, u or p, and not of all"));
        }
        if device.uid() == Some(NO_ID) || device.gid() == Some(NO_ID) {
            return Err(format!("linux.devices: {path}: {NO_ID} is no id: the kernel has it for none"));
        }
        // mknod(2) cuts off what is more than the kernel's 12 and 20 bits (include/linux/kdev_t.h).
        let fits = (0..1 << 12).contains(&device.major()) && (0..1 << 20).contains(&device.minor());
        if device.typ() != LinuxDeviceType::P && !fits {
            return Err(format!(
                "linux.devices: {path}: no device has the numbers {}:{}",
                device.major(),
                device.minor()
            ));
        }
    }
    Ok(())
}

/// The specification has no flags yet.
fn personality(facts: &Facts<'_>) -> std::result::Result<(), String> {
    let flags = facts.linux.personality().as_ref().and_then(|personality| personality.flags().as_ref());
    match flags.and_then(|flags| flags.first()) {
        Some(flag) => Err(format!("linux.personality: the flag {flag:?} is not supported")),
        None => Ok(()),
    }
}

/// Devices need a namespace to go to, and names that the kernel takes.
fn net_devices(facts: &Facts<'_>) -> std::result::Result<(), String> {
    let Some(devices) = facts.linux.net_devices().as_ref().filter(|devices| !devices.is_empty()) else { return Ok(()) };
    if !facts.kinds.contains(&LinuxNamespaceType::Network) {
        return Err("unable to move network devices without a private NET namespace".into());
    }
    let mut taken = HashSet::new();
    for (outside, device) in devices {
        let inside = device.name().as_deref().filter(|name| !name.is_empty()).unwrap_or(outside);
        for name in [outside.as_str(), inside] {
            if !crate::net_devices::is_valid_name(name) {
                return Err(format!("linux.netDevices: invalid network device name {name:?}"));
            }
        }
        if !taken.insert(inside) {
            return Err(format!("linux.netDevices: two devices would be called {inside:?}"));
        }
    }
    Ok(())
}

fn memory_policy(facts: &Facts<'_>) -> std::result::Result<(), String> {
    facts.linux.memory_policy().as_ref().map_or(Ok(()), super::memory_policy::check)
}

/// The kernel promises a deadline for the whole machine only.
fn scheduler(facts: &Facts<'_>) -> std::result::Result<(), String> {
    let scheduler = facts.spec.process().as_ref().and_then(|process| process.scheduler().as_ref());
    let cpu = facts.linux.resources().as_ref().and_then(|resources| resources.cpu().as_ref());
    let cpus = cpu.and_then(|cpu| cpu.cpus().as_deref()).filter(|cpus| !cpus.is_empty());
    match (scheduler, cpus) {
        (Some(scheduler), Some(_)) if *scheduler.policy() == LinuxSchedulerPolicy::SchedDeadline => {
            Err("process scheduler can't be used together with AllowedCPUs".into())
        }
        _ => Ok(()),
    }
}

fn annotations(facts: &Facts<'_>) -> std::result::Result<(), String> {
    super::annotations::check(facts.spec, crate::seccomp::is_known)
}

fn paths(facts: &Facts<'_>) -> std::result::Result<(), String> {
    let masked = facts.linux.masked_paths().iter().flatten().map(|path| ("maskedPaths", path));
    let readonly = facts.linux.readonly_paths().iter().flatten().map(|path| ("readonlyPaths", path));
    for (what, path) in masked.chain(readonly) {
        if !path.starts_with('/') {
            return Err(format!("{what} entry {path:?} is not absolute"));
        }
    }
    let is_unknown = |name: &&String| !name.is_empty() && crate::rootfs::options::propagation_type(name).is_none();
    if let Some(propagation) = facts.linux.rootfs_propagation().as_ref().filter(is_unknown) {
        return Err(format!("rootfsPropagation {propagation:?} is not one of shared, slave, private, unbindable"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(linux: &str) -> String {
        let text = format!("{{\"ociVersion\":\"1.0.2\",\"hostname\":\"h\",\"linux\":{linux}}}");
        validate(&serde_json::from_str(&text).unwrap()).map_or_else(|e| e.to_string(), |()| "ok".into())
    }

    #[test]
    fn each_contradiction_has_its_line() {
        let ns = |extra: &str| format!(r#"{{"namespaces":[{{"type":"mount"}},{{"type":"uts"}}{extra}]"#);
        assert_eq!(error(&(ns("") + "}")), "ok");
        assert!(error(r#"{"namespaces":[{"type":"mount"}]}"#).ends_with("without a private UTS namespace"));
        assert!(error(&(ns(r#",{"type":"uts"}"#) + "}")).ends_with("names a kind twice"));
        assert!(error(&(ns(r#",{"type":"user"}"#) + "}")).contains("needs linux.uidMappings"));
        assert!(error(&(ns("") + r#","timeOffsets":{"monotonic":{"secs":1}}}"#)).contains("no time namespace"));
        assert!(error(&(ns("") + r#","sysctl":{"net.core.somaxconn":"1"}}"#)).contains("hosts net namespace"));
        assert!(error(&(ns("") + r#","sysctl":{"vm.swappiness":"1"}}"#)).contains("not in a separate"));
        // The network namespace has none of that name, but a path has.
        let climbing = ns(r#",{"type":"network"}"#) + r#","sysctl":{"net/../kernel/core_pattern":"|/x"}}"#;
        assert!(error(&climbing).contains("is not the name of a setting"));
    }
}
