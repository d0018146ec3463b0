//! `O_PATH` descriptors of what is neither a regular file nor a directory: symbolic links, sockets, FIFOs, devices.
//!
//! Such a descriptor holds a place in the file system and no open file, so the path is all there is to save.

use super::location::{Location, check_type, locate};
use crate::error::Result;
use crate::files::dumping::Dump;
use crate::files::resource::Resource;
use crate::files::restoring::Restore;
use crate::files::{FileRef, Probe};
use crate::image::path::ImagePath;
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd as _, OwnedFd};

/// An `O_PATH` descriptor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathOnly {
    /// The path in the container.
    pub path: ImagePath,
    /// Its type, as `st_mode` has it.
    pub file_type: u32,
}

impl Resource for PathOnly {
    fn recognises(probe: &Probe<'_>, _cx: &Dump<'_>) -> bool {
        let own_kind = matches!(probe.file_type(), libc::S_IFREG | libc::S_IFDIR);
        probe.flags & libc::O_PATH != 0 && probe.link.starts_with('/') && !own_kind
    }

    fn dump(probe: &Probe<'_>, cx: &mut Dump<'_>) -> Result<Option<Self>> {
        match locate(probe, cx)? {
            Some(Location::Named(path)) => Ok(Some(Self { path, file_type: probe.file_type() })),
            Some(Location::Deleted(_)) => {
                cx.block(probe, "it is deleted, and no regular file", "let the program close it before the checkpoint");
                Ok(None)
            }
            None => Ok(None),
        }
    }

    fn open(&self, file: FileRef, cx: &mut Restore<'_>) -> Result<OwnedFd> {
        // The path was the kernel's, so a symbolic link at its end is the file itself.
        let fd = cx.open_path(&self.path, file.flags | libc::O_PATH | libc::O_NOFOLLOW)?;
        check_type(fd.as_fd(), &self.path, self.file_type)?;
        Ok(fd)
    }
}

#[cfg(test)]
mod tests {
    use crate::files::testing::{TempDir, dump_ours};
    use std::os::unix::fs::OpenOptionsExt as _;

    #[test]
    fn a_symbolic_link_is_held_itself() {
        let dir = TempDir::new();
        std::os::unix::fs::symlink("nowhere", dir.path().join("link")).unwrap();
        let flags = libc::O_PATH | libc::O_NOFOLLOW;
        let link = std::fs::OpenOptions::new().read(true).custom_flags(flags).open(dir.path().join("link")).unwrap();
        let dumped = dump_ours(&[&link]);
        let restored = dumped.restore().copy(dumped.added[0]);
        let target = rustix::fs::readlinkat(&restored, "", Vec::new()).unwrap();
        assert_eq!(target.to_bytes(), b"nowhere");
    }
}
