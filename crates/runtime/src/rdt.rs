//! `linux.intelRdt`: a class of service of the cache and of memory bandwidth, by the resctrl file system
//! (Documentation/filesystems/resctrl.rst; runtime-spec, config-linux, "IntelRdt").
//!
//! Without a `closID` the class is the container's own and goes with it. One that is named may be there already, with
//! the very limits that the configuration has, if it has any; and it stays.
//!
//! Left out: mounting resctrl, which is for the machine's administrator, and statistics.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxIntelRdt;
use rtc_sys::{CallExt, Errno};
use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Kind, Result};

/// Directories of resctrl's own beside the classes.
const RESERVED: [&str; 5] = ["", ".", "..", "info", "mon_groups"];

/// Where a container's processes are in resctrl, written down with its state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Placed {
    /// The class's directory.
    class: PathBuf,
    /// The class is the container's own.
    own: bool,
    /// The container's monitoring group, with `enableMonitoring`.
    monitor: Option<PathBuf>,
}

/// Finds resctrl, and makes or finds the class. `note` is told of what will be made before it is, so that what a killed
/// call leaves can be removed.
///
/// # Errors
/// resctrl isn't mounted; a class that is named isn't there or has other limits; the kernel refuses the limits.
pub(crate) fn place(rdt: &LinuxIntelRdt, id: &str, note: impl FnOnce(&Placed) -> Result<()>) -> Result<Placed> {
    let table = fs::read_to_string("/proc/self/mountinfo").call("read", "/proc/self/mountinfo")?;
    let root = mount_point(&table).ok_or_else(|| {
        Error::new(Kind::Invalid, "resctrl is not mounted").with_hint("mount -t resctrl resctrl /sys/fs/resctrl")
    })?;
    place_in(&root, rdt, id, note)
}

fn mount_point(mountinfo: &str) -> Option<PathBuf> {
    let line = mountinfo.lines().find(|line| line.contains(" - resctrl "))?;
    line.split(' ').nth(4).map(PathBuf::from)
}

fn place_in(root: &Path, rdt: &LinuxIntelRdt, id: &str, note: impl FnOnce(&Placed) -> Result<()>) -> Result<Placed> {
    let named = rdt.clos_id().as_deref().filter(|name| !name.is_empty());
    let name = named.unwrap_or(id);
    let class = if name == "/" { root.to_owned() } else { root.join(checked(name)?) };
    let lines = lines(rdt);
    let exists = class.is_dir();
    if !exists && named.is_some() && lines.is_empty() {
        let message = format!("there is no class {name:?} in {}, and no limits to make it with", root.display());
        return Err(Error::new(Kind::Invalid, message));
    }
    let monitor =
        if rdt.enable_monitoring().unwrap_or(false) { Some(class.join("mon_groups").join(checked(id)?)) } else { None };
    // One that is there already is another's, whatever its name.
    let placed = Placed { own: named.is_none() && !exists, class, monitor };
    if exists && named.is_some() {
        placed.compare(&lines)?;
    }
    note(&placed)?;
    if !(exists && named.is_some()) {
        placed.make(&lines, !exists)?;
    }
    if let Some(group) = &placed.monitor {
        let made = fs::create_dir(group).call("mkdir", group.display()).context(|| "enableMonitoring");
        made.inspect_err(|_| placed.remove().unwrap_or_else(|e| log::warn!("{e}")))?;
    }
    Ok(placed)
}

/// A name that is one directory, and none of resctrl's own.
fn checked(name: &str) -> Result<&str> {
    if RESERVED.contains(&name) || name.contains(['/', '\n']) {
        return Err(Error::new(Kind::Invalid, format!("closID {name:?} can't be the name of a class")));
    }
    Ok(name)
}

