//! What the shim itself needs of a bundle's config.json.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Deserialize;

use crate::fault::{Fault, Result};

/// The annotations that put several containers under one shim, the first one first: containerd's own, and the pod's.
const GROUPS: [&str; 2] = ["io.containerd.runc.v2.group", "io.kubernetes.cri.sandbox-id"];

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Config {
    annotations: BTreeMap<String, String>,
    linux: Linux,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Linux {
    namespaces: Vec<Namespace>,
    cgroups_path: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Namespace {
    #[serde(rename = "type")]
    kind: String,
    path: String,
}

impl Config {
    pub(crate) fn load(bundle: &Path) -> Result<Self> {
        let path = bundle.join("config.json");
        let bytes = fs::read(&path).map_err(|e| Fault::from(e).while_doing(&format!("read {}", path.display())))?;
        Ok(serde_json::from_slice(&bytes)?)
    }

    /// The container under whose shim this one belongs, if it is another's.
    pub(crate) fn group(&self) -> Option<&str> {
        GROUPS.iter().find_map(|name| self.annotations.get(*name)).map(String::as_str).filter(|id| !id.is_empty())
    }

    /// Whether the kernel ends all processes of the container with its first one.
    pub(crate) fn has_own_pids(&self) -> bool {
        self.linux.namespaces.iter().any(|namespace| namespace.kind == "pid" && namespace.path.is_empty())
    }

    /// Whether cgroupsPath is in systemd's form, `slice:prefix:name`: no path of a directory looks like it.
    pub(crate) fn has_systemd_path(&self) -> bool {
        let path = &self.linux.cgroups_path;
        !path.contains('/') && path.split(':').count() == 3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(json: &str) -> Config {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_pod_names_its_group() {
        let json = r#"{"annotations": {"io.kubernetes.cri.sandbox-id": "pod1"}, "process": {"args": ["x"]}}"#;
        assert_eq!(config(json).group(), Some("pod1"));
        assert_eq!(config("{}").group(), None);
    }

    #[test]
    fn a_pid_namespace_by_path_is_not_its_own() {
        let own = config(r#"{"linux": {"namespaces": [{"type": "mount"}, {"type": "pid"}]}}"#);
        let joined = config(r#"{"linux": {"namespaces": [{"type": "pid", "path": "/proc/1/ns/pid"}]}}"#);
        assert_eq!((own.has_own_pids(), joined.has_own_pids(), config("{}").has_own_pids()), (true, false, false));
    }

    #[test]
    fn systemd_s_form_of_a_cgroup_path_is_known() {
        let with = |path: &str| config(&format!(r#"{{"linux": {{"cgroupsPath": "{path}"}}}}"#)).has_systemd_path();
        assert!(with("system.slice:cri:abc"));
        assert!(!with("/default/web"));
        assert!(!with("/a:b:c"));
        assert!(!with(""));
    }
}
