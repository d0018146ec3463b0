//! `rtc state`: the OCI state object.

use std::io::{self, Write};

use crate::session::Session;
use anyhow::{Context, Result};
use clap::Args;

/// The arguments of `state`.
#[derive(Args, Debug)]
#[command(about = "print the state of a container, as JSON")]
pub(crate) struct State {
    /// The container
    #[arg(value_name = "container-id")]
    pub(crate) id: String,
}

impl State {
    /// # Errors
    /// No such container.
    pub(crate) fn run(self, session: &Session) -> Result<u8> {
        let mut state = session.container(&self.id)?.state()?;
        // Only list looks the owner up.
        state.owner.clear();
        let text = serde_json::to_string_pretty(&state)?;
        io::stdout().write_all(text.as_bytes()).context("write to stdout")?;
        Ok(0)
    }
}
