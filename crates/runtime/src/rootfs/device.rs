//! Device nodes and the links that every container has in `/dev`.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxDevice, LinuxDeviceType};
use rtc_sys::{CallExt, Errno};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};

use super::options::Bind;
use super::path::{self, RootDir};
use super::{inherited, tree};
use crate::error::{Context, Error, Kind, Result};

/// A device node to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Device {
    pub(crate) path: PathBuf,
    pub(crate) kind: FileType,
    pub(crate) major: u32,
    pub(crate) minor: u32,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Whether it takes the place of another file: a default does, one that config.json asks for must not.
    pub(crate) replaces: bool,
}

impl Device {
    /// Whether a file with these attributes is this device.
    fn is(&self, stat: &Stat) -> bool {
        FileType::from_raw_mode(stat.st_mode) == self.kind
            && (self.kind == FileType::Fifo || stat.st_rdev == rustix::fs::makedev(self.major, self.minor))
    }
}

/// The devices that the specification promises (config-linux, "Default Devices"), but for console and ptmx.
const DEFAULT: &[(&str, u32, u32)] = &[
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

/// The links that runc makes: name, target.
const LINKS: &[(&str, &str)] = &[
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/core", "/proc/kcore"),
];

/// The default devices and those of config.json, which win over a default of the same path.
///
/// `/dev/ptmx` is the runtime's own and left out; a terminal is mounted over a `/dev/console`.
pub(crate) fn plan(configured: &[LinuxDevice]) -> Vec<Device> {
    let default = |(path, major, minor): &(&str, u32, u32)| Device {
        path: (*path).into(),
        kind: FileType::CharacterDevice,
        major: *major,
        minor: *minor,
        mode: 0o666,
        uid: 0,
        gid: 0,
        replaces: true,
    };
    let mut devices: Vec<Device> = DEFAULT.iter().map(default).collect();
    for device in configured {
        if device.path() == Path::new("/dev/ptmx") {
            continue;
        }
        let device = from_config(device);
        devices.retain(|known| known.path != device.path);
        devices.push(device);
    }
    devices
}

fn from_config(device: &LinuxDevice) -> Device {
    let kind = match device.typ() {
        LinuxDeviceType::B => FileType::BlockDevice,
        LinuxDeviceType::P => FileType::Fifo,
        _ => FileType::CharacterDevice,
    };
    let number = |n: i64| u32::try_from(n).unwrap_or(0);
    Device {
        path: device.path().clone(),
        kind,
        major: number(device.major()),
        minor: number(device.minor()),
        mode: device.file_mode().unwrap_or(0o666) & 0o777,
        uid: device.uid().unwrap_or(0),
        gid: device.gid().unwrap_or(0),
        replaces: false,
    }
}

/// Makes the nodes; where mknod isn't allowed (`bind` in a user namespace, or EPERM), binds the host's.
///
/// The caller has umask 0. With `cut_off` a mount of the host's gets no mounts of the container's.
pub(crate) fn create(root: &RootDir, devices: &[Device], bind: bool, cut_off: bool) -> Result<()> {
    // Most are in /dev: it is resolved once.
    let mut dev: Option<(PathBuf, std::os::fd::OwnedFd)> = None;
    for device in devices {
        let parent = device.path.parent().unwrap_or(Path::new("/")).to_owned();
        let Some(name) = device.path.file_name() else { continue };
        if dev.as_ref().is_none_or(|(path, _)| *path != parent) {
            let place = root.directory(&parent).context(|| format!("device {}", device.path.display()))?;
            dev = Some((parent, place.fd));
        }
        let Some((_, dir)) = &dev else { continue };
        let made = if bind && device.kind != FileType::Fifo { Err(Errno::EPERM) } else { node(dir, name, device)? };
        match made {
            Ok(()) => Ok(()),
            Err(_) => bind_host(root, device, cut_off),
        }
        .context(|| format!("device {}", device.path.display()))?;
    }
    Ok(())
}

/// Makes a node; a default in place of whatever an image may have there. The inner error is mknod's `EPERM`.
fn node(dir: &impl AsFd, name: &std::ffi::OsStr, device: &Device) -> Result<std::result::Result<(), Errno>> {
    let number = rustix::fs::makedev(device.major, device.minor);
    let make = || rustix::fs::mknodat(dir, name, device.kind, Mode::from_raw_mode(device.mode), number);
    let describe = || format!("{}, {:o}, {}:{}", device.path.display(), device.mode, device.major, device.minor);
    let open = || {
        rustix::fs::openat(dir, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
            .call("openat", device.path.display())
    };
    match make() {
        Ok(()) => {}
        Err(rustix::io::Errno::PERM) => return Ok(Err(Errno::EPERM)),
        Err(rustix::io::Errno::EXIST) => {
            if device.is(&path::stat(open()?)?) {
                return Ok(Ok(()));
            }
            if !device.replaces {
                // The specification, config-linux, "Devices".
                let message = format!("device {}: another file is there", device.path.display());
                return Err(Error::new(Kind::Invalid, message));
            }
            rustix::fs::unlinkat(dir, name, AtFlags::empty()).call("unlinkat", device.path.display())?;
            make().call("mknodat", describe())?;
        }
        Err(e) => return Err(rtc_sys::Error::from_raw("mknodat", describe(), e.raw_os_error()).into()),
    }
    if device.uid != 0 || device.gid != 0 {
        path::set_owner(open()?.as_fd(), device.uid, device.gid)?;
    }
    Ok(Ok(()))
}

fn bind_host(root: &RootDir, device: &Device, cut_off: bool) -> Result<()> {
    let tree = tree::clone_path(&device.path, Bind::One)?;
    if !device.is(&path::stat(&tree)?) {
        let message = format!("the host has another file there than {}:{}", device.major, device.minor);
        return Err(Error::new(Kind::Invalid, message)
            .with_hint("a user namespace can't make devices, and gets the host's of the same path"));
    }
    if cut_off {
        inherited::cut_off(&tree)?;
    }
    let place = root.file(&device.path)?;
    tree::attach(&tree, &place.fd)?;
    Ok(())
}

/// Makes the links; `pts` says whether a devpts is mounted, so that `/dev/ptmx` can lead to its.
pub(crate) fn links(root: &RootDir) -> Result<()> {
    let dev = root.directory(Path::new("/dev"))?.fd;
    for (path, target) in LINKS {
        let name = path.trim_start_matches("/dev/");
        match rustix::fs::symlinkat(*target, &dev, name) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            other => other.call("symlinkat", format_args!("{target}, {path}"))?,
        }
    }
    match rustix::fs::unlinkat(&dev, "ptmx", AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => {}
        other => other.call("unlinkat", "/dev/ptmx")?,
    }
    rustix::fs::symlinkat("pts/ptmx", &dev, "ptmx").call("symlinkat", "pts/ptmx, /dev/ptmx")?;
    Ok(())
}
