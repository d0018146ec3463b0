//! `rtc start`: lets the process of a created container go.

use crate::session::Session;
use anyhow::Result;
use clap::Args;

/// The arguments of `start`.
#[derive(Args, Debug)]
#[command(about = "start a created container's program")]
pub(crate) struct Start {
    /// The container
    #[arg(value_name = "container-id")]
    pub(crate) id: String,
}

impl Start {
    /// # Errors
    /// No such container, or it isn't waiting for its start.
    pub(crate) fn run(self, session: &Session) -> Result<u8> {
        session.container(&self.id)?.start()?;
        Ok(0)
    }
}
