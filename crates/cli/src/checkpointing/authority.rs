//! What config.json allows the processes of an image, in the engine's terms.

use anyhow::Result;
use oci_spec::runtime::{
    Capability, IOPriorityClass, LinuxNamespaceType, LinuxSchedulerPolicy, PosixRlimitType, Process, Spec,
};
use rtc_checkpoint::image::tree::Filter;
use rtc_checkpoint::resource::mount::Given;
use rtc_checkpoint::restore::Authority;
use std::collections::HashSet;
use std::ffi::OsStr;
use std::path::Path;

/// What config.json says.
///
/// # Errors
/// The seccomp profile can't be compiled.
pub(crate) fn of(spec: &Spec) -> Result<Authority> {
    let none = Process::default();
    let process = spec.process().as_ref().unwrap_or(&none);
    let sets = process.capabilities().as_ref();
    Ok(Authority {
        bounding: mask(sets.and_then(|sets| sets.bounding().as_ref())),
        permitted: mask(sets.and_then(|sets| sets.permitted().as_ref())),
        no_new_privs: process.no_new_privileges() == Some(true),
        filter: filter(spec)?,
        uid: process.user().uid(),
        gid: process.user().gid(),
        groups: (!rtc_runtime::spec::keeps_groups(spec))
            .then(|| process.user().additional_gids().clone().unwrap_or_default()),
        own_ipc: has_own_ipc(spec),
        given: given_mounts(spec),
        limits: process.rlimits().iter().flatten().map(|limit| (number_of(limit.typ()), limit.hard())).collect(),
        nice: nice(process),
        oom_score_adj: process.oom_score_adj().unwrap_or_else(own_oom_score),
        realtime: realtime(process),
    })
}

/// A set of capabilities as the kernel's bits.
fn mask(set: Option<&HashSet<Capability>>) -> u64 {
    // The type prints itself without CAP_.
    let number = |name: String| {
        rtc_runtime::known_capabilities().iter().position(|known| known.strip_prefix("CAP_") == Some(&name))
    };
    let numbers = set.into_iter().flatten().filter_map(|name| number(name.to_string()));
    numbers.fold(0, |mask, number| mask | 1 << number)
}

/// Whether the container's processes can have made mounts: CAP_SYS_ADMIN is in their bounding set.
pub(crate) fn may_mount(spec: &Spec) -> bool {
    let sets = spec.process().as_ref().and_then(|process| process.capabilities().as_ref());
    let bounding = sets.and_then(|sets| sets.bounding().as_ref());
    bounding.is_some_and(|set| set.contains(&Capability::SysAdmin))
}

/// The devices that every container has (config-linux, "Default Devices").
const DEVICES: [&str; 6] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"];

/// The mounts that the runtime makes from config.json, at restore as at creation.
pub(crate) fn given_mounts(spec: &Spec) -> Vec<Given> {
    let mut given = Vec::new();
    for mount in spec.mounts().iter().flatten() {
        let bind = |option: &String| option == "bind" || option == "rbind";
        let is_bind = mount.typ().as_deref() == Some("bind") || mount.options().iter().flatten().any(bind);
        let destination = Path::new("/").join(mount.destination());
        given.push(Given { mountpoint: destination.as_os_str().into(), external: is_bind });
    }
    let linux = spec.linux().as_ref();
    let masked = linux.and_then(|l| l.masked_paths().as_ref());
    let readonly = linux.and_then(|l| l.readonly_paths().as_ref());
    let paths = masked.into_iter().chain(readonly).flatten().map(String::as_str).chain(["/dev/console"]);
    // In a user namespace devices are bound, too.
    let own_devices = linux.and_then(|l| l.devices().as_ref()).into_iter().flatten();
    let own_devices = own_devices.filter_map(|device| device.path().to_str());
    let paths = paths.chain(DEVICES).chain(own_devices);
    given.extend(paths.map(|path| Given { mountpoint: OsStr::new(path).into(), external: true }));
    given
}

