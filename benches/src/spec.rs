//! The bundles that are run: runc's default specification, and one as docker makes it.

use crate::paths;
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;

/// Which specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// What `runc spec` writes.
    Default,
    /// Docker's capabilities, masked and read-only paths, and the seccomp profile of containers-common.
    Docker,
}

impl Kind {
    pub(crate) const ALL: [Self; 2] = [Self::Default, Self::Docker];

    /// Its name, also for the floor.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Docker => "docker",
        }
    }
}

/// Makes a bundle whose program is `args`, with busybox and the probe in its root.
pub(crate) fn bundle(dir: &Path, kind: Kind, args: &[&str]) -> Result<()> {
    let bin = dir.join("rootfs/bin");
    std::fs::create_dir_all(&bin)?;
    for name in ["busybox", "rtc-probe"] {
        std::fs::copy(Path::new("/usr/bin").join(name), bin.join(name)).context(name)?;
    }
    for name in ["sh", "true", "sleep"] {
        std::os::unix::fs::symlink("busybox", bin.join(name))?;
    }
    let output = Command::new("runc").args(["spec", "--bundle"]).arg(dir).output()?;
    anyhow::ensure!(output.status.success(), "runc spec: {}", String::from_utf8_lossy(&output.stderr));
    let path = dir.join("config.json");
    let mut spec: Value = serde_json::from_slice(&std::fs::read(&path)?)?;
    spec["process"]["terminal"] = false.into();
    spec["process"]["args"] = args.into();
    // The limit of runc's default spec can't be raised by a root without CAP_SYS_RESOURCE.
    spec["process"]["rlimits"] = json!([]);
    let (capabilities, masked, readonly) = match kind {
        Kind::Default => (paths::CAPABILITIES, paths::MASKED, paths::READONLY),
        Kind::Docker => (paths::DOCKER_CAPABILITIES, paths::DOCKER_MASKED, paths::DOCKER_READONLY),
    };
    let names: Vec<&str> = capabilities.iter().map(|(name, _)| *name).collect();
    spec["process"]["capabilities"] = json!({ "bounding": names, "effective": names, "permitted": names });
    spec["linux"]["maskedPaths"] = masked.into();
    spec["linux"]["readonlyPaths"] = readonly.into();
    if kind == Kind::Docker {
        spec["linux"]["seccomp"] = seccomp(&names)?;
    }
    std::fs::write(&path, serde_json::to_vec(&spec)?).context("config.json")
}

/// The profile of containers-common, resolved for capabilities as engines do it on x86-64.
fn seccomp(capabilities: &[&str]) -> Result<Value> {
    let source: Value = serde_json::from_str(include_str!("../../crates/runtime/testdata/podman-seccomp.json"))?;
    let entries = source["syscalls"].as_array().context("the profile has no syscalls")?;
    let mut rules = entries.iter().filter(|entry| applies(entry, capabilities)).cloned().collect::<Vec<_>>();
    for rule in rules.iter_mut().filter_map(Value::as_object_mut) {
        rule.retain(|key, value| matches!(key.as_str(), "names" | "action" | "args" | "errnoRet") && !value.is_null());
    }
    Ok(json!({
        "defaultAction": source["defaultAction"],
        "defaultErrnoRet": source["defaultErrnoRet"],
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": rules,
    }))
}

fn applies(entry: &Value, capabilities: &[&str]) -> bool {
    let list = |side: &str, key: &str| -> Vec<&str> {
        entry[side][key].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
    };
    let has = |capability: &&str| capabilities.contains(capability);
    let arches = list("includes", "arches");
    (arches.is_empty() || arches.contains(&"amd64"))
        && list("includes", "caps").iter().all(has)
        && !list("excludes", "caps").iter().any(has)
}
