//! Which cgroup a process is in.

use std::fs;
use std::path::PathBuf;

use rtc_sys::CallExt;

use crate::{Error, Kind, Result};

/// The path of this process's own cgroup in the cgroup2 hierarchy.
pub(super) fn own_path() -> Result<PathBuf> {
    path_of("/proc/self/cgroup")
}

/// The cgroup2 path in a `/proc/PID/cgroup` file.
pub(super) fn path_of(file: &str) -> Result<PathBuf> {
    let text = fs::read_to_string(file).call("read", file)?;
    // cgroups(7): the line of the cgroup2 hierarchy is "0::PATH"; a removed cgroup has " (deleted)" behind its path.
    let line = text.lines().find_map(|line| line.strip_prefix("0::"));
    line.map(PathBuf::from).ok_or_else(|| Error::new(Kind::System, format!("{file} has no cgroup2 line")))
}
