//! `rtc check`: whether this machine has what checkpoint and restore need, found out by asking the kernel.
//!
//! Left out: whether a given container can be saved, which `checkpoint --check` tells.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use rtc_runtime::cgroup::Hierarchy;
use rtc_sys::{kcmp, pagemap, pidfd};
use rustix::pipe::PipeFlags;
use rustix::thread::{CapabilitySet, capabilities};

use crate::session::Session;

const DESCRIPTION: &str = "   \
   Prints a line for each thing that the engine needs of the kernel. The status is 1
   if one is missing.";

/// `check` has no arguments.
#[derive(Args, Debug)]
#[command(about = "check that this machine can checkpoint and restore", after_help = DESCRIPTION)]
pub(crate) struct Check {}

impl Check {
    /// # Errors
    /// stdout can't be written to.
    pub(crate) fn run(self, _: &Session) -> Result<u8> {
        let mut missing = 0;
        let mut out = String::new();
        for (name, probe) in NEEDS {
            match probe() {
                Ok(()) => out += &format!("{name}: ok\n"),
                Err(error) => {
                    out += &format!("{name}: missing: {error:#}\n");
                    missing = 1;
                }
            }
        }
        io::stdout().write_all(out.as_bytes()).context("write to stdout")?;
        Ok(missing)
    }
}

/// `criu check`: its words, for scripts.
pub(crate) fn as_criu() -> ExitCode {
    let failures: Vec<String> =
        NEEDS.iter().filter_map(|(name, probe)| Some(format!("Error: {name}: {:#}\n", probe().err()?))).collect();
    let _ = match failures.as_slice() {
        [] => io::stdout().write_all(b"Looks good.\n"),
        failures => io::stderr().write_all(failures.concat().as_bytes()),
    };
    ExitCode::from(u8::from(!failures.is_empty()))
}

type Probe = fn() -> Result<()>;

/// What the engine can't do without.
const NEEDS: [(&str, Probe); 6] = [
    // Seizing, other tasks' ids, namespaces, mounts.
    ("privilege", privilege),
    // Yama can forbid ptrace to everybody.
    ("ptrace", yama),
    ("pidfd_getfd", get_fd),
    // CONFIG_KCMP: which descriptors share an open file.
    ("kcmp", same_files),
    // Linux 6.7: which pages have contents.
    ("PAGEMAP_SCAN", scan),
    ("cgroup v2", cgroup),
];

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
