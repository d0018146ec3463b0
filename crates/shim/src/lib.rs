//! `containerd-shim-rtc-v2`: what stands between containerd and a container that rtc runs.
//!
//! containerd calls it with `start` for each container, or pod; it leaves a process behind that serves containerd's task
//! API (ttrpc on a unix socket), is the parent of the container's processes, holds their input and output, and tells of
//! what happens. `delete` cleans up after one that has died. rtc does the work, a process per call.
//!
//! The protocols are small and written here (`frame`, `wire`), and there is one thread: docs/dependencies.md says what
//! the crate of containerd's would have brought.
//!
//! Left out: the sandbox API, streaming, version 1 cgroups.
#![forbid(unsafe_code)]

mod api;
mod arguments;
mod bootstrap;
mod bundle;
mod cgroup;
mod cleanup;
mod connection;
mod console;
mod control;
mod events;
mod exits;
mod fault;
mod frame;
#[cfg(test)]
mod golden;
mod idmapped;
mod info;
mod lifecycle;
mod log;
mod methods;
mod metrics;
mod moment;
mod mounts;
mod names;
mod options;
mod publisher;
mod pump;
mod queries;
mod runtime;
mod server;
mod shim;
mod stdio;
mod task;
mod wire;

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::{getpid, set_child_subreaper};

use arguments::Arguments;
use log::Log;
use server::Server;
use shim::Shim;

/// Does what the command line says: the whole program.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse(std::env::args().skip(1));
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // containerd shows it to the user.
            let _ = writeln!(io::stderr(), "containerd-shim-rtc-v2: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    if arguments.version {
        let text = format!("containerd-shim-rtc-v2\n  Version:  {}\n", env!("CARGO_PKG_VERSION"));
        return io::stdout().write_all(text.as_bytes()).context("write to stdout");
    }
    if arguments.info {
        return info::print();
    }
    if arguments.namespace.is_empty() || arguments.id.is_empty() {
        bail!("containerd starts it: -namespace and -id are needed");
    }
    match arguments.action.as_str() {
        "start" => bootstrap::start(arguments),
        "delete" => cleanup::delete(arguments),
        "" => serve(arguments),
        action => bail!("unknown action {action}: start and delete are known"),
    }
}

/// The process that stays.
fn serve(arguments: &Arguments) -> Result<()> {
    if arguments.socket.is_empty() {
        bail!("-socket is needed: containerd calls the shim with `start`");
    }
    let stdin = io::stdin();
    let listener = UnixListener::from(stdin.as_fd().try_clone_to_owned().context("take over the socket")?);
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null").context("open /dev/null")?;
    rustix::stdio::dup2_stdin(&null).context("dup2")?;
    set_child_subreaper(Some(getpid())).context("become a subreaper")?;
    let containerd = std::env::var("TTRPC_ADDRESS").unwrap_or_default();
    let shim = Shim::new(arguments.namespace.clone(), containerd, Log::open(Path::new(".")));
    let path = names::path_of(&arguments.socket).to_owned();
    let result = Server::new(shim, listener, path).and_then(Server::run);
    result.map_err(|fault| anyhow!(fault.message))
}

/// Reads bytes as everything that comes to the shim from outside, and forgets it: for tests with hostile input, which must
/// neither panic nor make it reserve more memory than the bytes themselves take.
pub fn read_untrusted(bytes: &[u8]) {
    let mut buffer = bytes.to_vec();
    while let Ok(Some(frame)) = frame::take(&mut buffer) {
        let payload = match frame.request() {
            Ok(Some(request)) => request.payload,
            _ => {
                let _ = frame.response();
                continue;
            }
        };
        let _ = (api::Target::parse(&payload), api::Exec::parse(&payload), api::Kill::parse(&payload));
        let _ = (api::Resize::parse(&payload), api::update(&payload));
        if let Ok(create) = api::Create::parse(&payload) {
            let _ = options::Options::from_any(&create.options);
        }
        if let Ok(checkpoint) = api::Checkpoint::parse(&payload) {
            let _ = options::CheckpointOptions::from_any(&checkpoint.options);
        }
    }
}
