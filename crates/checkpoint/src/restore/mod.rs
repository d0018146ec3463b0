//! Makes a process tree of an image.
//!
//! The caller gives one held process that stands where the container's first process belongs: in all its namespaces,
//! its cgroup and its root file system, with all privileges. Its memory and descriptors are thrown away; everything
//! else is made by it and its children, which run programs under ptrace until they are the old ones.
//! The order of everything is the table `STEPS`. If rtc dies on the way, all of them die with it.

mod actions;
mod authority;
mod batch;
mod builder;
mod family;
mod fill;
mod inherit;
mod label;
mod memory;
mod process;
mod terminal;
mod thread;
mod transport;
mod tree;

use crate::error::{Context, Error, Kind, Result};
use crate::files::RestoreEnv;
use crate::files::kind::Files;
use crate::files::restore::OpenFiles;
use crate::image::container::ContainerState;
use crate::image::dir::{self, Part};
use crate::image::tree::Tree;
use crate::image::{blob, check, machine::Machine, pages};
use crate::program::Addr;
use crate::resource::mount;
use crate::tracee::{RESTORE_OPTIONS, Running, Stopped, Zone, find_gap};
use builder::{Builder, Built};
use fill::Huge;
use rtc_sys::ptrace;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;
use transport::Transport;

pub use authority::Authority;
pub use builder::Report;
pub use label::Label;

/// An image that has been read and checked: all of it but the contents of memory and files.
pub struct Checkpoint {
    image: dir::Reader,
    tree: Tree,
    files: Files,
    container: ContainerState,
    pages: pages::Reader,
    blobs: blob::Reader,
    /// The mounts that config.json gives, as [`Checkpoint::authorize`] was told; none before.
    given: Vec<mount::Given>,
}

