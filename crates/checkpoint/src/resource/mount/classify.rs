//! Who made each mount, judged by the mount table alone.

use super::image::Origin;
use crate::image::path::ImagePath;
use crate::procfs::mountinfo::Mount;
use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt as _;

/// A mount that the runtime makes from config.json.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// Where it is in the container.
    pub mountpoint: ImagePath,
    /// What is in it belongs to the host: a bind mount.
    pub external: bool,
}

/// A mount with its origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) mount: Mount,
    pub(super) origin: Origin,
    /// Its contents are to be saved.
    pub(super) save: bool,
}

/// A mount that can't be saved, and why.
pub(super) type Refused = Box<(Mount, String)>;

/// What the mount table doesn't tell.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// The mounts that their paths lead to.
    pub(super) reachable: HashSet<i32>,
    /// Those of them that were made after the runtime's, and are not mounted outside: on a bind mount too they are the
    /// container's own.
    pub(super) own: HashSet<i32>,
}

/// Judges all mounts, parents before what is mounted on them.
pub(super) fn classify(mounts: &[Mount], given: &[Given], known: &Known) -> Vec<std::result::Result<Place, Refused>> {
    let mut judge = Judge { given, known, done: Vec::new(), external: HashSet::new(), saved: HashSet::new() };
    let mut places = Vec::new();
    for mount in parents_first(mounts) {
        let place = judge.place(mount);
        judge.done.push(mount);
        places.push(place);
    }
    places
}

/// Parents before children, and otherwise in the kernel's order, which is that of their making
/// (a mount that was made detached can be older than the one it was moved onto).
fn parents_first(mounts: &[Mount]) -> Vec<&Mount> {
    let ids: HashSet<i32> = mounts.iter().map(|mount| mount.id).collect();
    let mut placed: HashSet<i32> = HashSet::new();
    let mut order = Vec::with_capacity(mounts.len());
    let mut rest: Vec<&Mount> = mounts.iter().collect();
    while !rest.is_empty() {
        let before = rest.len();
        rest.retain(|mount| {
            let top = mount.parent == mount.id || !ids.contains(&mount.parent);
            if top || placed.contains(&mount.parent) {
                placed.insert(mount.id);
                order.push(*mount);
                return false;
            }
            true
        });
        if rest.len() == before {
            // A circle, which no kernel prints.
            order.append(&mut rest);
        }
    }
    order
}

struct Judge<'a> {
    given: &'a [Given],
    known: &'a Known,
    /// Those judged already.
    done: Vec<&'a Mount>,
    /// Mounts from the host and all that is mounted on them.
    external: HashSet<i32>,
    /// File systems whose contents are saved with an earlier mount of theirs, or belong to one.
    saved: HashSet<u64>,
}

impl<'a> Judge<'a> {
    fn place(&mut self, mount: &'a Mount) -> std::result::Result<Place, Refused> {
        let place = |origin, save| Ok(Place { mount: mount.clone(), origin, save });
        if mount.mountpoint.as_bytes() == b"/" {
            self.saved.insert(mount.dev);
            return place(Origin::Given, false);
        }
        // The nth mount on a place is the nth that config.json puts there.
        let nth = self.done.iter().filter(|other| other.mountpoint == mount.mountpoint).count();
        if let Some(given) = self.given.iter().filter(|given| given.mountpoint == mount.mountpoint).nth(nth) {
            if given.external {
                self.external.insert(mount.id);
                self.saved.insert(mount.dev);
                return place(Origin::Given, false);
            }
            let save = self.own_tmpfs(mount);
            return place(Origin::Given, save);
        }
        if self.external.contains(&mount.parent) && !self.known.own.contains(&mount.id) {
            self.external.insert(mount.id);
            return place(Origin::Below, false);
        }
        match self.made_inside(mount) {
            Ok(origin) => {
                let save = matches!(origin, Origin::Tmpfs(_)) && self.own_tmpfs(mount);
                place(origin, save)
            }
            Err(why) => Err(Box::new((mount.clone(), why))),
        }
    }

    /// Whether this is the mount whose contents are saved for its file system.
    /// The runtime makes a read-only one with all that is in it.
    fn own_tmpfs(&mut self, mount: &Mount) -> bool {
        mount.fs_type == "tmpfs"
            && mount.root.as_bytes() == b"/"
            && self.known.reachable.contains(&mount.id)
            && self.saved.insert(mount.dev)
            && !mount.has("ro")
    }

