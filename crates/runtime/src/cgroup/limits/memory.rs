//! `linux.resources.memory`.

use oci_spec::runtime::{LinuxMemory, LinuxResources};

use super::setting::{Missing, Setting, Value, invalid, limit};
use crate::Result;

pub(super) fn plan(memory: &LinuxMemory, plan: &mut Vec<Setting>) -> Result<()> {
    for (name, value) in [("limit", memory.limit()), ("swap", memory.swap()), ("reservation", memory.reservation())] {
        if let Some(value) = value.filter(|value| *value < -1) {
            return invalid(format!("memory.{name} {value} is neither a number of bytes nor -1"));
        }
    }
    // 0 is "not set" in all three.
    let set = |value: Option<i64>| value.filter(|value| *value != 0);
    if let Some(bytes) = set(memory.limit()) {
        plan.push(Setting::new("memory.limit", "memory.max", limit(bytes)));
    }
    swap(set(memory.limit()), set(memory.swap()), plan)?;
    if let Some(bytes) = set(memory.reservation()) {
        // "max" would protect everything: -1 means no reservation.
        plan.push(match bytes {
            -1 => Setting::new("memory.reservation", "memory.low", "0").ignore_missing(),
            _ => Setting::new("memory.reservation", "memory.low", limit(bytes)),
        });
    }
    warn_of_version_1(memory);
    Ok(())
}

/// `swap` is memory and swap together; memory.swap.max is swap alone.
fn swap(memory: Option<i64>, total: Option<i64>, plan: &mut Vec<Setting>) -> Result<()> {
    const FILE: &str = "memory.swap.max";
    match (memory, total) {
        // Lifting the memory limit lifts that of swap, as on version 1, where the sum can't be below the part.
        (Some(-1), None) => plan.push(Setting::new("memory.limit", FILE, "max")),
        (_, None) => {}
        (_, Some(-1)) => plan.push(Setting::new("memory.swap", FILE, "max")),
        // Of a sum without a limit of its part, swap can be all, as in runc and crun.
        (Some(-1), Some(total)) => plan.push(Setting::new("memory.swap", FILE, limit(total))),
        (None, Some(total)) => {
            plan.push(Setting::of("memory.swap", FILE, Value::SwapOf(total), Missing::Refuse));
        }
        (memory, Some(total)) => {
            let value = swap_value(memory, total)?;
            // A kernel without swap swaps nothing, as asked.
            let missing = if value == "0" { Missing::Ignore } else { Missing::Refuse };
            plan.push(Setting::of("memory.swap", FILE, Value::Text(value), missing));
        }
    }
    Ok(())
}

/// The sum of memory and swap that resources ask for, if any; a limit of swap alone (`unified`) is none.
pub(crate) fn memory_and_swap(resources: &LinuxResources) -> Option<i64> {
    let sum = resources.memory().as_ref().and_then(LinuxMemory::swap).filter(|sum| *sum > 0);
    sum.filter(|_| !limits_swap_alone(resources))
}

fn limits_swap_alone(resources: &LinuxResources) -> bool {
    resources.unified().as_ref().is_some_and(|files| files.contains_key("memory.swap.max"))
}

/// The sum that holds after an update, of `kept` before it. The update gets it where it has a memory limit alone: a
/// property that is left out keeps its value, and this one's value is the sum.
pub(crate) fn keep_memory_and_swap(update: &mut LinuxResources, kept: Option<i64>) -> Option<i64> {
    let mut memory = update.memory().unwrap_or_default();
    let set = |value: Option<i64>| value.filter(|value| *value != 0);
    match (set(memory.limit()), set(memory.swap())) {
        _ if limits_swap_alone(update) => None,
        (_, Some(_)) => memory_and_swap(update),
        (Some(-1), None) => None,
        (Some(_), None) if kept.is_some() => {
            memory.set_swap(kept);
            update.set_memory(Some(memory));
            kept
        }
        _ => kept,
    }
}

/// The swap limit below a sum of memory and swap. A memory limit of `None` or -1 is no limit.
pub(super) fn swap_value(memory: Option<i64>, total: i64) -> Result<String> {
    let Some(memory) = memory.filter(|memory| *memory >= 0) else {
        return invalid(format!("memory.swap {total} needs a memory limit"));
    };
    match total.checked_sub(memory).filter(|swap| *swap >= 0) {
        Some(swap) => Ok(swap.to_string()),
        None => invalid(format!(
            "memory.swap {total} is memory and swap together: it can't be below the memory limit {memory}"
        )),
    }
}

/// Properties that cgroup2 has no counterpart for and that runc too leaves out.
fn warn_of_version_1(memory: &LinuxMemory) {
    let ignored = [
        ("swappiness", memory.swappiness().is_some()),
        ("disableOOMKiller", memory.disable_oom_killer() == Some(true)),
        ("kernelTCP", memory.kernel_tcp().is_some_and(|limit| limit > 0)),
    ];
    for (name, _) in ignored.into_iter().filter(|(_, set)| *set) {
        log::warn!("linux.resources.memory.{name} has no effect with cgroup version 2");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_of_the_memory_limit_keeps_the_sum() {
        let cases = [
            (r#"{"memory": {"limit": 50}}"#, Some(96), Some(96), Some(96)),
            (r#"{"memory": {"limit": 50}}"#, None, None, None),
            (r#"{"memory": {"limit": 50, "swap": 70}}"#, Some(96), Some(70), Some(70)),
            (r#"{"memory": {"limit": 50, "swap": -1}}"#, Some(96), Some(-1), None),
            (r#"{"memory": {"limit": -1}}"#, Some(96), None, None),
            (r#"{"memory": {"limit": 50}, "unified": {"memory.swap.max": "0"}}"#, Some(96), None, None),
            (r#"{"memory": {"reservation": 5}}"#, Some(96), None, Some(96)),
            (r#"{"pids": {"limit": 5}}"#, Some(96), None, Some(96)),
        ];
        for (json, kept, swap, after) in cases {
            let mut update: LinuxResources = serde_json::from_str(json).unwrap();
            assert_eq!(keep_memory_and_swap(&mut update, kept), after, "{json}");
            assert_eq!(update.memory().as_ref().and_then(LinuxMemory::swap), swap, "{json}");
        }
    }
}
