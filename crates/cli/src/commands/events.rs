//! `rtc events`: statistics of a container, once or again and again.

use clap::Args;

/// The arguments of `events`.
#[derive(Args, Debug)]
#[command(about = "display container events such as OOM notifications, cpu, memory, and IO usage statistics")]
pub(crate) struct Events {
    /// Time between two statistics, as 5s, 500ms or 1m
    #[arg(long, value_name = "DURATION", default_value = "5s")]
    pub(crate) interval: String,
    /// Print statistics once and end
    #[arg(long)]
    pub(crate) stats: bool,
    /// The container
    #[arg(value_name = "container-id")]
    pub(crate) id: String,
}
