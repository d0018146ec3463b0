//! Where a container's cgroup is, and who manages it: decided from config.json and the command line, kept in the state.

use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Scope;
use crate::{Error, Kind, Result};

/// Who makes and removes the cgroup of a container.
///
/// Chosen at create (`--systemd-cgroup`, `--cgroup-manager`) and kept in the container's state: no later command has the
/// option.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CgroupManager {
    /// rtc itself, by the cgroup2 file system.
    #[default]
    Cgroupfs,
    /// systemd, asked over its bus for a transient scope.
    Systemd,
    /// Nobody: the container stays in the cgroup of the caller.
    Disabled,
}

/// The cgroup of a container, as data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// Who manages it.
    pub manager: CgroupManager,
    /// The path from the root of the hierarchy, absolute and without `.` and `..`.
    pub path: PathBuf,
    /// The scope of systemd that it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// The cgroup below the container's in which its processes live, the container's cgroup namespace being rooted above,
    /// for annotation `run.oci.delegate-cgroup`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delegated: Option<PathBuf>,
}

impl Placement {
    /// Decides from `linux.cgroupsPath` of config.json (OCI config-linux, "Cgroups Path").
    ///
    /// An absolute path is taken from the root of the hierarchy; a relative one from the parent of the cgroup that this
    /// process is in, as runc does; none or an empty one means `/ID`.
    /// `..` can't climb above the root.
    /// For systemd it is `slice:prefix:name` ([`Scope::parse`]), and `path` is where the system's systemd will put it.
    /// `None` when the manager is [`CgroupManager::Disabled`].
    ///
    /// # Errors
    /// `Kind::Invalid` for a path that the manager can't use; or `/proc/self/cgroup` can't be read.
    pub fn resolve(manager: CgroupManager, cgroups_path: Option<&Path>, id: &str) -> Result<Option<Self>> {
        match manager {
            CgroupManager::Disabled => return Ok(None),
            CgroupManager::Systemd => {
                let text = cgroups_path.unwrap_or(Path::new("")).to_string_lossy();
                let scope = Scope::parse(&text, id, false)?;
                return Ok(Some(Self { manager, path: scope.path()?, scope: Some(scope), delegated: None }));
            }
            CgroupManager::Cgroupfs => {}
        }
        let wanted = cgroups_path.unwrap_or(Path::new(""));
        if wanted.as_os_str().as_encoded_bytes().iter().any(|b| matches!(b, 0 | b'\n')) {
            return Err(Error::new(Kind::Invalid, format!("linux.cgroupsPath {wanted:?} holds a NUL or newline")));
        }
        let path = if wanted.as_os_str().is_empty() {
            normalize(Path::new(id))
        } else if wanted.is_absolute() {
            normalize(wanted)
        } else {
            let own = super::membership::own_path()?;
            normalize(&own.parent().unwrap_or(Path::new("/")).join(wanted))
        };
        if path == Path::new("/") {
            return Err(Error::new(Kind::Invalid, format!("linux.cgroupsPath {wanted:?} names the root cgroup")));
        }
        Ok(Some(Self { manager, path, scope: None, delegated: None }))
    }
}

/// Makes a path absolute, resolving `.` and `..` by their letters alone, not above the root.
pub(super) fn normalize(path: &Path) -> PathBuf {
    let mut result = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => result.push(name),
            Component::ParentDir => {
                result.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(cgroups_path: &str, id: &str) -> String {
        let placement = Placement::resolve(CgroupManager::Cgroupfs, Some(Path::new(cgroups_path)), id).unwrap();
        placement.unwrap().path.display().to_string()
    }

    #[test]
    fn absolute_paths_count_from_the_root_of_the_hierarchy() {
        assert_eq!(path("/machine/web1", "web1"), "/machine/web1");
        assert_eq!(path("/a/./b//c/", "x"), "/a/b/c");
        assert_eq!(path("/../../a/../b", "x"), "/b");
    }

    #[test]
    fn no_path_means_the_id() {
        assert_eq!(path("", "web1"), "/web1");
        let none = Placement::resolve(CgroupManager::Cgroupfs, None, "web1").unwrap().unwrap();
        assert_eq!(none.path, Path::new("/web1"));
    }

    #[test]
    fn disabled_has_no_place() {
        assert_eq!(Placement::resolve(CgroupManager::Disabled, Some(Path::new("/a")), "a").unwrap(), None);
    }

    #[test]
    fn the_root_cgroup_and_broken_paths_are_refused() {
        for bad in ["/", "/..", "/a/..", "/a\nb"] {
            let error = Placement::resolve(CgroupManager::Cgroupfs, Some(Path::new(bad)), "x").unwrap_err();
            assert_eq!(*error.kind(), Kind::Invalid, "{bad:?}");
        }
    }

    #[test]
    fn the_state_file_form_is_stable() {
        let placement =
            Placement { manager: CgroupManager::Cgroupfs, path: "/a/b".into(), scope: None, delegated: None };
        let text = serde_json::to_string(&placement).unwrap();
        assert_eq!(text, r#"{"manager":"cgroupfs","path":"/a/b"}"#);
        assert_eq!(serde_json::from_str::<Placement>(&text).unwrap(), placement);
        let placement = Placement::resolve(CgroupManager::Systemd, Some(Path::new("a-b.slice:p:c")), "x").unwrap();
        let text = serde_json::to_string(&placement).unwrap();
        let path = "/a.slice/a-b.slice/p-c.scope";
        let scope = r#"{"unit":"p-c.scope","slice":"a-b.slice"}"#;
        assert_eq!(text, format!(r#"{{"manager":"systemd","path":"{path}","scope":{scope}}}"#));
        assert_eq!(serde_json::from_str::<Option<Placement>>(&text).unwrap(), placement);
    }
}
