//! Saves a process tree.
//!
//! The order of everything is the table `STEPS`. Up to the step "ask" nothing is changed in any task; from there to
//! its end the tasks run short programs of ours, and before and after it they are in plain ptrace stops, so that the
//! death of rtc lets the container run on. Every failure before "commit" puts everything back.

mod clocks;
mod collect;
mod cow;
mod interned;
mod landlock;
mod memory;
mod namespaces;
mod process;
mod restart;
mod space;
mod stop;
mod terminal;
mod thread;
mod users;

pub(crate) use process::find_syscall;
pub use stop::Execs;

use crate::error::{Context, Error, Kind, Result};
use crate::files::dump::{FileDumper, Link};
use crate::files::{Blocker, DumpEnv, External, FileOptions, Held};
use crate::image::container::ContainerState;
use crate::image::dir::{self, Part};
use crate::image::tree::{Backing, Filter, Mm, Process, State, Tree};
use crate::image::{blob, pages};
use crate::proc::Proc;
use crate::program::Addr;
use crate::resource::ipc::{Ipc, IpcEnv};
use crate::resource::mount::{self, Given};
use crate::tracee::Zone;
use collect::StoppedProcess;
use interned::Interned;
use process::ProcessOutside;
use rtc_sys::ptrace;
use std::collections::BTreeSet;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// The container around the tree, as far as a dump acts on it.
pub trait Container {
    /// Whether it is paused.
    ///
    /// # Errors
    /// When its cgroup can't be read.
    fn is_paused(&self) -> Result<bool>;
    /// All its processes, as the host counts; at least the first, where it has no cgroup to tell the others.
    ///
    /// # Errors
    /// When its cgroup can't be read.
    fn processes(&self) -> Result<Vec<i32>>;
    /// Pauses it; returns when it is.
    ///
    /// # Errors
    /// When its cgroup can't be written.
    fn pause(&mut self) -> Result<()>;
    /// Lets it run.
    ///
    /// # Errors
    /// When its cgroup can't be written.
    fn resume(&mut self) -> Result<()>;
    /// Sends SIGKILL to everything in it; doesn't wait.
    ///
    /// # Errors
    /// When its cgroup can't be written.
    fn kill(&mut self) -> Result<()>;
    /// Whether the one who asked for the dump wants it no longer. Asked before every step up to the commit.
    fn is_abandoned(&self) -> bool {
        false
    }
    /// What there is to be read from as soon as it is abandoned.
    fn caller(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// What to dump, and how.
pub struct Options<'a> {
    /// The container's id.
    pub id: &'a str,
    /// The container's first process, as the host counts.
    pub init: i32,
    /// The image's directory.
    pub image: OwnedFd,
    /// What is allowed of files.
    pub files: &'a FileOptions,
    /// Files that come from outside.
    pub externals: &'a [External],
    /// The mounts that the runtime makes from config.json.
    pub mounts: &'a [Given],
    /// Its processes may have made more: CAP_SYS_ADMIN is in the bounding set.
    pub may_mount: bool,
    /// Processes that aren't of the tree.
    pub execs: Execs,
    /// Let the container live on.
    pub leave_running: bool,
    /// Only look: find out what can't be saved.
    pub check_only: bool,
}

/// What a dump did, in times and sizes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// From the first task's stop to the last's.
    pub freezing: Duration,
    /// From the last task's stop until they ran again or were killed.
    pub frozen: Duration,
    /// Reading and writing memory.
    pub memory: Duration,
    /// Pages looked at.
    pub pages_scanned: u64,
    /// Pages written.
    pub pages_written: u64,
    /// Processes.
    pub processes: usize,
    /// Threads.
    pub threads: usize,
}

