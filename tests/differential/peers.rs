//! The root with runc and crun, which benches/ makes: entered by pivot_root in a mount namespace of its own.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// The first argument of this program inside that root.
pub(crate) const INSIDE: &str = "--inside";

/// What is mounted is gone with the process. All of it is shared, as systemd has it on most hosts.
const ENTER: &str = r#"
root=$1 scratch=$2; shift 2
mount --make-rprivate /
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mkdir "$root/tmp/scratch"
mount --bind "$scratch" "$root/tmp/scratch"
cd "$root"
pivot_root . mnt
busybox umount -l /mnt
busybox mount --make-rshared /
cd /tmp/scratch
exec ./differential --inside /tmp/scratch "$@"
"#;

fn root() -> PathBuf {
    std::env::var_os("RTC_CACHE").map_or_else(|| PathBuf::from("/var/cache/rtc"), PathBuf::from).join("peers-sid")
}

/// Whether there is such a root.
pub(crate) fn are_there() -> bool {
    root().join("usr/bin/crun").exists() && root().join("usr/sbin/runc").exists() | root().join("usr/bin/runc").exists()
}

/// Runs this program again inside.
pub(crate) fn enter(scratch: &Path, filter: &[String]) -> ExitCode {
    let own = std::env::current_exe().expect("/proc is there");
    std::fs::copy(own, scratch.join("differential")).expect("a folder of ours");
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-ec", ENTER, "sh"]).arg(root()).arg(scratch).args(filter);
    let status = command.status().expect("unshare starts");
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
