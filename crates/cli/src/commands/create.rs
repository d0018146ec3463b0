//! `rtc create`: a container up to the point where its process waits for `start`.

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
