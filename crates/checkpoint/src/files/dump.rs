//! Describes the files of a container's tasks.
//!
//! First the tables, mappings and links of all tasks are added, each description being asked once what it is;
//! then [`FileDumper::finish`] takes the second look that needs all of them known (queues, epoll targets, peers).

use super::dumping::Dump;
use super::kind::{FileKind, Files, Last, OpenFile, Owner};
use super::{Blocker, Descriptor, DumpEnv, FileId, Found, Held, Probe};
use crate::error::{Context as _, Result};
use crate::image::path::ImagePath;
use crate::resource::device::is_stateless;
use crate::resource::{locks, tty};
use crate::{Error, Kind};
use rustix::fs::OFlags;
use std::collections::HashMap;
use std::os::fd::{AsFd as _, OwnedFd};

/// A magic link of /proc/PID that is no descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// The program; opened for reading.
    Exe,
    /// The working directory; `O_PATH`.
    Cwd,
    /// The root directory; `O_PATH`.
    Root,
}

impl Link {
    fn name(self) -> &'static str {
        match self {
            Self::Exe => "exe",
            Self::Cwd => "cwd",
            Self::Root => "root",
        }
    }
}

/// Describes the files of a container's tasks.
pub struct FileDumper<'a> {
    cx: Dump<'a>,
    /// By [`FileId`]; None for what can't be saved or was closed meanwhile.
    files: Vec<Option<OpenFile>>,
    /// Files that were opened by us: device, inode, link, access mode.
    opened: HashMap<(u64, u64, std::ffi::OsString, u32), FileId>,
}

impl<'a> FileDumper<'a> {
    /// A dumper for the container of `env`.
    ///
    /// # Errors
    /// When /proc can't be read.
    pub fn new(env: DumpEnv<'a>) -> Result<Self> {
        Ok(Self { cx: Dump::new(env)?, files: Vec::new(), opened: HashMap::new() })
    }

    /// Adds the descriptor table of the process `pid` (host's count).
    /// Processes that share one table (`CLONE_FILES`) are added once.
    ///
    /// # Errors
    /// When the task can't be looked at; what can't be saved is a blocker.
    pub fn add_table(&mut self, pid: i32, pidfd: OwnedFd) -> Result<Vec<Descriptor>> {
        let noun = || format!("descriptors of pid {pid}");
        let numbers = self.cx.list(pid, pidfd).context(noun)?;
        let mut table = Vec::with_capacity(numbers.len());
        for fd in numbers {
            match self.cx.add_entry(pid, fd) {
                Ok((descriptor, seen)) => {
                    table.push(descriptor);
                    if let Some(seen) = seen {
                        let file = self.cx.probe_seen(descriptor.file, &seen, describe);
                        self.push(descriptor.file, file)?;
                        self.describe_pending()?;
                    }
                }
                Err(e) if self.cx.vanished(&e) => {}
                Err(e) => return Err(e.context(format!("fd {fd}")).context(noun())),
            }
        }
        self.cx.set_table(pid, table.clone());
        Ok(table)
    }

    /// Adds a descriptor of ours, for a file found at `place` of the task `pid`.
    ///
    /// # Errors
    /// As [`FileDumper::add_table`].
    pub fn add_descriptor_of_ours(&mut self, fd: OwnedFd, pid: i32, place: &str) -> Result<FileId> {
        let id = self.cx.add_ours(fd, pid, Found::Queue, place.to_owned())?;
        self.describe_pending()?;
        Ok(id)
    }

    /// Adds the file behind the mapping `start`..`end` of the task `pid`, which must be exact.
    /// `shared_and_writable` says that it must be opened for reading and writing (`MAP_SHARED`, `VM_MAYWRITE`).
    /// Mappings of one file with one access mode have one id.
    ///
    /// # Errors
    /// As [`FileDumper::add_table`].
    pub fn add_mapped(&mut self, pid: i32, start: u64, end: u64, shared_and_writable: bool) -> Result<FileId> {
        let flags = if shared_and_writable { OFlags::RDWR } else { OFlags::RDONLY };
        let place = format!("mapping {start:x}-{end:x}");
        self.add_opened(pid, &format!("map_files/{start:x}-{end:x}"), flags, Found::Mapping, place)
    }

