//! `rtc install-shim`: the `criu` name for engines that insist on one.

use std::os::unix::fs::symlink;
use std::{env, fs, io};

use crate::session::Session;
use anyhow::{Context, Result, bail};
use std::path::PathBuf;

use clap::Args;

const DESCRIPTION: &str = "   \
   podman, CRI-O and containerd look for a program named criu before they ask the
   runtime for a checkpoint. The link answers their version query; rtc itself needs
   no criu. An existing criu in DIR is left alone, which is an error.";

/// The arguments of `install-shim`.
#[derive(Args, Debug)]
#[command(about = "link this program as DIR/criu", after_help = DESCRIPTION)]
pub(crate) struct InstallShim {
    /// A directory on the engine's PATH
    #[arg(value_name = "directory")]
    pub(crate) directory: PathBuf,
}

impl InstallShim {
    /// # Errors
    /// There is a criu in the directory, or the link can't be made.
    pub(crate) fn run(self, _: &Session) -> Result<u8> {
        let program = env::current_exe().context("find this program")?;
        let link = self.directory.join("criu");
        match symlink(&program, &link) {
            // The same link again is what was asked for.
            Err(e)
                if e.kind() == io::ErrorKind::AlreadyExists && fs::read_link(&link).is_ok_and(|to| to == program) =>
            {
                Ok(0)
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                bail!("{} exists and is another program: remove it first, or name another directory", link.display())
            }
            other => other.with_context(|| format!("link {} to {}", link.display(), program.display())).map(|()| 0),
        }
    }
}
