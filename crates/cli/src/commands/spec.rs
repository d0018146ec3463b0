//! `rtc spec`: a config.json to begin with.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;

use crate::session::Session;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};

use clap::Args;

const DESCRIPTION: &str = "   \
   Writes config.json for a container that runs a shell in the directory rootfs
   beside it.";

/// The flags of `spec`.
#[derive(Args, Debug)]
#[command(about = "write a config.json to begin with", after_help = DESCRIPTION)]
pub(crate) struct Spec {
    /// Directory to write config.json to [default: the current directory]
    #[arg(long, short, value_name = "DIR")]
    pub(crate) bundle: Option<PathBuf>,
    /// Another name than config.json
    #[arg(long, short = 'f', alias = "file", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Write a configuration that a user without privilege can run
    #[arg(long)]
    pub(crate) rootless: bool,
}

/// What `spec` writes; the words in capitals stand for the caller's ids.
const DEFAULT: &str = include_str!("spec/config.json");
const ROOTLESS: &str = include_str!("spec/config-rootless.json");

impl Spec {
    /// # Errors
    /// There is a config.json already, or it can't be written.
    pub(crate) fn run(self, _: &Session) -> Result<u8> {
        let text = if self.rootless {
            let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
            ROOTLESS.replace("\"UID\"", &uid.as_raw().to_string()).replace("\"GID\"", &gid.as_raw().to_string())
        } else {
            DEFAULT.to_owned()
        };
        let path = self.bundle.unwrap_or_default().join(self.config.as_deref().unwrap_or(Path::new("config.json")));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o666).open(&path);
        let mut file = match file {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                bail!("{} exists: remove it first", path.display())
            }
            other => other.with_context(|| format!("make {}", path.display()))?,
        };
        file.write_all(text.as_bytes()).with_context(|| format!("write {}", path.display()))?;
        Ok(0)
    }
}
