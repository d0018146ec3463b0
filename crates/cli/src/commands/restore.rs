//! `rtc restore`: a container out of an image.

use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Context, Result, bail};
use clap::Args;
use oci_spec::runtime::Spec;
use rtc_checkpoint::restore::{Checkpoint, Label, Report};
use rtc_runtime::{Held, Payload, Saved};

use super::checkpoint::warn;
use super::run::stay;
use super::{checkpoint, create};
use crate::checkpointing::{CriuConfig, Directories, authority};
use crate::criu_files;
use crate::foreground::Foreground;
use crate::logger;
use crate::session::Session;

const DESCRIPTION: &str = "   \
   Makes the container that config.json in the bundle describes, and fills it with
   the processes of the image. The log is restore.log in the work directory.";

/// The flags of `restore`.
#[derive(Args, Debug)]
#[command(about = "restore a container from a checkpoint", after_help = DESCRIPTION)]
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
    /// The image or the bundle is bad, or a process can't be made; nothing is left of the container.
    pub(crate) fn run(self, session: &Session) -> Result<u8> {
        session.require_root("restore")?;
        rtc_runtime::seal::ensure()?;
        self.refuse_unsupported()?;
        let bundle = self.common.bundle.clone().unwrap_or_default();
        let config_json = bundle.join(self.common.config.as_deref().unwrap_or(Path::new("config.json")));
        let bytes = rtc_runtime::read_config(&config_json)?;
        let spec = rtc_runtime::spec::parse(&bytes)?;
        let config = CriuConfig::load(spec.annotations().as_ref())?;
        let directories = self.image.directories();
        let image = directories.open_image()?;
        start_log(&directories, config.log_file.as_deref())?;
        log::debug!("restore {} from {}", self.id, directories.image.display());
        let mut image = Checkpoint::open(image).with_context(|| format!("image {}", directories.image.display()))?;
        let mut allowed = authority::of(&spec)?;
        let notify = Path::new(rtc_runtime::NOTIFY_MOUNT);
        let configured = spec.mounts().iter().flatten().any(|mount| mount.destination() == notify);
        let notify_mount = !configured && image.builds_on(notify);
        allowed.given.extend(notify_mount.then(authority::notify_mount));
        image.authorize(allowed)?;
        let labels = self.labels(&spec)?;
        let foreground = (!self.detach).then(|| Foreground::prepare(!self.no_subreaper)).transpose()?;
        let mut report = Report::default();
        let mut fill = |held: &Held| {
            let cgroup = held.cgroup.as_ref().map(std::fs::File::open).transpose()?;
            report = image.restore(held.pid, cgroup.as_ref().map(AsFd::as_fd), &labels)?;
            Ok(())
        };
        let mut options = self.common.options(&self.id, !self.detach);
        options.notify_mount = notify_mount;
        options.saved = Saved { init: image.init(), mountpoints: image.mountpoints().map(Path::to_owned).collect() };
        let container = rtc_runtime::create(&session.host, &options, Payload::Hold(&mut fill))?;
        log::debug!("{report:?}");
        warn(criu_files::write_restore_stats(&directories.work, &report));
        match foreground {
            None => Ok(0),
            Some(foreground) => {
                logger::release();
                stay(&foreground, container, false)
            }
        }
    }

    fn refuse_unsupported(&self) -> Result<()> {
        if self.lsm_mount_context.is_some() && has_selinux() {
            bail!("--lsm-mount-context is not supported where SELinux is on: set linux.mountLabel in config.json");
        }
        self.image.refuse_unsupported()
    }

    /// The labels that the processes get: config.json's, or the flag's instead. Without the module in the kernel a
    /// label has no effect, and its absence neither.
    fn labels(&self, spec: &Spec) -> Result<Vec<Label>> {
        let process = spec.process().as_ref();
        let mut apparmor = process.and_then(|process| process.apparmor_profile().clone());
        let mut selinux = process.and_then(|process| process.selinux_label().clone());
        match self.lsm_profile.as_deref().map(|profile| profile.split_once(':')) {
            None => {}
            Some(Some(("selinux", label))) => selinux = Some(label.to_owned()),
            Some(Some(("apparmor", profile))) => apparmor = Some(profile.to_owned()),
            Some(_) => bail!("--lsm-profile takes selinux:LABEL or apparmor:PROFILE"),
        }
        let mut labels = Vec::new();
        // Unconfined is what the held process is.
        if let Some(profile) = apparmor.filter(|name| !name.is_empty() && name != "unconfined" && has_apparmor()) {
            labels.push(Label::apparmor(&profile));
        }
        if let Some(label) = selinux.filter(|label| !label.is_empty() && has_selinux()) {
            labels.push(Label::selinux(&label));
        }
        Ok(labels)
    }
}

fn has_apparmor() -> bool {
    // Without AppArmor, or with another module that labels processes, it is missing or can't be read.
    std::fs::read("/proc/self/attr/apparmor/current").is_ok()
}

fn has_selinux() -> bool {
    Path::new("/sys/fs/selinux/enforce").exists()
}

/// Opens restore.log. Beside the image, where it belongs without `--work-path`, it may not be writable.
fn start_log(directories: &Directories, name: Option<&Path>) -> Result<()> {
    directories.make_work()?;
    match directories.log(name.unwrap_or(Path::new("restore.log"))) {
        Ok(file) => logger::copy_to(file),
        Err(error) if directories.work_given => return Err(error),
        Err(_) => {}
    }
    Ok(())
}