/// The state of a dump between its steps.
struct Dump<'a> {
    options: &'a Options<'a>,
    container: &'a mut dyn Container,
    image: dir::Writer,
    was_paused: bool,
    stopped: Vec<StoppedProcess>,
    started: Instant,
    stopped_at: Instant,
    /// One entry a stopped process: its place in `spaces` and in `tree.tables`.
    places: Vec<Places>,
    outside: Vec<ProcessOutside>,
    spaces: Vec<space::Space>,
    tree: Tree,
    /// What lives until the tasks go on or end: locks, guards.
    held: Vec<Box<dyn Held>>,
    report: Report,
}

#[derive(Clone, Copy)]
struct Places {
    mm: usize,
    table: usize,
    fs: usize,
    cwd: crate::files::FileId,
    root: crate::files::FileId,
    exe: Option<crate::files::FileId>,
}

type Step = fn(&mut Dump<'_>, &mut FileDumper<'_>, &mut Vec<Blocker>) -> Result<()>;

/// The steps between stopping the tree and the end of the file dumper.
const STEPS: [(&str, Step); 6] = [
    // Seen from outside only: regs, masks, pending signals, filters. Nothing is changed.
    ("look at threads", |d, files, blockers| d.look_at_threads(files, blockers)),
    // Descriptors before mappings: a file that is both has the descriptor's flags.
    ("look at files", |d, files, blockers| d.look_at_files(files, blockers)),
    ("look at memory", |d, files, blockers| d.look_at_memory(files, blockers)),
    // The only step that runs code in the tasks, a process at a time, each put back at once.
    ("ask the tasks", |d, files, blockers| d.ask(files, blockers)),
    // From here on nothing but reading: the container's downtime is mostly this.
    ("find pages", |d, files, blockers| d.scan_pages(files, blockers)),
    ("write pages", |d, files, blockers| d.write_pages(files, blockers)),
];
/// The steps that a preflight takes.
const LOOKING: usize = 3;

/// Dumps a tree. Blockers are returned, not errors: then nothing was changed and nothing written.
///
/// # Errors
/// Whatever failed; then the container is as it was and the image's directory too.
pub fn dump(options: &Options<'_>, container: &mut dyn Container) -> Result<std::result::Result<Report, Vec<Blocker>>> {
    memory::check_kernel()?;
    let was_paused = container.is_paused()?;
    let image = dir::Writer::new(options.image.try_clone()?)?;
    let started = Instant::now();
    let mut dump = Dump {
        options,
        container,
        image,
        was_paused,
        stopped: Vec::new(),
        started,
        stopped_at: started,
        places: Vec::new(),
        outside: Vec::new(),
        spaces: Vec::new(),
        tree: Tree::default(),
        held: Vec::new(),
        report: Report::default(),
    };
    let saved = dump.save();
    let kill = matches!(&saved, Ok(blockers) if blockers.is_empty()) && !options.leave_running && !options.check_only;
    let released = if kill { dump.kill() } else { dump.release() };
    let blockers = saved?;
    released?;
    if !blockers.is_empty() {
        return Ok(Err(blockers));
    }
    dump.report.frozen = dump.stopped_at.elapsed();
    if !options.check_only {
        dump.image.keep();
    }
    Ok(Ok(dump.report))
}

