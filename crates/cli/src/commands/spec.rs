//! `rtc spec`: a config.json to begin with.

use std::path::PathBuf;

use clap::Args;

const DESCRIPTION: &str = "   \
   Writes config.json for a container that runs a shell in the directory rootfs
   beside it.";

/// The flags of `spec`.
#[derive(Args, Debug)]
#[command(about = "create a new specification file", after_help = DESCRIPTION)]
pub(crate) struct Spec {
    /// Directory to write config.json to [default: the current directory]
    #[arg(long, short, value_name = "DIR")]
    pub(crate) bundle: Option<PathBuf>,
    /// Write a configuration that a user without privilege can run
    #[arg(long)]
    pub(crate) rootless: bool,
}
