//! `rtc ps`: the processes of a container.

use std::ffi::OsString;

use clap::Args;

use super::list::Format;

const DESCRIPTION: &str = "   \
   The table is that of ps(1), which must be installed for it; options after the
   container's name are ps's (default: -ef).";

/// The arguments of `ps`.
#[derive(Args, Debug)]
#[command(about = "ps displays the processes running inside a container", after_help = DESCRIPTION)]
pub(crate) struct Ps {
    /// Table or JSON array of process ids
    #[arg(long, short, value_name = "FORMAT", value_enum, default_value_t)]
    pub(crate) format: Format,
    /// The container
    #[arg(value_name = "container-id")]
    pub(crate) id: String,
    /// Options of ps
    #[arg(value_name = "ps options", num_args = 0..)]
    pub(crate) options: Vec<OsString>,
}
