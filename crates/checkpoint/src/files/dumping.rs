//! What a resource's module can ask and tell while files are described at dump.

use super::identity::{Handle, Identities, Key};
use super::tasks::{self, TaskFiles};
use super::view::View;
use super::{Blocker, Descriptor, DumpEnv, External, FileId, FileOptions, Found, Held, Probe, Table};
use crate::error::{Context as _, Result};
use crate::image::blob::Writer;
use crate::procfs::descriptor::{Fdinfo, LockLine, LockType};
use crate::program::TargetFd;
use crate::{Error, Kind};
use nix::fcntl::{FcntlArg, fcntl};
use rtc_sys::CallExt as _;
use rustix::fs::{Mode, OFlags};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// More descriptions than any container has; hit only by queues that grow while they are read (preflight).
const MAX_FILES: usize = 1 << 22;

/// Names an object that several descriptions can share: an inode of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Object {
    /// The kind, so that numbers of different kinds don't meet: "pipe", "pty".
    pub kind: &'static str,
    /// Device or any other first number.
    pub major: u64,
    /// Inode or any other second number.
    pub minor: u64,
}

/// Where a description can be reached.
pub(super) enum Source {
    /// In a task's table, given by its position in `Dump::tasks`.
    Task { task: usize, fd: i32 },
    /// In ours; found in a queue, a mapping or a link of the task `pid`.
    Ours { fd: OwnedFd, pid: i32, found: Found, place: String },
}

/// What is seen of a description through one descriptor. fdinfo is what costs: 25 µs, all else together 15.
pub(super) struct Seen {
    fd: OwnedFd,
    fdinfo: String,
    info: Fdinfo,
    stat: libc::stat,
    flags: i32,
}

impl Seen {
    fn new(fd: OwnedFd, fdinfo: String) -> Result<Self> {
        let info = crate::procfs::descriptor::parse(&fdinfo)?;
        let stat = nix::sys::stat::fstat(&fd).call("fstat", fd.as_raw_fd())?;
        let flags = fcntl(&fd, FcntlArg::F_GETFL).call("fcntl", format_args!("{}, F_GETFL", fd.as_raw_fd()))?;
        Ok(Self { fd, fdinfo, info, stat, flags })
    }

    /// The cheap part of a description's identity.
    fn key(&self) -> Key {
        Key { dev: self.stat.st_dev, ino: self.stat.st_ino, flags: self.flags }
    }
}

/// The state of a dump of files, as the resources' modules see it.
pub struct Dump<'a> {
    env: DumpEnv<'a>,
    /// /proc of the namespaces we run in.
    proc: OwnedFd,
    tasks: Vec<TaskFiles>,
    task_of_pid: HashMap<i32, usize>,
    tables: BTreeMap<i32, Vec<Descriptor>>,
    identities: Identities,
    /// By [`FileId`].
    sources: Vec<Source>,
    /// Named but not yet described.
    pub(super) pending: VecDeque<FileId>,
    holders: HashMap<Object, FileId>,
    /// POSIX locks, with the file and the table's task (host's count).
    pub(super) posix_locks: Vec<(FileId, i32, LockLine)>,
    /// Host pid to the container's.
    container_pids: HashMap<i32, i32>,
    /// How many pid namespaces lie around the container's.
    pid_level: usize,
    pub(super) held: Vec<Box<dyn Held>>,
    view: View,
    /// /proc/self/fd
    own_fds: OwnedFd,
}

impl<'a> Dump<'a> {
    pub(super) fn new(env: DumpEnv<'a>) -> Result<Self> {
        let proc = rustix::fs::open("/proc", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .call("open", "/proc, O_DIRECTORY")?;
        let init = TaskFiles::new(&proc, env.init)?;
        let root = init.open("root", OFlags::PATH | OFlags::DIRECTORY)?;
        let view = View::new(root, crate::procfs::mountinfo::parse(&init.read("mountinfo")?)?);
        let status = crate::procfs::status::parse(&init.read("status")?)?;
        let own_fds = tasks::open_dir(&proc, "self/fd")?;
        Ok(Self {
            env,
            proc,
            tasks: Vec::new(),
            task_of_pid: HashMap::new(),
            tables: BTreeMap::new(),
            identities: Identities::default(),
            sources: Vec::new(),
            pending: VecDeque::new(),
            holders: HashMap::new(),
            posix_locks: Vec::new(),
            container_pids: HashMap::new(),
            pid_level: status.ns_tid.len() - 1,
            view,
            own_fds,
            held: Vec::new(),
        })
    }

    /// What the caller allows.
    pub fn options(&self) -> &'a FileOptions {
        self.env.options
    }