/// The mount for `NOTIFY_SOCKET`, which config.json doesn't have. What is in it is the service manager's side of a
/// conversation: a restored container gets a new, empty one.
pub(crate) fn notify_mount() -> Given {
    Given { mountpoint: OsStr::new(rtc_runtime::NOTIFY_MOUNT).into(), external: true }
}

fn filter(spec: &Spec) -> Result<Option<Filter>> {
    let Some(filter) = rtc_runtime::spec::filter(spec)? else { return Ok(None) };
    let code = filter.program().iter().map(|instruction| instruction.word()).collect();
    // Nobody is there to be told by a restored process's filter.
    let flags = u64::from(filter.flags() & !rtc_sys::seccomp::FLAG_NEW_LISTENER);
    Ok(Some(Filter { flags, code }))
}

/// Whether the container has an IPC namespace that nobody had before it.
fn has_own_ipc(spec: &Spec) -> bool {
    let linux = spec.linux().as_ref();
    let namespaces = linux.and_then(|linux| linux.namespaces().as_deref()).unwrap_or_default();
    let ipc = namespaces.iter().find(|namespace| namespace.typ() == LinuxNamespaceType::Ipc);
    ipc.is_some_and(|ipc| ipc.path().as_ref().is_none_or(|path| path.as_os_str().is_empty()))
}

/// The lowest nice value: the configured one, or what a process of ours begins with, or what its limit lets it reach.
fn nice(process: &Process) -> i32 {
    let own = rustix::process::getpriority_process(None).unwrap_or(0);
    let configured = process.scheduler().as_ref().and_then(|scheduler| *scheduler.nice());
    let limit = limit(process, PosixRlimitType::RlimitNice);
    let reachable = 20 - i32::try_from(limit.unwrap_or(0).min(40)).unwrap_or(0);
    configured.unwrap_or(own).min(reachable)
}

fn limit(process: &Process, kind: PosixRlimitType) -> Option<u64> {
    process.rlimits().iter().flatten().find(|limit| limit.typ() == kind).map(oci_spec::runtime::PosixRlimit::hard)
}

/// What a process of ours begins with.
fn own_oom_score() -> i32 {
    let text = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

/// Whether the first program may have realtime scheduling, of processor time and of input and output.
fn realtime(process: &Process) -> (bool, bool) {
    use LinuxSchedulerPolicy as P;
    let policy = process.scheduler().as_ref().map(|scheduler| *scheduler.policy());
    let by_policy = policy.is_some_and(|policy| matches!(policy, P::SchedFifo | P::SchedRr | P::SchedDeadline));
    let by_limit = limit(process, PosixRlimitType::RlimitRtprio).is_some_and(|limit| limit > 0);
    let io = process.io_priority().as_ref().is_some_and(|io| io.class() == IOPriorityClass::IoprioClassRt);
    (by_policy || by_limit, io)
}

/// `RLIMIT_*` (getrlimit(2)).
fn number_of(kind: PosixRlimitType) -> usize {
    use PosixRlimitType as T;
    let number = match kind {
        T::RlimitCpu => libc::RLIMIT_CPU,
        T::RlimitFsize => libc::RLIMIT_FSIZE,
        T::RlimitData => libc::RLIMIT_DATA,
        T::RlimitStack => libc::RLIMIT_STACK,
        T::RlimitCore => libc::RLIMIT_CORE,
        T::RlimitRss => libc::RLIMIT_RSS,
        T::RlimitNproc => libc::RLIMIT_NPROC,
        T::RlimitNofile => libc::RLIMIT_NOFILE,
        T::RlimitMemlock => libc::RLIMIT_MEMLOCK,
        T::RlimitAs => libc::RLIMIT_AS,
        T::RlimitLocks => libc::RLIMIT_LOCKS,
        T::RlimitSigpending => libc::RLIMIT_SIGPENDING,
        T::RlimitMsgqueue => libc::RLIMIT_MSGQUEUE,
        T::RlimitNice => libc::RLIMIT_NICE,
        T::RlimitRtprio => libc::RLIMIT_RTPRIO,
        T::RlimitRttime => libc::RLIMIT_RTTIME,
    };
    number as usize
}
