//! The profile that podman ships, resolved for a container as podman does it.

use oci_spec::runtime::LinuxSeccomp;
use serde_json::{Value, json};

/// What podman leaves a container by default.
pub(crate) const DEFAULT_CAPABILITIES: [&str; 11] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// The profile as it stands in config.json on x86-64.
pub(crate) fn profile(capabilities: &[&str]) -> LinuxSeccomp {
    let source: Value = serde_json::from_str(include_str!("../../../testdata/podman-seccomp.json")).unwrap();
    let syscalls: Vec<Value> = source["syscalls"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|entry| applies(entry, capabilities))
        .map(|entry| {
            let mut entry = entry.clone();
            entry.as_object_mut().unwrap().retain(|key, value| {
                matches!(key.as_str(), "names" | "action" | "args" | "errnoRet") && !value.is_null()
            });
            entry
        })
        .collect();
    serde_json::from_value(json!({
        "defaultAction": source["defaultAction"],
        "defaultErrnoRet": source["defaultErrnoRet"],
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": syscalls,
    }))
    .unwrap()
}

fn applies(entry: &Value, capabilities: &[&str]) -> bool {
    let list =
        |side: &str, key: &str| -> Vec<String> { serde_json::from_value(entry[side][key].clone()).unwrap_or_default() };
    let has = |capability: &String| capabilities.contains(&capability.as_str());
    let arches = list("includes", "arches");
    (arches.is_empty() || arches.iter().any(|arch| arch == "amd64"))
        && list("includes", "caps").iter().all(has)
        && !list("excludes", "caps").iter().any(has)
}
