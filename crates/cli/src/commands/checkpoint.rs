//! `rtc checkpoint`: writes a running container to an image.

use crate::session::Session;
use anyhow::{Result, bail};
use std::path::PathBuf;

use clap::{Args, ValueEnum};

const DESCRIPTION: &str = "   \
   Saves the container's processes to the image directory and ends them, unless
   --leave-running. Everything that can't be saved is listed before anything is
   touched. The log is dump.log in the work directory.";

/// The flags of `checkpoint`.
#[derive(Args, Debug)]
#[command(about = "checkpoint a running container", after_help = DESCRIPTION)]
pub(crate) struct Checkpoint {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Earlier image to build on, relative to the image directory
    #[arg(long, value_name = "DIR")]
    pub(crate) parent_path: Option<PathBuf>,
    /// Let the container run on
    #[arg(long)]
    pub(crate) leave_running: bool,
    /// List what can't be saved, and do nothing else
    #[arg(long)]
    pub(crate) check: bool,
    /// Leave connections that are being made out of the image
    #[arg(long)]
    pub(crate) tcp_skip_in_flight: bool,
    /// Accepted; deleted files are always saved
    #[arg(long)]
    pub(crate) link_remap: bool,
    /// Descriptor to write a NUL byte to when pages can be fetched
    #[arg(long, value_name = "FD")]
    pub(crate) status_fd: Option<i32>,
    /// Address of a page server
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) page_server: Option<String>,
    /// Save memory only, as a parent for later checkpoints
    #[arg(long)]
    pub(crate) pre_dump: bool,
    /// The container
    #[arg(value_name = "container-id")]
    pub(crate) id: String,
}

/// The flags that `checkpoint` and `restore` share.
#[derive(Args, Debug)]
#[group(skip)]
pub(crate) struct Common {
    /// Directory of the image [default: ./checkpoint]
    #[arg(long, value_name = "DIR")]
    pub(crate) image_path: Option<PathBuf>,
    /// Directory for the log and statistics [default: the image directory]
    #[arg(long, value_name = "DIR")]
    pub(crate) work_path: Option<PathBuf>,
    /// Save and restore established TCP connections
    #[arg(long)]
    pub(crate) tcp_established: bool,
    /// Close established TCP connections
    #[arg(long)]
    pub(crate) tcp_close: bool,
    /// Allow unix sockets whose other end is outside the container
    #[arg(long)]
    pub(crate) ext_unix_sk: bool,
    /// Allow processes that belong to the caller's terminal
    #[arg(long)]
    pub(crate) shell_job: bool,
    /// Accepted; file locks are always saved
    #[arg(long)]
    pub(crate) file_locks: bool,
    /// Fetch pages of memory when they are first used
    #[arg(long)]
    pub(crate) lazy_pages: bool,
    /// What becomes of cgroups
    #[arg(long, value_name = "MODE", value_enum)]
    pub(crate) manage_cgroups_mode: Option<CgroupsMode>,
    /// Namespace whose contents to leave to others: network
    #[arg(long, value_name = "NAMESPACE")]
    pub(crate) empty_ns: Vec<String>,
    /// Drop pages from the parent image that a later one holds
    #[arg(long)]
    pub(crate) auto_dedup: bool,
    /// Accepted; frozen processes need no lock of the network
    #[arg(long, value_name = "METHOD")]
    pub(crate) network_lock: Option<String>,
}

/// The values of `--manage-cgroups-mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CgroupsMode {
    /// Cgroups that exist get no new properties.
    Soft,
    /// Cgroups must not exist yet.
    Full,
    /// Cgroups must exist.
    Strict,
    /// The new config.json alone decides.
    Ignore,
}

impl Checkpoint {
    /// # Errors
    /// The engine isn't joined yet.
    pub(crate) fn run(self, _: &Session) -> Result<u8> {
        bail!("the checkpoint engine is on its way")
    }
}
