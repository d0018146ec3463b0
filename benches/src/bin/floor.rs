//! The floor: what a container of the bench's specifications costs when nothing decides anything.
//!
//! `rtc-floor ROOTFS CGROUP default|docker PROGRAM…` makes the cgroup, clones into it with the namespaces of the
//! specification, mounts what it lists, makes the devices, hides and protects its paths, changes the root, drops
//! privileges and executes the program; then it waits and removes the cgroup. It reads no file, keeps no state, checks
//! nothing, loads no device program and no seccomp filter, and brings no interface up.
#![forbid(unsafe_code)]

use anyhow::{Context, Result, bail};
use rtc_sys::clone::{Clone3, Cloned, clone3, exit, flags, unshare};
use rtc_sys::mount::{MountAttr, attr, mount_setattr};
use rustix::fs::{CWD, FileType, Mode, OFlags, makedev, mknodat, open, symlinkat};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change, mount_remount, unmount,
};
use rustix::process::{WaitId, WaitIdOptions};
use rustix::thread::CapabilitySet;
use std::ffi::{CStr, CString};
use std::os::fd::AsFd;
use std::path::Path;

#[path = "../paths.rs"]
mod paths;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let [_, rootfs, cgroup, kind, program @ ..] = args.as_slice() else {
        bail!("usage: rtc-floor ROOTFS CGROUP KIND PROGRAM…")
    };
    std::fs::create_dir(cgroup).context("mkdir the cgroup")?;
    let dir = open(cgroup.as_str(), OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let kinds = flags::NEWNS | flags::NEWUTS | flags::NEWIPC | flags::NEWPID | flags::NEWNET;
    match clone3(&Clone3 { flags: kinds, cgroup: Some(dir.as_fd()), set_tid: &[] })? {
        Cloned::Child => {
            if let Err(error) = child(rootfs, kind == "docker", program) {
                let text = format!("rtc-floor: {error:#}\n");
                let _ = rustix::io::write(rustix::stdio::stderr(), text.as_bytes());
            }
            exit(1)
        }
        Cloned::Parent { pidfd, .. } => {
            let status = rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED)?;
            drop(dir);
            std::fs::remove_dir(cgroup).context("rmdir the cgroup")?;
            match status.and_then(|status| status.exit_status()) {
                Some(0) => Ok(()),
                other => bail!("the program ended with {other:?}"),
            }
        }
    }
}

fn child(rootfs: &str, docker: bool, program: &[String]) -> Result<()> {
    unshare(flags::NEWCGROUP)?;
    rustix::process::setsid()?;
    rustix::process::umask(Mode::empty());
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC).context("/")?;
    rustix::mount::mount_bind_recursive(rootfs, rootfs).context("rootfs")?;
    rustix::process::chdir(rootfs)?;
    mounts()?;
    devices()?;
    rustix::process::pivot_root(".", ".").context("pivot_root")?;
    unmount(".", UnmountFlags::DETACH)?;
    rustix::process::chdir("/")?;
    let root = open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    mount_setattr(root.as_fd(), false, &MountAttr { set: attr::RDONLY, ..MountAttr::default() })?;
    rustix::system::sethostname(b"floor")?;
    hide(docker)?;
    privileges(docker)?;
    let words = program.iter().map(|word| CString::new(word.as_str())).collect::<Result<Vec<_>, _>>()?;
    let environment = [c"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", c"TERM=xterm"];
    nix::unistd::execve(words.first().context("no program")?, &words, &environment).map(drop).context("execve")
}

fn mounts() -> Result<()> {
    let plain = MountFlags::NOSUID | MountFlags::NOEXEC | MountFlags::NODEV;
    let all: [(&str, &CStr, MountFlags, &CStr); 7] = [
        ("proc", c"proc", MountFlags::empty(), c""),
        ("dev", c"tmpfs", MountFlags::NOSUID | MountFlags::STRICTATIME, c"mode=755,size=65536k"),
        ("dev/pts", c"devpts", MountFlags::NOSUID | MountFlags::NOEXEC, c"newinstance,ptmxmode=0666,mode=0620,gid=5"),
        ("dev/shm", c"tmpfs", plain, c"mode=1777,size=65536k"),
        ("dev/mqueue", c"mqueue", plain, c""),
        ("sys", c"sysfs", plain | MountFlags::RDONLY, c""),
        ("sys/fs/cgroup", c"cgroup2", plain | MountFlags::RELATIME | MountFlags::RDONLY, c""),
    ];
    for (target, kind, flags, data) in all {
        if target.starts_with("dev/") {
            std::fs::create_dir(target).context(target)?;
        }
        mount(kind, target, kind, flags, data).with_context(|| target.to_owned())?;
    }
    Ok(())
}

fn devices() -> Result<()> {
    for (name, major, minor) in
        [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)]
    {
        let path = format!("dev/{name}");
        mknodat(CWD, &path, FileType::CharacterDevice, Mode::from(0o666), makedev(major, minor)).context(path)?;
    }
    for (target, name) in [
        ("/proc/self/fd", "fd"),
        ("/proc/self/fd/0", "stdin"),
        ("/proc/self/fd/1", "stdout"),
        ("/proc/self/fd/2", "stderr"),
        ("/proc/kcore", "core"),
        ("pts/ptmx", "ptmx"),
    ] {
        symlinkat(target, CWD, format!("dev/{name}"))?;
    }
    Ok(())
}

/// Masked and read-only paths, those of them that exist.
fn hide(docker: bool) -> Result<()> {
    let (masked, readonly) =
        if docker { (paths::DOCKER_MASKED, paths::DOCKER_READONLY) } else { (paths::MASKED, paths::READONLY) };
    for path in readonly.iter().filter(|path| Path::new(path).exists()) {
        mount_bind(*path, *path).with_context(|| (*path).to_owned())?;
        mount_remount(*path, MountFlags::BIND | MountFlags::RDONLY, c"").with_context(|| (*path).to_owned())?;
    }
    for path in masked {
        match std::fs::metadata(path) {
            Err(_) => {}
            Ok(data) if data.is_dir() => mount(c"tmpfs", *path, c"tmpfs", MountFlags::RDONLY, c"nr_inodes=1,size=4k")?,
            Ok(_) => mount_bind("/dev/null", *path)?,
        }
    }
    Ok(())
}

fn privileges(docker: bool) -> Result<()> {
    let names = if docker { paths::DOCKER_CAPABILITIES } else { paths::CAPABILITIES };
    let kept = names
        .iter()
        .fold(CapabilitySet::empty(), |all, (_, number)| all | CapabilitySet::from_bits_retain(1 << number));
    for capability in CapabilitySet::all().difference(kept).iter() {
        // One that the kernel lacks, or that is gone already, is no loss.
        let _ = rustix::thread::remove_capability_from_bounding_set(capability);
    }
    let sets = rustix::thread::CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets)?;
    Ok(rustix::thread::set_no_new_privs(true)?)
}
