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
    /// as crun takes it. With an `@` before it the second id is the container's, whose mappings are `of_container`.
    pub(crate) fn from_option(text: &str, of_container: &Self) -> Result<Self> {
        let wrong = |what: &str| Error::new(Kind::Invalid, format!("idmap={text}: {what}: give uids=A-B-N;gids=A-B-N"));
        let mut maps = Self::default();
        for part in text.split(';').filter(|part| !part.is_empty()) {
            let (to, container, list) = match part.split_once('=') {
                Some(("uids", list)) => (&mut maps.uid, &of_container.uid, list),
                Some(("gids", list)) => (&mut maps.gid, &of_container.gid, list),
                _ => return Err(wrong("neither uids nor gids")),
            };
            let (list, relative) = list.strip_prefix('@').map_or((list, false), |list| (list, true));
            for range in list.split('#').filter(|range| !range.is_empty()) {
                let [inside, outside, count] = numbers(range, '-').ok_or_else(|| wrong("not three numbers"))?;
                let outside = if relative { on_host(container, outside) } else { Some(outside) };
                let outside = outside.ok_or_else(|| wrong("the container has no such id"))?;
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

/// Three numbers and nothing else.
fn numbers(text: &str, separator: char) -> Option<[u32; 3]> {
    let numbers: Vec<u32> = text.split(separator).map(str::parse).collect::<std::result::Result<_, _>>().ok()?;
    numbers.try_into().ok()
}

/// What an id of the container is on the host, by the lines of its mapping.
fn on_host(map: &str, id: u32) -> Option<u32> {
    let range = |[inside, outside, count]: [u32; 3]| {
        let offset = id.checked_sub(inside).filter(|offset| *offset < count)?;
        outside.checked_add(offset)
    };
    map.lines().filter_map(|line| numbers(line, ' ')).find_map(range)
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
        let container = IdMaps { uid: "0 100000 10\n10 5 1\n".into(), gid: "0 200000 10\n".into() };
        let maps = IdMaps::from_option("uids=0-1000-1#1-5-2;gids=0-7-1", &container).unwrap();
        assert_eq!((maps.uid.as_str(), maps.gid.as_str()), ("0 1000 1\n1 5 2\n", "0 7 1\n"));
        assert_eq!(maps.missing(), None);
        assert_eq!(IdMaps { gid: String::new(), ..maps }.missing(), Some("gidMappings"));
        let maps = IdMaps::from_option("uids=@1000-1-1#7-10-1;gids=0-7-1", &container).unwrap();
        assert_eq!((maps.uid.as_str(), maps.gid.as_str()), ("1000 100001 1\n7 5 1\n", "0 7 1\n"));
        for bad in [
            "",
            "uids=0-1-1",
            "uids=0-1;gids=0-1-1",
            "uids=0-x-1-1;gids=0-1-1",
            "uids=0-1-1-1;gids=0-1-1",
            "uids=@0-11-1;gids=0-1-1",
            "x=0-1-1",
        ] {
            assert!(IdMaps::from_option(bad, &container).is_err(), "{bad:?}");
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
