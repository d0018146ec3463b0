//! What may be mounted over the container's procfs: nothing that could pass for a part of it, but for the files that
//! tell of the machine, which are often replaced by those of a smaller one (CVE-2019-16884, CVE-2025-52881).
//!
//! rtc itself never relies on the container's `/proc`; the programs in the container do.

use std::os::fd::AsFd;
use std::path::{Component, Path, PathBuf};

use rtc_sys::CallExt;

use crate::error::{Error, Kind, Result};

/// `PROC_SUPER_MAGIC`, `SYSFS_MAGIC` (linux/magic.h).
const MAGIC: u64 = 0x9fa0;
const MAGIC_OF_SYSFS: u64 = 0x6265_6572;

/// What may be covered below `/proc`, as in runc.
const MAY_BE_COVERED: &[&str] = &[
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/net/dev",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/sys/crypto/fips_enabled",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/uptime",
];

/// Whether `fd` is in a procfs.
pub(crate) fn is_procfs(fd: impl AsFd) -> rtc_sys::Result<bool> {
    Ok(magic(fd)? == MAGIC)
}

/// Whether `fd` is in a sysfs.
pub(crate) fn is_sysfs(fd: impl AsFd) -> rtc_sys::Result<bool> {
    Ok(magic(fd)? == MAGIC_OF_SYSFS)
}

fn magic(fd: impl AsFd) -> rtc_sys::Result<u64> {
    Ok(rustix::fs::fstatfs(&fd).call("fstatfs", "a mount")?.f_type as u64)
}

/// Checks a mount's destination before it is looked for. `is_proc`: a procfs is what is mounted.
pub(crate) fn check_path(destination: &Path, is_proc: bool) -> Result<()> {
    let plain = plain(destination);
    if plain == Path::new("/proc") && !is_proc {
        return Err(refusal(destination, "it is not of type proc"));
    }
    if plain != Path::new("/proc") && plain.starts_with("/proc") && !may_be_covered(&plain) {
        return Err(refusal(destination, "it is inside /proc"));
    }
    Ok(())
}

/// Checks the place that a destination leads to: symlinks may lead to the procfs too.
pub(crate) fn check_place(destination: &Path, place: impl AsFd) -> Result<()> {
    let plain = plain(destination);
    if plain == Path::new("/proc") || may_be_covered(&plain) || !is_procfs(place)? {
        return Ok(());
    }
    Err(refusal(destination, "it is inside /proc"))
}

fn may_be_covered(path: &Path) -> bool {
    MAY_BE_COVERED.iter().any(|known| path == Path::new(known))
}

/// The path without `..`, by its text.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => plain.push(name),
            Component::ParentDir => drop(plain.pop()),
            _ => {}
        }
    }
    plain
}

fn refusal(destination: &Path, why: &str) -> Error {
    Error::new(Kind::Invalid, format!("{destination:?} cannot be mounted because {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_about_the_machine_may_be_covered() {
        let text = |path: &str, is_proc| {
            check_path(Path::new(path), is_proc).map_or_else(|e| e.to_string(), |()| String::new())
        };
        assert_eq!(text("/proc/meminfo", false), "");
        assert_eq!(text("/proc", true), "");
        assert_eq!(text("/procession", false), "");
        assert_eq!(text("/x/../proc", false), "\"/x/../proc\" cannot be mounted because it is not of type proc");
        assert_eq!(text("/proc/self/attr", true), "\"/proc/self/attr\" cannot be mounted because it is inside /proc");
    }

    #[test]
    fn a_link_to_it_is_seen() {
        let (proc, root) = (std::fs::File::open("/proc").unwrap(), std::fs::File::open("/").unwrap());
        check_place(Path::new("/link"), &root).unwrap();
        check_place(Path::new("/proc/uptime"), &proc).unwrap();
        let error = check_place(Path::new("/link"), &proc).unwrap_err().to_string();
        assert!(error.ends_with("inside /proc"), "{error}");
    }
}
