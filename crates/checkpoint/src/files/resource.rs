//! What a kind of file is to the frame: the one trait that each of them implements.

use super::dumping::Dump;
use super::restoring::Restore;
use super::{FileId, FileRef, Probe, Stage, Table};
use crate::Result;
use crate::program::{Program, TargetFd};
use std::os::fd::OwnedFd;

/// A kind of file: the part of an open file description that is its own, in the image, at dump and at restore.
///
/// Several descriptions of one object (two ends of a pipe, two openings of a deleted file): the first one that dump
/// meets carries the object, the others name it; see [`Dump::holder`] and [`Restore::opened`].
pub trait Resource: Sized {
    /// Whether `probe` is of this kind. Kinds are asked in the order of the table in [`super::kind`].
    fn recognises(probe: &Probe<'_>, cx: &Dump<'_>) -> bool;

    /// Describes it. Contents and whatever concerns other descriptions can wait for [`Resource::complete`].
    /// None says that it can't be saved and that a blocker was noted ([`Dump::block`]).
    ///
    /// # Errors
    /// When something fails that should not; what can't be saved is a blocker, not an error.
    fn dump(probe: &Probe<'_>, cx: &mut Dump<'_>) -> Result<Option<Self>>;

    /// Whether [`Resource::complete`] is to be called.
    const COMPLETES: bool = false;

    /// Second look, when the descriptors of all tasks are known: queues, watched descriptors, peers.
    /// Descriptors found in queues are described by [`Dump::describe`] and looked at in their turn.
    ///
    /// # Errors
    /// As [`Resource::dump`].
    fn complete(&mut self, _probe: &Probe<'_>, _cx: &mut Dump<'_>) -> Result<()> {
        Ok(())
    }

    /// Last look at all of this kind together, when nothing more will be found: what connects them.
    /// What must stay as it is until the dump is over goes to [`Dump::hold`].
    ///
    /// # Errors
    /// As [`Resource::dump`].
    fn conclude(_all: &mut [(FileId, &mut Self)], _cx: &mut Dump<'_>) -> Result<()> {
        Ok(())
    }

    /// Takes what can't be read without taking it, from tasks that will be killed.
    /// Called at the very end, when nothing stands in the way of the dump; descriptors can't be described any more.
    ///
    /// # Errors
    /// As [`Resource::dump`].
    fn take(_all: &mut [(FileId, &mut Self)], _cx: &mut Dump<'_>) -> Result<()> {
        Ok(())
    }

    /// Whether [`Resource::open_together`] and [`Resource::finish_together`] are to be called.
    const TOGETHER: bool = false;

    /// Makes those of this kind, all of which are given, that can't be made one by one ([`Restore::place`]).
    /// Called before [`Resource::open`] of the first file of the stage, which then is for the rest.
    ///
    /// # Errors
    /// As [`Resource::open`].
    fn open_together(_all: &[(FileRef, &Self)], _cx: &mut Restore<'_>) -> Result<()> {
        Ok(())
    }

    /// As [`Resource::finish`], for all of this kind at once, after it.
    ///
    /// # Errors
    /// As [`Resource::open`].
    fn finish_together(_all: &[(FileRef, &Self)], _cx: &mut Restore<'_>) -> Result<()> {
        Ok(())
    }

    /// When [`Resource::open`] is called; within a stage the order is that of the ids.
    const STAGE: Stage = Stage::BeforeTasks;

    /// Makes it anew, close-on-exec, in the container's namespaces (mnt, net, ipc, uts; not pid), with umask 0.
    /// `O_APPEND`, `O_NONBLOCK`, `O_DIRECT`, `O_NOATIME` are set afterwards by the caller.
    ///
    /// # Errors
    /// When it can't be made, or when the image is wrong: nothing in `self` can be trusted.
    fn open(&self, file: FileRef, cx: &mut Restore<'_>) -> Result<OwnedFd>;

    /// Adds what must be done inside a task that holds it under the number `fd`.
    /// Called once for each table that holds it, until it answers true.
    ///
    /// Two things that seem to need the task do not: signal owners (done by the frame), and what depends on a
    /// descriptor's *number* only, as epoll_ctl does: [`super::restoring::with_numbers`].
    ///
    /// # Errors
    /// When the image is wrong.
    fn after_table(&self, _table: Table<'_>, _fd: TargetFd, _program: &mut Program) -> Result<bool> {
        Ok(true)
    }

    /// Whether [`Resource::finish`] is to be called.
    const FINISHES: bool = false;

    /// Last touch, with all files open and all tables in place, in the same namespaces as [`Resource::open`]:
    /// queues that carry descriptors, epoll items, timers, TCP repair off.
    ///
    /// # Errors
    /// As [`Resource::open`].
    fn finish(&self, _file: FileRef, _cx: &mut Restore<'_>) -> Result<()> {
        Ok(())
    }
}
