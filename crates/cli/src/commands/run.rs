//! `rtc run`: create and start in one, in the foreground unless detached.

use clap::Args;

use super::create::Common;

const DESCRIPTION: &str = "   \
   Creates and starts a container. In the foreground its output and signals pass
   through rtc, whose exit status is that of the container's process.";

/// The flags of `run`.
#[derive(Args, Debug)]
#[command(about = "create and run a container", after_help = DESCRIPTION)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Return when the container runs
    #[arg(long, short)]
    pub(crate) detach: bool,
    /// Keep the container's state and cgroup after its end, until 'delete'
    #[arg(long)]
    pub(crate) keep: bool,
    /// Don't adopt the container's orphaned processes
    #[arg(long)]
    pub(crate) no_subreaper: bool,
    /// The container's name, unique on this host
    #[arg(value_name = "container-id")]
    pub(crate) id: String,
}
