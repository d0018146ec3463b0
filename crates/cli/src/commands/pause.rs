//! `rtc pause`: freezes all processes of a container.

use clap::Args;

/// The arguments of `pause`.
#[derive(Args, Debug)]
#[command(about = "pause suspends all processes inside the container")]
pub(crate) struct Pause {
    /// The container
    #[arg(value_name = "container-id")]
    pub(crate) id: String,
}
