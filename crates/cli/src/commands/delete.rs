//! `rtc delete`: all that is left of a stopped container goes.

use clap::Args;

/// The arguments of `delete`.
#[derive(Args, Debug)]
#[command(about = "delete any resources held by the container often used with detached container")]
pub(crate) struct Delete {
    /// Kill the container first if it still runs; no error if it doesn't exist
    #[arg(long, short)]
    pub(crate) force: bool,
    /// The container
    #[arg(value_name = "container-id")]
    pub(crate) id: String,
}
