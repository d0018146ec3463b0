//! The descriptor tables of living tasks, through /proc and pidfd_getfd.

use crate::error::{Context as _, Result};
use rtc_sys::CallExt as _;
use rustix::fs::{Mode, OFlags};
use std::ffi::OsString;
use std::io::Read as _;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;

/// The descriptor table of one task.
pub(crate) struct TaskFiles {
    /// As the host counts pids.
    pub(crate) pid: i32,
    /// Needed for [`TaskFiles::get`] only.
    pub(crate) pidfd: Option<OwnedFd>,
    /// /proc/PID
    dir: OwnedFd,
}

impl TaskFiles {
    /// The table of `pid`.
    pub(crate) fn new(proc: &OwnedFd, pid: i32) -> Result<Self> {
        let dir = open_dir(proc, &pid.to_string())?;
        Ok(Self { pid, pidfd: None, dir })
    }

    /// The numbers in use, ascending.
    pub(crate) fn list(&self) -> Result<Vec<i32>> {
        let dir = open_dir(&self.dir, "fd")?;
        let mut numbers = Vec::new();
        for entry in rustix::fs::Dir::new(dir).call("fdopendir", "fd")? {
            let entry = entry.call("getdents64", format_args!("/proc/{}/fd", self.pid))?;
            numbers.extend(entry.file_name().to_str().ok().and_then(|name| name.parse::<i32>().ok()));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// A descriptor of ours for its descriptor `fd`.
    pub(crate) fn get(&self, fd: i32) -> Result<OwnedFd> {
        let pidfd = self.pidfd.as_ref().expect("set by add_table, without which no number of this table is known");
        rtc_sys::pidfd::get_fd(pidfd.as_fd(), fd).context(|| format!("pid {}", self.pid))
    }

    /// Where /proc/PID/`name` points to.
    pub(crate) fn link(&self, name: &str) -> Result<OsString> {
        let link = rustix::fs::readlinkat(&self.dir, name, Vec::new())
            .call("readlink", format_args!("/proc/{}/{name}", self.pid))?;
        Ok(OsString::from_vec(link.into_bytes()))
    }

    /// Opens what /proc/PID/`name`, a magic link, points to.
    pub(crate) fn open(&self, name: &str, flags: OFlags) -> Result<OwnedFd> {
        rustix::fs::openat(&self.dir, name, flags | OFlags::CLOEXEC, Mode::empty())
            .call("open", format_args!("/proc/{}/{name}, {flags:?}", self.pid))
            .map_err(Into::into)
    }

    /// The type of what /proc/PID/`name`, a magic link, points to; nothing is opened.
    pub(crate) fn stat(&self, name: &str) -> Result<rustix::fs::Stat> {
        rustix::fs::statat(&self.dir, name, rustix::fs::AtFlags::empty())
            .call("stat", format_args!("/proc/{}/{name}", self.pid))
            .map_err(Into::into)
    }

    /// The text of /proc/PID/`name`.
    pub(crate) fn read(&self, name: &str) -> Result<String> {
        read(&self.dir, name).context(|| format!("/proc/{}", self.pid))
    }
}

/// Opens a directory of /proc.
pub(crate) fn open_dir(at: &OwnedFd, name: &str) -> Result<OwnedFd> {
    rustix::fs::openat(at, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .call("open", format_args!("{name}, O_DIRECTORY"))
        .map_err(Into::into)
}

/// The text of a file of /proc.
pub(crate) fn read(at: &OwnedFd, name: &str) -> Result<String> {
    let fd = rustix::fs::openat(at, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).call("open", name)?;
    let mut bytes = Vec::new();
    std::fs::File::from(fd).read_to_end(&mut bytes).context(|| format!("read {name}"))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