    /// Adds what a link of /proc/PID points to.
    ///
    /// # Errors
    /// As [`FileDumper::add_table`].
    pub fn add_link(&mut self, pid: i32, link: Link) -> Result<FileId> {
        let flags = if link == Link::Exe { OFlags::RDONLY } else { OFlags::PATH | OFlags::DIRECTORY };
        self.add_opened(pid, link.name(), flags, Found::Link, link.name().to_owned())
    }

    /// Adds the controlling terminal of a session, whose leader is the task `pid`, by the device number that
    /// /proc/PID/stat shows. None when nobody will have it after a restore.
    ///
    /// # Errors
    /// As [`FileDumper::add_table`].
    pub fn add_terminal(&mut self, pid: i32, device: u64) -> Result<Option<FileId>> {
        if let Some(known) = self.cx.known_holder(tty::terminal(device)) {
            return Ok(Some(known));
        }
        // Nobody has it open, but a task can open it by its name.
        let path = tty::number_of_slave(device).map(|number| ImagePath::from(&format!("/dev/pts/{number}")));
        let node = path.map(|path| self.cx.view().look(&path)).transpose()?.flatten();
        let opened = node.and_then(|node| self.cx.reopen(node.as_fd(), OFlags::RDWR | OFlags::NONBLOCK).ok());
        if let Some(fd) = opened {
            return self.add_descriptor_of_ours(fd, pid, "controlling terminal").map(Some);
        }
        if !self.cx.options().shell_job {
            let pid = self.cx.container_pid(pid).unwrap_or(0);
            self.cx.block_other(Blocker {
                pid,
                what: "controlling terminal".into(),
                why: "it is outside the container".into(),
                remedy: "give --shell-job to let the session go on without one".into(),
            });
        }
        Ok(None)
    }

    fn add_opened(&mut self, pid: i32, name: &str, flags: OFlags, found: Found, place: String) -> Result<FileId> {
        let files = self.cx.task_files(pid)?;
        let (stat, link) = (files.stat(name)?, files.link(name)?);
        let key = (stat.st_dev, stat.st_ino, link, flags.bits());
        if let Some(id) = self.opened.get(&key) {
            return Ok(*id);
        }
        // Opening a device can do things; only its identity is needed to say that it can't be saved.
        let harmless = matches!(stat.st_mode & libc::S_IFMT, libc::S_IFREG | libc::S_IFDIR)
            || stat.st_mode & libc::S_IFMT == libc::S_IFCHR && is_stateless(stat.st_rdev);
        let fd = files.open(name, if harmless { flags } else { OFlags::PATH })?;
        let id = self.cx.add_ours(fd, pid, found, place)?;
        self.describe_pending()?;
        self.opened.insert(key, id);
        Ok(id)
    }

    /// How many things were found that can't be saved.
    pub fn blocked(&self) -> usize {
        self.cx.blocked()
    }

    /// Takes the second look at those kinds that want one, and gives all descriptions,
    /// with what must be kept until the tasks run on (dropped then) or are killed ([`Held::before_kill`] first).
    ///
    /// # Errors
    /// `Unsupported` when there are blockers; otherwise as [`FileDumper::add_table`].
    pub fn finish(mut self) -> Result<(Files, Vec<Box<dyn Held>>)> {
        // Descriptions found in queues are appended while this goes on, and have their turn.
        let mut next = 0;
        while next < self.files.len() {
            self.complete(FileId(next as u32))?;
            self.describe_pending()?;
            next += 1;
        }
        FileKind::last(&mut self.files, &mut self.cx, Last::Look)?;
        self.attach_posix_locks();
        if self.cx.blocked() > 0 {
            return Err(Error::new(Kind::Unsupported, format!("{} things can't be saved", self.cx.blocked())));
        }
        if self.cx.kills() {
            FileKind::last(&mut self.files, &mut self.cx, Last::Take)?;
        }
        // In a preflight some were closed meanwhile; nobody uses the ids then.
        Ok((Files { files: self.files.into_iter().flatten().collect() }, self.cx.held))
    }

