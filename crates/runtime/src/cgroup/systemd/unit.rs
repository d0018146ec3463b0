//! Names of units, and where systemd puts their cgroups. Pure.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{Error, Kind, Result};

/// Longest name of a unit (systemd, `UNIT_NAME_MAX`).
const LONGEST: usize = 255;

/// The scope of a container, or its slice, as data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    /// The unit that is the container's cgroup: `libpod-0123.scope`, `pod-a.slice`.
    pub unit: String,
    /// The slice it is in: `machine.slice`.
    pub slice: String,
    /// Where the unit is a slice, the scope in it that holds the container's processes: slices hold none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inner: Option<String>,
    /// Whether it is the user's own systemd that is asked, and not the system's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub user: bool,
    /// The cgroup below the scope in which the container lives, for annotation `run.oci.systemd.subgroup`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub below: Option<PathBuf>,
}

impl Scope {
    /// Reads `linux.cgroupsPath` as engines write it for systemd: `slice:prefix:name`.
    ///
    /// A name that ends in `.slice` is a slice of the container's own, in which its scope is then `PREFIX-ID.scope`.
    /// Without a path the unit is `rtc-ID.scope`; an empty slice is `system.slice`, for a user's systemd `user.slice`.
    ///
    /// # Errors
    /// `Kind::Invalid` with `expected cgroupsPath to be of format "slice:prefix:name" for systemd cgroups`, or with the
    /// slice's or unit's name that systemd doesn't take.
    pub fn parse(cgroups_path: &str, id: &str, user: bool) -> Result<Self> {
        let (slice, prefix, name) = if cgroups_path.is_empty() {
            ("", "rtc", id)
        } else {
            let parts: Vec<&str> = cgroups_path.split(':').collect();
            let [slice, prefix, name] = parts[..] else {
                let message = format!(
                    "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got \
                     {cgroups_path:?} instead"
                );
                return Err(Error::new(Kind::Invalid, message)
                    .with_hint("write it so, or leave out --systemd-cgroup for a path of the file system"));
            };
            (slice, prefix, if name.is_empty() { id } else { name })
        };
        let slice = match slice {
            "" if user => "user.slice",
            "" => "system.slice",
            slice => slice,
        };
        slice_path(slice)?;
        if name.ends_with(".slice") {
            let inner = Some(unit(prefix, id)?);
            return Ok(Self { unit: own_slice(slice, name)?, slice: slice.to_owned(), inner, user, below: None });
        }
        Ok(Self { unit: unit(prefix, name)?, slice: slice.to_owned(), inner: None, user, below: None })
    }

    /// Where the scope's cgroup is, below the cgroup of the systemd that is asked.
    ///
    /// # Errors
    /// The slice has no valid name.
    pub fn path(&self) -> Result<PathBuf> {
        if self.inner.is_some() {
            return slice_path(&self.unit);
        }
        Ok(slice_path(&self.slice)?.join(&self.unit))
    }

    /// The unit that holds the container's processes.
    #[must_use]
    pub fn holds(&self) -> &str {
        self.inner.as_deref().unwrap_or(&self.unit)
    }

    /// Where the container lives, below the cgroup of [`Self::unit`]; empty for that itself.
    #[must_use]
    pub fn home(&self) -> PathBuf {
        [self.inner.as_ref().map(PathBuf::from), self.below.clone()].into_iter().flatten().collect()
    }
}

/// The scope's name: `PREFIX-NAME.scope`.
fn unit(prefix: &str, name: &str) -> Result<String> {
    let name = name.strip_suffix(".scope").unwrap_or(name);
    let mut unit = String::with_capacity(name.len() + prefix.len() + 8);
    unit.push_str(prefix);
    if !prefix.is_empty() {
        unit.push('-');
    }
    // Ids may hold a plus, names of units may not; systemd escapes bytes so (systemd-escape(1)).
    unit += &name.replace('+', "\\x2b");
    unit.push_str(".scope");
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '-' | '_' | '.' | '\\' | '@');
    if unit.len() > LONGEST || unit == ".scope" || !unit.chars().all(allowed) {
        return Err(Error::new(Kind::Invalid, format!("cgroupsPath: {unit:?} is no name for a systemd unit")));
    }
    Ok(unit)
}