    /// Files that come from outside.
    pub fn externals(&self) -> &'a [External] {
        self.env.externals
    }

    /// The container's first task, as the host counts pids.
    pub fn init(&self) -> i32 {
        self.env.init
    }

    /// Preflight: look and report, copy no contents, change nothing; whatever is read may be out of date.
    pub fn check_only(&self) -> bool {
        self.env.check_only
    }

    /// The tasks will be killed when all is saved.
    pub fn kills(&self) -> bool {
        self.env.kills
    }

    /// Where contents go; in a preflight they go nowhere.
    pub fn blobs(&mut self) -> &mut Writer {
        self.env.blobs
    }

    /// Notes that `probe` can't be saved: why, and what the user can do.
    pub fn block(&mut self, probe: &Probe<'_>, why: impl Into<String>, remedy: impl Into<String>) {
        let pid = match self.sources.get(probe.id.index()) {
            Some(Source::Ours { pid, .. }) => *pid,
            _ => probe.pid,
        };
        let what = format!("{} ({})", probe.place, probe.link);
        let pid = self.container_pid(pid).unwrap_or(0);
        self.env.blockers.push(Blocker { pid, what, why: why.into(), remedy: remedy.into() });
    }

    /// As [`Dump::block`], for a description known by its id.
    ///
    /// # Errors
    /// When the description's task is gone.
    pub fn block_file(&mut self, id: FileId, why: impl Into<String>, remedy: impl Into<String>) -> Result<()> {
        let (why, remedy) = (why.into(), remedy.into());
        self.probe(id, |probe, cx| {
            cx.block(probe, why, remedy);
            Ok(())
        })
    }

    /// Notes something that belongs to no description (a mount).
    pub fn block_other(&mut self, blocker: Blocker) {
        self.env.blockers.push(blocker);
    }

    /// How many things can't be saved so far.
    pub fn blocked(&self) -> usize {
        self.env.blockers.len()
    }

    /// The description that carries the shared object `object`: the first that asked, which may be `id` itself.
    pub fn holder(&mut self, object: Object, id: FileId) -> FileId {
        *self.holders.entry(object).or_insert(id)
    }

    /// The description that carries `object`, if any has asked yet.
    pub fn known_holder(&self, object: Object) -> Option<FileId> {
        self.holders.get(&object).copied()
    }

    /// Keeps `held` until the dump is over.
    pub fn hold(&mut self, held: Box<dyn Held>) {
        self.held.push(held);
    }

    /// The descriptor table of the task `pid` (host's count), if it has been added.
    pub fn table(&self, pid: i32) -> Option<Table<'_>> {
        self.tables.get(&pid).map(|descriptors| Table { pid, descriptors })
    }

    /// All descriptor tables so far, with host pids.
    pub fn tables(&self) -> impl Iterator<Item = Table<'_>> {
        self.tables.iter().map(|(pid, descriptors)| Table { pid: *pid, descriptors })
    }

    /// A task and number by which kcmp(2) can reach a description.
    pub fn handle(&self, id: FileId) -> Option<(i32, i32)> {
        self.sources.get(id.index()).map(|source| self.handle_of(source))
    }

    /// A descriptor of ours for a description known by its id.
    ///
    /// # Errors
    /// When there is no such description, or its task is gone.
    pub fn fetch(&self, id: FileId) -> Result<OwnedFd> {
        match self.sources.get(id.index()) {
            Some(Source::Task { task, fd }) => self.tasks[*task].get(*fd),
            Some(Source::Ours { fd, .. }) => Ok(fd.try_clone().call("dup", fd.as_raw_fd())?),
            None => Err(Error::new(Kind::System, format!("no {id}"))),
        }
    }

    /// The container's count of a task's pid or a thread's tid; none for a task outside of it or gone.
    pub fn container_pid(&mut self, pid: i32) -> Option<i32> {
        if let Some(known) = self.container_pids.get(&pid) {
            return Some(*known);
        }
        let inner = *self.pids(pid).ok()?.get(self.pid_level)?;
        self.container_pids.insert(pid, inner);
        Some(inner)
    }

    /// The container's mounts and paths.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// A new description of the file that `fd` is, with other flags: its position is its own.
    ///
    /// # Errors
    /// The errno of open(2).
    pub fn reopen(&self, fd: BorrowedFd<'_>, flags: OFlags) -> Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOCTTY;
        let reopened = rustix::fs::openat(&self.own_fds, fd.as_raw_fd().to_string(), flags, Mode::empty());
        Ok(reopened.call("open", format_args!("/proc/self/fd/N, {flags:?}"))?)
    }

    /// Reads a file of /proc of the host's namespaces: `net/unix`, `812/fdinfo/3`.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn read_proc(&self, name: &str) -> Result<String> {
        tasks::read(&self.proc, name).context(|| "/proc")
    }

    /// Names the description of a descriptor that was found elsewhere than in a table, for instance in a queue,
    /// and sees to it that it is described. `found_in` says where, `by` is the description whose queue it was.
    ///
    /// # Errors
    /// When it can't be compared with those known.
    pub fn describe(&mut self, fd: OwnedFd, by: &Probe<'_>, found_in: &str) -> Result<FileId> {
        let pid = match self.sources.get(by.id.index()) {
            Some(Source::Ours { pid, .. }) => *pid,
            _ => by.pid,
        };
        self.add_ours(fd, pid, Found::Queue, found_in.to_owned())
    }

    /// As [`Dump::describe`], for a descriptor found at `place` of the task `pid`.
    pub(super) fn add_ours(&mut self, fd: OwnedFd, pid: i32, found: Found, place: String) -> Result<FileId> {
        let handle = (std::process::id() as i32, fd.as_raw_fd());
        let key = key_of(fd.as_fd())?;
        let new = self.next_id()?;
        let id = self.identities.find_or_add(key, handle, new)?;
        if id == new {
            self.sources.push(Source::Ours { fd, pid, found, place });
            self.pending.push_back(id);
        }
        Ok(id)
    }

    /// The numbers in a task's table; [`Dump::add_entry`] adds each, [`Dump::set_table`] says that they are all.
    pub(super) fn list(&mut self, pid: i32, pidfd: OwnedFd) -> Result<Vec<i32>> {
        let task = self.task(pid)?;
        self.tasks[task].pidfd = Some(pidfd);
        self.tasks[task].list()
    }

    /// Names the description of a number in a task's table. A new one is to be described: what was seen of it is given.
    pub(super) fn add_entry(&mut self, pid: i32, fd: i32) -> Result<(Descriptor, Option<Seen>)> {
        let task = self.task(pid)?;
        let files = &self.tasks[task];
        let seen = Seen::new(files.get(fd)?, files.read(&format!("fdinfo/{fd}"))?)?;
        let new = self.next_id()?;
        let id = self.identities.find_or_add(seen.key(), (pid, fd), new)?;
        let posix = seen.info.locks.iter().filter(|lock| lock.kind == LockType::Posix);
        self.posix_locks.extend(posix.map(|lock| (id, pid, lock.clone())));
        // Unlike F_GETFL, fdinfo shows the descriptor's close-on-exec.
        let cloexec = seen.info.flags & libc::O_CLOEXEC != 0;
        let descriptor = Descriptor { fd: TargetFd(fd), file: id, cloexec };
        if id != new {
            return Ok((descriptor, None));
        }
        self.sources.push(Source::Task { task, fd });
        Ok((descriptor, Some(seen)))
    }

    /// Makes a table known to those who look things up in it.
    pub(super) fn set_table(&mut self, pid: i32, table: Vec<Descriptor>) {
        self.tables.insert(pid, table);
    }

    /// The files of /proc/PID of a task.
    pub(super) fn task_files(&mut self, pid: i32) -> Result<&TaskFiles> {
        let task = self.task(pid)?;
        Ok(&self.tasks[task])
    }

    /// The position in `tasks` of the task `pid`.
    fn task(&mut self, pid: i32) -> Result<usize> {
        if let Some(task) = self.task_of_pid.get(&pid) {
            return Ok(*task);
        }
        self.tasks.push(TaskFiles::new(&self.proc, pid)?);
        self.task_of_pid.insert(pid, self.tasks.len() - 1);
        Ok(self.tasks.len() - 1)
    }

    /// Whether an error only says that a running task closed or left something meanwhile.
    pub(super) fn vanished(&self, error: &Error) -> bool {
        use rtc_sys::Errno::{EBADF, ENOENT, ESRCH};
        self.env.check_only && error.sys().is_some_and(|e| matches!(e.errno(), EBADF | ENOENT | ESRCH))
    }

    /// Looks at a description and hands what is seen to `act`.
    pub(crate) fn probe<T>(&mut self, id: FileId, act: impl FnOnce(&Probe<'_>, &mut Self) -> Result<T>) -> Result<T> {
        let (pid, number, ..) = self.whereabouts(id);
        let fdinfo = self.task_files(pid)?.read(&format!("fdinfo/{number}"))?;
        let seen = Seen::new(self.fetch(id)?, fdinfo)?;
        self.probe_seen(id, &seen, act)
    }

    /// As [`Dump::probe`], with what has been seen already.
    pub(super) fn probe_seen<T>(
        &mut self,
        id: FileId,
        seen: &Seen,
        act: impl FnOnce(&Probe<'_>, &mut Self) -> Result<T>,
    ) -> Result<T> {
        let (pid, number, found, place) = self.whereabouts(id);
        let raw_link = self.task_files(pid)?.link(&format!("fd/{number}"))?;
        let link = raw_link.to_string_lossy();
        let probe = Probe {
            id,
            pid,
            target_fd: TargetFd(number),
            found,
            place: &place,
            fd: seen.fd.as_fd(),
            link: &link,
            raw_link: &raw_link,
            fdinfo: &seen.fdinfo,
            info: seen.info.clone(),
            stat: seen.stat,
            flags: seen.flags,
        };
        act(&probe, self).map_err(|e| e.context(format!("{place} ({link})")).context(format!("pid {pid}")))
    }

    /// Pid, number, and how and where a description was found.
    fn whereabouts(&self, id: FileId) -> (i32, i32, Found, String) {
        let source = &self.sources[id.index()];
        let (pid, fd) = self.handle_of(source);
        match source {
            Source::Task { .. } => (pid, fd, Found::Table, format!("fd {fd}")),
            Source::Ours { found, place, .. } => (pid, fd, *found, place.clone()),
        }
    }

    fn handle_of(&self, source: &Source) -> Handle {
        match source {
            Source::Task { task, fd } => (self.tasks[*task].pid, *fd),
            Source::Ours { fd, .. } => (std::process::id() as i32, fd.as_raw_fd()),
        }
    }

    fn next_id(&self) -> Result<FileId> {
        if self.sources.len() >= MAX_FILES {
            return Err(Error::new(Kind::Unsupported, format!("more than {MAX_FILES} open files")));
        }
        Ok(FileId(self.sources.len() as u32))
    }

    /// A task's or thread's id in each pid namespace, outermost first; never empty.
    fn pids(&self, pid: i32) -> Result<Vec<i32>> {
        let status = crate::procfs::status::parse(&self.read_proc(&format!("{pid}/status"))?)?;
        Ok(status.ns_tid)
    }
}

/// The cheap part of a description's identity.
fn key_of(fd: BorrowedFd<'_>) -> Result<Key> {
    let stat = rustix::fs::fstat(fd).call("fstat", fd.as_raw_fd())?;
    let flags = fcntl(fd, FcntlArg::F_GETFL).call("fcntl", format_args!("{}, F_GETFL", fd.as_raw_fd()))?;
    Ok(Key { dev: stat.st_dev, ino: stat.st_ino, flags })
}
