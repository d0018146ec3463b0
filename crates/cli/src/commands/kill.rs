//! `rtc kill`: a signal for the container's process.

use crate::session::Session;
use anyhow::{Context, Result};
use clap::Args;

const DESCRIPTION: &str = "   \
   The signal is a name, with or without SIG, or a number. Without a private pid
   namespace, KILL goes to all processes of the container.";

/// The arguments of `kill`.
#[derive(Args, Debug)]
#[command(about = "send a signal to a container's first process (default: SIGTERM)")]
#[command(after_help = DESCRIPTION)]
pub(crate) struct Kill {
    /// Send the signal to all processes of the container; no error if it has stopped
    #[arg(long, short)]
    pub(crate) all: bool,
    /// The name is a regular expression: send it to every container that it matches
    #[arg(long, short)]
    pub(crate) regex: bool,
    /// The container
    #[arg(value_name = "container-id")]
    pub(crate) id: String,
    /// The signal
    #[arg(value_name = "signal", default_value = "SIGTERM")]
    pub(crate) signal: String,
}

impl Kill {
    /// # Errors
    /// No such container or signal, or the container has stopped and `--all` isn't given.
    pub(crate) fn run(self, session: &Session) -> Result<u8> {
        let signal = rtc_runtime::parse_signal(&self.signal)?;
        if self.regex {
            for container in session.matching(&self.id)? {
                container.kill(signal, self.all).with_context(|| container.id().to_owned())?;
            }
            return Ok(0);
        }
        session.container(&self.id)?.kill(signal, self.all)?;
        Ok(0)
    }
}