/// The lines for `schemata`, those of the property of that name last: they win. `memBwSchema` takes the place of a
/// bandwidth that stands in `l3CacheSchema`.
fn lines(rdt: &LinuxIntelRdt) -> Vec<String> {
    let bandwidth = rdt.mem_bw_schema().as_deref().unwrap_or_default();
    let replaced = |line: &&str| !bandwidth.is_empty() && line.trim_start().starts_with("MB:");
    let cache = rdt.l3_cache_schema().iter().flat_map(|text| text.lines()).filter(|line| !replaced(line));
    let all = cache.chain(bandwidth.lines()).chain(rdt.schemata().iter().flatten().map(String::as_str));
    all.map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// A schema's resource and its limits: `L3:0=ff;1=f` is L3 with `0=ff` and `1=f`; leading zeroes don't count.
fn parts(line: &str) -> Option<(&str, BTreeSet<(String, String)>)> {
    let (resource, list) = line.trim().split_once(':')?;
    let plain = |text: &str| text.trim().trim_start_matches('0').to_owned();
    let limits = list.split(';').filter_map(|limit| limit.split_once('='));
    Some((resource.trim(), limits.map(|(id, limit)| (plain(id), plain(limit))).collect()))
}

impl Placed {
    fn schemata(&self) -> PathBuf {
        self.class.join("schemata")
    }

    /// A class that others use must have the limits already.
    fn compare(&self, lines: &[String]) -> Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        let text = fs::read_to_string(self.schemata()).call("read", self.schemata().display())?;
        let there: Vec<_> = text.lines().filter_map(parts).collect();
        for line in lines {
            let wanted = parts(line);
            let has = |(resource, limits): &(&str, BTreeSet<_>)| {
                there.iter().any(|(r, l)| r == resource && limits.is_subset(l))
            };
            if !wanted.as_ref().is_some_and(has) {
                let message = format!("the class {} has other limits than {line:?}", self.class.display());
                return Err(Error::new(Kind::Invalid, message).with_hint("name another closID"));
            }
        }
        Ok(())
    }

    fn make(&self, lines: &[String], new: bool) -> Result<()> {
        if new {
            fs::create_dir(&self.class).call("mkdir", self.class.display())?;
        }
        self.limit(lines).inspect_err(|_| {
            if new {
                remove(&self.class).unwrap_or_else(|e| log::warn!("{e}"));
            }
        })
    }

    /// Writes limits.
    ///
    /// # Errors
    /// With what the kernel says about it in `info/last_cmd_status`.
    pub(crate) fn limit(&self, lines: &[String]) -> Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        let text = lines.iter().map(|line| format!("{line}\n")).collect::<String>();
        let path = self.schemata();
        fs::write(&path, &text).call("write", format_args!("{}, {text:?}", path.display())).map_err(|e| {
            let said = self.class.parent().and_then(|root| fs::read_to_string(root.join("info/last_cmd_status")).ok());
            match said.as_deref().map(str::trim).filter(|said| !said.is_empty() && *said != "ok") {
                Some(said) => Error::from(e).context(said),
                None => e.into(),
            }
        })
    }

    /// Puts a process in.
    pub(crate) fn add(&self, pid: i32) -> Result<()> {
        for directory in [Some(&self.class), self.monitor.as_ref()].into_iter().flatten() {
            let tasks = directory.join("tasks");
            fs::write(&tasks, pid.to_string()).call("write", format_args!("{}, {pid}", tasks.display()))?;
        }
        Ok(())
    }

    /// Takes away what was made for the container alone.
    pub(crate) fn remove(&self) -> Result<()> {
        if let Some(group) = &self.monitor {
            remove(group)?;
        }
        if self.own { remove(&self.class) } else { Ok(()) }
    }
}

