//! Reading and writing the control files of a cgroup, below its descriptor.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};

use rtc_sys::{CallExt, Errno, fdio};
use rustix::fs::{Mode, OFlags};

use super::Cgroup;
use crate::Result;
use crate::error::Context;

impl Cgroup {
    /// Opens one control file for reading.
    pub(super) fn open_control(&self, file: &str) -> rtc_sys::Result<File> {
        open(self.dirfd(), file, OFlags::RDONLY).map(File::from)
    }

    /// Reads one control file whole.
    pub(super) fn read(&self, file: &str) -> Result<String> {
        read_at(self.dirfd(), file).context(|| self.noun())
    }

    /// Reads one control file whole; `None` when it doesn't exist (controller missing, kernel older).
    pub(super) fn read_optional(&self, file: &str) -> Result<Option<String>> {
        match read_at(self.dirfd(), file) {
            Ok(text) => Ok(Some(text)),
            // EOPNOTSUPP: psi is compiled in but switched off.
            Err(e) if matches!(e.errno(), Errno::ENOENT | Errno::EOPNOTSUPP) => Ok(None),
            Err(e) => Err(e).context(|| self.noun()),
        }
    }

    /// Writes one control file in a single write, as the kernel wants it.
    pub(super) fn write(&self, file: &str, value: &str) -> Result<()> {
        write_at(self.dirfd(), file, value).context(|| self.noun())
    }

    /// Whether a control file exists.
    pub(super) fn has(&self, file: &str) -> bool {
        rustix::fs::accessat(&self.dir, file, rustix::fs::Access::EXISTS, rustix::fs::AtFlags::empty()).is_ok()
    }

    /// What an error of this cgroup begins with.
    pub(super) fn noun(&self) -> String {
        format!("cgroup {}", self.path.display())
    }
}

fn open(dir: impl AsFd, file: &str, flags: OFlags) -> rtc_sys::Result<OwnedFd> {
    rustix::fs::openat(dir, file, flags | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty()).call("openat", file)
}

/// Reads a control file whole.
pub(super) fn read_at(dir: impl AsFd, file: &str) -> rtc_sys::Result<String> {
    let text = fdio::read_whole(open(dir, file, OFlags::RDONLY)?.as_fd()).call("read", file)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Writes a control file in a single write.
pub(super) fn write_at(dir: impl AsFd, file: &str, value: &str) -> rtc_sys::Result<()> {
    let mut handle = File::from(open(dir, file, OFlags::WRONLY)?);
    handle.write_all(value.as_bytes()).call("write", format_args!("{file}, {value:?}"))
}

/// Whether an error of a control file means that the cgroup, or the file's controller, is gone.
///
/// Opening in a removed cgroup gives ENOENT, using a file that was open ENODEV.
pub(super) fn is_gone(error: &rtc_sys::Error) -> bool {
    matches!(error.errno(), Errno::ENODEV | Errno::ENOENT)
}
