//! The container's root file system: mounted from what the snapshotter says, and unmounted.
//!
//! The mounts are the host's, as with runc's shim: `ctr snapshot`, `du` and others see them.
//!
//! Left out: options that need a helper (`loop`, and mkfs-like ones). The kernel refuses what it doesn't know.

use std::env;
use std::ffi::CString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use containerd_shim::protos::api::Mount;
use rtc_sys::CallExt;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, mount_remount, unmount};

use crate::fault::{Fault, Result};
use crate::idmapped::{self, Ids, Layers};

/// mount(2) takes a page of data, with a byte for its end.
const LONGEST_DATA: usize = 4095;

/// Mounts a list, one over another, at `root`, which is made. After a failure nothing is mounted.
pub(crate) fn mount_all(mounts: &[Mount], root: &Path) -> Result<()> {
    if mounts.is_empty() {
        return Ok(());
    }
    fs::create_dir_all(root)?;
    for entry in mounts {
        let target = root.join(entry.target.trim_start_matches('/'));
        if let Err(fault) = mount_one(entry, &target) {
            let _ = unmount_all(root);
            return Err(fault.while_doing(&format!("mount the root file system at {}", target.display())));
        }
    }
    Ok(())
}

/// Unmounts everything at `root`. That there is nothing is fine.
pub(crate) fn unmount_all(root: &Path) -> Result<()> {
    loop {
        match unmount(root, UnmountFlags::NOFOLLOW) {
            Ok(()) => {}
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => return Ok(()),
            // A process that still looks into it keeps it until it ends.
            Err(rustix::io::Errno::BUSY) => {
                unmount(root, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH).call("umount2", root.display())?;
            }
            Err(error) => return Err(error).call("umount2", root.display()).map_err(Fault::from),
        }
    }
}

fn mount_one(entry: &Mount, target: &Path) -> Result<()> {
    let Parsed { flags, propagation, mut data } = parse(&entry.options);
    let ids = Ids::take(&mut data)?;
    if flags.contains(MountFlags::BIND) {
        bind(entry, target, flags, ids.as_ref())?;
    } else if let Some(ids) = ids {
        // They are bound only until the overlay is mounted, which holds them itself.
        let _layers = Layers::bind(&mut data, &target.with_extension("layers"), &ids)?;
        mount_new(entry, target, flags, &data)?;
    } else {
        mount_new(entry, target, flags, &data)?;
    }
    if let Some(propagation) = propagation {
        mount_change(target, propagation).call("mount", format_args!("{propagation:?}"))?;
    }
    Ok(())
}

fn bind(entry: &Mount, target: &Path, flags: MountFlags, ids: Option<&Ids>) -> Result<()> {
    let recursive = flags & (MountFlags::BIND | MountFlags::REC);
    match ids {
        Some(ids) => {
            let namespace = ids.namespace()?;
            idmapped::bind(Path::new(&entry.source), target, &namespace)?;
        }
        None => mount(entry.source.as_str(), target, "", recursive, None).call("mount", &entry.source)?,
    }
    let rest = flags - recursive;
    if !rest.is_empty() {
        mount_remount(target, rest | MountFlags::BIND, "").call("mount", format_args!("remount, {rest:?}"))?;
    }
    Ok(())
}

/// Paths in the data of an overlay of many layers are made relative to the layers' common directory if they don't fit.
fn mount_new(entry: &Mount, target: &Path, flags: MountFlags, data: &[String]) -> Result<()> {
    let whole = data.join(",");
    let (directory, data) = match whole.len() {
        ..=LONGEST_DATA => (None, whole),
        _ => shorten(data).ok_or_else(|| Fault::unknown("too many layers: mount(2) takes a page of options"))?,
    };
    // This process has one thread, so nobody else minds where it is.
    let back = directory.map(|directory| enter(&directory)).transpose()?;
    let data = CString::new(data)?;
    let mounted = mount(entry.source.as_str(), target, entry.type_.as_str(), flags, Some(data.as_c_str()));
    if let Some(back) = back {
        env::set_current_dir(back)?;
    }
    Ok(mounted.call("mount", format_args!("{}, {}", entry.source, entry.type_))?)
}

/// Changes the working directory: the old one.
fn enter(directory: &Path) -> io::Result<PathBuf> {
    let old = env::current_dir()?;
    env::set_current_dir(directory)?;
    Ok(old)
}

/// The common directory of all lower layers, and the options with paths below it made relative; none if that doesn't
/// make them short enough.
fn shorten(data: &[String]) -> Option<(Option<PathBuf>, String)> {
    let lower = data.iter().find_map(|option| option.strip_prefix("lowerdir="))?;
    let mut common = Path::new(lower.split(':').next()?).parent()?;
    while !lower.split(':').all(|layer| Path::new(layer).starts_with(common)) {
        common = common.parent()?;
    }
    let relative = |path: &str| match Path::new(path).strip_prefix(common) {
        Ok(rest) if !rest.as_os_str().is_empty() => rest.to_string_lossy().into_owned(),
        _ => path.to_owned(),
    };
    let shortened = |option: &String| match option.split_once('=') {
        Some(("lowerdir", layers)) => {
            format!("lowerdir={}", layers.split(':').map(relative).collect::<Vec<_>>().join(":"))
        }
        _ => option.clone(),
    };
    let data = data.iter().map(shortened).collect::<Vec<_>>().join(",");
    (data.len() <= LONGEST_DATA).then(|| (Some(common.to_owned()), data))
}

#[derive(Debug)]
struct Parsed {
    flags: MountFlags,
    propagation: Option<MountPropagationFlags>,
    data: Vec<String>,
}

