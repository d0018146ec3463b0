//! What a process has besides its ids: limits, scheduling, priorities, policies.

use oci_spec::runtime::{
    IOPriorityClass, LinuxMemoryPolicy, LinuxPersonality, LinuxPersonalityDomain, LinuxSchedulerPolicy, PosixRlimit,
    PosixRlimitType, Process, Scheduler,
};
use rtc_sys::process::{self, SchedAttr};
use rtc_sys::{CallExt, Errno};
use rustix::process::{Resource, Rlimit};

use crate::error::{Context, Error, Kind, Result};

/// Sets the resource limits. Gives a line for each that the caller has no privilege to set in full.
///
/// Raising a hard limit needs CAP_SYS_RESOURCE; without it the limit becomes as high as allowed.
pub(crate) fn set_rlimits(limits: &[PosixRlimit]) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    for limit in limits {
        let resource = resource(limit.typ());
        let value = |n: u64| (n != u64::MAX).then_some(n);
        let wanted = Rlimit { current: value(limit.soft()), maximum: value(limit.hard()) };
        let name = format!("{:?}", limit.typ());
        match set(resource, wanted, &name) {
            Ok(()) => {}
            Err(e) if e.errno() == Errno::EPERM => {
                let allowed = rustix::process::getrlimit(resource).maximum;
                let clamp = |n: Option<u64>| match (n, allowed) {
                    (Some(n), Some(allowed)) => Some(n.min(allowed)),
                    (n, None) => n,
                    (None, allowed) => allowed,
                };
                let clamped = Rlimit { current: clamp(wanted.current), maximum: clamp(wanted.maximum) };
                set(resource, clamped, &name).context(|| "process.rlimits")?;
                let allowed = allowed.map_or("unlimited".to_owned(), |n| n.to_string());
                warnings.push(format!("{name} is set to {allowed}, not {}: no CAP_SYS_RESOURCE", limit.hard()));
            }
            Err(e) => return Err(Error::from(e).context("process.rlimits")),
        }
    }
    Ok(warnings)
}

fn set(resource: Resource, limit: Rlimit, name: &str) -> rtc_sys::Result<()> {
    let describe = format!("{name}, {:?}, {:?}", limit.current, limit.maximum);
    rustix::process::setrlimit(resource, limit).call("setrlimit", describe)
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
        process::sched_setattr(&scheduling(scheduler)).context(|| "process.scheduler")?;
    }
    if let Some(priority) = process.io_priority() {
        let class = match priority.class() {
            IOPriorityClass::IoprioClassRt => 1,
            IOPriorityClass::IoprioClassBe => 2,
            IOPriorityClass::IoprioClassIdle => 3,
        };
        let level = u32::try_from(priority.priority()).unwrap_or(u32::MAX);
        if level > 7 {
            let message = format!("process.ioPriority: priority {} is not in 0 to 7", priority.priority());
            return Err(Error::new(Kind::Invalid, message));
        }
        process::set_io_priority(class, level).context(|| "process.ioPriority")?;
    }
    Ok(())
}

fn scheduling(scheduler: &Scheduler) -> SchedAttr {
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
    SchedAttr {
        policy,
        flags: scheduler.flags().iter().flatten().map(flag).fold(0, |all, flag| all | flag),
        nice: scheduler.nice().unwrap_or(0),
        priority: u32::try_from(scheduler.priority().unwrap_or(0)).unwrap_or(0),
        runtime: scheduler.runtime().unwrap_or(0),
        deadline: scheduler.deadline().unwrap_or(0),
        period: scheduler.period().unwrap_or(0),
    }
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

/// The bits of a list like `0-3,7`.
fn node_mask(list: &str) -> Result<Vec<u64>> {
    const MOST: usize = 1024;
    let bad = || Error::new(Kind::Invalid, format!("invalid memory policy node: {list:?}"));
    let mut mask = Vec::new();
    for part in list.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().map_err(|_| bad())?, last.parse().map_err(|_| bad())?);
        if first > last || last >= MOST {
            return Err(bad());
        }
        for node in first..=last {
            if mask.len() <= node / 64 {
                mask.resize(node / 64 + 1, 0);
            }
            mask[node / 64] |= 1 << (node % 64);
        }
    }
    Ok(mask)
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
