//! `containerd-shim-rtc-v2`: what stands between containerd and a container that rtc runs.
//!
//! containerd calls it with `start` for each container, or pod; it leaves a process behind that serves containerd's task
//! API (ttrpc on a unix socket), is the parent of the container's processes, holds their input and output, and tells of
//! what happens. `delete` cleans up after one that has died. rtc does the work, a process per call.
//!
//! containerd's own crate, containerd-shim, has the protocols, the messages and the way of being started. It is used on
//! its asynchronous side, on one thread; docs/dependencies.md says what of it isn't used, and why.
//!
//! Left out: the sandbox API, streaming, version 1 cgroups.
#![forbid(unsafe_code)]

mod any;
mod bootstrap;
mod bundle;
mod cgroup;
mod cleanup;
mod console;
mod control;
mod exits;
mod fault;
mod idmapped;
mod info;
mod kernel_log;
mod lifecycle;
mod log;
mod logger;
mod metrics;
mod mounts;
mod options;
mod publisher;
mod pump;
mod queries;
mod reply;
mod runtime;
mod service;
mod shim;
mod sockets;
mod start;
mod stdio;
mod task;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use containerd_shim::Config;
use tokio::runtime::{Builder, Runtime};

use bootstrap::Bootstrap;

/// Does what the command line says: the whole program.
pub fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // containerd shows it to the user.
            let _ = writeln!(io::stderr(), "containerd-shim-rtc-v2: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[OsString]) -> Result<()> {
    let flags = containerd_shim::parse(arguments)?;
    if flags.version {
        let text = format!("containerd-shim-rtc-v2\n  Version:  {}\n", env!("CARGO_PKG_VERSION"));
        return io::stdout().write_all(text.as_bytes()).context("write to stdout");
    }
    if flags.info {
        return info::print();
    }
    match flags.action.as_str() {
        "start" => return tokio_with_one_thread()?.block_on(start::start(&flags)),
        // What containerd hasn't said of itself may be on stdin for `start` alone.
        _ if flags.namespace.is_empty() || flags.id.is_empty() => {
            bail!("containerd starts it: -namespace and -id are needed");
        }
        "delete" => return cleanup::print(&flags.namespace, &flags.id, &flags.bundle),
        "" => {}
        action => bail!("unknown action {action}: start and delete are known"),
    }
    // Its reaper takes ends for ours that it can't tell of (exits.rs), and its logger waits for a full fifo (log.rs).
    let config = Config { no_setup_logger: true, no_reaper: true, ..Config::default() };
    tokio_with_one_thread()?.block_on(containerd_shim::run::<Bootstrap>(info::NAME, Some(config)));
    Ok(())
}

fn tokio_with_one_thread() -> Result<Runtime> {
    // The crate moves a few calls that may block to another thread, when it starts and when it ends; it goes at once.
    let mut builder = Builder::new_current_thread();
    builder.enable_all().max_blocking_threads(1).thread_keep_alive(Duration::ZERO).build().context("start tokio")
}