/// Words as mount(8) has them; what isn't a flag is the file system's.
fn parse(options: &[String]) -> Parsed {
    let mut parsed = Parsed { flags: MountFlags::empty(), propagation: None, data: Vec::new() };
    for option in options {
        if let Some((_, flag, on)) = FLAGS.iter().find(|(name, ..)| name == option) {
            parsed.flags.set(*flag, *on);
        } else if let Some((_, kind)) = PROPAGATION.iter().find(|(name, _)| name == option) {
            parsed.propagation = Some(*kind);
        } else {
            parsed.data.push(option.clone());
        }
    }
    parsed
}

const FLAGS: [(&str, MountFlags, bool); 20] = [
    ("ro", MountFlags::RDONLY, true),
    ("rw", MountFlags::RDONLY, false),
    ("nosuid", MountFlags::NOSUID, true),
    ("suid", MountFlags::NOSUID, false),
    ("nodev", MountFlags::NODEV, true),
    ("dev", MountFlags::NODEV, false),
    ("noexec", MountFlags::NOEXEC, true),
    ("exec", MountFlags::NOEXEC, false),
    ("sync", MountFlags::SYNCHRONOUS, true),
    ("async", MountFlags::SYNCHRONOUS, false),
    ("noatime", MountFlags::NOATIME, true),
    ("atime", MountFlags::NOATIME, false),
    ("nodiratime", MountFlags::NODIRATIME, true),
    ("diratime", MountFlags::NODIRATIME, false),
    ("relatime", MountFlags::RELATIME, true),
    ("strictatime", MountFlags::STRICTATIME, true),
    ("bind", MountFlags::BIND, true),
    ("rbind", MountFlags::BIND.union(MountFlags::REC), true),
    // The kernel's own default for every mount.
    ("defaults", MountFlags::empty(), true),
    ("silent", MountFlags::SILENT, true),
];

const PROPAGATION: [(&str, MountPropagationFlags); 6] = [
    ("private", MountPropagationFlags::PRIVATE),
    ("rprivate", MountPropagationFlags::PRIVATE.union(MountPropagationFlags::REC)),
    ("slave", MountPropagationFlags::DOWNSTREAM),
    ("rslave", MountPropagationFlags::DOWNSTREAM.union(MountPropagationFlags::REC)),
    ("shared", MountPropagationFlags::SHARED),
    ("rshared", MountPropagationFlags::SHARED.union(MountPropagationFlags::REC)),
];

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use rtc_sys::clone::{flags, unshare};

    /// Runs a test with an empty file system at /tmp, in a mount namespace that goes with the test, however that ends.
    pub(crate) fn apart(body: impl FnOnce(&Path) + Send + 'static) {
        let thread = std::thread::spawn(|| {
            unshare(flags::NEWNS).unwrap();
            mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
            // tmpfs, as an overlay may not lie on an overlay here.
            mount("tmpfs", "/tmp", "tmpfs", MountFlags::empty(), None).unwrap();
            body(Path::new("/tmp"));
        });
        thread.join().unwrap();
    }

    fn strings(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    #[test]
    fn flags_and_data_are_told_apart() {
        let parsed = parse(&strings(&["rbind", "ro", "nosuid", "suid", "index=off", "rprivate"]));
        assert_eq!(parsed.flags, MountFlags::BIND | MountFlags::REC | MountFlags::RDONLY);
        assert_eq!(parsed.data, ["index=off"]);
        assert_eq!(parsed.propagation, Some(MountPropagationFlags::PRIVATE | MountPropagationFlags::REC));
    }

    #[test]
    fn many_layers_are_named_from_their_common_directory() {
        let layers: Vec<String> = (1..=128).map(|n| format!("/var/lib/containerd/snapshots/{n}/fs")).collect();
        let data = vec![format!("workdir={}", "/w"), "upperdir=/u".into(), format!("lowerdir={}", layers.join(":"))];
        assert!(data.join(",").len() > LONGEST_DATA);
        let (directory, data) = shorten(&data).unwrap();
        assert_eq!(directory.as_deref(), Some(Path::new("/var/lib/containerd/snapshots")));
        assert!(data.starts_with("workdir=/w,upperdir=/u,lowerdir=1/fs:2/fs:"), "{data}");
        assert!(shorten(&strings(&["lowerdir=/a"; 2000])).is_none());
    }

    #[test]
    fn overlays_are_mounted_and_go_away() {
        apart(mount_and_unmount);
    }

    fn mount_and_unmount(top: &Path) {
        let sub = |name: &str| {
            let path = top.join(name);
            fs::create_dir_all(&path).unwrap();
            path.to_string_lossy().into_owned()
        };
        let lower = format!("lowerdir={}:{}", sub("a"), sub("b"));
        fs::write(top.join("a/file"), "a").unwrap();
        let overlay = Mount {
            type_: "overlay".into(),
            source: "overlay".into(),
            target: String::new(),
            options: vec![format!("upperdir={}", sub("u")), format!("workdir={}", sub("w")), lower],
            ..Mount::default()
        };
        let root = top.join("root");
        mount_all(&[overlay], &root).unwrap();
        assert_eq!(fs::read_to_string(root.join("file")).unwrap(), "a");
        unmount_all(&root).unwrap();
        assert!(!root.join("file").exists());
        unmount_all(&root).unwrap();
        let broken = Mount {
            type_: "overlay".into(),
            source: "overlay".into(),
            target: String::new(),
            options: strings(&["lowerdir=/no-such"]),
            ..Mount::default()
        };
        let fault = mount_all(&[broken], &root).unwrap_err();
        assert!(fault.message.contains("mount(overlay, overlay) = ENOENT"), "{fault}");
    }
}
