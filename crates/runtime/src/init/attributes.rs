//! What a process has besides its ids: limits, scheduling, priorities, policies.

use oci_spec::runtime::{
    IOPriorityClass, LinuxMemoryPolicy, LinuxPersonality, LinuxPersonalityDomain, LinuxSchedulerPolicy, PosixRlimit,
    PosixRlimitType, Process, Scheduler,
};
use rtc_sys::{CallExt, Errno, process, sched};
use rustix::process::{Resource, Rlimit};
use rustix::thread::CpuSet;

use crate::error::{Context, Error, Kind, Result};

/// Sets a resource limit of this process; `false` when that needs CAP_SYS_RESOURCE in the host's user namespace.
pub(crate) fn set_rlimit(limit: &PosixRlimit) -> Result<bool> {
    let (resource, wanted) = (resource(limit.typ()), wanted(limit));
    let result = rustix::process::setrlimit(resource, wanted).call("setrlimit", describe(limit));
    permitted(result)
}

/// Sets a resource limit of another process, in the same way.
pub(crate) fn set_rlimit_of(pid: i32, limit: &PosixRlimit) -> Result<bool> {
    let (resource, wanted) = (resource(limit.typ()), wanted(limit));
    let result = rustix::process::prlimit(rustix::process::Pid::from_raw(pid), resource, wanted);
    permitted(result.map(drop).call("prlimit", format_args!("{pid}, {}", describe(limit))))
}

/// Sets a resource limit of this process as high as it may. Gives a line that says so.
pub(crate) fn clamp_rlimit(limit: &PosixRlimit) -> Result<String> {
    let resource = resource(limit.typ());
    let allowed = rustix::process::getrlimit(resource).maximum.unwrap_or(u64::MAX);
    let value = |n: u64| Some(n.min(allowed)).filter(|n| *n != u64::MAX);
    let clamped = Rlimit { current: value(limit.soft()), maximum: value(limit.hard()) };
    rustix::process::setrlimit(resource, clamped).call("setrlimit", describe(limit)).context(|| "process.rlimits")?;
    Ok(format!("{:?} is set to {allowed}, not {}: no CAP_SYS_RESOURCE", limit.typ(), limit.hard()))
}

fn permitted(result: rtc_sys::Result<()>) -> Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(e) if e.errno() == Errno::EPERM => Ok(false),
        Err(e) => Err(Error::from(e).context("process.rlimits")),
    }
}

fn wanted(limit: &PosixRlimit) -> Rlimit {
    let value = |n: u64| (n != u64::MAX).then_some(n);
    Rlimit { current: value(limit.soft()), maximum: value(limit.hard()) }
}

fn describe(limit: &PosixRlimit) -> String {
    format!("{:?}, {}, {}", limit.typ(), limit.soft(), limit.hard())
}

fn resource(kind: PosixRlimitType) -> Resource {
    use PosixRlimitType as T;
    match kind {
        T::RlimitCpu => Resource::Cpu,
        T::RlimitFsize => Resource::Fsize,
        T::RlimitData => Resource::Data,
        T::RlimitStack => Resource::Stack,
        T::RlimitCore => Resource::Core,
        T::RlimitRss => Resource::Rss,
        T::RlimitNproc => Resource::Nproc,
        T::RlimitNofile => Resource::Nofile,
        T::RlimitMemlock => Resource::Memlock,
        T::RlimitAs => Resource::As,
        T::RlimitLocks => Resource::Locks,
        T::RlimitSigpending => Resource::Sigpending,
        T::RlimitMsgqueue => Resource::Msgqueue,
        T::RlimitNice => Resource::Nice,
        T::RlimitRtprio => Resource::Rtprio,
        T::RlimitRttime => Resource::Rttime,
    }
}

/// Sets scheduling and I/O priority, while there is the privilege for it.
pub(crate) fn set_scheduling(process: &Process) -> Result<()> {
    if let Some(scheduler) = process.scheduler() {
        sched::set_attributes(&scheduling(scheduler)).context(|| "process.scheduler")?;
    }
    if let Some(priority) = process.io_priority() {
        let class = match priority.class() {
            IOPriorityClass::IoprioClassRt => 1,
            IOPriorityClass::IoprioClassBe => 2,
            IOPriorityClass::IoprioClassIdle => 3,
        };
        let level = u32::try_from(priority.priority()).unwrap_or(u32::MAX);
        sched::set_io_priority(class, level).context(|| "process.ioPriority")?;
    }
    Ok(())
}

