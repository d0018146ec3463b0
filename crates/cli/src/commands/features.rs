//! `rtc features`: what this runtime can do, as the specification's features document.

use clap::Args;

/// `features` has no arguments.
#[derive(Args, Debug)]
#[command(about = "show the enabled features")]
pub(crate) struct Features {}