/// A slice as the container's unit: where it is says its name, so the name must agree with the slice in front of it.
fn own_slice(slice: &str, name: &str) -> Result<String> {
    let path = slice_path(name)?;
    if name == "-.slice" || path.parent() != Some(&slice_path(slice)?) {
        let stem = slice.trim_end_matches(".slice").trim_start_matches('-');
        let message = format!("cgroupsPath: {name:?} is not a slice in {slice:?}");
        let example = if stem.is_empty() { "NAME.slice".to_owned() } else { format!("{stem}-NAME.slice") };
        return Err(Error::new(Kind::Invalid, message).with_hint(format!("systemd finds it by its name: {example}")));
    }
    Ok(name.to_owned())
}

/// The path of a slice: dashes are levels, so `a-b.slice` is in `a.slice` (systemd.slice(5)).
fn slice_path(slice: &str) -> Result<PathBuf> {
    if slice == "-.slice" {
        return Ok(Path::new("/").to_owned());
    }
    let invalid = || Error::new(Kind::Invalid, format!("invalid slice name: {slice}"));
    let name = slice.strip_suffix(".slice").ok_or_else(invalid)?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '-' | '_' | '.' | '\\' | '@');
    if slice.len() > LONGEST || !name.chars().all(allowed) || name.split('-').any(str::is_empty) {
        return Err(invalid());
    }
    let dashes = name.match_indices('-').map(|(at, _)| at).chain([name.len()]);
    Ok(dashes.fold(PathBuf::from("/"), |path, end| path.join(format!("{}.slice", &name[..end]))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(cgroups_path: &str) -> String {
        let scope = Scope::parse(cgroups_path, "web", false).unwrap();
        scope.path().unwrap().display().to_string()
    }

    #[test]
    fn what_engines_write() {
        assert_eq!(path("machine.slice:libpod:0123"), "/machine.slice/libpod-0123.scope");
        assert_eq!(path("system.slice:docker:0123"), "/system.slice/docker-0123.scope");
        let pod = "kubepods-besteffort-pod5.slice:cri-containerd:0123";
        let slices = "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod5.slice";
        assert_eq!(path(pod), format!("{slices}/cri-containerd-0123.scope"));
        assert_eq!(path("user.slice:libpod:0123"), "/user.slice/libpod-0123.scope");
    }

    #[test]
    fn what_is_left_out_has_a_default() {
        assert_eq!(path(""), "/system.slice/rtc-web.scope");
        assert_eq!(path("::c"), "/system.slice/c.scope");
        assert_eq!(path("-.slice:a:b"), "/a-b.scope");
        assert_eq!(path("a.slice:p:"), "/a.slice/p-web.scope");
        assert_eq!(path(":p:c.scope"), "/system.slice/p-c.scope");
        assert_eq!(Scope::parse("", "a+b", true).unwrap().unit, "rtc-a\\x2bb.scope");
        assert_eq!(Scope::parse("", "c", true).unwrap().slice, "user.slice");
    }

    #[test]
    fn a_slice_of_its_own() {
        assert_eq!(path("a.slice:p:a-b.slice"), "/a.slice/a-b.slice");
        assert_eq!(path("-.slice::x.slice"), "/x.slice");
        let scope = Scope::parse("a.slice:p:a-b.slice", "web", false).unwrap();
        assert_eq!(
            (scope.unit.as_str(), scope.holds(), scope.home()),
            ("a-b.slice", "p-web.scope", "p-web.scope".into())
        );
    }

    #[test]
    fn names_that_systemd_does_not_take() {
        for bad in [
            "/a/b",
            "a:b",
            "a.slice:b:c:d",
            "a:b:c",
            "a--b.slice:p:c",
            "-a.slice:p:c",
            ".slice:p:c",
            "a/b.slice:p:c",
            "../x.slice:p:c",
            "a.slice:p:../c",
            "a.slice:p:c/d",
            "a.slice:p:c.slice",
            "a.slice:p q:c",
        ] {
            assert_eq!(Scope::parse(bad, "web", false).map_err(|e| *e.kind()), Err(Kind::Invalid), "{bad}");
        }
        let long = "x".repeat(256);
        assert!(Scope::parse("", &long, false).is_err());
    }
}