    fn attach_posix_locks(&mut self) {
        for (id, pid, line) in std::mem::take(&mut self.cx.posix_locks) {
            // A task that is gone (preflight) has no locks any more.
            let pid = self.cx.container_pid(pid);
            if let (Some(file), Some(pid)) = (self.files[id.index()].as_mut(), pid) {
                file.locks.push(locks::of_table(&line, pid));
            }
        }
    }

    fn complete(&mut self, id: FileId) -> Result<()> {
        let Some(mut file) = self.files[id.index()].take() else { return Ok(()) };
        if file.file.completes() {
            match self.cx.probe(id, |probe, cx| file.file.complete(probe, cx)) {
                Err(e) if self.cx.vanished(&e) => return Ok(()),
                result => result?,
            }
        }
        self.files[id.index()] = Some(file);
        Ok(())
    }

    fn describe_pending(&mut self) -> Result<()> {
        while let Some(id) = self.cx.pending.pop_front() {
            let file = self.cx.probe(id, describe);
            self.push(id, file)?;
        }
        Ok(())
    }

    fn push(&mut self, id: FileId, file: Result<Option<OpenFile>>) -> Result<()> {
        debug_assert_eq!(id.index(), self.files.len(), "ids are given and described in one order");
        let file = match file {
            Err(e) if self.cx.vanished(&e) => None,
            file => file?,
        };
        self.files.push(file);
        Ok(())
    }
}

fn describe(probe: &Probe<'_>, cx: &mut Dump<'_>) -> Result<Option<OpenFile>> {
    let Some(file) = FileKind::dump(probe, cx)? else { return Ok(None) };
    let owner = owner(probe, cx)?;
    let locks = locks::of_description(probe, cx);
    Ok(Some(OpenFile { id: probe.id, flags: probe.flags & !libc::O_CLOEXEC, owner, locks, file }))
}

/// Who gets the signals of a description.
fn owner(probe: &Probe<'_>, cx: &mut Dump<'_>) -> Result<Option<Owner>> {
    use rtc_sys::fdio;
    if probe.flags & libc::O_PATH != 0 {
        return Ok(None);
    }
    let (owner, signal) = (fdio::get_owner(probe.fd)?, fdio::get_signal(probe.fd)?);
    if owner.pid == 0 && signal == 0 {
        return Ok(None);
    }
    let pid = if owner.pid == 0 { Some(0) } else { cx.container_pid(owner.pid) };
    let Some(pid) = pid else {
        cx.block(probe, format!("its signals go to pid {} outside the container", owner.pid), "unset F_SETOWN");
        return Ok(None);
    };
    Ok(Some(Owner { kind: owner.kind, pid, uids: fdio::get_owner_uids(probe.fd)?, signal }))
}

#[cfg(test)]
mod tests {
    use super::super::External;
    use super::super::kind::FileKind;
    use super::super::testing::{How, Shell, TempDir, dump_with, us};
    use super::*;
    use crate::program::TargetFd;