fn remove(directory: &Path) -> Result<()> {
    match fs::remove_dir(directory).call("rmdir", directory.display()) {
        Err(e) if e.errno() == Errno::ENOENT => Ok(()),
        other => Ok(other?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder that stands for resctrl: its directories have no files of their own, unlike the kernel's.
    struct Temp(PathBuf);
    impl Temp {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("runtime-rdt-{name}-{}", std::process::id()));
            fs::create_dir_all(path.join("mon_groups")).unwrap();
            Self(path)
        }
        fn class(&self, name: &str, schemata: &str) {
            fs::create_dir_all(self.0.join(name).join("mon_groups")).unwrap();
            fs::write(self.0.join(name).join("schemata"), schemata).unwrap();
        }
    }
    impl Drop for Temp {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn rdt(text: &str) -> LinuxIntelRdt {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_class_of_its_own_has_the_containers_name_and_limits() {
        let temp = Temp::new("own");
        let placed =
            place_in(&temp.0, &rdt(r#"{"l3CacheSchema":"L3:0=ff","schemata":["MB:0=50"]}"#), "c", |_| Ok(())).unwrap();
        assert_eq!(fs::read_to_string(temp.0.join("c/schemata")).unwrap(), "L3:0=ff\nMB:0=50\n");
        placed.add(7).unwrap();
        assert_eq!(fs::read_to_string(temp.0.join("c/tasks")).unwrap(), "7");
        placed.limit(&["MB:0=20".to_owned()]).unwrap();
        // The kernel's files go with their directory.
        fs::remove_file(temp.0.join("c/schemata")).unwrap();
        fs::remove_file(temp.0.join("c/tasks")).unwrap();
        placed.remove().unwrap();
        placed.remove().unwrap();
        assert!(!temp.0.join("c").exists());
    }

    #[test]
    fn a_named_class_must_have_the_limits() {
        let temp = Temp::new("named");
        temp.class("gold", "    MB:0=100;1=100\n    L3:0=0ff;1=00f\n");
        let placed =
            place_in(&temp.0, &rdt(r#"{"closID":"gold","schemata":["L3:1=f;0=ff"]}"#), "c", |_| Ok(())).unwrap();
        placed.remove().unwrap();
        assert!(temp.0.join("gold").exists());
        place_in(&temp.0, &rdt(r#"{"closID":"gold"}"#), "c", |_| Ok(())).unwrap();
        let error = |text: &str| place_in(&temp.0, &rdt(text), "c", |_| Ok(())).unwrap_err().to_string();
        assert!(error(r#"{"closID":"gold","l3CacheSchema":"L3:0=f"}"#).contains("has other limits than \"L3:0=f\""));
        assert!(error(r#"{"closID":"none"}"#).contains("there is no class \"none\""));
        assert!(error(r#"{"closID":"../x","memBwSchema":"MB:0=5"}"#).contains("can't be the name of a class"));
    }

    #[test]
    fn what_is_written_is_what_the_properties_say() {
        let of = |text: &str| lines(&rdt(text)).join(" ");
        assert_eq!(of("{}"), "");
        assert_eq!(of(r#"{"l3CacheSchema":"L3:0=f","memBwSchema":"MB:0=20"}"#), "L3:0=f MB:0=20");
        assert_eq!(of(r#"{"l3CacheSchema":"MB:0=70\nL3:0=f","memBwSchema":"MB:0=20"}"#), "L3:0=f MB:0=20");
        assert_eq!(of(r#"{"l3CacheSchema":"L3:0=f\nMB:0=70"}"#), "L3:0=f MB:0=70");
        let all = r#"{"schemata":["L3:0=ff","MB:0=50"],"l3CacheSchema":"L3:0=f","memBwSchema":"MB:0=20"}"#;
        assert_eq!(of(all), "L3:0=f MB:0=20 L3:0=ff MB:0=50");
    }

    #[test]
    fn a_class_without_limits_has_no_schemata_written() {
        let temp = Temp::new("unlimited");
        let placed = place_in(&temp.0, &rdt("{}"), "c", |_| Ok(())).unwrap();
        assert!(temp.0.join("c").is_dir() && !temp.0.join("c/schemata").exists());
        placed.remove().unwrap();
        // The root's own class is no container's to remove.
        let placed = place_in(&temp.0, &rdt(r#"{"closID":"/","enableMonitoring":true}"#), "c", |_| Ok(())).unwrap();
        placed.remove().unwrap();
        assert!(temp.0.is_dir() && !temp.0.join("mon_groups/c").exists());
    }

    #[test]
    fn monitoring_has_a_group_that_goes() {
        let temp = Temp::new("monitor");
        temp.class("gold", "");
        let placed = place_in(&temp.0, &rdt(r#"{"closID":"gold","enableMonitoring":true}"#), "c", |_| Ok(())).unwrap();
        assert!(temp.0.join("gold/mon_groups/c").is_dir());
        placed.add(7).unwrap();
        for tasks in [temp.0.join("gold/tasks"), temp.0.join("gold/mon_groups/c/tasks")] {
            assert_eq!(fs::read_to_string(&tasks).unwrap(), "7");
            fs::remove_file(&tasks).unwrap();
        }
        placed.remove().unwrap();
        assert!(!temp.0.join("gold/mon_groups/c").exists());
    }

    #[test]
    fn what_will_be_made_is_noted_before() {
        let temp = Temp::new("noted");
        let wanted = rdt(r#"{"schemata":["MB:0=50"],"enableMonitoring":true}"#);
        // A call that is killed right there has made nothing, and what it would have made can be removed all the same.
        let killed = |placed: &Placed| {
            assert!(!temp.0.join("c").exists());
            placed.remove()?;
            fs::create_dir_all(temp.0.join("c/mon_groups/c")).unwrap();
            fs::remove_dir_all(temp.0.join("c/mon_groups/c")).unwrap();
            fs::remove_dir(temp.0.join("c/mon_groups")).unwrap();
            placed.remove()?;
            assert!(!temp.0.join("c").exists());
            Err(Error::new(Kind::System, "killed"))
        };
        assert_eq!(place_in(&temp.0, &wanted, "c", killed).unwrap_err().to_string(), "killed");
        // Another's class of the container's name stays.
        temp.class("c", "");
        let placed = place_in(&temp.0, &rdt(r#"{"memBwSchema":"MB:0=50"}"#), "c", |_| Ok(())).unwrap();
        placed.remove().unwrap();
        assert!(temp.0.join("c").exists());
    }

    #[test]
    fn the_mount_is_found() {
        let table = "22 27 0:21 / /proc rw - proc proc rw\n40 27 0:33 / /sys/fs/resctrl rw - resctrl resctrl rw\n";
        assert_eq!(mount_point(table), Some("/sys/fs/resctrl".into()));
        assert_eq!(mount_point("22 27 0:21 / /proc rw - proc proc rw\n"), None);
    }
}
