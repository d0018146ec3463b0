//! `rtc pause`: freezes all processes of a container.

use crate::session::Session;
use anyhow::Result;
use clap::Args;

/// The arguments of `pause`.
#[derive(Args, Debug)]
#[command(about = "suspend all processes of a container")]
pub(crate) struct Pause {
    /// The container
    #[arg(value_name = "container-id")]
    pub(crate) id: String,
}

impl Pause {
    /// # Errors
    /// No such container, or it is in another state.
    pub(crate) fn run(self, session: &Session) -> Result<u8> {
        session.container(&self.id)?.pause()?;
        Ok(0)
    }
}
