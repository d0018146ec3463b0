//! `rtc resume`: thaws the processes of a paused container.

use crate::session::Session;
use anyhow::Result;
use clap::Args;

/// The arguments of `resume`.
#[derive(Args, Debug)]
#[command(about = "let a paused container run on")]
pub(crate) struct Resume {
    /// The container
    #[arg(value_name = "container-id")]
    pub(crate) id: String,
}

impl Resume {
    /// # Errors
    /// No such container, or it is in another state.
    pub(crate) fn run(self, session: &Session) -> Result<u8> {
        session.container(&self.id)?.resume()?;
        Ok(0)
    }
}
