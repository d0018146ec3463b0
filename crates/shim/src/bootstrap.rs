//! How the shim serves and ends: what the crate's bootstrap asks for.

use std::path::Path;
use std::sync::Arc;
use std::{env, fs, io};

use async_trait::async_trait;
use containerd_shim::api::DeleteResponse;
use containerd_shim::publisher::RemotePublisher;
use containerd_shim::{Config as Settings, Error, ExitSignal, Flags, StartOpts};
use rustix::fs::Mode;
use rustix::process::{setpgid, umask};
use tokio::signal::unix::{SignalKind, signal};

use crate::publisher::Publisher;
use crate::service::Service;
use crate::shim::Shim;
use crate::start::TTRPC_ADDRESS;
use crate::{exits, log, sockets};

/// A shim that serves.
pub(crate) struct Bootstrap {
    namespace: String,
    /// Where to serve.
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
        let containerd = env::var(TTRPC_ADDRESS).unwrap_or_default();
        Self {
            namespace: flags.namespace.clone(),
            socket: flags.socket.clone(),
            debug: flags.debug,
            publisher: Publisher::new(&containerd, flags.namespace.clone()),
            exit: Arc::new(ExitSignal::default()),
            mask: (!flags.socket.is_empty()).then(sockets::owner_only),
        }
    }

    /// `start` doesn't come this way: start.rs.
    async fn start_shim(&mut self, _: StartOpts) -> containerd_shim::Result<String> {
        Err(Error::Unimplemented("start".into()))
    }

    /// `delete` doesn't either: cleanup.rs.
    async fn delete_shim(&mut self) -> containerd_shim::Result<DeleteResponse> {
        Err(Error::Unimplemented("delete".into()))
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
