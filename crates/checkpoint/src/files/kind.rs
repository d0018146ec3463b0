//! The table of the kinds of files. One line here adds one.

use super::dumping::Dump;
use super::resource::Resource;
use super::restoring::Restore;
use super::{FileId, FileRef, Probe, Stage, Table};
use crate::program::{Program, TargetFd};
use crate::{Result, resource};
use serde::{Deserialize, Serialize};
use std::os::fd::OwnedFd;

/// What is done with all files of a kind in the end.
#[derive(Clone, Copy)]
pub(super) enum Last {
    /// `conclude`
    Look,
    /// `take`
    Take,
}

/// Makes the enum and passes each of [`super::resource::Resource`]'s functions on to the variants' types.
macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident($kind:ty),)+) => {
        /// What an open file description is, with all that is saved of it.
        #[derive(Clone, Debug, Serialize, Deserialize)]
        #[serde(tag = "kind", rename_all = "snake_case")]
        pub enum FileKind {
            $($(#[$doc])* $variant($kind),)+
        }

        impl FileKind {
            /// Describes `probe` by the first kind that recognises it; None when it can't be saved.
            pub(super) fn dump(probe: &Probe<'_>, cx: &mut Dump<'_>) -> Result<Option<Self>> {
                $(if <$kind>::recognises(probe, cx) {
                    return Ok(<$kind>::dump(probe, cx)?.map(Self::$variant));
                })+
                unknown(probe, cx);
                Ok(None)
            }

            pub(super) fn completes(&self) -> bool {
                match self { $(Self::$variant(_) => <$kind>::COMPLETES,)+ }
            }

            pub(super) fn complete(&mut self, probe: &Probe<'_>, cx: &mut Dump<'_>) -> Result<()> {
                match self { $(Self::$variant(kind) => kind.complete(probe, cx),)+ }
            }

            // One kind's arm is all there is when the table has one line.
            #[allow(unreachable_patterns)]
            pub(super) fn last(files: &mut [Option<OpenFile>], cx: &mut Dump<'_>, last: Last) -> Result<()> {
                $({
                    let mut all: Vec<(FileId, &mut $kind)> = Vec::new();
                    for file in files.iter_mut().flatten() {
                        match &mut file.file {
                            Self::$variant(kind) => all.push((file.id, kind)),
                            _ => {}
                        }
                    }
                    match last {
                        Last::Look => <$kind>::conclude(&mut all, cx)?,
                        Last::Take => <$kind>::take(&mut all, cx)?,
                    }
                })+
                Ok(())
            }

            /// Calls `open_together` of the kinds of the stage, or `finish_together` of all when there is none.
            #[allow(unreachable_patterns)]
            pub(super) fn together(files: &Files, stage: Option<Stage>, cx: &mut Restore<'_>) -> Result<()> {
                $(if <$kind>::TOGETHER && stage.is_none_or(|stage| stage == <$kind>::STAGE) {
                    let all = files.files.iter().filter_map(|file| match &file.file {
                        Self::$variant(kind) => Some((FileRef { id: file.id, flags: file.flags }, kind)),
                        _ => None,
                    });
                    let all: Vec<(FileRef, &$kind)> = all.collect();
                    match stage {
                        _ if all.is_empty() => {}
                        Some(_) => <$kind>::open_together(&all, cx)?,
                        None => <$kind>::finish_together(&all, cx)?,
                    }
                })+
                Ok(())
            }

            pub(super) fn is_together(&self) -> bool {
                match self { $(Self::$variant(_) => <$kind>::TOGETHER,)+ }
            }

            pub(super) fn stage(&self) -> Stage {
                match self { $(Self::$variant(_) => <$kind>::STAGE,)+ }
            }

            pub(super) fn open(&self, file: FileRef, cx: &mut Restore<'_>) -> Result<OwnedFd> {
                match self { $(Self::$variant(kind) => kind.open(file, cx),)+ }
            }

            pub(super) fn after_table(&self, table: Table<'_>, fd: TargetFd, program: &mut Program) -> Result<bool> {
                match self { $(Self::$variant(kind) => kind.after_table(table, fd, program),)+ }
            }

            pub(super) fn finishes(&self) -> bool {
                match self { $(Self::$variant(_) => <$kind>::FINISHES,)+ }
            }

            pub(super) fn finish(&self, file: FileRef, cx: &mut Restore<'_>) -> Result<()> {
                match self { $(Self::$variant(kind) => kind.finish(file, cx),)+ }
            }

            /// The kind's name, as in this table.
            pub fn name(&self) -> &'static str {
                match self { $(Self::$variant(_) => stringify!($variant),)+ }
            }
        }
    };
}

