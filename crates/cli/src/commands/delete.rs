//! `rtc delete`: all that is left of a stopped container goes.

use crate::session::Session;
use anyhow::{Context, Result};
use clap::Args;
use rtc_runtime::Kind;

/// The arguments of `delete`.
#[derive(Args, Debug)]
#[command(about = "delete a container that has ended, and all that it held")]
pub(crate) struct Delete {
    /// Kill the container first if it still runs; no error if it doesn't exist
    #[arg(long, short)]
    pub(crate) force: bool,
    /// The name is a regular expression: delete every container that it matches
    #[arg(long, short)]
    pub(crate) regex: bool,
    /// The container
    #[arg(value_name = "container-id")]
    pub(crate) id: String,
}

impl Delete {
    /// # Errors
    /// No such container, or it runs; neither with `--force`.
    pub(crate) fn run(self, session: &Session) -> Result<u8> {
        if self.regex {
            for container in session.matching(&self.id)? {
                let id = container.id().to_owned();
                match container.delete(self.force) {
                    // It is gone, by somebody else.
                    Err(error) if self.force && *error.kind() == Kind::NotFound => {}
                    other => other.with_context(|| id)?,
                }
            }
            return Ok(0);
        }
        match session.container(&self.id).and_then(|container| container.delete(self.force)) {
            Err(error) if self.force && *error.kind() == Kind::NotFound => Ok(0),
            other => Ok(other.map(|()| 0)?),
        }
    }
}
