//! `rtc mounts`: mounts added to a running container, or taken from it.

use std::fs;
use std::io::{self, Read};
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};

use crate::session::Session;

const DESCRIPTION: &str = "   \
   FILE holds an array of mounts as in config.json; '-' is stdin. Relative sources
   count from the current directory. What is added is gone with the container, and
   is not part of a checkpoint.";

/// The arguments of `mounts`.
#[derive(Args, Debug)]
#[command(about = "add mounts to a running container, or remove them", after_help = DESCRIPTION)]
pub(crate) struct Mounts {
    /// What to do
    #[arg(value_name = "add|remove", value_enum)]
    pub(crate) action: Action,
    /// The container
    #[arg(value_name = "container-id")]
    pub(crate) id: String,
    /// File with the mounts
    #[arg(value_name = "file")]
    pub(crate) file: PathBuf,
}

/// What is done with the mounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Action {
    /// Mount them.
    Add,
    /// Unmount them.
    Remove,
}

impl Mounts {
    /// # Errors
    /// No such container, it doesn't run, or a mount can't be made or found.
    pub(crate) fn run(self, session: &Session) -> Result<u8> {
        let container = session.container(&self.id)?;
        let bytes = if self.file.as_os_str() == "-" {
            let mut bytes = Vec::new();
            io::stdin().read_to_end(&mut bytes).map(|_| bytes)
        } else {
            fs::read(&self.file)
        };
        let bytes = bytes.with_context(|| format!("read {}", self.file.display()))?;
        match self.action {
            Action::Add => container.add_mounts(&bytes)?,
            Action::Remove => container.remove_mounts(&bytes)?,
        }
        Ok(0)
    }
}
