//! Devices without a state of their own, as every container has them in /dev: null, zero, full, random, urandom.

use super::location::{Location, check_type, locate};
use crate::error::Result;
use crate::files::dumping::Dump;
use crate::files::resource::Resource;
use crate::files::restoring::Restore;
use crate::files::{FileRef, Probe};
use crate::image::path::ImagePath;
use crate::{Error, Kind};
use rtc_sys::CallExt as _;
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Number (Linux Documentation/admin-guide/devices.txt) and the name that every container has for it.
const STATELESS: [(u32, u32, &str); 5] =
    [(1, 3, "/dev/null"), (1, 5, "/dev/zero"), (1, 7, "/dev/full"), (1, 8, "/dev/random"), (1, 9, "/dev/urandom")];

/// A description of a stateless device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// The path in the container.
    pub path: ImagePath,
    /// Device number.
    pub major: u32,
    /// See `major`.
    pub minor: u32,
}

fn number(stat: &libc::stat) -> (u32, u32) {
    (libc::major(stat.st_rdev), libc::minor(stat.st_rdev))
}

/// Whether a device number is that of a device without state, which can be opened without any effect.
pub(crate) fn is_stateless(device: u64) -> bool {
    STATELESS.iter().any(|known| (known.0, known.1) == (libc::major(device), libc::minor(device)))
}

impl Resource for Device {
    fn recognises(probe: &Probe<'_>, _cx: &Dump<'_>) -> bool {
        probe.file_type() == libc::S_IFCHR && is_stateless(probe.stat.st_rdev)
    }

    fn dump(probe: &Probe<'_>, cx: &mut Dump<'_>) -> Result<Option<Self>> {
        let (major, minor) = number(&probe.stat);
        // Any other node of the same number is as good, so a node of the host's (a detached container's stdio,
        // that of an exec'd process) or a deleted one becomes the container's own.
        let inside = cx.view().mount(probe.info.mnt_id).is_some();
        let usual = STATELESS.iter().find(|known| (known.0, known.1) == (major, minor));
        let path = match locate_if(inside, probe, cx)? {
            Some(Location::Named(path)) => path,
            _ => usual.map_or("/dev/null", |known| known.2).into(),
        };
        Ok(Some(Self { path, major, minor }))
    }

    fn open(&self, file: FileRef, cx: &mut Restore<'_>) -> Result<OwnedFd> {
        if !is_stateless(libc::makedev(self.major, self.minor)) {
            let message = format!("the device {}:{} is none that an image can ask for", self.major, self.minor);
            return Err(crate::error::bad_image(message));
        }
        // What stands at the path is looked at before it is opened: opening another device can do things.
        let node = cx.open_path(&self.path, libc::O_PATH)?;
        self.check(node.as_fd())?;
        cx.reopen(node.as_fd(), file.flags)
    }
}

fn locate_if(inside: bool, probe: &Probe<'_>, cx: &mut Dump<'_>) -> Result<Option<Location>> {
    let by_path = inside && cx.view().stat(&ImagePath::from(probe.raw_link))?.is_some();
    if by_path { locate(probe, cx) } else { Ok(None) }
}

impl Device {
    fn check(&self, node: BorrowedFd<'_>) -> Result<()> {
        check_type(node, &self.path, libc::S_IFCHR)?;
        let stat = nix::sys::stat::fstat(node).call("fstat", &self.path)?;
        if number(&stat) == (self.major, self.minor) {
            return Ok(());
        }
        let (major, minor) = number(&stat);
        let message = format!("{} is device {major}:{minor} here, and was {}:{}", self.path, self.major, self.minor);
        Err(Error::new(Kind::Incompatible, message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::kind::FileKind;
    use crate::files::testing::{dump_ours, us};
    use std::fs::File;
    use std::io::Read as _;

    #[test]
    fn a_device_is_opened_anew() {
        let (zero, null) = (File::open("/dev/zero").unwrap(), File::create("/dev/null").unwrap());
        let dumped = dump_ours(&[&zero, &null]);
        let open = dumped.restore();
        let mut bytes = [1; 4];
        File::from(open.copy(dumped.added[0])).read_exact(&mut bytes).unwrap();
        assert_eq!(bytes, [0; 4]);
        assert!(File::from(open.copy(dumped.added[1])).read(&mut bytes).is_err(), "write-only");
    }

    #[test]
    fn an_image_cant_ask_for_other_devices() {
        let mut dumped = dump_ours(&[&File::open("/dev/zero").unwrap()]);
        for (path, major, minor, says) in [
            ("/dev/kmsg", 1, 11, "none that an image can ask for"),
            ("/dev/kmsg", 1, 5, "/dev/kmsg is device 1:11 here, and was 1:5"),
            ("/../../proc/self/root/dev/zero", 1, 5, "openat2"),
            ("/etc/passwd", 1, 5, "/etc/passwd is a regular file here, and was a character device"),
        ] {
            let files = &mut dumped.files.as_mut().unwrap().files;
            files[0].file = FileKind::Device(Device { path: path.into(), major, minor });
            let error = dumped.restore_in(us()).err().unwrap().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
