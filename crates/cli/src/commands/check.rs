//! `rtc check`: what of the engine works on this machine.

use std::process::ExitCode;

use crate::session::Session;
use anyhow::{Result, bail};
use clap::Args;

/// `check` has no arguments.
#[derive(Args, Debug)]
#[command(about = "check that this machine can checkpoint and restore")]
pub(crate) struct Check {}

impl Check {
    /// # Errors
    /// Something is missing; it is named.
    pub(crate) fn run(self, _: &Session) -> Result<u8> {
        bail!("the checkpoint engine is on its way")
    }
}

/// `criu check`.
pub(crate) fn as_criu() -> ExitCode {
    ExitCode::FAILURE
}
