//! `rtc resume`: thaws the processes of a paused container.

use clap::Args;

/// The arguments of `resume`.
#[derive(Args, Debug)]
#[command(about = "resumes all processes that have been previously paused")]
pub(crate) struct Resume {
    /// The container
    #[arg(value_name = "container-id")]
    pub(crate) id: String,
}
