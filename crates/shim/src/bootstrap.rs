//! `start`: finds the shim that a container belongs to, or starts one, and prints its address.

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use rtc_runtime::cgroup::Hierarchy;

use crate::api::Any;
use crate::arguments::Arguments;
use crate::bundle::Config;
use crate::names;
use crate::options::Options;

/// What runc's shim also asks of the kernel for itself: to be killed just a little sooner than containerd.
const SOONER: i32 = 1;

/// Does `start` in the bundle, which is the working directory.
///
/// # Errors
/// The bundle is bad, or no process can be made.
pub(crate) fn start(arguments: &Arguments) -> Result<()> {
    let bundle = Path::new(".");
    let config = Config::load(bundle).map_err(|fault| anyhow::anyhow!(fault.message))?;
    let group = config.group().filter(|group| *group != arguments.id);
    let address = match group.and_then(joined) {
        Some(address) => address,
        None => spawn(arguments, &options()?)?,
    };
    fs::write(bundle.join(names::ADDRESS), &address).context("write address")?;
    // Nothing else may be printed: containerd takes all of it for the address. Its plain form is of version 2, which
    // every containerd understands.
    io::stdout().write_all(address.as_bytes()).context("write to stdout")
}

/// The address of the shim that serves a group, if it lives: the group's own bundle is beside this one.
fn joined(group: &str) -> Option<String> {
    if group.contains('/') || group.starts_with('.') {
        return None;
    }
    let address = fs::read_to_string(Path::new("..").join(group).join(names::ADDRESS)).ok()?;
    UnixStream::connect(names::path_of(&address)).ok().map(|_| address)
}

/// The runtime's options, which containerd writes to stdin.
fn options() -> Result<Options> {
    let mut bytes = Vec::new();
    io::stdin().take(1 << 20).read_to_end(&mut bytes).context("read the options from stdin")?;
    Ok(Any::parse(&bytes).and_then(|any| Options::from_any(&any)).unwrap_or_default())
}

/// Starts a shim that gets its socket as its standard input.
fn spawn(arguments: &Arguments, options: &Options) -> Result<String> {
    let path = names::socket_path("").map_err(|fault| anyhow::anyhow!(fault.message))?;
    let listener = names::bind(&path)?;
    let address = format!("unix://{}", path.display());
    let own = std::env::current_exe().context("find the shim's executable")?;
    let mut command = Command::new(own);
    command.args(["-namespace", &arguments.namespace, "-id", &arguments.id, "-socket", &address]);
    command.process_group(0);
    command.stdin(OwnedFd::from(listener)).stdout(Stdio::null()).stderr(Stdio::null());
    let child = command.spawn().context("start the shim's process")?;
    let pid = child.id();
    if !options.shim_cgroup.is_empty() {
        move_to(&options.shim_cgroup, pid)?;
    }
    fs::write("shim.pid", pid.to_string()).context("write shim.pid")?;
    adjust_oom_score(pid);
    Ok(address)
}

/// A cgroup for the shim, as the option ShimCgroup asks.
fn move_to(cgroup: &str, pid: u32) -> Result<()> {
    let hierarchy = Hierarchy::find()?;
    let directory = hierarchy.mountpoint().join(cgroup.trim_start_matches('/'));
    fs::create_dir_all(&directory).with_context(|| format!("create {}", directory.display()))?;
    let file = directory.join("cgroup.procs");
    fs::write(&file, pid.to_string()).with_context(|| format!("write {}", file.display()))
}

/// Without privilege for it the score stays as it is.
fn adjust_oom_score(pid: u32) {
    let parent = std::os::unix::process::parent_id();
    let Ok(score) = fs::read_to_string(format!("/proc/{parent}/oom_score_adj")) else { return };
    let score = (score.trim().parse().unwrap_or(0) + SOONER).min(1000);
    let _ = fs::write(format!("/proc/{pid}/oom_score_adj"), score.to_string());
}
