//! How the shim is started, ended and cleaned up after: what the crate's bootstrap asks for.

use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::{env, fs};

use anyhow::{Context, Result};
use async_trait::async_trait;
use containerd_shim::api::{DeleteResponse, Options};
use containerd_shim::protos::protobuf::Message;
use containerd_shim::protos::protobuf::well_known_types::any::Any;
use containerd_shim::publisher::RemotePublisher;
use containerd_shim::{Config as Settings, Error, ExitSignal, Flags, StartOpts};
use rtc_runtime::cgroup::Hierarchy;
use rustix::fs::Mode;
use rustix::process::{setpgid, umask};
use tokio::signal::unix::{SignalKind, signal};

use crate::bundle::Config;
use crate::publisher::Publisher;
use crate::service::Service;
use crate::shim::Shim;
use crate::{cleanup, exits, log, options, sockets};

/// One call of the program.
pub(crate) struct Bootstrap {
    namespace: String,
    id: String,
    /// Empty for the working directory.
    bundle: String,
    /// Where to serve; empty for `start` and `delete`.
    socket: String,
    debug: bool,
    publisher: Publisher,
    exit: Arc<ExitSignal>,
    /// The mask for new files that it came with, while the crate makes the socket.
    mask: Option<Mode>,
}

#[async_trait]
impl containerd_shim::Shim for Bootstrap {
    type T = Service;

    async fn new(_: &str, flags: &Flags, _: &mut Settings) -> Self {
        let containerd = env::var("TTRPC_ADDRESS").unwrap_or_default();
        Self {
            namespace: flags.namespace.clone(),
            id: flags.id.clone(),
            bundle: flags.bundle.clone(),
            socket: flags.socket.clone(),
            debug: flags.debug,
            publisher: Publisher::new(&containerd, flags.namespace.clone()),
            exit: Arc::new(ExitSignal::default()),
            mask: (!flags.socket.is_empty()).then(sockets::owner_only),
        }
    }

    /// `start`: starts a shim in the bundle, which is the working directory, or finds the one of the container's group.
    async fn start_shim(&mut self, opts: StartOpts) -> containerd_shim::Result<String> {
        let group = prepare(&opts.id).map_err(passed_on)?;
        let address = containerd_shim::spawn(opts, &group, Vec::new()).await?;
        fs::write(sockets::ADDRESS, &address).context("write address").map_err(passed_on)?;
        Ok(address)
    }

    async fn delete_shim(&mut self) -> containerd_shim::Result<DeleteResponse> {
        cleanup::delete(&self.namespace, &self.id, &self.bundle).map_err(passed_on)
    }

    /// The crate makes the socket next, and then calls `wait`.
    async fn create_task_service(&self, _: RemotePublisher) -> Service {
        log::init(Path::new("."), self.debug);
        // A key pressed at the terminal that containerd was started from is not for containers.
        if let Err(error) = setpgid(None, None) {
            ::log::warn!("setpgid: {error}");
        }
        let shim = Shim::new(self.namespace.clone(), self.publisher.clone(), self.exit.clone());
        let service = Service::new(shim);
        if let Err(error) = serve_signals(&service, &self.exit) {
            ::log::error!("signals: {error}");
            self.exit.signal();
        }
        service
    }

    async fn wait(&mut self) {
        if let Some(mask) = self.mask.take() {
            umask(mask);
        }
        self.exit.wait().await;
        // The crate finds it by a file in the bundle, which may be gone by then.
        let _ = fs::remove_file(sockets::path_of(&self.socket));
        self.publisher.flush().await;
    }
}

/// What is to be done before a shim is started: the name of the container's group.
///
/// The crate takes the options from stdin too, but reads all kinds as one; after this there is nothing left to read.
fn prepare(id: &str) -> Result<String> {
    let config = Config::load(Path::new(".")).map_err(|fault| anyhow::anyhow!(fault.message))?;
    let mut bytes = Vec::new();
    io::stdin().take(1 << 20).read_to_end(&mut bytes).context("read the options from stdin")?;
    let options: Options = Any::parse_from_bytes(&bytes).and_then(|any| options::from_any(&any)).unwrap_or_default();
    if !options.shim_cgroup.is_empty() {
        move_to(&options.shim_cgroup)?;
    }
    Ok(config.group().unwrap_or(id).to_owned())
}

/// A cgroup for the shim, as the option ShimCgroup asks. It is this process's child, and so begins there.
fn move_to(cgroup: &str) -> Result<()> {
    let hierarchy = Hierarchy::find()?;
    let directory = hierarchy.mountpoint().join(cgroup.trim_start_matches('/'));
    fs::create_dir_all(&directory).with_context(|| format!("create {}", directory.display()))?;
    let file = directory.join("cgroup.procs");
    fs::write(&file, "0").with_context(|| format!("write {}", file.display()))
}

/// Has children reaped from now on, and lets SIGTERM and SIGINT end the shim.
fn serve_signals(service: &Service, exit: &Arc<ExitSignal>) -> io::Result<()> {
    let mut children = signal(SignalKind::child())?;
    let service = service.clone();
    tokio::spawn(async move {
        while children.recv().await.is_some() {
            exits::reap(&mut service.lock());
        }
    });
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let (mut signal, exit) = (signal(kind)?, exit.clone());
        tokio::spawn(async move {
            if signal.recv().await.is_some() {
                exit.signal();
            }
        });
    }
    Ok(())
}

/// The crate prints it, and containerd shows that to the user.
fn passed_on(error: anyhow::Error) -> Error {
    Error::Other(format!("{error:#}"))
}