impl Dump<'_> {
    /// Everything up to the commit.
    fn save(&mut self) -> Result<Vec<Blocker>> {
        let mut blockers = self.stop()?;
        let mut file_blockers = Vec::new();
        let mut blobs = blob::Writer::new(self.image.create(Part::Data)?.into())?;
        let env = DumpEnv {
            init: self.options.init,
            options: self.options.files,
            externals: self.options.externals,
            blobs: &mut blobs,
            blockers: &mut file_blockers,
            check_only: self.options.check_only,
            kills: !self.options.leave_running && !self.options.check_only,
        };
        let mounts = mount::look(self.options.init, self.options.mounts, &mut blockers).context(|| "look at mounts")?;
        if !self.options.may_mount {
            mounts.refuse_own(&mut blockers);
        }
        let mut files = FileDumper::new(env)?;
        let steps = if self.options.check_only { &STEPS[..LOOKING] } else { &STEPS[..] };
        for (i, (name, step)) in steps.iter().enumerate() {
            self.go_on()?;
            let begun = Instant::now();
            step(self, &mut files, &mut blockers).context(|| *name)?;
            log::debug!("{name}: {:?}", begun.elapsed());
            if i + 1 == LOOKING {
                self.dump_ipc(None, &mut blockers)?;
            }
            if i + 1 >= LOOKING && (!blockers.is_empty() || files.blocked() > 0) {
                break;
            }
        }
        let blocked = !blockers.is_empty() || files.blocked() > 0;
        let finished = if blocked { Ok(None) } else { files.finish().map(Some) };
        blockers.append(&mut file_blockers);
        if !blockers.is_empty() || self.options.check_only {
            return Ok(blockers);
        }
        let (files, held) = finished?.expect("only a blocked dump doesn't finish its files");
        self.held = held;
        let ipc = self.dump_ipc(Some(&mut blobs), &mut blockers)?;
        let mounts = mount::dump(mounts, self.options.init, &mut blobs)?;
        self.image.write_json(Part::Container, &ContainerState { mounts, ipc })?;
        self.image.write_json(Part::Files, &files)?;
        self.image.write_json(Part::Tree, &self.tree)?;
        let created = self.tree.clocks.realtime / 1_000_000_000;
        self.go_on()?;
        let begun = Instant::now();
        self.image.commit(self.options.id, created).context(|| "commit the checkpoint")?;
        log::debug!("commit the checkpoint: {:?}", begun.elapsed());
        Ok(blockers)
    }

    /// Refuses to go on when nobody wants the dump any more.
    fn go_on(&self) -> Result<()> {
        if !self.container.is_abandoned() {
            return Ok(());
        }
        Err(Error::new(Kind::System, "interrupted; the container is as it was"))
    }

    /// System V objects and message queues; without `blobs` only what can't be saved.
    fn dump_ipc(&self, blobs: Option<&mut blob::Writer>, blockers: &mut Vec<Blocker>) -> Result<Ipc> {
        let tasks: BTreeSet<i32> = self.stopped.iter().map(|p| p.pid).collect();
        // Once pages are written the mappings are in the tree.
        let vmas = self.spaces.iter().flat_map(|s| &s.vmas).chain(self.tree.mms.iter().flat_map(|mm| &mm.vmas));
        let attached: BTreeSet<i32> = vmas
            .filter_map(|vma| match vma.backing {
                Backing::SysV { id, .. } => Some(id),
                _ => None,
            })
            .collect();
        Ipc::dump(IpcEnv { init: self.options.init, tasks: &tasks, attached: &attached, blobs, blockers })
    }

    fn look_at_threads(&mut self, _: &mut FileDumper<'_>, blockers: &mut Vec<Blocker>) -> Result<()> {
        self.tree.clocks = clocks::read_all();
        let own = namespaces::Common::of(self.options.init);
        let processors = thread::processors();
        for process in &mut self.stopped {
            let outside = if process.threads.is_empty() {
                ProcessOutside::default()
            } else {
                process::look(process, processors.as_deref(), &own, blockers)?
            };
            self.report.threads += process.threads.len();
            self.outside.push(outside);
        }
        self.report.processes = self.stopped.len();
        Ok(())
    }

    fn look_at_files(&mut self, files: &mut FileDumper<'_>, _: &mut Vec<Blocker>) -> Result<()> {
        let mut tables: Vec<(i32, usize)> = Vec::new();
        let mut directories: Vec<(i32, usize)> = Vec::new();
        for process in &self.stopped {
            let pid = process.pid;
            if process.threads.is_empty() {
                let nothing = crate::files::FileId(u32::MAX);
                self.places.push(Places { mm: 0, table: 0, fs: 0, cwd: nothing, root: nothing, exe: None });
                continue;
            }
            let shared = find_same(&tables, pid, rtc_sys::kcmp::Resource::Files)?;
            let table = match shared {
                Some(table) => table,
                None => {
                    self.tree.tables.push(files.add_table(pid, rtc_sys::pidfd::open(pid)?)?);
                    tables.push((pid, self.tree.tables.len() - 1));
                    self.tree.tables.len() - 1
                }
            };
            let fs = match find_same(&directories, pid, rtc_sys::kcmp::Resource::Fs)? {
                Some(fs) => fs,
                None => {
                    directories.push((pid, directories.len()));
                    directories.len() - 1
                }
            };
            let cwd = files.add_link(pid, Link::Cwd).context(|| format!("working directory of process {pid}"))?;
            let root = files.add_link(pid, Link::Root).context(|| format!("root directory of process {pid}"))?;
            let exe = files.add_link(pid, Link::Exe).context(|| format!("executable of process {pid}"))?;
            self.places.push(Places { mm: 0, table, fs, cwd, root, exe: Some(exe) });
        }
        let living = self.stopped.iter().filter(|p| !p.threads.is_empty()).map(|p| p.pid);
        // After all tables: a terminal is usually open somewhere.
        self.tree.terminals = terminal::look(&living.collect::<Vec<_>>(), files)?;
        Ok(())
    }

    fn look_at_memory(&mut self, files: &mut FileDumper<'_>, blockers: &mut Vec<Blocker>) -> Result<()> {
        let mut known: Vec<(i32, usize)> = Vec::new();
        for ((process, places), outside) in self.stopped.iter().zip(&mut self.places).zip(&self.outside) {
            if process.threads.is_empty() {
                continue;
            }
            let inside = outside.inside().unwrap_or(process.pid);
            if find_same(&known, process.pid, rtc_sys::kcmp::Resource::Vm)?.is_some() {
                blockers.push(Blocker {
                    pid: inside,
                    what: "its memory".into(),
                    why: "it is shared with another process (vfork or CLONE_VM)".into(),
                    remedy: "try again: after vfork this lasts for a moment".into(),
                });
            }
            let space = memory::look(process.pid, inside, files, blockers)
                .context(|| format!("memory of process {}", process.pid))?;
            self.spaces.push(space);
            places.mm = self.spaces.len() - 1;
            known.push((process.pid, places.mm));
        }
        Ok(())
    }

    fn ask(&mut self, _: &mut FileDumper<'_>, blockers: &mut Vec<Blocker>) -> Result<()> {
        let zone = Zone::at(free_zone(&self.spaces)?);
        let mut filters = Interned::<Filter>::new();
        let outside = std::mem::take(&mut self.outside);
        for ((process, outside), places) in self.stopped.iter_mut().zip(outside).zip(&self.places) {
            let pid = process.pid;
            let ppid = process.parent.map_or(0, |parent| self.tree.processes[parent].pid);
            let described = describe(process, outside, *places, zone, &mut filters, &mut self.tree.mms, blockers)
                .context(|| format!("process {pid}"))?;
            let described = Process { ppid, ..described };
            self.tree.processes.push(described);
        }
        self.tree.filters = filters.values;
        Ok(())
    }

    fn scan_pages(&mut self, _: &mut FileDumper<'_>, _: &mut Vec<Blocker>) -> Result<()> {
        for space in &mut self.spaces {
            space.scan().context(|| format!("memory of process {}", space.pid))?;
            self.report.pages_scanned += space.bytes() / pages::PAGE;
        }
        Ok(())
    }

    fn write_pages(&mut self, _: &mut FileDumper<'_>, _: &mut Vec<Blocker>) -> Result<()> {
        let start = Instant::now();
        let writer = pages::Writer::new(self.image.create(Part::Pages)?);
        memory::write(&mut self.spaces, &writer)?;
        self.report.pages_written = writer.pages();
        let mut runs = Vec::new();
        for (space, mm) in self.spaces.iter_mut().zip(&mut self.tree.mms) {
            mm.runs = (runs.len(), space.runs.len());
            mm.vmas = std::mem::take(&mut space.vmas);
            runs.append(&mut space.runs);
        }
        let (map, _) = writer.finish(&runs);
        self.image.write(Part::Pagemap, &map)?;
        self.report.memory = start.elapsed();
        Ok(())
    }

    /// Ends the tree, and takes the news of each task's end that the kernel keeps for its tracer.
    fn kill(&mut self) -> Result<()> {
        let prepared = self.held.iter_mut().try_for_each(|held| held.before_kill());
        if let Err(e) = prepared.and_then(|()| self.container.kill()) {
            // It lives on; this error is the one to tell.
            let _: Result<()> = self.release();
            return Err(e);
        }
        let begun = Instant::now();
        ptrace::reap(self.stopped.drain(..).flat_map(|p| p.threads).map(|t| t.tid()).collect());
        log::debug!("end the tree: {:?}", begun.elapsed());
        self.held.iter_mut().for_each(|held| held.after_kill());
        Ok(())
    }
}