    /// Stops a task and waits until it is stopped.
    fn stop(pid: i32) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGSTOP).unwrap();
        while !std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap().contains(") T ") {
            std::thread::yield_now();
        }
    }

    fn table_of(shell: &Shell, dumper: &mut FileDumper<'_>) -> Vec<Descriptor> {
        dumper.add_table(shell.pid(), shell.pidfd()).unwrap()
    }

    /// Standard input, output and error of a shell, as files from outside.
    fn stdio(pid: i32) -> How {
        use std::os::unix::fs::MetadataExt as _;
        let external = |n| {
            let path = format!("/proc/{pid}/fd/{n}");
            let meta = std::fs::metadata(&path).unwrap();
            let link = std::fs::read_link(&path).unwrap().to_str().unwrap().to_owned();
            External { name: format!("stdio:{n}"), link, dev: meta.dev(), ino: meta.ino() }
        };
        How { externals: (0..3).map(external).collect(), ..How::default() }
    }

    #[test]
    fn tables_share_descriptions_across_tasks() {
        let dir = TempDir::new();
        let path = dir.path().join("f");
        let file = std::fs::File::create(&path).unwrap();
        let inherit = format!("exec 5<>{} 6>&5 7<>{0}", path.display());
        // The child ends with the shell's standard input, as the shell does.
        let shell = Shell::new(&format!("{inherit}; exec 3<&0; (read y <&3) & echo $! > {}", path.display()));
        let child: i32 = std::fs::read_to_string(&path).unwrap().trim().parse().unwrap();
        stop(child);
        let dumped = dump_with(shell.pid(), &stdio(shell.pid()), |dumper| {
            let parent = table_of(&shell, dumper);
            (parent, dumper.add_table(child, rtc_sys::pidfd::open(child).unwrap()).unwrap())
        });
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(child), nix::sys::signal::Signal::SIGKILL).unwrap();
        let (parent, child) = &dumped.added;
        let id = |table: &[Descriptor], n| table.iter().find(|d| d.fd == TargetFd(n)).map(|d| d.file);
        assert_eq!(id(parent, 5), id(parent, 6));
        assert_ne!(id(parent, 5), id(parent, 7));
        assert_eq!([id(parent, 5), id(parent, 7)], [id(child, 5), id(child, 7)]);
        assert!(id(parent, 5).is_some());
        let files = dumped.files.unwrap().files;
        assert!(matches!(&files[id(parent, 0).unwrap().index()].file, FileKind::External(e) if e.name == "stdio:0"));
        drop(file);
    }

    #[test]
    fn everything_that_cant_be_saved_is_named_at_once() {
        let shell = Shell::new("exec 5</dev/kmsg 6</dev/cpu_dma_latency");
        let dumped = dump_with(shell.pid(), &stdio(shell.pid()), |dumper| table_of(&shell, dumper).len());
        let error = dumped.files.unwrap_err();
        assert_eq!(*error.kind(), Kind::Unsupported);
        let lines: Vec<_> = dumped.blockers.iter().map(ToString::to_string).collect();
        assert_eq!(lines.len(), 2, "{lines:?}");
        let start = format!("pid {}: fd 5 (/dev/kmsg): the device 1:11 ", shell.pid());
        assert!(lines[0].starts_with(&start), "{lines:?}");
    }

    #[test]
    fn owners_of_signals_are_kept_with_their_user() {
        use rtc_sys::fdio;
        let dir = TempDir::new();
        let file = std::fs::File::create(dir.path().join("f")).unwrap();
        let owner = fdio::Owner { kind: 1, pid: us() };
        fdio::as_user(7, 8, || fdio::set_owner(file.as_fd(), owner)).unwrap();
        fdio::set_signal(file.as_fd(), 35).unwrap();
        let dumped = dump_with(us(), &How::default(), |dumper| {
            dumper.add_descriptor_of_ours(file.try_clone().unwrap().into(), us(), "test").unwrap()
        });
        let restored = dumped.restore().copy(dumped.added);
        assert_eq!(fdio::get_owner(restored.as_fd()).unwrap(), owner);
        assert_eq!(fdio::get_owner_uids(restored.as_fd()).unwrap(), (7, 8));
        assert_eq!(fdio::get_signal(restored.as_fd()).unwrap(), 35);
    }
}
