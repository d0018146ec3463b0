//! `rtc check`: what of the engine works on this machine.

use clap::Args;

/// `check` has no arguments.
#[derive(Args, Debug)]
#[command(about = "check that this machine can checkpoint and restore")]
pub(crate) struct Check {}
