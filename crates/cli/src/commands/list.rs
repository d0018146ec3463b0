//! `rtc list`: the containers of this root.

use clap::{Args, ValueEnum};

/// The flags of `list`.
#[derive(Args, Debug)]
#[command(about = "lists containers started by rtc with the given root")]
pub(crate) struct List {
    /// Table or JSON
    #[arg(long, short, value_name = "FORMAT", value_enum, default_value_t)]
    pub(crate) format: Format,
    /// Only the ids
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

/// For people or for programs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Columns with a header.
    #[default]
    Table,
    /// One line of JSON.
    Json,
}
