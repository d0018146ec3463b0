//! `rtc state`: the OCI state object.

use clap::Args;

/// The arguments of `state`.
#[derive(Args, Debug)]
#[command(about = "output the state of a container")]
pub(crate) struct State {
    /// The container
    #[arg(value_name = "container-id")]
    pub(crate) id: String,
}
