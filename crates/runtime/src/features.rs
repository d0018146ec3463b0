//! What `rtc features` prints: the OCI features document (runtime-spec, features.md and features-linux.md).
//!
//! Engines read it to know what they may put into config.json, so it claims what this build does and nothing else.
//! It doesn't say what the kernel can, save for the flags of seccomp, where the document asks for both.

use rtc_sys::seccomp as kernel;
use serde_json::{Value, json};

use crate::spec::memory_policy;

/// Versions of the specification that config.json may have.
const OCI_VERSION_MIN: &str = "1.0.0";
const OCI_VERSION_MAX: &str = "1.3.0";

const HOOKS: [&str; 6] = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

const NAMESPACES: [&str; 8] = ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"];

const SECCOMP_ACTIONS: [&str; 9] = [
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_TRAP",
];

const SECCOMP_OPERATORS: [&str; 7] =
    ["SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT", "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE"];

const SECCOMP_ARCHS: &[&str] = if cfg!(target_arch = "x86_64") {
    &["SCMP_ARCH_X32", "SCMP_ARCH_X86", "SCMP_ARCH_X86_64"]
} else {
    &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]
};

/// Flags of config.json, with what the kernel must know for each; TSYNC is accepted and has no effect.
const SECCOMP_FLAGS: [(&str, u32); 4] = [
    ("SECCOMP_FILTER_FLAG_LOG", kernel::FLAG_LOG),
    ("SECCOMP_FILTER_FLAG_SPEC_ALLOW", kernel::FLAG_SPEC_ALLOW),
    ("SECCOMP_FILTER_FLAG_TSYNC", 0),
    ("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", kernel::FLAG_WAIT_KILLABLE_RECV | kernel::FLAG_NEW_LISTENER),
];

/// Prefixes, and names, of annotations that change what rtc does (features.md, "Unsafe annotations").
const UNSAFE_ANNOTATIONS: [&str; 4] = ["bundle", "org.criu.config", "org.systemd.property.", "run.oci."];

/// The features document of this build on this kernel.
pub fn features() -> Value {
    json!({
        "ociVersionMin": OCI_VERSION_MIN,
        "ociVersionMax": OCI_VERSION_MAX,
        "hooks": HOOKS,
        "mountOptions": crate::known_mount_options(),
        "linux": linux(),
        "potentiallyUnsafeConfigAnnotations": UNSAFE_ANNOTATIONS,
        "annotations": {
            // The keys that engines look for, of whatever runtime. Versions of others are not claimed.
            "org.opencontainers.runc.checkpoint.enabled": "true",
            "run.oci.crun.checkpoint.enabled": "true",
            "run.rtc.checkpoint.enabled": "true",
            "run.rtc.version": env!("CARGO_PKG_VERSION"),
        },
    })
}

fn linux() -> Value {
    let mut capabilities: Vec<caps::Capability> = caps::all().into_iter().collect();
    capabilities.sort_unstable_by_key(caps::Capability::index);
    let capabilities: Vec<String> = capabilities.iter().map(ToString::to_string).collect();
    json!({
        "namespaces": NAMESPACES,
        "capabilities": capabilities,
        "cgroup": { "v1": false, "v2": true, "systemd": true, "systemdUser": true, "rdma": true },
        "seccomp": seccomp(),
        "apparmor": { "enabled": true },
        "selinux": { "enabled": true },
        "intelRdt": { "enabled": true, "schemata": true, "monitoring": true },
        "memoryPolicy": { "modes": memory_policy::MODES, "flags": memory_policy::FLAGS },
        "mountExtensions": { "idmap": { "enabled": true } },
        "netDevices": { "enabled": true },
    })
}

fn seccomp() -> Value {
    let known: Vec<&str> = SECCOMP_FLAGS.iter().map(|(name, _)| *name).collect();
    let supported = SECCOMP_FLAGS.iter().filter(|(_, bits)| *bits == 0 || kernel::knows_flags(*bits));
    let supported: Vec<&str> = supported.map(|(name, _)| *name).collect();
    json!({
        "enabled": true,
        "actions": SECCOMP_ACTIONS,
        "operators": SECCOMP_OPERATORS,
        "archs": SECCOMP_ARCHS,
        "knownFlags": known,
        "supportedFlags": supported,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::{Features, LinuxSeccomp};

    #[test]
    fn the_document_is_one_of_the_specification() {
        let features: Features = serde_json::from_value(features()).unwrap();
        let linux = features.linux().as_ref().unwrap();
        assert_eq!(linux.namespaces().as_ref().unwrap().len(), NAMESPACES.len());
        assert!(linux.capabilities().as_ref().unwrap().len() >= 41);
    }

    /// Each thing that is claimed compiles.
    #[test]
    fn what_is_claimed_of_seccomp_works() {
        let claimed = seccomp();
        let list = |key: &str| claimed[key].as_array().unwrap().clone();
        for flag in list("supportedFlags") {
            for action in list("actions") {
                for op in list("operators") {
                    let profile = json!({
                        "defaultAction": "SCMP_ACT_ERRNO", "architectures": claimed["archs"], "flags": [flag],
                        "listenerPath": "/agent",
                        "syscalls": [{"names": ["mkdirat"], "action": action,
                                      "args": [{"index": 0, "value": 1, "valueTwo": 1, "op": op}]}],
                    });
                    let profile: LinuxSeccomp = serde_json::from_value(profile).unwrap();
                    crate::seccomp::compile(&profile).unwrap();
                }
            }
        }
    }
}
