//! `rtc restore`: a container out of an image.

use crate::criu_files;
use crate::foreground::Foreground;
use crate::logger;
use crate::session::Session;
use anyhow::{Context, Result};
use clap::Args;
use rtc_checkpoint::restore::{Checkpoint, Report};
use rtc_runtime::{Container, Held, Payload};

use super::checkpoint::Paths;
use super::{checkpoint, create, run};

const DESCRIPTION: &str = "   \
   Makes the container that config.json in the bundle describes, and fills it with
   the processes of the image. The log is restore.log in the work directory.";

/// The flags of `restore`.
#[derive(Args, Debug)]
#[command(about = "restore a container from a previous checkpoint", after_help = DESCRIPTION)]
pub(crate) struct Restore {
    #[command(flatten)]
    pub(crate) common: create::Common,
    #[command(flatten)]
    pub(crate) image: checkpoint::Common,
    /// Return when the container runs
    #[arg(long, short)]
    pub(crate) detach: bool,
    /// Don't adopt the container's orphaned processes
    #[arg(long)]
    pub(crate) no_subreaper: bool,
    /// Security label for the processes instead of config.json's, as selinux:LABEL or apparmor:PROFILE
    #[arg(long, value_name = "TYPE:NAME")]
    pub(crate) lsm_profile: Option<String>,
    /// SELinux context for mounts instead of config.json's
    #[arg(long, value_name = "CONTEXT")]
    pub(crate) lsm_mount_context: Option<String>,
    /// The new container's name
    #[arg(value_name = "container-id")]
    pub(crate) id: String,
}

impl Restore {
    /// # Errors
    /// The image is bad or doesn't fit, or the container can't be made; nothing is left of it.
    pub(crate) fn run(self, session: &Session) -> Result<u8> {
        let paths = Paths::new(&self.image)?;
        let log = paths.log("restore.log")?;
        let result = self.restore(session, &paths);
        let logged = result.as_ref().map(|(_, _, report)| format!("{report:?}"));
        log.end(logged)?;
        let (container, foreground, report) =
            result.with_context(|| format!("the log is {}", paths.work.join("restore.log").display()))?;
        criu_files::write_restore_stats(&paths.work, &report)?;
        match foreground {
            Some(foreground) => {
                logger::release();
                run::stay(&foreground, container, false)
            }
            None => Ok(0),
        }
    }

    fn restore(&self, session: &Session, paths: &Paths) -> Result<(Container, Option<Foreground>, Report)> {
        let image = std::fs::File::open(&paths.image).with_context(|| format!("open {}", paths.image.display()))?;
        let checkpoint = Checkpoint::open(image.into()).with_context(|| format!("image {}", paths.image.display()))?;
        rtc_runtime::seal::ensure()?;
        let foreground = (!self.detach).then(|| Foreground::prepare(!self.no_subreaper)).transpose()?;
        let options = self.common.options(&self.id, !self.detach);
        let mut report = Report::default();
        let mut fill = |held: &Held| {
            report = checkpoint.restore(held.pid)?;
            Ok(())
        };
        let container = rtc_runtime::create(&session.host, &options, Payload::Hold(&mut fill))?;
        Ok((container, foreground, report))
    }
}