type Step = fn(&mut Builder<'_>) -> Result<()>;

const STEPS: [(&str, Step); 13] = [
    // Parents fill their memory before they make children, so that what was shared copy-on-write is shared again.
    ("make processes", |b| b.make_processes()),
    // All members must exist before anyone joins a group.
    ("make groups", |b| b.make_groups()),
    ("set foreground groups", |b| b.set_foreground()),
    ("end zombies", |b| b.end_zombies()),
    // Children have been made: threads are not inherited by fork.
    ("make threads", |b| b.make_threads()),
    // Files that name tasks (owners of signals, pidfds), now that all have their ids.
    ("open files that name tasks", |b| b.open_files.open_with_tasks(b.files, &b.env, &b.pids)),
    ("fill descriptor tables", |b| b.fill_tables()),
    // Handlers after zombies and helpers, whose SIGCHLD nobody may see; timers after threads, which they may name;
    // protection after children, and before credentials: locking memory needs privilege.
    ("set processes", |b| b.set_processes()),
    // Pending signals after the handlers: setting a handler can drop them.
    ("set threads", |b| b.set_threads()),
    // Segments are attached by now: those marked for destruction can be marked.
    ("finish IPC objects", |b| b.container.ipc.finish(b.env.init)),
    // Everything that begins to tick or to talk.
    ("finish files", |b| b.open_files.finish(b.files, &b.env, &b.pids)),
    // The last programs: nothing needs privilege any more.
    ("set credentials", |b| b.drop_privileges()),
    ("let go", |b| b.release()),
];

impl Checkpoint {
    /// Reads and checks an image; makes nothing.
    ///
    /// # Errors
    /// When it is truncated, altered, of another version, or needs what this machine lacks.
    pub fn open(dir: OwnedFd) -> Result<Self> {
        let image = dir::Reader::open(dir)?;
        image.manifest.machine.check(&Machine::here()?)?;
        Self::read(image)
    }

    /// As [`Checkpoint::open`], but for looking at an image of any machine.
    ///
    /// # Errors
    /// When it is truncated, altered or of another version.
    pub fn parse(dir: OwnedFd) -> Result<Self> {
        Self::read(dir::Reader::open(dir)?)
    }

    /// Whether the caller must have made a mount at this path of the container before [`Checkpoint::restore`].
    pub fn builds_on(&self, path: &std::path::Path) -> bool {
        let made =
            |mount: &mount::SavedMount| mount.origin == mount::Origin::Given && mount.mountpoint.as_path() == path;
        self.container.mounts.mounts.iter().any(made)
    }

    fn read(image: dir::Reader) -> Result<Self> {
        let tree: Tree = image.json(Part::Tree)?;
        let files: Files = image.json(Part::Files)?;
        let container: ContainerState = image.json(Part::Container)?;
        let pages = pages::Reader::new(&image.bytes(Part::Pagemap)?, image.file(Part::Pages)?)?;
        let blobs = blob::Reader::new(image.file(Part::Data)?.into())?;
        check::tree(&tree, &files, &pages)?;
        Ok(Self { image, tree, files, container, pages, blobs, given: Vec::new() })
    }

    /// The manifest.
    pub fn manifest(&self) -> &dir::Manifest {
        &self.image.manifest
    }

    /// The length of all its files, in bytes.
    pub fn size(&self) -> u64 {
        self.image.size()
    }

    /// The process tree.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// The pid of the first process, as it counted.
    pub fn init(&self) -> i32 {
        self.tree.processes[0].pid
    }

    /// Where mounts were, what is mounted on others after those.
    pub fn mountpoints(&self) -> impl Iterator<Item = &std::path::Path> {
        self.container.mounts.mounts.iter().map(|mount| mount.mountpoint.as_path())
    }

    /// Turns the held process into the container's first process, with all others below it, all under the labels
    /// given. `cgroup` is the directory of the container's control group, if it has one.
    ///
    /// # Errors
    /// Whatever failed; then all processes made are dead, the held one as well.
    pub fn restore(&self, held: i32, cgroup: Option<BorrowedFd<'_>>, labels: &[Label]) -> Result<Report> {
        let started = Instant::now();
        let first = seize(held).context(|| format!("take over process {held}"))?;
        let restored = self.build(first, cgroup, labels);
        let mut report = restored.inspect_err(|_| kill(held))?;
        report.restore = started.elapsed();
        Ok(report)
    }

    fn build(&self, mut first: Stopped, cgroup: Option<BorrowedFd<'_>>, labels: &[Label]) -> Result<Report> {
        let held = first.tid();
        let externals = stdio(held)?;
        let env = RestoreEnv { init: held, blobs: &self.blobs, externals: &externals, cgroup };
        // Mounts before files, which may be on them; System V segments before memory, which attaches them.
        mount::restore(&self.container.mounts, held, &self.given, &self.blobs)?;
        self.container.ipc.restore(held, &self.blobs)?;
        let open_files = OpenFiles::open_all(&self.files, &env)?;
        let zone = self.take_over(&mut first)?;
        let tables = self.tree.tables.iter().map(Vec::as_slice);
        let most = self.tree.mms.iter().map(|mm| mm.vmas.len()).max().unwrap_or(0) + FILES_BESIDES_MAPPINGS;
        let number = transport::free_number(tables, most.min(MOST_FILES));
        let transport = Transport::new(&mut first, zone, number)?;
        let count = self.tree.processes.len();
        let mut built: Vec<Option<Built>> = Vec::new();
        built.resize_with(count, || None);
        built[0] = Some(Built { leader: first, threads: Vec::new() });
        let mut builder = Builder {
            tree: &self.tree,
            files: &self.files,
            container: &self.container,
            pages: &self.pages,
            huge: Huge::here(),
            env,
            labels,
            zone,
            transport: &transport,
            open_files,
            built,
            has_memory_of: vec![None; count],
            zombies: Vec::new(),
            pids: BTreeMap::from([(self.tree.processes[0].pid, held)]),
            sections: BTreeMap::new(),
            report: Report::default(),
        };
        for (i, (name, step)) in STEPS.iter().enumerate() {
            let begun = Instant::now();
            step(&mut builder).context(|| *name)?;
            log::debug!("{name}: {:?}", begun.elapsed());
            if i == 0 {
                builder.report.forking = begun.elapsed();
            }
        }
        Ok(builder.report)
    }

    /// Puts the zone into the held process and unmaps everything else.
    fn take_over(&self, task: &mut Stopped) -> Result<Zone> {
        let held = crate::proc::Proc(task.tid()).maps()?;
        let vmas = self.tree.mms.iter().flat_map(|mm| &mm.vmas).map(|v| (v.start.0, v.end.0));
        let taken = vmas.chain(held.iter().map(|m| (m.start, m.end)));
        let place: Addr = find_gap(taken).ok_or_else(|| Error::new(Kind::System, "the address spaces are full"))?;
        let zone = Zone::at(place);
        let rseq = ptrace::rseq(task.tid())?;
        zone.map(task, crate::dump::find_syscall(task.tid())?)?;
        tree::strip(task, zone, &rseq)?;
        Ok(zone)
    }
}

/// Files that a process's table holds while its memory is made, besides those of mappings: exe, cwd, root.
const FILES_BESIDES_MAPPINGS: usize = 3;
/// Mapped files are few even where mappings are many; a process with more is refused by its table's limit.
const MOST_FILES: usize = 900;

fn seize(held: i32) -> Result<Stopped> {
    let running = Running::seize(held, RESTORE_OPTIONS)?;
    running.interrupt()?;
    running.wait()
}

/// What the caller put at 0, 1, 2 of the held process is the restored container's stdio.
fn stdio(held: i32) -> Result<BTreeMap<String, OwnedFd>> {
    let pidfd = rtc_sys::pidfd::open(held)?;
    let mut all = BTreeMap::new();
    for number in 0..3 {
        if let Ok(fd) = rtc_sys::pidfd::get_fd(pidfd.as_fd(), number) {
            all.insert(format!("stdio:{number}"), fd);
        }
    }
    Ok(all)
}

/// Kills a half-made tree. With the init of its pid namespace all others die; the caller takes the news of its end.
fn kill(held: i32) {
    // It may be dead already; the caller removes the container in any case.
    let _ = ptrace::tgkill(held, held, libc::SIGKILL);
    ptrace::reap_all_before(held);
}
