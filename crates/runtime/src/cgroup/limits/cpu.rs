//! `linux.resources.cpu`: the cpu and cpuset controllers.

use oci_spec::runtime::LinuxCpu;

use super::setting::{Missing, Setting, Value, invalid};
use crate::Result;

pub(super) fn plan(cpu: &LinuxCpu, plan: &mut Vec<Setting>) -> Result<()> {
    if cpu.realtime_runtime().is_some_and(|us| us != 0) || cpu.realtime_period().is_some_and(|us| us != 0) {
        return invalid("cpu.realtimeRuntime and realtimePeriod need cgroup version 1");
    }
    check(cpu)?;
    // Before the weight: a cgroup that is idle refuses weights.
    if let Some(idle) = cpu.idle() {
        plan.push(Setting::new("cpu.idle", "cpu.idle", idle.to_string()));
    }
    if let Some(shares) = cpu.shares().filter(|shares| *shares != 0) {
        plan.push(Setting::new("cpu.shares", "cpu.weight", weight(shares).to_string()));
    }
    // Burst may not exceed the quota: first while the old quota holds, else after the new one.
    if let Some(burst) = cpu.burst() {
        plan.push(Setting::new("cpu.burst", "cpu.max.burst", burst.to_string()).may_be_early());
    }
    bandwidth(cpu, plan);
    for (property, file, list) in [("cpu.cpus", "cpuset.cpus", cpu.cpus()), ("cpu.mems", "cpuset.mems", cpu.mems())] {
        if let Some(list) = list.as_ref().filter(|list| !list.is_empty()) {
            plan.push(Setting::new(property, file, list.clone()));
        }
    }
    Ok(())
}

/// What the kernel would refuse only after systemd has taken it (kernel/sched/core.c, `tg_set_cfs_bandwidth`).
fn check(cpu: &LinuxCpu) -> Result<()> {
    if let Some(idle) = cpu.idle().filter(|idle| !matches!(idle, 0 | 1)) {
        return invalid(format!("cpu.idle {idle} is neither 0 nor 1"));
    }
    if let Some(us) = cpu.quota().filter(|us| (1..1000).contains(us)) {
        return invalid(format!("cpu.quota {us} is below 1000 microseconds"));
    }
    match cpu.period().filter(|us| *us != 0 && !(1000..=1_000_000).contains(us)) {
        Some(us) => invalid(format!("cpu.period {us} is not between 1000 and 1000000 microseconds")),
        None => Ok(()),
    }
}

/// cpu.max is `QUOTA PERIOD`, in microseconds. Written alone, a quota keeps the period that is set.
fn bandwidth(cpu: &LinuxCpu, plan: &mut Vec<Setting>) {
    let quota = cpu.quota().filter(|us| *us != 0).map(super::setting::limit);
    let period = cpu.period().filter(|us| *us != 0);
    match (quota, period) {
        (None, None) => {}
        (Some(quota), None) => plan.push(Setting::new("cpu.quota", "cpu.max", quota)),
        (Some(quota), Some(period)) => {
            plan.push(Setting::new("cpu.quota", "cpu.max", format!("{quota} {period}")));
        }
        (None, Some(period)) => {
            plan.push(Setting::of("cpu.period", "cpu.max", Value::Period(period), Missing::Refuse));
        }
    }
}

/// Shares of version 1 (2 to 262144, 1024 by default) as a weight of version 2 (1 to 10000, 100 by default).
///
/// The curve goes through all three points: `10^((l^2 + 125 l) / 612 - 7/34)` with l the binary logarithm of the shares.
pub(super) fn weight(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let l = (shares as f64).log2();
            let exponent = l.mul_add(l, 125.0 * l) / 612.0 - 7.0 / 34.0;
            (10f64.powf(exponent) + 0.99) as u64
        }
    }
}

#[cfg(test)]
mod tests {
    use super::weight;

    #[test]
    fn the_curve_meets_both_ranges_and_both_defaults() {
        let table = [(1, 1), (2, 1), (1024, 100), (262_143, 10_000), (262_144, 10_000), (u64::MAX, 10_000)];
        for (shares, expected) in table {
            assert_eq!(weight(shares), expected, "{shares} shares");
        }
        let all: Vec<u64> = (2..=18).map(|power| weight(1 << power)).collect();
        assert!(all.windows(2).all(|pair| pair[0] < pair[1]), "not rising: {all:?}");
    }
}
