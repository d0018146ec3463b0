//! `rtc install-shim`: the `criu` name for engines that insist on one.

use std::path::PathBuf;

use clap::Args;

const DESCRIPTION: &str = "   \
   podman, CRI-O and containerd look for a program named criu before they ask the
   runtime for a checkpoint. The link answers their version query; rtc itself needs
   no criu. An existing criu in DIR is left alone, which is an error.";

/// The arguments of `install-shim`.
#[derive(Args, Debug)]
#[command(about = "link this program as DIR/criu", after_help = DESCRIPTION)]
pub(crate) struct InstallShim {
    /// A directory on the engine's PATH
    #[arg(value_name = "directory")]
    pub(crate) directory: PathBuf,
}
