//! The root with the peers: Debian sid by mmdebstrap, entered by pivot_root.

use anyhow::{Context, Error, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use std::path::PathBuf;

const PACKAGES: [&str; 8] =
    ["runc", "crun", "criu", "libcriu2", "redis-server", "redis-tools", "busybox-static", "iptables"];

/// Makes the root if it isn't there, and goes into it with these programs, name and file, in /usr/bin.
pub(crate) fn enter(programs: &[(&str, PathBuf)]) -> Result<()> {
    let root = rtc_tests::debian::root("peers-sid", "sid", &PACKAGES).map_err(Error::msg)?;
    for (name, file) in programs {
        // Another's bench may be executing the old one.
        let (new, place) = (root.join("usr/bin").join(format!(".{name}")), root.join("usr/bin").join(name));
        std::fs::copy(file, &new).with_context(|| format!("copy {}", file.display()))?;
        std::fs::rename(&new, place)?;
    }
    unshare(CloneFlags::CLONE_NEWNS).context("unshare")?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_PRIVATE | MsFlags::MS_REC, none).context("make mounts private")?;
    mount(Some(&root), &root, none, MsFlags::MS_BIND, none).context("bind the root")?;
    let at = |name: &str| root.join(name);
    mount(Some("proc"), &at("proc"), Some("proc"), MsFlags::empty(), none)?;
    mount(Some("sysfs"), &at("sys"), Some("sysfs"), MsFlags::empty(), none)?;
    mount(Some("/dev"), &at("dev"), none, MsFlags::MS_BIND | MsFlags::MS_REC, none)?;
    for dir in ["run", "tmp"] {
        mount(Some("tmpfs"), &at(dir), Some("tmpfs"), MsFlags::empty(), none)?;
    }
    mount(Some("cgroup2"), &at("sys/fs/cgroup"), Some("cgroup2"), MsFlags::empty(), none)?;
    let old = at("mnt");
    nix::unistd::pivot_root(&root, &old).context("pivot_root")?;
    nix::unistd::chdir("/")?;
    umount2("/mnt", MntFlags::MNT_DETACH).context("leave the old root")?;
    Ok(())
}
