//! `rtc create`: a container up to the point where its process waits for `start`.

use crate::session::Session;
use anyhow::Result;
use rtc_runtime::{CreateOptions, Payload, Saved};
use std::path::PathBuf;

use clap::Args;

const DESCRIPTION: &str = "   \
   Makes the container that config.json in the bundle describes. Its process waits
   for 'start'. config.json is read once: later changes have no effect.";

/// The flags of `create`.
#[derive(Args, Debug)]
#[command(about = "create a container", after_help = DESCRIPTION)]
pub(crate) struct Create {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Accepted, as crun does: create adopts no processes
    #[arg(long, hide = true)]
    pub(crate) no_subreaper: bool,
    /// The container's name, unique on this host
    #[arg(value_name = "container-id")]
    pub(crate) id: String,
}

/// The flags that `create`, `run` and `restore` share.
#[derive(Args, Debug)]
#[group(skip)]
pub(crate) struct Common {
    /// Directory with config.json [default: the current directory]
    #[arg(long, short, value_name = "DIR")]
    pub(crate) bundle: Option<PathBuf>,
    /// Another file than config.json in the bundle, relative to it
    #[arg(long, short = 'f', value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Socket that gets the master end of the container's terminal
    #[arg(long, value_name = "SOCKET")]
    pub(crate) console_socket: Option<PathBuf>,
    /// Socket that gets a file descriptor of the process (a pidfd)
    #[arg(long, value_name = "SOCKET")]
    pub(crate) pidfd_socket: Option<PathBuf>,
    /// File to write the process id to, as seen by the caller
    #[arg(long, value_name = "FILE")]
    pub(crate) pid_file: Option<PathBuf>,
    /// Use chroot-like means where pivot_root can't work, as on a ramdisk
    #[arg(long)]
    pub(crate) no_pivot: bool,
    /// Leave the caller's session keyring to the container
    #[arg(long)]
    pub(crate) no_new_keyring: bool,
    /// Pass this many further file descriptors, from 3 up, to the container
    #[arg(long, value_name = "N", default_value_t)]
    pub(crate) preserve_fds: u32,
}

impl Common {
    /// The runtime's options for the container `id`.
    pub(crate) fn options(&self, id: &str, foreground: bool) -> CreateOptions {
        CreateOptions {
            id: id.to_owned(),
            bundle: self.bundle.clone().unwrap_or_else(|| PathBuf::from(".")),
            config: self.config.clone(),
            pid_file: self.pid_file.clone(),
            console_socket: self.console_socket.clone(),
            pidfd_socket: self.pidfd_socket.clone(),
            foreground,
            no_pivot: self.no_pivot,
            no_new_keyring: self.no_new_keyring,
            notify_mount: false,
            preserve_fds: self.preserve_fds,
            saved: Saved::default(),
        }
    }
}

impl Create {
    /// # Errors
    /// The container can't be made; nothing is left of it.
    pub(crate) fn run(self, session: &Session) -> Result<u8> {
        rtc_runtime::create(&session.host, &self.common.options(&self.id, false), Payload::Exec)?;
        Ok(0)
    }
}
