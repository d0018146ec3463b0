//! `rtc checkpoint`: writes a running container to an image.

use crate::criu_files;
use crate::session::Session;
use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use rtc_checkpoint::dump;
use rtc_checkpoint::files::{Blocker, External, FileOptions};
use rtc_checkpoint::resource::mount::Given;
use rtc_runtime::{Container, Status};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const DESCRIPTION: &str = "   \
   Saves the container's processes to the image directory and ends them, unless
   --leave-running. Everything that can't be saved is listed before anything is
   touched. The log is dump.log in the work directory.";

/// The flags of `checkpoint`.
#[derive(Args, Debug)]
#[command(about = "checkpoint a running container", after_help = DESCRIPTION)]
pub(crate) struct Checkpoint {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Earlier image to build on, relative to the image directory
    #[arg(long, value_name = "DIR")]
    pub(crate) parent_path: Option<PathBuf>,
    /// Let the container run on
    #[arg(long)]
    pub(crate) leave_running: bool,
    /// List what can't be saved, and do nothing else
    #[arg(long)]
    pub(crate) check: bool,
    /// Leave connections that are being made out of the image
    #[arg(long)]
    pub(crate) tcp_skip_in_flight: bool,
    /// Accepted; deleted files are always saved
    #[arg(long)]
    pub(crate) link_remap: bool,
    /// Descriptor to write a NUL byte to when pages can be fetched
    #[arg(long, value_name = "FD")]
    pub(crate) status_fd: Option<i32>,
    /// Address of a page server
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) page_server: Option<String>,
    /// Save memory only, as a parent for later checkpoints
    #[arg(long)]
    pub(crate) pre_dump: bool,
    /// The container
    #[arg(value_name = "container-id")]
    pub(crate) id: String,
}

/// The flags that `checkpoint` and `restore` share.
#[derive(Args, Debug)]
#[group(skip)]
pub(crate) struct Common {
    /// Directory of the image [default: ./checkpoint]
    #[arg(long, value_name = "DIR")]
    pub(crate) image_path: Option<PathBuf>,
    /// Directory for the log and statistics [default: the image directory]
    #[arg(long, value_name = "DIR")]
    pub(crate) work_path: Option<PathBuf>,
    /// Save and restore established TCP connections
    #[arg(long)]
    pub(crate) tcp_established: bool,
    /// Close established TCP connections
    #[arg(long)]
    pub(crate) tcp_close: bool,
    /// Allow unix sockets whose other end is outside the container
    #[arg(long)]
    pub(crate) ext_unix_sk: bool,
    /// Allow processes that belong to the caller's terminal
    #[arg(long)]
    pub(crate) shell_job: bool,
    /// Accepted; file locks are always saved
    #[arg(long)]
    pub(crate) file_locks: bool,
    /// Fetch pages of memory when they are first used
    #[arg(long)]
    pub(crate) lazy_pages: bool,
    /// What becomes of cgroups
    #[arg(long, value_name = "MODE", value_enum)]
    pub(crate) manage_cgroups_mode: Option<CgroupsMode>,
    /// Namespace whose contents to leave to others: network
    #[arg(long, value_name = "NAMESPACE")]
    pub(crate) empty_ns: Vec<String>,
    /// Drop pages from the parent image that a later one holds
    #[arg(long)]
    pub(crate) auto_dedup: bool,
    /// Accepted; frozen processes need no lock of the network
    #[arg(long, value_name = "METHOD")]
    pub(crate) network_lock: Option<String>,
}

/// The values of `--manage-cgroups-mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CgroupsMode {
    /// Cgroups that exist get no new properties.
    Soft,
    /// Cgroups must not exist yet.
    Full,
    /// Cgroups must exist.
    Strict,
    /// The new config.json alone decides.
    Ignore,
}

impl Checkpoint {
    /// # Errors
    /// What can't be saved, or whatever failed; the container is as it was then.
    pub(crate) fn run(self, session: &Session) -> Result<u8> {
        let container = session.container(&self.id)?;
        match container.status()? {
            Status::Running | Status::Paused => {}
            Status::Stopped => bail!("container not running"),
            status => bail!("cannot checkpoint a container that is {status}"),
        }
        let paths = Paths::new(&self.common)?;
        self.check_parent(&paths.image)?;
        if self.check {
            return self.list_blockers(&container, &paths);
        }
        let log = paths.log("dump.log")?;
        let result = self.save(&container, &paths);
        log.end(result.as_ref().map(|report| format!("{report:?}")))?;
        let report = result.with_context(|| format!("the log is {}", paths.work.join("dump.log").display()))?;
        criu_files::write_dump_stats(&paths.work, &report)?;
        if !self.leave_running && !self.pre_dump {
            container.delete(true)?;
        }
        Ok(0)
    }

    fn save(&self, container: &Container, paths: &Paths) -> Result<dump::Report> {
        match self.dump(container, paths, false)? {
            Ok(report) => {
                criu_files::write_beside_image(&paths.image, container.stdio()?)?;
                Ok(report)
            }
            Err(blockers) => {
                let lines: Vec<String> = blockers.iter().map(describe).collect();
                bail!("container {} can't be checkpointed: {}", self.id, lines.join("; "))
            }
        }
    }

    fn list_blockers(&self, container: &Container, paths: &Paths) -> Result<u8> {
        let Err(blockers) = self.dump(container, paths, true)? else { return Ok(0) };
        let lines: String = blockers.iter().map(|b| describe(b) + "\n").collect();
        std::io::stdout().write_all(lines.as_bytes())?;
        Ok(1)
    }