    fn made_inside(&self, mount: &Mount) -> std::result::Result<Origin, String> {
        if !self.known.reachable.contains(&mount.id) {
            return Err("the container mounted it, and another mount hides it".into());
        }
        let same: Vec<&&Mount> = self.done.iter().filter(|other| other.dev == mount.dev).collect();
        if same.is_empty() && mount.fs_type == "tmpfs" && mount.root.as_bytes() == b"/" {
            return Ok(Origin::Tmpfs(mount.super_options.clone()));
        }
        let sources = same.into_iter().filter(|other| self.known.reachable.contains(&other.id));
        let source = sources.filter_map(|other| source(other, mount)).min_by_key(|(rest, _)| *rest);
        source.map(|(_, path)| Origin::Bind(path)).ok_or_else(|| {
            if mount.fs_type == "nsfs" {
                return "the container mounted a namespace there".into();
            }
            "the container mounted a file system that rtc can't make again".into()
        })
    }
}

/// How deep below the root of `other` the root of `mount` is, and its path through `other`.
fn source(other: &Mount, mount: &Mount) -> Option<(usize, ImagePath)> {
    let rest = mount.root.as_path().strip_prefix(other.root.as_path()).ok()?;
    let path = other.mountpoint.as_path().join(rest);
    Some((rest.as_os_str().as_bytes().len(), ImagePath::from(path.components().as_path())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::procfs::mountinfo::parse;

    const TABLE: &str = "\
20 10 8:1 /roots/c / rw,relatime - ext4 /dev/sda rw
21 20 0:51 / /proc rw - proc proc rw
22 20 0:52 / /dev rw,nosuid - tmpfs tmpfs rw,size=65536k,mode=755
23 22 0:53 / /dev/pts rw - devpts devpts rw
24 22 0:54 / /dev/shm rw,nosuid,nodev - tmpfs shm rw,size=64m
25 20 8:1 /srv/data /data rw - ext4 /dev/sda rw
26 25 0:60 / /data/more rw - nfs server:/x rw
28 25 0:61 / /data/own rw - tmpfs none rw
29 28 0:60 /y /data/own/y rw - nfs server:/x rw
27 20 0:55 / /sys/firmware ro - tmpfs tmpfs ro
30 20 0:70 / /mnt/scratch rw,nodev - tmpfs none rw,size=1m
31 20 8:1 /roots/c/opt/app /app ro - ext4 /dev/sda rw
32 31 0:70 /sub /app/sub rw - tmpfs none rw,size=1m
33 20 0:51 / /chroot/proc rw - proc proc rw
34 20 0:71 / /mnt/loop rw - squashfs /dev/loop0 ro
35 20 0:72 / /dev/shm2 rw - tmpfs hidden rw
36 20 0:4 net:[4026531840] /run/netns/x rw - nsfs nsfs rw
";

    #[test]
    fn each_mount_is_the_runtimes_the_hosts_or_the_containers() {
        let mounts = parse(TABLE).unwrap();
        let given = [("/proc", false), ("/dev", false), ("/dev/pts", false), ("/dev/shm", false), ("/data", true)];
        let mut given: Vec<Given> =
            given.map(|(path, external)| Given { mountpoint: path.into(), external }).into_iter().collect();
        given.push(Given { mountpoint: "/sys/firmware".into(), external: false });
        let reachable = mounts.iter().map(|mount| mount.id).filter(|id| *id != 35).collect();
        let known = Known { reachable, own: HashSet::from([28, 29]) };
        let lines: Vec<String> = classify(&mounts, &given, &known)
            .into_iter()
            .map(|place| match place {
                Ok(place) => format!("{} {:?}{}", place.mount.id, place.origin, if place.save { " saved" } else { "" }),
                Err(refused) => format!("{}: {}", refused.0.id, refused.1),
            })
            .collect();
        assert_eq!(
            lines,
            [
                "20 Given",
                "21 Given",
                "22 Given saved",
                "23 Given",
                "24 Given saved",
                "25 Given",
                "26 Below",
                "28 Tmpfs([\"rw\"]) saved",
                "29 Bind(/data/more/y)",
                "27 Given",
                "30 Tmpfs([\"rw\", \"size=1m\"]) saved",
                "31 Bind(/opt/app)",
                "32 Bind(/mnt/scratch/sub)",
                "33 Bind(/proc)",
                "34: the container mounted a file system that rtc can't make again",
                "35: the container mounted it, and another mount hides it",
                "36: the container mounted a namespace there",
            ]
        );
    }
}
