//! Reading /proc of the host: one task's files.

use crate::error::{Context, Result};
use crate::procfs::{smaps, stat, status};
use rtc_sys::CallExt;
use std::fs;
use std::os::fd::OwnedFd;

/// The files of one task, by its id as the host counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proc(pub i32);

impl Proc {
    /// The text of /proc/PID/NAME.
    ///
    /// # Errors
    /// When the task is gone or the file can't be read.
    pub fn text(self, name: &str) -> Result<String> {
        let bytes = self.bytes(name)?;
        // Names of tasks and files may hold any byte; what a parser looks at is ASCII.
        Ok(String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()))
    }

    /// The bytes of /proc/PID/NAME.
    ///
    /// # Errors
    /// When the task is gone or the file can't be read.
    pub fn bytes(self, name: &str) -> Result<Vec<u8>> {
        let path = format!("/proc/{}/{name}", self.0);
        Ok(fs::read(&path).call("read", &path)?)
    }

    /// Opens /proc/PID/NAME for reading; a magic link is followed.
    ///
    /// # Errors
    /// When the task is gone or the file can't be opened.
    pub fn open(self, name: &str, flags: rustix::fs::OFlags) -> Result<OwnedFd> {
        let path = format!("/proc/{}/{name}", self.0);
        let flags = flags | rustix::fs::OFlags::CLOEXEC;
        Ok(rustix::fs::open(&path, flags, rustix::fs::Mode::empty()).call("open", &path)?)
    }

    /// Where the link /proc/PID/NAME points.
    ///
    /// # Errors
    /// When the task is gone.
    pub fn link(self, name: &str) -> Result<String> {
        let path = format!("/proc/{}/{name}", self.0);
        Ok(fs::read_link(&path).call("readlink", &path)?.to_string_lossy().into_owned())
    }

    /// The numbers that name the entries of /proc/PID/NAME: threads of `task`, descriptors of `fd`.
    ///
    /// # Errors
    /// When the task is gone.
    pub fn numbers(self, name: &str) -> Result<Vec<i32>> {
        let path = format!("/proc/{}/{name}", self.0);
        let mut all = Vec::new();
        for entry in fs::read_dir(&path).call("open", &path)? {
            let entry = entry.call("getdents64", &path)?;
            all.extend(entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()));
        }
        all.sort_unstable();
        Ok(all)
    }

    /// /proc/PID/stat.
    ///
    /// # Errors
    /// When the task is gone.
    pub fn stat(self) -> Result<stat::Stat> {
        Ok(stat::parse(&self.text("stat")?)?)
    }

    /// /proc/PID/status.
    ///
    /// # Errors
    /// When the task is gone.
    pub fn status(self) -> Result<status::Status> {
        Ok(status::parse(&self.text("status")?)?)
    }

    /// /proc/PID/smaps.
    ///
    /// # Errors
    /// When the task is gone or has no address space.
    pub fn smaps(self) -> Result<Vec<smaps::Mapping>> {
        Ok(smaps::parse(&self.text("smaps")?)?)
    }

    /// /proc/PID/maps: the mappings without their flags and sizes, cheaper than [`Proc::smaps`].
    ///
    /// # Errors
    /// When the task is gone or has no address space.
    pub fn maps(self) -> Result<Vec<smaps::Mapping>> {
        Ok(smaps::parse(&self.text("maps")?)?)
    }

    /// A number that stands alone in /proc/PID/NAME, in decimal.
    ///
    /// # Errors
    /// When the file isn't there or isn't a number.
    pub fn number<T: std::str::FromStr>(self, name: &str) -> Result<T> {
        let text = self.text(name)?;
        text.trim().parse().map_err(|_| crate::procfs::Malformed("number")).context(|| name.to_owned())
    }

    /// A number that stands alone in /proc/PID/NAME, in hexadecimal.
    ///
    /// # Errors
    /// When the file isn't there or isn't a number.
    pub fn hex(self, name: &str) -> Result<u64> {
        let text = self.text(name)?;
        u64::from_str_radix(text.trim(), 16).map_err(|_| crate::procfs::Malformed("number")).context(|| name.to_owned())
    }

    /// The children of all threads of the process, in the order they were made.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn children(self) -> Result<Vec<i32>> {
        let mut all = Vec::new();
        for tid in self.numbers("task")? {
            let text = self.text(&format!("task/{tid}/children"))?;
            all.extend(text.split_ascii_whitespace().filter_map(|n| n.parse::<i32>().ok()));
        }
        Ok(all)
    }
}
