//! Describes the files of a container's tasks.
//!
//! First the tables, mappings and links of all tasks are added, each description being asked once what it is;
//! then [`FileDumper::finish`] takes the second look that needs all of them known (queues, epoll targets, peers).

use super::dumping::Dump;
use super::kind::{FileKind, Files, OpenFile, Owner};
use super::{Descriptor, DumpEnv, FileId, Held, Probe};
use crate::error::{Context as _, Result};
use crate::{Error, Kind};
use rustix::fs::OFlags;
use std::collections::HashMap;
use std::os::fd::OwnedFd;

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
        let table = self.cx.add_table(pid, pidfd).context(|| format!("descriptors of pid {pid}"))?;
        self.describe_pending()?;
        Ok(table)
    }

    /// Adds a descriptor of ours, for a file found at `place` of the task `pid`.
    ///
    /// # Errors
    /// As [`FileDumper::add_table`].
    pub fn add_descriptor_of_ours(&mut self, fd: OwnedFd, pid: i32, place: &str) -> Result<FileId> {
        let id = self.cx.add_ours(fd, pid, place.to_owned())?;
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
        self.add_opened(pid, &format!("map_files/{start:x}-{end:x}"), flags, place)
    }

    /// Adds what a link of /proc/PID points to.
    ///
    /// # Errors
    /// As [`FileDumper::add_table`].
    pub fn add_link(&mut self, pid: i32, link: Link) -> Result<FileId> {
        let flags = if link == Link::Exe { OFlags::RDONLY } else { OFlags::PATH | OFlags::DIRECTORY };
        self.add_opened(pid, link.name(), flags, link.name().to_owned())
    }

    fn add_opened(&mut self, pid: i32, name: &str, flags: OFlags, place: String) -> Result<FileId> {
        let files = self.cx.task_files(pid)?;
        let (stat, link) = (files.stat(name)?, files.link(name)?);
        let key = (stat.st_dev, stat.st_ino, link, flags.bits());
        if let Some(id) = self.opened.get(&key) {
            return Ok(*id);
        }
        // Opening a device can do things; only its identity is needed to say that it can't be saved.
        let regular = matches!(stat.st_mode & libc::S_IFMT, libc::S_IFREG | libc::S_IFDIR);
        let fd = files.open(name, if regular { flags } else { OFlags::PATH })?;
        let id = self.add_descriptor_of_ours(fd, pid, &place)?;
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
        FileKind::conclude(&mut self.files, &mut self.cx)?;
        if self.cx.blocked() > 0 {
            return Err(Error::new(Kind::Unsupported, format!("{} things can't be saved", self.cx.blocked())));
        }
        // In a preflight some were closed meanwhile; nobody uses the ids then.
        Ok((Files { files: self.files.into_iter().flatten().collect() }, self.cx.held))
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
            debug_assert_eq!(id.index(), self.files.len(), "ids are given and described in one order");
            let file = match self.cx.probe(id, describe) {
                Err(e) if self.cx.vanished(&e) => None,
                result => result?,
            };
            self.files.push(file);
        }
        Ok(())
    }
}

fn describe(probe: &Probe<'_>, cx: &mut Dump<'_>) -> Result<Option<OpenFile>> {
    let Some(file) = FileKind::dump(probe, cx)? else { return Ok(None) };
    let owner = owner(probe, cx)?;
    Ok(Some(OpenFile { id: probe.id, flags: probe.flags & !libc::O_CLOEXEC, owner, file }))
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
