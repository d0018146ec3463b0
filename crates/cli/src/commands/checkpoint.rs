//! `rtc checkpoint`: writes a running container to an image.

use std::fs;
use std::io::{self, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use rtc_checkpoint::dump::{self, Execs};
use rtc_checkpoint::files::{Blocker, External, FileOptions};
use rtc_runtime::{Container, Status};
use rtc_sys::worker::{Side, Worker};

use crate::checkpointing::{CriuConfig, Directories, authority};
use crate::criu_files;
use crate::logger;
use crate::session::Session;

const DESCRIPTION: &str = "   \
   Saves the container's processes to the image directory and ends them, unless
   --leave-running. Everything that can't be saved is listed before anything is
   touched. The log is dump.log in the work directory.";

/// Seconds that processes of exec are waited for: a check of health takes less, mostly.
const EXEC_TIMEOUT: u32 = 5;

/// The flags of `checkpoint`.
#[derive(Args, Debug)]
#[command(about = "checkpoint a running container", after_help = DESCRIPTION)]
pub(crate) struct Checkpoint {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Earlier image, relative to the image directory; it must exist, but isn't needed
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
    /// How many seconds to wait for the ends of processes that exec brought in [default: 5]
    #[arg(long, value_name = "SECONDS")]
    pub(crate) exec_timeout: Option<u32>,
    /// Leave processes that exec brought in, and that don't end in time, out of the image
    #[arg(long)]
    pub(crate) skip_exec: bool,
    /// Only with --lazy-pages
    #[arg(long, value_name = "FD")]
    pub(crate) status_fd: Option<i32>,
    /// Not supported
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) page_server: Option<String>,
    /// Save the container and let it run on: a checkpoint is complete by itself
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
    /// Not supported
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
    /// Not supported
    #[arg(long)]
    pub(crate) lazy_pages: bool,
    /// Accepted; the cgroup is that of config.json
    #[arg(long, value_name = "MODE", value_enum)]
    pub(crate) manage_cgroups_mode: Option<CgroupsMode>,
    /// Namespace whose contents to leave to others: network
    #[arg(long, value_name = "NAMESPACE")]
    pub(crate) empty_ns: Vec<String>,
    /// Accepted; there are no pages in parent images to drop
    #[arg(long)]
    pub(crate) auto_dedup: bool,
    /// Accepted; where connections need a lock it is by nftables
    #[arg(long, value_name = "METHOD")]
    pub(crate) network_lock: Option<String>,
}

/// The values of `--manage-cgroups-mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CgroupsMode {
    /// For criu: cgroups that exist get no new properties.
    Soft,
    /// For criu: cgroups must not exist yet.
    Full,
    /// For criu: cgroups must exist.
    Strict,
    /// What rtc does in any case.
    Ignore,
}

impl Checkpoint {
    /// # Errors
    /// The container isn't running, or something in it can't be saved: then it runs on as before.
    pub(crate) fn run(self, session: &Session) -> Result<u8> {
        session.require_root("checkpoint")?;
        self.refuse_unsupported()?;
        match rtc_sys::worker::split()? {
            Side::Worker(worker) => self.work(session, &worker),
            // It has said why.
            Side::Caller(status @ 0..128) => Ok(status as u8),
            Side::Caller(status) => bail!("the process that saves the container was killed by signal {}", status - 128),
        }
    }

    /// All the rest, where signals to the caller don't reach it.
    fn work(self, session: &Session, worker: &Worker) -> Result<u8> {
        let container = session.container(&self.id)?;
        match container.status()? {
            Status::Paused if !container.has_started()? => {
                bail!("cannot checkpoint a container that is created: start it first")
            }
            Status::Running | Status::Paused => {}
            Status::Stopped => bail!("container not running"),
            status => bail!("cannot checkpoint a container that is {status}: start it first"),
        }
        if container.inherits_mounts() {
            bail!(
                "a container without a mount namespace of its own can't be saved: its mounts are the host's \
                 (add {{\"type\": \"mount\"}} to linux.namespaces)"
            );
        }
        let config = CriuConfig::load(Some(&container.state()?.annotations))?;
        let directories = self.common.directories();
        if let Some(parent) = &self.parent_path {
            directories.check_parent(parent)?;
        }
        if self.check {
            return self.list_blockers(&container, worker, &config);
        }
        directories.make()?;
        logger::copy_to(directories.log(config.log_file.as_deref().unwrap_or(Path::new("dump.log")))?);
        log::debug!("checkpoint {} to {}", self.id, directories.image.display());
        // Before the container ends: without this file podman and CRI-O don't take the directory for an image.
        let mark = criu_files::Mark::set(&directories.image)?;
        let stdio = container.stdio()?.clone();
        let report = match self.dump(&container, worker, &config, directories.open_image()?)? {
            Ok(report) => report,
            Err(blockers) => bail!("it can't be saved: {}", lines(&blockers).join("; ")),
        };
        log::debug!("{report:?}");
        mark.keep();
        // The image is complete and the container may be gone: what follows must not look like a failure.
        warn(criu_files::describe_stdio(&directories.image, &stdio));
        warn(criu_files::write_dump_stats(&directories.work, &report));
        if !self.leaves_running(&config) {
            // Hooks are children, and not to be protected.
            worker.allow_signals()?;
            container.delete(true)?;
        }
        Ok(0)
    }

