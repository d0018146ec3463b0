//! `rtc check`: what this machine has of what containers, checkpoint and restore need, found out by asking the kernel.
//!
//! Left out: whether a given container can be saved, which `checkpoint --check` tells, and what config.json may say, which
//! `features` tells.

use std::env;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use rtc_runtime::cgroup::Hierarchy;
use rtc_sys::mount::{MountAttr, mount_setattr};
use rtc_sys::{kcmp, pagemap, pidfd, seccomp};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::pipe::PipeFlags;
use rustix::thread::{CapabilitySet, capabilities};

use crate::session::Session;

const DESCRIPTION: &str = "   \
   Prints a line for each thing that rtc uses of this machine: what containers need,
   what checkpoint and restore need, and what some containers may ask for. The status
   is 1 if something that is needed is missing.";

/// `check` has no arguments.
#[derive(Args, Debug)]
#[command(about = "check what this machine supports and what is missing", after_help = DESCRIPTION)]
pub(crate) struct Check {}

impl Check {
    /// # Errors
    /// stdout can't be written to.
    pub(crate) fn run(self, _: &Session) -> Result<u8> {
        let mut missing = 0;
        let mut out = String::new();
        for (title, probes) in [("containers", &CONTAINERS[..]), ("checkpoint and restore", &ENGINE)] {
            out += &format!("{title}\n");
            for (name, probe) in probes {
                match probe() {
                    Ok(()) => out += &format!("  {name}: ok\n"),
                    Err(error) => {
                        out += &format!("  {name}: missing: {error:#}\n");
                        missing = 1;
                    }
                }
            }
        }
        out += "not needed by all\n";
        for (name, look) in OPTIONAL {
            out += &format!("  {name}: {}\n", look());
        }
        io::stdout().write_all(out.as_bytes()).context("write to stdout")?;
        Ok(missing)
    }
}

/// `criu check`: its words, for scripts.
pub(crate) fn as_criu() -> u8 {
    let failures: Vec<String> =
        ENGINE.iter().filter_map(|(name, probe)| Some(format!("Error: {name}: {:#}\n", probe().err()?))).collect();
    let _ = match failures.as_slice() {
        [] => io::stdout().write_all(b"Looks good.\n"),
        failures => io::stderr().write_all(failures.concat().as_bytes()),
    };
    u8::from(!failures.is_empty())
}

type Probe = fn() -> Result<()>;
/// What there is to say of something that nothing else depends on.
type Look = fn() -> String;

/// What no container can do without.
const CONTAINERS: [(&str, Probe); 6] = [
    ("namespaces", namespaces),
    ("cgroup v2", cgroup),
    // Linux 5.6: paths inside the root file system.
    ("openat2", resolve),
    // Linux 5.12, the youngest call of all that are needed.
    ("mount_setattr", mount_attributes),
    ("pidfd_open", pidfds),
    ("seccomp filters", filters),
];

/// What the engine can't do without.
const ENGINE: [(&str, Probe); 5] = [
    // Seizing, other tasks' ids, namespaces, mounts.
    ("privilege", privilege),
    // Yama can forbid ptrace to everybody.
    ("ptrace", yama),
    ("pidfd_getfd", get_fd),
    // CONFIG_KCMP: which descriptors share an open file.
    ("kcmp", same_files),
    // Linux 6.7: which pages have contents.
    ("PAGEMAP_SCAN", scan),
];

/// What is of use to some, with what it means to be without.
const OPTIONAL: [(&str, Look); 10] = [
    ("cgroup controllers", controllers),
    ("systemd cgroup driver", systemd),
    ("containers of ordinary users", rootless),
    ("time namespace", time_namespace),
    ("seccomp notification", notification),
    ("AppArmor", apparmor),
    ("SELinux", selinux),
    ("ids of restored timers", timers),
    ("checkpoints by engines", criu),
    ("containerd's shim", shim),
];

fn namespaces() -> Result<()> {
    let missing = |name: &&str| !Path::new("/proc/self/ns").join(name).exists();
    let missing: Vec<&str> = ["cgroup", "ipc", "mnt", "net", "pid", "uts"].into_iter().filter(missing).collect();
    if !missing.is_empty() {
        bail!("the kernel has none of kind {}", missing.join(", "));
    }
    Ok(())
}

fn resolve() -> Result<()> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    rustix::fs::openat2(CWD, "/", flags, Mode::empty(), ResolveFlags::IN_ROOT).context("Linux 5.6 is needed")?;
    Ok(())
}

fn mount_attributes() -> Result<()> {
    let root = File::open("/").context("open /")?;
    // Nothing to set: the kernel only looks whether it knows the call.
    mount_setattr(root.as_fd(), false, &MountAttr::default()).context("Linux 5.12 is needed")?;
    Ok(())
}

fn pidfds() -> Result<()> {
    pidfd::open(own_pid())?;
    Ok(())
}

fn filters() -> Result<()> {
    // SECCOMP_RET_ALLOW (linux/seccomp.h)
    if !seccomp::knows_action(0x7fff_0000) {
        bail!("the kernel is built without CONFIG_SECCOMP_FILTER");
    }
    Ok(())
}

