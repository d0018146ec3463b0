//! `rtc restore`: a container out of an image.

use crate::session::Session;
use anyhow::{Result, bail};
use clap::Args;

use super::{checkpoint, create};

const DESCRIPTION: &str = "   \
   Makes the container that config.json in the bundle describes, and fills it with
   the processes of the image. The log is restore.log in the work directory.";

/// The flags of `restore`.
#[derive(Args, Debug)]
#[command(about = "restore a container from a previous checkpoint", after_help = DESCRIPTION)]
pub(crate) struct Restore {
    #[command(flatten)]
    pub(crate) common: create::Common,
    #[command(flatten)]
    pub(crate) image: checkpoint::Common,
    /// Return when the container runs
    #[arg(long, short)]
    pub(crate) detach: bool,
    /// Don't adopt the container's orphaned processes
    #[arg(long)]
    pub(crate) no_subreaper: bool,
    /// Security label for the processes instead of config.json's, as selinux:LABEL or apparmor:PROFILE
    #[arg(long, value_name = "TYPE:NAME")]
    pub(crate) lsm_profile: Option<String>,
    /// SELinux context for mounts instead of config.json's
    #[arg(long, value_name = "CONTEXT")]
    pub(crate) lsm_mount_context: Option<String>,
    /// The new container's name
    #[arg(value_name = "container-id")]
    pub(crate) id: String,
}

impl Restore {
    /// # Errors
    /// The engine isn't joined yet.
    pub(crate) fn run(self, _: &Session) -> Result<u8> {
        bail!("the checkpoint engine is on its way")
    }
}
