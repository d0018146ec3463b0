//! User and group id mappings: of the container's user namespace, and of id-mapped mounts.

use std::os::fd::OwnedFd;

use oci_spec::runtime::LinuxIdMapping;
use rtc_sys::clone::{self, flags};
use rustix::fs::OFlags;

use crate::error::{Context, Error, Kind, Result};
use crate::proc::Proc;

/// A mapping of users and one of groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct IdMaps {
    uid: String,
    gid: String,
}

impl IdMaps {
    /// From config.json's lists.
    pub(crate) fn new(uid: &[LinuxIdMapping], gid: &[LinuxIdMapping]) -> Self {
        Self { uid: lines(uid), gid: lines(gid) }
    }

    /// From the option `idmap=uids=0-1000-1#…;gids=0-1000-1#…`: first id in the mount, first id on the host, how many,
    /// as crun takes it.
    pub(crate) fn from_option(text: &str) -> Result<Self> {
        let wrong = |what: &str| Error::new(Kind::Invalid, format!("idmap={text}: {what}: give uids=A-B-N;gids=A-B-N"));
        let mut maps = Self::default();
        for part in text.split(';').filter(|part| !part.is_empty()) {
            let (to, list) = match part.split_once('=') {
                Some(("uids", list)) => (&mut maps.uid, list),
                Some(("gids", list)) => (&mut maps.gid, list),
                _ => return Err(wrong("neither uids nor gids")),
            };
            for range in list.split('#').filter(|range| !range.is_empty()) {
                let numbers: Vec<u32> = range.split('-').filter_map(|number| number.parse().ok()).collect();
                let [inside, outside, count] = numbers[..] else { return Err(wrong("not three numbers")) };
                to.push_str(&format!("{inside} {outside} {count}\n"));
            }
        }
        if maps.uid.is_empty() || maps.gid.is_empty() {
            return Err(wrong("uids or gids are missing"));
        }
        Ok(maps)
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.uid.is_empty() && self.gid.is_empty()
    }

    /// Which of the two isn't there.
    fn missing(&self) -> Option<&'static str> {
        [(&self.uid, "uidMappings"), (&self.gid, "gidMappings")]
            .into_iter()
            .find(|(map, _)| map.is_empty())
            .map(|m| m.1)
    }

    /// Gives the user namespace of the process `pid` these mappings (user_namespaces(7)).
    pub(crate) fn write(&self, proc: &Proc, pid: i32) -> Result<()> {
        proc.write(format!("{pid}/uid_map"), self.uid.as_bytes()).context(|| "linux.uidMappings")?;
        proc.write(format!("{pid}/gid_map"), self.gid.as_bytes()).context(|| "linux.gidMappings")
    }

    /// A user namespace with these mappings that no process lives in, for `MOUNT_ATTR_IDMAP`.
    ///
    /// # Errors
    /// Users without groups, or the other way round: the kernel takes no empty mapping.
    pub(crate) fn user_namespace(&self, proc: &Proc) -> Result<OwnedFd> {
        if let Some(missing) = self.missing() {
            return Err(Error::new(Kind::Invalid, format!("the mapping of ids has no {missing}: give both")));
        }
        let process = clone::Waiting::new(flags::NEWUSER)?;
        self.write(proc, process.pid())?;
        Ok(proc.open_link(format!("{}/ns/user", process.pid()), OFlags::RDONLY)?)
    }
}

/// A user namespace that no process lives in, with these mappings: lines of `uid_map` and `gid_map`
/// (user_namespaces(7)). It is for id-mapped mounts.
///
/// # Errors
/// When one of the two is empty, or the kernel takes no such mapping.
pub fn user_namespace(uid_map: &str, gid_map: &str) -> Result<OwnedFd> {
    IdMaps { uid: uid_map.to_owned(), gid: gid_map.to_owned() }.user_namespace(&Proc::open()?)
}

/// The lines of uid_map: first id inside, first id outside, how many.
pub(crate) fn lines(mappings: &[LinuxIdMapping]) -> String {
    let line = |map: &LinuxIdMapping| format!("{} {} {}\n", map.container_id(), map.host_id(), map.size());
    mappings.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_is_a_mapping_too() {
        let maps = IdMaps::from_option("uids=0-1000-1#1-5-2;gids=0-7-1").unwrap();
        assert_eq!((maps.uid.as_str(), maps.gid.as_str()), ("0 1000 1\n1 5 2\n", "0 7 1\n"));
        assert_eq!(maps.missing(), None);
        assert_eq!(IdMaps { gid: String::new(), ..maps }.missing(), Some("gidMappings"));
        for bad in ["", "uids=0-1-1", "uids=0-1;gids=0-1-1", "uids=@0-1-1;gids=0-1-1", "x=0-1-1"] {
            assert!(IdMaps::from_option(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_line_is_inside_outside_count() {
        let maps: Vec<LinuxIdMapping> = serde_json::from_str(
            r#"[{"containerID":0,"hostID":100000,"size":65536},{"containerID":65536,"hostID":1,"size":1}]"#,
        )
        .unwrap();
        assert_eq!(lines(&maps), "0 100000 65536\n65536 1 1\n");
    }
}
