//! `linux.memoryPolicy`: what it must not say, in the words that runc has for it.

use oci_spec::runtime::{LinuxMemoryPolicy, MemoryPolicyModeType as Mode};
use serde_json::Value;

/// The names of modes and flags (runtime-spec, config-linux, "Memory Policy").
pub(crate) const MODES: [&str; 7] = [
    "MPOL_BIND",
    "MPOL_DEFAULT",
    "MPOL_INTERLEAVE",
    "MPOL_LOCAL",
    "MPOL_PREFERRED",
    "MPOL_PREFERRED_MANY",
    "MPOL_WEIGHTED_INTERLEAVE",
];
pub(crate) const FLAGS: [&str; 3] = ["MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES"];

/// What is wrong with the names in a configuration that can't be parsed.
pub(super) fn complaint(spec: &Value) -> Option<String> {
    let policy = spec.pointer("/linux/memoryPolicy")?;
    let mode = policy.get("mode").and_then(Value::as_str).unwrap_or_default();
    if !MODES.contains(&mode) {
        return Some(format!("linux.memoryPolicy: invalid memory policy mode {mode:?}"));
    }
    let flags = policy.get("flags").and_then(Value::as_array).into_iter().flatten();
    let unknown = flags.map(|flag| flag.as_str().unwrap_or_default()).find(|flag| !FLAGS.contains(flag));
    unknown.map(|flag| format!("linux.memoryPolicy: invalid memory policy flag {flag:?}"))
}

/// Checks nodes against the mode.
pub(super) fn check(policy: &LinuxMemoryPolicy) -> Result<(), String> {
    let list = policy.nodes().as_deref().unwrap_or_default();
    let mask = crate::init::node_mask(list).map_err(|e| format!("linux.memoryPolicy: {e}"))?;
    let count: u32 = mask.iter().map(|word| word.count_ones()).sum();
    let wrong = match policy.mode() {
        Mode::MpolDefault | Mode::MpolLocal => (count != 0).then_some("0 nodes"),
        Mode::MpolPreferred => None,
        Mode::MpolBind | Mode::MpolInterleave | Mode::MpolPreferredMany | Mode::MpolWeightedInterleave => {
            (count == 0).then_some("at least one node")
        }
    };
    match wrong {
        Some(needed) => {
            Err(format!("linux.memoryPolicy: invalid memory policy: mode requires {needed} but got {count}"))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_nodes_are_checked() {
        let raw = |policy: &str| {
            let policy: Value = serde_json::from_str(policy).unwrap();
            complaint(&serde_json::json!({ "linux": { "memoryPolicy": policy } })).unwrap_or_default()
        };
        assert!(raw(r#"{"mode":"INTERLEAVE"}"#).ends_with("invalid memory policy mode \"INTERLEAVE\""));
        assert!(raw(r#"{"mode":"MPOL_BIND","flags":["MPOL_X"]}"#).ends_with("invalid memory policy flag \"MPOL_X\""));
        assert_eq!(raw(r#"{"mode":"MPOL_BIND"}"#), "");
        let nodes = |policy: &str| check(&serde_json::from_str(policy).unwrap()).err().unwrap_or_default();
        assert!(nodes(r#"{"mode":"MPOL_DEFAULT","nodes":"0-7"}"#).ends_with("mode requires 0 nodes but got 8"));
        assert!(nodes(r#"{"mode":"MPOL_BIND"}"#).ends_with("mode requires at least one node but got 0"));
        assert!(nodes(r#"{"mode":"MPOL_BIND","nodes":"a-b"}"#).contains("invalid memory policy node"));
        assert_eq!(nodes(r#"{"mode":"MPOL_PREFERRED","nodes":"1"}"#), "");
    }
}