    fn dump(&self, container: &Container, paths: &Paths, check_only: bool) -> Result<Dumped> {
        let files = FileOptions {
            tcp_established: self.common.tcp_established,
            tcp_skip_in_flight: self.tcp_skip_in_flight,
            ext_unix_sk: self.common.ext_unix_sk,
            file_locks: true,
            shell_job: self.common.shell_job,
        };
        let externals: Vec<External> = (0..)
            .zip(container.stdio()?)
            .map(|(n, s)| External { name: format!("stdio:{n}"), link: s.link.clone(), dev: s.dev, ino: s.ino })
            .collect();
        let options = dump::Options {
            id: &self.id,
            init: container.init_pid().context("container not running")?,
            image: std::fs::File::open(&paths.image).with_context(|| format!("open {}", paths.image.display()))?.into(),
            files: &files,
            externals: &externals,
            mounts: &given_mounts(container)?,
            // Memory that is saved early is a whole image here: it can stand for itself.
            leave_running: self.leave_running || self.pre_dump,
            check_only,
        };
        Ok(dump::dump(&options, &mut Freezer(container))?)
    }

    fn check_parent(&self, image: &Path) -> Result<()> {
        let Some(parent) = &self.parent_path else { return Ok(()) };
        if parent.is_absolute() {
            bail!("--parent-path {} must be relative to the image directory", parent.display());
        }
        if !image.join(parent).is_dir() {
            bail!("--parent-path {} doesn't exist in {}", parent.display(), image.display());
        }
        Ok(())
    }
}

/// The mounts that the runtime makes from config.json, at restore as at creation.
fn given_mounts(container: &Container) -> Result<Vec<Given>> {
    let spec = container.spec()?;
    let mut given = Vec::new();
    for mount in spec.mounts().iter().flatten() {
        let bind = |option: &String| option == "bind" || option == "rbind";
        let is_bind = mount.typ().as_deref() == Some("bind") || mount.options().iter().flatten().any(bind);
        let destination = Path::new("/").join(mount.destination());
        given.push(Given { mountpoint: destination.as_os_str().into(), external: is_bind });
    }
    let linux = spec.linux().as_ref();
    let masked = linux.and_then(|l| l.masked_paths().as_ref());
    let readonly = linux.and_then(|l| l.readonly_paths().as_ref());
    let paths = masked.into_iter().chain(readonly).flatten().map(String::as_str).chain(["/dev/console"]);
    given.extend(paths.map(|path| Given { mountpoint: std::ffi::OsStr::new(path).into(), external: true }));
    Ok(given)
}

type Dumped = std::result::Result<dump::Report, Vec<Blocker>>;

/// A blocker in one line: who, what, why, remedy.
fn describe(blocker: &Blocker) -> String {
    let Blocker { pid, what, why, remedy } = blocker;
    match pid {
        0 => format!("{what}: {why} ({remedy})"),
        pid => format!("pid {pid}: {what}: {why} ({remedy})"),
    }
}

/// A container as the engine acts on it.
struct Freezer<'a>(&'a Container);

impl Freezer<'_> {
    fn act(result: rtc_runtime::Result<()>) -> rtc_checkpoint::Result<()> {
        result.map_err(|e| rtc_checkpoint::Error::wrap(rtc_checkpoint::Kind::System, e))
    }
}

impl dump::Container for Freezer<'_> {
    fn is_paused(&self) -> rtc_checkpoint::Result<bool> {
        let status = self.0.status().map_err(|e| rtc_checkpoint::Error::wrap(rtc_checkpoint::Kind::System, e))?;
        Ok(status == Status::Paused)
    }
    fn pause(&mut self) -> rtc_checkpoint::Result<()> {
        Self::act(self.0.pause())
    }
    fn resume(&mut self) -> rtc_checkpoint::Result<()> {
        Self::act(self.0.resume())
    }
    fn kill(&mut self) -> rtc_checkpoint::Result<()> {
        Self::act(self.0.kill(libc::SIGKILL, true))
    }
}

/// Where image, log and statistics go.
pub(crate) struct Paths {
    pub(crate) image: PathBuf,
    pub(crate) work: PathBuf,
}

impl Paths {
    /// Makes the directories that are missing.
    ///
    /// # Errors
    /// When they can't be made.
    pub(crate) fn new(common: &Common) -> Result<Self> {
        let image = common.image_path.clone().unwrap_or_else(|| PathBuf::from("checkpoint"));
        let work = common.work_path.clone().unwrap_or_else(|| image.clone());
        for dir in [&image, &work] {
            // Memory is in it: nobody else may look.
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(dir)
                .with_context(|| format!("make {}", dir.display()))?;
        }
        Ok(Self { image, work })
    }

    /// Begins the log `name` in the work directory. A file that an engine made is kept and written to.
    ///
    /// # Errors
    /// When it can't be written.
    pub(crate) fn log(&self, name: &str) -> Result<Log> {
        let path = self.work.join(name);
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("open {}", path.display()))?;
        writeln!(file, "rtc {} {}", env!("CARGO_PKG_VERSION"), std::env::args().skip(1).collect::<Vec<_>>().join(" "))?;
        Ok(Log { file })
    }
}

/// The log of one checkpoint or restore, for people and for engines that show it to them.
pub(crate) struct Log {
    file: std::fs::File,
}

impl Log {
    /// Writes the end: what was done, or why not. Engines look for "Error".
    ///
    /// # Errors
    /// When it can't be written.
    pub(crate) fn end(mut self, result: Result<String, &anyhow::Error>) -> Result<()> {
        match result {
            Ok(text) => writeln!(self.file, "{text}")?,
            Err(e) => writeln!(self.file, "Error: {e:#}")?,
        }
        Ok(())
    }
}