fn controllers() -> String {
    const KNOWN: [&str; 7] = ["cpu", "cpuset", "hugetlb", "io", "memory", "pids", "rdma"];
    let found = Hierarchy::find().and_then(|hierarchy| hierarchy.controllers()).unwrap_or_default();
    let missing: Vec<&str> = KNOWN.into_iter().filter(|name| !found.iter().any(|found| found == name)).collect();
    match (found.is_empty(), missing.is_empty()) {
        (_, true) => found.join(" "),
        (true, _) => "none (version 1 may have them): limits of resources are refused".into(),
        _ => format!("{}; without {}, whose limits are refused", found.join(" "), missing.join(" ")),
    }
}

fn systemd() -> String {
    match Path::new("/run/systemd/system").is_dir() {
        true => "ok".into(),
        false => "systemd does not run here: --systemd-cgroup is refused".into(),
    }
}

fn rootless() -> String {
    let number = |file: &str| fs::read_to_string(file).ok().and_then(|text| text.trim().parse::<u64>().ok());
    if number("/proc/sys/user/max_user_namespaces").unwrap_or(0) == 0 {
        return "user namespaces are off (user.max_user_namespaces)".into();
    }
    if number("/proc/sys/kernel/unprivileged_userns_clone") == Some(0) {
        return "user namespaces are root's alone (kernel.unprivileged_userns_clone)".into();
    }
    if number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == Some(1) {
        return "user namespaces take an AppArmor profile (contrib/lsm/apparmor.md)".into();
    }
    match on_path("newuidmap") && on_path("newgidmap") {
        true => "ok".into(),
        false => "with their own id alone: newuidmap and newgidmap are missing (package uidmap)".into(),
    }
}

fn time_namespace() -> String {
    match Path::new("/proc/self/ns/time").exists() {
        true => "ok".into(),
        false => "Linux 5.6 is needed: linux.timeOffsets is refused".into(),
    }
}

fn notification() -> String {
    // SECCOMP_RET_USER_NOTIF (linux/seccomp.h)
    match seccomp::knows_action(0x7fc0_0000) {
        true => "ok".into(),
        false => "Linux 5.0 is needed: SCMP_ACT_NOTIFY is refused".into(),
    }
}

fn apparmor() -> String {
    match fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.trim() == "Y") {
        true => "on".into(),
        false => "off: a process that is to have a profile is refused".into(),
    }
}

fn selinux() -> String {
    match fs::read_to_string("/sys/fs/selinux/enforce").map(|text| text.trim() == "1") {
        Ok(true) => "on, enforcing".into(),
        Ok(false) => "on, permissive".into(),
        Err(_) => "off: a process that is to have a label is refused, and labels of mounts have no effect".into(),
    }
}

fn timers() -> String {
    match rtc_sys::events::timer_ids_can_be_chosen() {
        true => "ok".into(),
        false => "found by counting up to them: Linux 6.15 is needed to choose them".into(),
    }
}

/// contrib/README.md has who looks when.
fn criu() -> String {
    match find("criu") {
        Some(path) => format!("ok, {} is there for engines that look for it", path.display()),
        None => "podman, CRI-O and containerd's CRI refuse them without a program criu on their PATH: \
            rtc install-shim /usr/local/bin"
            .into(),
    }
}

fn shim() -> String {
    match find("containerd-shim-rtc-v2") {
        Some(path) => format!("ok, {}", path.display()),
        None => "containerd-shim-rtc-v2 is not on PATH: containerd runs rtc behind runc's shim alone".into(),
    }
}

/// The first executable file of this name on PATH.
fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let is_program =
        |path: &PathBuf| fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0);
    env::split_paths(&path).map(|folder| folder.join(name)).find(is_program)
}

fn on_path(name: &str) -> bool {
    find(name).is_some()
}

fn privilege() -> Result<()> {
    let own = capabilities(None).context("capget")?.effective;
    let wanted = CapabilitySet::SYS_ADMIN | CapabilitySet::SYS_PTRACE;
    if !own.contains(wanted) {
        bail!("CAP_SYS_ADMIN and CAP_SYS_PTRACE are needed: run it as root");
    }
    Ok(())
}

fn yama() -> Result<()> {
    let scope = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
    if scope.trim() == "3" {
        bail!("kernel.yama.ptrace_scope is 3: set it lower, which takes a reboot");
    }
    Ok(())
}

fn get_fd() -> Result<()> {
    let (reader, _writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).context("pipe2")?;
    let own = pidfd::open(own_pid())?;
    pidfd::get_fd(own.as_fd(), reader.as_raw_fd())?;
    Ok(())
}

fn same_files() -> Result<()> {
    kcmp::kcmp(own_pid(), own_pid(), kcmp::Resource::Files)?;
    Ok(())
}

fn scan() -> Result<()> {
    const PRESENT: u64 = pagemap::category::PRESENT;
    let map = File::open("/proc/self/pagemap").context("open /proc/self/pagemap")?;
    let query = pagemap::Query { any_of: PRESENT, report: PRESENT, ..pagemap::Query::default() };
    pagemap::scan(&map, 0, 1 << 22, query).context("Linux 6.7 or newer is needed")?;
    Ok(())
}

fn cgroup() -> Result<()> {
    Hierarchy::find()?;
    Ok(())
}

fn own_pid() -> i32 {
    rustix::process::getpid().as_raw_nonzero().get()
}
