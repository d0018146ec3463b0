//! Descriptors, and the open file descriptions behind them.
//!
//! An open file description exists once in the image however many descriptors, tasks or messages hold it,
//! and is opened once at restore.
//! Dump looks at the real object: `pidfd_getfd` gives the tracer a descriptor of the same description.
//! Restore opens every description in the tracer, by a thread that has joined the container's namespaces,
//! and hands them to the tasks over a unix socket; no file is opened by injected code.
//!
//! To add a kind of file: write `resource/NAME.rs` with a type that implements [`resource::Resource`],
//! and add its line to the table in [`kind`].
//!
//! Dependencies go one way: this module's own types ← [`view`], [`dumping`], [`restoring`] ← [`resource`] ← `crate::resource::*`
//! ← [`kind`] ← [`dump`], [`restore`].

pub mod dump;
pub mod dumping;
pub mod identity;
pub mod inside;
pub mod kind;
pub mod resource;
pub mod restore;
pub mod restoring;
pub mod tasks;
pub(crate) mod testing;
pub mod view;

use crate::Kind;
use crate::program::TargetFd;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::fd::{BorrowedFd, OwnedFd};

/// Names an open file description within an image: its position in [`kind::Files::files`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FileId(pub u32);

impl FileId {
    /// As an index.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl std::fmt::Display for FileId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "file {}", self.0)
    }
}

/// One entry of a descriptor table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptor {
    /// Its number.
    pub fd: TargetFd,
    /// The description it refers to.
    pub file: FileId,
    /// `FD_CLOEXEC`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cloexec: bool,
}

/// What dump knows of one open file description before it asks the resource's own module.
pub struct Probe<'a> {
    /// The description's name in the image.
    pub id: FileId,
    /// A task that holds it, as the host counts pids; ours when nobody has it in a table.
    pub pid: i32,
    /// Its number in that task's table.
    pub target_fd: TargetFd,
    /// How it was found.
    pub found: Found,
    /// Where it was found, for messages: "fd 7", "mapping 7f0000000000-7f0000001000", "message in fd 7".
    pub place: &'a str,
    /// A descriptor of ours of the same description (`pidfd_getfd`); for `O_PATH`, too.
    pub fd: BorrowedFd<'a>,
    /// `readlink /proc/PID/fd/N`; bytes that are not UTF-8 are replaced.
    pub link: &'a str,
    /// The same, as it is.
    pub raw_link: &'a OsStr,
    /// `/proc/PID/fdinfo/N`.
    pub fdinfo: &'a str,
    /// Its common lines: position, mount, locks.
    pub info: crate::procfs::descriptor::Fdinfo,
    /// `fstat` of it.
    pub stat: libc::stat,
    /// `F_GETFL`.
    pub flags: i32,
}

impl Probe<'_> {
    /// The file type: `libc::S_IFREG` and its like.
    pub fn file_type(&self) -> u32 {
        self.stat.st_mode & libc::S_IFMT
    }
}

/// How dump came upon a description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// In a task's descriptor table.
    Table,
    /// Behind a mapping; the description is one that dump opened, not the mapping's own.
    Mapping,
    /// Behind a link of /proc/PID; as for a mapping.
    Link,
    /// In a queue.
    Queue,
}

/// Something that can't be saved: what it is, why, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blocker {
    /// The task that holds it, as the container counts pids; 0 when it is nobody's.
    pub pid: i32,
    /// The descriptor, path or mount: `fd 7 (anon_inode:[io_uring])`.
    pub what: String,
    /// Why it can't be saved.
    pub why: String,
    /// The flag to give or the thing to do.
    pub remedy: String,
}

impl std::fmt::Display for Blocker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.pid != 0 {
            write!(f, "pid {}: ", self.pid)?;
        }
        write!(f, "{}: {}; {}", self.what, self.why, self.remedy)
    }
}

/// What the caller allows a dump to do with files.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct FileOptions {
    /// Save established TCP connections.
    pub tcp_established: bool,
    /// Leave out connections that wait to be accepted.
    pub tcp_skip_in_flight: bool,
    /// Let unix sockets have peers outside the container.
    pub ext_unix_sk: bool,
    /// Save file locks.
    pub file_locks: bool,
    /// Let the terminal belong to someone outside the container.
    pub shell_job: bool,
}

/// A file that was given to the container from outside (its stdio) and is given anew at restore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct External {
    /// The name both sides know it by: `stdio:0`.
    pub name: String,
    /// `readlink /proc/INIT/fd/N` when the container was made.
    pub link: String,
    /// `st_dev` and `st_ino` then.
    pub dev: u64,
    /// See `dev`.
    pub ino: u64,
}

/// Where the resources' modules put and find what they need at dump.
pub struct DumpEnv<'a> {
    /// The container's first task, as the host counts pids.
    pub init: i32,
    /// What the caller allows.
    pub options: &'a FileOptions,
    /// Files that come from outside.
    pub externals: &'a [External],
    /// Where contents go.
    pub blobs: &'a mut crate::image::blob::Writer,
    /// Everything found so far that can't be saved.
    pub blockers: &'a mut Vec<Blocker>,
    /// Preflight: look, report blockers, copy no contents, change nothing. The tasks run on meanwhile.
    pub check_only: bool,
    /// The tasks will be killed: what can be read by taking it only may be taken at the very end.
    pub kills: bool,
}

/// What the resources' modules need at restore.
pub struct RestoreEnv<'a> {
    /// The held process that becomes the container's first task, as the host counts pids.
    pub init: i32,
    /// Contents.
    pub blobs: &'a crate::image::blob::Reader,
    /// The new files for the names in [`External::name`].
    pub externals: &'a BTreeMap<String, OwnedFd>,
    /// The directory of the container's control group, if it has one: its sockets are to belong to it.
    pub cgroup: Option<BorrowedFd<'a>>,
}

/// What a kind of file keeps as it is from its last look until the dump is over: a lock, a mode of a socket.
/// Dropping it puts everything back, for tasks that live on.
pub trait Held: Send {
    /// Prepares for the tasks being killed next.
    ///
    /// # Errors
    /// When it can't; the tasks can live on then.
    fn before_kill(&mut self) -> crate::Result<()>;

    /// The tasks are dead: dropping it puts nothing back. Not called when the killing failed.
    fn after_kill(&mut self) {}
}

/// A descriptor that only must not be closed before the end: a connection that was taken from its listener.
impl Held for OwnedFd {
    fn before_kill(&mut self) -> crate::Result<()> {
        Ok(())
    }
}

/// When a kind of file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Before the tree exists.
    BeforeTasks,
    /// When all tasks of the tree exist, blank as they are (a pidfd, /proc/PID/stat).
    WithTasks,
}

/// A descriptor table that is in place in its task.
#[derive(Clone, Copy, Debug)]
pub struct Table<'a> {
    /// The task, as the container counts pids.
    pub pid: i32,
    /// What it holds.
    pub descriptors: &'a [Descriptor],
}

impl Table<'_> {
    /// What has the number `fd`.
    pub fn file(&self, fd: TargetFd) -> Option<FileId> {
        self.descriptors.iter().find(|d| d.fd == fd).map(|d| d.file)
    }
}

/// A description at restore: its name and the flags it had.
#[derive(Clone, Copy, Debug)]
pub struct FileRef {
    /// Its name in the image.
    pub id: FileId,
    /// `F_GETFL` at dump, as the image says.
    pub flags: i32,
}

/// Refuses a number that the image made up.
pub(crate) fn unknown_file(id: FileId) -> crate::Error {
    crate::Error::new(Kind::BadImage, format!("{id}: no such file in the image, or it comes later"))
}
