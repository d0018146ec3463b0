//! Snapshots whose ids are shifted as they are mounted: the options `uidmap=` and `gidmap=`, which containerd 2 gives
//! for pods with a user namespace.
//!
//! The kernel maps the ids of a mount, not those of an overlay. So each of the overlay's lower layers is bound with
//! mapped ids while the overlay is mounted. The upper layer is left alone: its files belong to the container's ids.
//!
//! Left out: file systems that can't map ids; the kernel says so (`EINVAL`).

use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rtc_sys::CallExt;
use rtc_sys::mount::{MountAttr, attr, mount_setattr};
use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, UnmountFlags, move_mount, open_tree, unmount};

use crate::fault::{Code, Fault, Result};

/// How ids are shifted: lines of `uid_map` and `gid_map`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ids {
    uid: String,
    gid: String,
}

impl Ids {
    /// Takes the two options out of a mount's.
    pub(crate) fn take(data: &mut Vec<String>) -> Result<Option<Self>> {
        let mut ids = Self { uid: String::new(), gid: String::new() };
        for option in data.iter() {
            match option.split_once('=') {
                Some(("uidmap", text)) => ids.uid = lines(text)?,
                Some(("gidmap", text)) => ids.gid = lines(text)?,
                _ => {}
            }
        }
        data.retain(|option| !option.starts_with("uidmap=") && !option.starts_with("gidmap="));
        Ok((ids.uid.len() + ids.gid.len() > 0).then_some(ids))
    }

    /// A user namespace with these mappings.
    pub(crate) fn namespace(&self) -> Result<OwnedFd> {
        Ok(rtc_runtime::user_namespace(&self.uid, &self.gid)?)
    }
}

/// `0:200000:65536,…` as lines of uid_map: first id inside, first id outside, how many.
fn lines(text: &str) -> Result<String> {
    text.split(',').try_fold(String::new(), |lines, range| {
        let numbers: Vec<u32> = range.split(':').filter_map(|number| number.parse().ok()).collect();
        let [inside, outside, count] = numbers[..] else {
            return Err(Fault::new(Code::INVALID_ARGUMENT, format!("{text} is no mapping of ids: give A:B:COUNT")));
        };
        Ok(format!("{lines}{inside} {outside} {count}\n"))
    })
}

/// Binds a folder, without what is mounted below it, with the ids of a user namespace.
pub(crate) fn bind(source: &Path, target: &Path, namespace: &OwnedFd) -> Result<()> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(CWD, source, flags).call("open_tree", source.display())?;
    let userns_fd = u64::try_from(namespace.as_raw_fd()).unwrap_or(u64::MAX);
    let change = MountAttr { set: attr::IDMAP, userns_fd, ..MountAttr::default() };
    mount_setattr(tree.as_fd(), false, &change)
        .map_err(|e| Fault::from(e).while_doing(&format!("map the ids of {}", source.display())))?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    Ok(move_mount(&tree, "", CWD, target, flags).call("move_mount", target.display())?)
}

/// Lower layers with mapped ids, each in a folder; gone when dropped.
pub(crate) struct Layers {
    folder: PathBuf,
    bound: Vec<PathBuf>,
}

impl Layers {
    /// Binds the layers that an overlay's `lowerdir` names below `folder`, which is made, and names those instead.
    pub(crate) fn bind(data: &mut [String], folder: &Path, ids: &Ids) -> Result<Self> {
        let mut layers = Self { folder: folder.to_owned(), bound: Vec::new() };
        let Some(option) = data.iter_mut().find(|option| option.starts_with("lowerdir=")) else {
            return Err(Fault::new(Code::INVALID_ARGUMENT, "uidmap= and gidmap= are for binds and overlays"));
        };
        let namespace = ids.namespace()?;
        for (number, layer) in option["lowerdir=".len()..].split(':').enumerate() {
            let place = folder.join(number.to_string());
            fs::create_dir_all(&place)?;
            layers.bound.push(place.clone());
            bind(Path::new(layer), &place, &namespace)?;
        }
        let places: Vec<_> = layers.bound.iter().map(|place| place.to_string_lossy()).collect();
        *option = format!("lowerdir={}", places.join(":"));
        Ok(layers)
    }
}

impl Drop for Layers {
    fn drop(&mut self) {
        // What can't be removed is in the bundle, which containerd removes.
        for place in &self.bound {
            let _ = unmount(place, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
            let _ = fs::remove_dir(place);
        }
        let _ = fs::remove_dir(&self.folder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mounts::tests::apart;
    use crate::mounts::{mount_all, unmount_all};
    use containerd_shim::protos::api::Mount;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn options_become_lines_of_a_map() {
        let mut data: Vec<String> =
            ["lowerdir=/a", "uidmap=0:1000:10,10:5:1", "gidmap=0:7:1"].map(str::to_owned).to_vec();
        let ids = Ids::take(&mut data).unwrap().unwrap();
        assert_eq!((ids.uid.as_str(), ids.gid.as_str()), ("0 1000 10\n10 5 1\n", "0 7 1\n"));
        assert_eq!(data, ["lowerdir=/a"]);
        assert_eq!(Ids::take(&mut data).unwrap(), None);
        for bad in ["uidmap=", "uidmap=0:1", "gidmap=a:b:c"] {
            assert!(Ids::take(&mut vec![bad.to_owned()]).is_err(), "{bad}");
        }
    }

    #[test]
    fn ids_of_lower_layers_are_shifted() {
        apart(shift_and_look);
    }

    fn shift_and_look(top: &Path) {
        for name in ["a", "b", "u", "w"] {
            fs::create_dir(top.join(name)).unwrap();
        }
        fs::write(top.join("a/one"), "").unwrap();
        fs::write(top.join("b/two"), "").unwrap();
        let at = |name: &str| top.join(name).to_string_lossy().into_owned();
        let overlay = Mount {
            type_: "overlay".into(),
            source: "overlay".into(),
            target: String::new(),
            options: vec![
                format!("lowerdir={}:{}", at("a"), at("b")),
                format!("upperdir={}", at("u")),
                format!("workdir={}", at("w")),
                "uidmap=0:200000:65536".into(),
                "gidmap=0:300000:65536".into(),
            ],
            ..Mount::default()
        };
        let root = top.join("root");
        mount_all(&[overlay], &root).unwrap();
        let ids = |path: &str| fs::metadata(root.join(path)).map(|file| (file.uid(), file.gid())).unwrap();
        assert_eq!((ids("one"), ids("two")), ((200_000, 300_000), (200_000, 300_000)));
        assert!(!top.join("root.layers").exists(), "the layers are left bound");
        unmount_all(&root).unwrap();
        let bind = Mount {
            type_: "bind".into(),
            source: at("a"),
            target: String::new(),
            options: ["rbind", "ro", "uidmap=0:5:9", "gidmap=0:6:9"].map(str::to_owned).to_vec(),
            ..Mount::default()
        };
        mount_all(&[bind], &root).unwrap();
        assert_eq!(ids("one"), (5, 6));
        assert!(fs::write(root.join("new"), "").is_err(), "it is to be read only");
        unmount_all(&root).unwrap();
    }
}