// Recognition goes from top to bottom: what the caller brings anew comes first, whatever it is.
kinds! {
    /// Given from outside.
    External(resource::external::ExternalFile),
    /// An end of a pipe.
    Pipe(resource::pipe::PipeEnd),
    /// An end of a FIFO.
    Fifo(resource::fifo::FifoEnd),
    /// Socket.
    Socket(resource::socket::Socket),
    /// Event counter.
    Eventfd(resource::eventfd::Eventfd),
    /// Timer.
    Timerfd(resource::timerfd::Timerfd),
    /// Signals to read.
    Signalfd(resource::signalfd::Signalfd),
    /// Event poll.
    Epoll(resource::epoll::Epoll),
    /// File watches.
    Inotify(resource::inotify::Inotify),
    /// Process descriptor.
    Pidfd(resource::pidfd::Pidfd),
    /// POSIX message queue; its file type is that of a regular file.
    MessageQueue(resource::mqueue::QueueFile),
    /// An `O_PATH` descriptor of a symbolic link, socket, FIFO or device.
    PathOnly(resource::path_only::PathOnly),
    /// A file or directory of /proc.
    ProcFile(resource::proc_file::ProcFile),
    /// A namespace of the container's own.
    Namespace(resource::proc_file::NamespaceFile),
    /// A memory object made by memfd_create.
    Memfd(resource::memfd::Memfd),
    /// Memory shared by inheritance.
    SharedAnonymous(resource::memfd::SharedAnonymous),
    /// The master of a pseudo terminal.
    PtyMaster(resource::tty::PtyMaster),
    /// The slave of a pseudo terminal.
    PtySlave(resource::tty::PtySlave),
    /// A device without state.
    Device(resource::device::Device),
    /// A regular file that has or had a path.
    RegFile(resource::reg_file::RegFile),
    /// A directory.
    Directory(resource::reg_file::Directory),
}

impl FileKind {
    /// Whether it was given from outside, description and all.
    pub fn is_external(&self) -> bool {
        matches!(self, Self::External(external) if !external.again)
    }
}

/// Notes a kind of file that no line of the table recognises.
fn unknown(probe: &Probe<'_>, cx: &mut Dump<'_>) {
    if let Some((why, remedy)) = resource::refused::refusal(probe.link) {
        return cx.block(probe, why, remedy);
    }
    let why = match probe.file_type() {
        libc::S_IFSOCK => "a socket of a family that rtc can't save".to_owned(),
        libc::S_IFCHR | libc::S_IFBLK => {
            let rdev = probe.stat.st_rdev;
            format!("the device {}:{} may keep state that can't be read", libc::major(rdev), libc::minor(rdev))
        }
        _ => "rtc doesn't know this kind of file".to_owned(),
    };
    cx.block(probe, why, "let the program close it before the checkpoint");
}

/// An open file description.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OpenFile {
    /// Its name; equal to its position in [`Files::files`].
    pub id: FileId,
    /// `F_GETFL`: access mode and status flags, without close-on-exec, which is the descriptors'.
    pub flags: i32,
    /// Who gets its signals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Owner>,
    /// Locks taken through it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub locks: Vec<resource::locks::Lock>,
    /// What it is.
    pub file: FileKind,
}

/// Who gets a description's SIGIO and SIGURG (fcntl(2) F_SETOWN_EX, F_SETSIG).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// `F_OWNER_TID` 0, `F_OWNER_PID` 1, `F_OWNER_PGRP` 2.
    pub kind: i32,
    /// As the container counts pids; 0 for nobody.
    pub pid: i32,
    /// Real and effective user that set it, as the host counts.
    pub uids: (u32, u32),
    /// 0 for SIGIO without siginfo.
    pub signal: i32,
}

/// All open file descriptions of an image.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Files {
    /// By [`FileId`].
    pub files: Vec<OpenFile>,
}
