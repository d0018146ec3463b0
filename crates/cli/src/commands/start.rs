//! `rtc start`: lets the process of a created container go.

use clap::Args;

/// The arguments of `start`.
#[derive(Args, Debug)]
#[command(about = "execute the user-defined process in a created container")]
pub(crate) struct Start {
    /// The container
    #[arg(value_name = "container-id")]
    pub(crate) id: String,
}