fn scheduling(scheduler: &Scheduler) -> sched::Attributes {
    use LinuxSchedulerPolicy as P;
    use oci_spec::runtime::LinuxSchedulerFlag as F;
    let policy = match scheduler.policy() {
        P::SchedOther => 0,
        P::SchedFifo => 1,
        P::SchedRr => 2,
        P::SchedBatch => 3,
        P::SchedIso => 4,
        P::SchedIdle => 5,
        P::SchedDeadline => 6,
    };
    let flag = |flag: &F| match flag {
        F::SchedResetOnFork => 0x01,
        F::SchedFlagReclaim => 0x02,
        F::SchedFlagDLOverrun => 0x04,
        F::SchedFlagKeepPolicy => 0x08,
        F::SchedFlagKeepParams => 0x10,
        F::SchedFlagUtilClampMin => 0x20,
        F::SchedFlagUtilClampMax => 0x40,
    };
    sched::Attributes {
        policy,
        flags: scheduler.flags().iter().flatten().map(flag).fold(0, |all, flag| all | flag),
        nice: scheduler.nice().unwrap_or(0),
        priority: u32::try_from(scheduler.priority().unwrap_or(0)).unwrap_or(0),
        runtime: scheduler.runtime().unwrap_or(0),
        deadline: scheduler.deadline().unwrap_or(0),
        period: scheduler.period().unwrap_or(0),
    }
}

/// Sets the CPUs the process may run on: those of a list like `0-3,7`, or, without one, all that its cgroup allows.
///
/// The caller's own mask must not be inherited: the cgroup's cpuset is the container's.
pub(crate) fn set_affinity(list: Option<&str>) -> Result<()> {
    let mut cpus = CpuSet::new();
    match list {
        Some(list) => {
            let mask = bits(list, CpuSet::MAX_CPU).ok_or_else(|| {
                Error::new(Kind::Invalid, format!("process.execCPUAffinity: {list:?} is not a list of CPUs"))
            })?;
            (0..CpuSet::MAX_CPU)
                .filter(|cpu| mask.get(cpu / 64).is_some_and(|word| word >> (cpu % 64) & 1 == 1))
                .for_each(|cpu| cpus.set(cpu));
        }
        None => (0..CpuSet::MAX_CPU).for_each(|cpu| cpus.set(cpu)),
    }
    rustix::thread::sched_setaffinity(None, &cpus)
        .call("sched_setaffinity", list.unwrap_or("all"))
        .context(|| "process.execCPUAffinity")
}

/// Sets the execution domain.
pub(crate) fn set_personality(personality: &LinuxPersonality) -> Result<()> {
    // linux/personality.h: PER_LINUX, PER_LINUX32.
    let domain = match personality.domain() {
        LinuxPersonalityDomain::PerLinux => 0,
        LinuxPersonalityDomain::PerLinux32 => 8,
    };
    process::set_personality(domain).context(|| "linux.personality")
}

/// Sets the NUMA policy, inherited by the program.
pub(crate) fn set_memory_policy(policy: &LinuxMemoryPolicy) -> Result<()> {
    use oci_spec::runtime::{MemoryPolicyFlagType as F, MemoryPolicyModeType as M};
    // linux/mempolicy.h.
    let mode = match policy.mode() {
        M::MpolDefault => 0,
        M::MpolPreferred => 1,
        M::MpolBind => 2,
        M::MpolInterleave => 3,
        M::MpolLocal => 4,
        M::MpolPreferredMany => 5,
        M::MpolWeightedInterleave => 6,
    };
    let flag = |flag: &F| match flag {
        F::MpolFStaticNodes => 1 << 15,
        F::MpolFRelativeNodes => 1 << 14,
        F::MpolFNumaBalancing => 1 << 13,
    };
    let flags = policy.flags().iter().flatten().map(flag).fold(0, |all, flag| all | flag);
    let nodes = match policy.nodes() {
        Some(list) => node_mask(list)?,
        None => Vec::new(),
    };
    process::set_memory_policy(mode | flags, &nodes).context(|| "linux.memoryPolicy")
}

/// The bits of a list of NUMA nodes.
pub(crate) fn node_mask(list: &str) -> Result<Vec<u64>> {
    // As many as any kernel has (MAX_NUMNODES).
    bits(list, 1024).ok_or_else(|| Error::new(Kind::Invalid, format!("invalid memory policy node: {list:?}")))
}

/// The bits of a list like `0-3,7` of numbers below `limit`.
fn bits(list: &str, limit: usize) -> Option<Vec<u64>> {
    let mut mask = Vec::new();
    for part in list.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last >= limit {
            return None;
        }
        for number in first..=last {
            if mask.len() <= number / 64 {
                mask.resize(number / 64 + 1, 0);
            }
            mask[number / 64] |= 1 << (number % 64);
        }
    }
    Some(mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_lists_become_bits() {
        assert_eq!(node_mask("0-2,5").unwrap(), [0b10_0111]);
        assert_eq!(node_mask("64").unwrap(), [0, 1]);
        assert!(node_mask("3-1").unwrap_err().to_string().contains("invalid memory policy node"));
        assert!(node_mask("99999999").is_err());
    }
}