    /// A preceding dump is a whole image here, which can stand for itself.
    fn leaves_running(&self, config: &CriuConfig) -> bool {
        self.leave_running || config.leave_running || self.pre_dump
    }

    fn refuse_unsupported(&self) -> Result<()> {
        if self.page_server.is_some() {
            bail!("--page-server is not supported: write to a directory, and copy that");
        }
        self.common.refuse_unsupported()
    }

    /// `--check`: a line on stdout for each thing that stands in the way, and status 1 if there is any.
    fn list_blockers(&self, container: &Container, worker: &Worker, config: &CriuConfig) -> Result<u8> {
        let scratch = Scratch::new()?;
        let Err(blockers) = self.dump(container, worker, config, scratch.open()?)? else { return Ok(0) };
        let text: String = lines(&blockers).into_iter().map(|line| line + "\n").collect();
        io::stdout().write_all(text.as_bytes()).context("write to stdout")?;
        Ok(1)
    }

    fn dump(&self, container: &Container, worker: &Worker, config: &CriuConfig, image: OwnedFd) -> Result<Dumped> {
        let externals: Vec<External> = (0..)
            .zip(container.stdio()?)
            .map(|(n, end)| External { name: format!("stdio:{n}"), link: end.link.clone(), dev: end.dev, ino: end.ino })
            .collect();
        let files = FileOptions {
            tcp_established: self.common.tcp_established || config.tcp_established,
            tcp_skip_in_flight: self.tcp_skip_in_flight || config.tcp_skip_in_flight,
            ext_unix_sk: self.common.ext_unix_sk || config.ext_unix_sk,
            file_locks: true,
            shell_job: self.common.shell_job || config.shell_job,
        };
        let spec = container.spec()?;
        let mut mounts = authority::given_mounts(&spec);
        mounts.extend(container.has_notify_mount().then(authority::notify_mount));
        let options = dump::Options {
            id: container.id(),
            init: container.init_pid().context("container not running")?,
            image,
            files: &files,
            externals: &externals,
            mounts: &mounts,
            may_mount: authority::may_mount(&spec),
            execs: Execs {
                timeout: Duration::from_secs(self.exec_timeout.or(config.exec_timeout).unwrap_or(EXEC_TIMEOUT).into()),
                skip: self.skip_exec || config.skip_exec,
            },
            leave_running: self.leaves_running(config),
            check_only: self.check,
        };
        Ok(dump::dump(&options, &mut Subject { container, worker })?)
    }
}

type Dumped = std::result::Result<dump::Report, Vec<Blocker>>;

impl Common {
    /// Where image and work are.
    pub(crate) fn directories(&self) -> Directories {
        Directories::new(self.image_path.as_deref(), self.work_path.as_deref())
    }

    /// What neither command can do yet, said before anything is touched.
    pub(crate) fn refuse_unsupported(&self) -> Result<()> {
        if self.lazy_pages {
            bail!("--lazy-pages is not supported: leave it out, all memory is there after a restore");
        }
        if self.tcp_close {
            bail!("--tcp-close is not supported: close the connections before, or use --tcp-established");
        }
        if let Some(other) = self.empty_ns.iter().find(|name| *name != "network") {
            bail!("--empty-ns {other} is not supported: only network is");
        }
        Ok(())
    }
}

/// One line each: who, what, why, remedy.
fn lines(blockers: &[Blocker]) -> Vec<String> {
    let line = |Blocker { pid, what, why, remedy }: &Blocker| match pid {
        0 => format!("{what}: {why} ({remedy})"),
        pid => format!("pid {pid}: {what}: {why} ({remedy})"),
    };
    blockers.iter().map(line).collect()
}

/// A file beside the image that couldn't be written.
pub(crate) fn warn(written: Result<()>) {
    if let Err(error) = written {
        log::warn!("{error:#}");
    }
}

/// The container as the engine acts on it.
struct Subject<'a> {
    container: &'a Container,
    worker: &'a Worker,
}

impl dump::Container for Subject<'_> {
    fn is_paused(&self) -> rtc_checkpoint::Result<bool> {
        self.container.status().map(|status| status == Status::Paused).map_err(wrap)
    }

    fn processes(&self) -> rtc_checkpoint::Result<Vec<i32>> {
        self.container.processes().map_err(wrap)
    }

    fn pause(&mut self) -> rtc_checkpoint::Result<()> {
        self.container.pause().map_err(wrap)
    }

    fn resume(&mut self) -> rtc_checkpoint::Result<()> {
        self.container.resume().map_err(wrap)
    }

    fn kill(&mut self) -> rtc_checkpoint::Result<()> {
        self.container.kill(libc::SIGKILL, true).map_err(wrap)
    }

    fn is_abandoned(&self) -> bool {
        self.worker.is_abandoned()
    }

    fn caller(&self) -> Option<BorrowedFd<'_>> {
        Some(self.worker.caller())
    }
}

fn wrap(error: rtc_runtime::Error) -> rtc_checkpoint::Error {
    rtc_checkpoint::Error::wrap(rtc_checkpoint::Kind::System, error)
}

/// A directory for `--check`, which leaves nothing.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("rtc-check-{}", std::process::id()));
        fs::DirBuilder::new().mode(0o700).create(&path).with_context(|| format!("make {}", path.display()))?;
        Ok(Self(path))
    }

    fn open(&self) -> Result<OwnedFd> {
        Ok(fs::File::open(&self.0).with_context(|| format!("open {}", self.0.display()))?.into())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