/// Puts together all that is known of a process but for its parent.
fn describe(
    process: &mut StoppedProcess,
    outside: ProcessOutside,
    places: Places,
    zone: Zone,
    filters: &mut Interned<Filter>,
    mms: &mut Vec<Mm>,
    blockers: &mut Vec<Blocker>,
) -> Result<Process> {
    let pid = process.pid;
    let stat = Proc(pid).stat()?;
    // A zombie has no thread that has been looked at.
    let read = if outside.threads.is_empty() { Some(Proc(pid).status()?) } else { None };
    let status = read.as_ref().unwrap_or_else(|| &outside.threads[0].status);
    let last = |ids: &[i32]| ids.last().copied().unwrap_or(0);
    let mut described = Process {
        pid: last(&status.ns_tgid),
        ppid: 0,
        pgid: last(&status.ns_pgid),
        sid: last(&status.ns_sid),
        exit_signal: stat.exit_signal,
        state: State::Zombie(stat.exit_code),
        live: None,
    };
    if process.threads.is_empty() {
        return Ok(described);
    }
    let umask = status.umask;
    let group_stop = process.threads[0].group_stop();
    described.state = if group_stop == 0 { State::Running } else { State::Stopped(group_stop) };
    let answers = process::ask(&mut process.threads, outside.threads, zone, filters)?;
    if let Some(tid) = answers.confined {
        blockers.push(Blocker {
            pid: described.pid,
            what: format!("thread {tid}"),
            why: "it is in a Landlock domain, which can't be read".into(),
            remedy: "start the program without its sandbox".into(),
        });
    }
    let auxv = Proc(pid).bytes("auxv")?;
    debug_assert_eq!(mms.len(), places.mm);
    mms.push(Mm { layout: process::layout(&stat, answers.brk), auxv, exe: places.exe, ..Mm::default() });
    let files =
        process::ProcessFiles { mm: places.mm, table: places.table, fs: places.fs, cwd: places.cwd, root: places.root };
    described.live = Some(Box::new(process::live(pid, answers, &outside.pending, umask, files)?));
    Ok(described)
}

/// The place of the first process in the list that shares `resource` with `pid`.
fn find_same(known: &[(i32, usize)], pid: i32, resource: rtc_sys::kcmp::Resource) -> Result<Option<usize>> {
    for (other, place) in known {
        if rtc_sys::kcmp::kcmp(*other, pid, resource)?.is_eq() {
            return Ok(Some(*place));
        }
    }
    Ok(None)
}

/// An address at which a zone is free in all address spaces.
fn free_zone(spaces: &[space::Space]) -> Result<Addr> {
    let taken = spaces.iter().flat_map(|s| s.vmas.iter().map(|v| (v.start.0, v.end.0)));
    crate::tracee::find_gap(taken).ok_or_else(|| Error::new(Kind::System, "the address space is full"))
}
