//! System V IPC of one namespace: shared memory, semaphore sets, message queues, with their ids.
//!
//! Everything here runs in a thread that is in the namespace; see [`super::ipc`], which calls it.
//!
//! Kept: ids, keys, owners, creators, permission bits, contents (without holes), `SHM_LOCK`, huge pages, that a segment
//! is marked for destruction, semaphore values and who changed them last, messages with their types, byte limits.
//! Lost: the times and pids that shmctl(2) and msgctl(2) show, `SEM_UNDO` adjustments, which the kernel doesn't tell,
//! and `SHM_NORESERVE`.

use super::ipc_limits::{self, Limit};
use crate::error::{Context as _, Kind, Result, bad_image};
use crate::image::blob::{Blob, Reader, Writer};
use crate::proc::Proc;
use crate::program::{Call, Program};
use rtc_sys::ipc::{self as raw, msg, sem, shm};
use rtc_sys::{CallExt as _, Errno};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;

const HUGETLBFS_MAGIC: i64 = 0x958458f6;
/// Contents are copied by this much where they can't be read as a file.
const PIECE: usize = 1 << 20;
/// As many calls as surely fit into one program.
const MOST_CALLS: usize = 1000;
/// The longest message that kernel.msgmax allows.
const MAX_MESSAGE: usize = i32::MAX as usize;

/// Who may do what with an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Perm {
    /// The key it is found by; 0 for none.
    pub key: i32,
    /// Owner and group, as the host counts.
    pub owner: (u32, u32),
    /// User and group that made it, as the host counts.
    pub creator: (u32, u32),
    /// Permission bits.
    pub mode: u32,
}

/// A shared memory segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// Its id.
    pub id: i32,
    /// Who may do what with it.
    pub perm: Perm,
    /// Its length in bytes.
    pub size: u64,
    /// The size of its pages, if they are huge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub huge_page: Option<u64>,
    /// It goes when its last user detaches.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub destroyed: bool,
    /// It is locked in memory.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub locked: bool,
    /// What is in it; none for zeroes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contents: Option<Blob>,
}

/// A semaphore set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Semaphores {
    /// Its id.
    pub id: i32,
    /// Who may do what with it.
    pub perm: Perm,
    /// The values.
    pub values: Vec<u16>,
    /// For some of them, by number: the process of the container that changed it last.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub changed_by: BTreeMap<u32, i32>,
}

/// A message queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageQueue {
    /// Its id.
    pub id: i32,
    /// Who may do what with it.
    pub perm: Perm,
    /// How many bytes it may hold.
    pub limit: u64,
    /// Type and length of each message, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub messages: Vec<(i64, u64)>,
    /// Their texts, one after another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub texts: Option<Blob>,
}

/// All objects of a namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SysvIpc {
    /// Shared memory.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub segments: Vec<Segment>,
    /// Semaphores.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub semaphores: Vec<Semaphores>,
    /// Messages.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub queues: Vec<MessageQueue>,
}

impl SysvIpc {
    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty() && self.semaphores.is_empty() && self.queues.is_empty()
    }

    /// Whether the calling thread's namespace has nothing.
    pub(super) fn is_absent() -> Result<bool> {
        Ok(shm::list()?.is_empty() && sem::list()?.is_empty() && msg::list()?.is_empty())
    }

    /// Saves what the calling thread's namespace has. `pid_level` is how many pid namespaces lie around the container's.
    ///
    /// # Errors
    /// When a call fails.
    pub(super) fn dump(pid_level: usize, blobs: &mut Writer) -> Result<Self> {
        let (mut segments, mut semaphores, mut queues) = (Vec::new(), Vec::new(), Vec::new());
        for segment in shm::list()? {
            let id = segment.id;
            segments.push(dump_segment(&segment, blobs).context(|| format!("shared memory segment {id}"))?);
        }
        for set in sem::list()? {
            semaphores.push(dump_set(&set, pid_level).context(|| format!("semaphore set {}", set.id))?);
        }
        for queue in msg::list()? {
            queues.push(dump_queue(&queue, blobs).context(|| format!("message queue {}", queue.id))?);
        }
        Ok(Self { segments, semaphores, queues })
    }

    /// Makes everything in the calling thread's namespace, which must not have these ids and keys.
    ///
    /// # Errors
    /// When the image is wrong, an id is taken, or a limit of the machine is in the way.
    pub(super) fn restore(&self, blobs: &Reader) -> Result<()> {
        for segment in &self.segments {
            restore_segment(segment, blobs).context(|| format!("shared memory segment {}", segment.id))?;
        }
        for set in &self.semaphores {
            restore_set(set).context(|| format!("semaphore set {}", set.id))?;
        }
        if !self.queues.is_empty() {
            // A queue may be fuller than its limit, and a message longer, if these were lowered afterwards.
            let raised = ipc_limits::raise(&[("kernel/msgmnb", i32::MAX as u64), ("kernel/msgmax", i32::MAX as u64)])?;
            let restored = self
                .queues
                .iter()
                .try_for_each(|queue| restore_queue(queue, blobs).context(|| format!("message queue {}", queue.id)));
            raised.iter().try_for_each(Limit::write)?;
            restored?;
        }
        Ok(())
    }

    /// Marks segments for destruction, when all tasks have attached them.
    ///
    /// # Errors
    /// When there is no such segment.
    pub(super) fn finish(&self) -> Result<()> {
        for segment in self.segments.iter().filter(|segment| segment.destroyed) {
            shm::remove(segment.id)?;
        }
        Ok(())
    }

    /// What the process `pid` of the container does to be the last that changed the semaphores which it changed last.
    pub fn changed_by(&self, pid: i32) -> Vec<Program> {
        let mut calls = Vec::new();
        for set in &self.semaphores {
            for number in set.changed_by.iter().filter(|(_, by)| **by == pid).map(|(number, _)| *number) {
                if let Some(value) = set.values.get(number as usize) {
                    let args = [set.id.into(), number.into(), sem::SETVAL.into(), u32::from(*value).into()];
                    calls.push(Call { nr: libc::SYS_semctl, args: args.into(), may_fail: false });
                }
            }
        }
        let program = |chunk: &[Call]| {
            let mut program = Program::new();
            for call in chunk {
                program.push(call.clone());
            }
            program
        };
        calls.chunks(MOST_CALLS).map(program).collect()
    }
}

/// The id of the segment behind a mapping, from its name and inode number in /proc/PID/maps.
pub fn segment_of_mapping(name: &str, inode: u64) -> Option<i32> {
    let key = name.strip_prefix("/SYSV")?.strip_suffix(" (deleted)")?;
    (key.len() == 8 && key.bytes().all(|b| b.is_ascii_hexdigit())).then(|| i32::try_from(inode).ok()).flatten()
}

fn perm(raw: &raw::Perm) -> Perm {
    Perm {
        key: raw.key,
        owner: (raw.uid, raw.gid),
        creator: (raw.creator_uid, raw.creator_gid),
        mode: raw.mode & 0o777,
    }
}

impl Perm {
    fn raw(&self) -> raw::Perm {
        raw::Perm { uid: self.owner.0, gid: self.owner.1, mode: self.mode, ..raw::Perm::default() }
    }

    /// Makes an object with the id `id` by the call `make`, as its creator.
    fn make(&self, next_id: &str, id: i32, make: impl FnOnce() -> rtc_sys::Result<i32>) -> Result<()> {
        // The next object gets this id if it is free (CONFIG_CHECKPOINT_RESTORE).
        let path = format!("/proc/sys/kernel/{next_id}");
        std::fs::write(&path, id.to_string()).call("write", format_args!("{path}, {id}"))?;
        let made = raw::as_creator(self.creator.0, self.creator.1, make)?;
        if made == id {
            return Ok(());
        }
        Err(crate::Error::new(Kind::Incompatible, format!("its id is taken: it would have got {made}"))
            .with_hint("restore into an IPC namespace of its own"))
    }
}

fn dump_segment(segment: &shm::Segment, blobs: &mut Writer) -> Result<Segment> {
    let mut image = Segment {
        id: segment.id,
        perm: perm(&segment.perm),
        size: segment.size,
        huge_page: None,
        destroyed: segment.perm.mode & shm::DEST != 0,
        locked: segment.perm.mode & shm::LOCKED != 0,
        contents: None,
    };
    // With kernel.shm_rmid_forced a segment goes when it is detached, also by us. One that nobody has attached was
    // never attached, or it would be gone: it is all zeroes.
    if segment.attached == 0 && ipc_limits::read("kernel/shm_rmid_forced").is_ok_and(|forced| forced.trim() == "1") {
        return Ok(image);
    }
    let attached = shm::Attached::new(segment.id, true)?;
    let us = Proc(std::process::id() as i32);
    let mapping = us.maps()?.into_iter().find(|m| m.start == attached.address());
    let mapping = mapping.ok_or_else(|| crate::Error::new(Kind::System, "it isn't among our mappings"))?;
    let file = us.open(&format!("map_files/{:x}-{:x}", mapping.start, mapping.end), rustix::fs::OFlags::RDONLY)?;
    let fs = rustix::fs::fstatfs(&file).call("fstatfs", "map_files")?;
    let contents = if fs.f_type == HUGETLBFS_MAGIC {
        image.huge_page = Some(fs.f_bsize as u64);
        copy(&attached, segment.size, blobs)?
    } else {
        blobs.file(&File::from(file), segment.size)?
    };
    image.contents = Some(contents);
    Ok(image)
}

fn copy(attached: &shm::Attached, size: u64, blobs: &mut Writer) -> Result<Blob> {
    let mut blob = blobs.begin();
    let mut piece = vec![0; PIECE];
    let mut at = 0;
    while at < size {
        let len = (size - at).min(PIECE as u64) as usize;
        attached.read(at, &mut piece[..len])?;
        blob.write(&piece[..len])?;
        at += len as u64;
    }
    blob.end()
}

fn restore_segment(segment: &Segment, blobs: &Reader) -> Result<()> {
    let mut flags = (segment.perm.mode & 0o777) as i32;
    if let Some(size) = segment.huge_page {
        flags |= libc::SHM_HUGETLB | ((size.trailing_zeros() as i32) << libc::MAP_HUGE_SHIFT);
    }
    segment.perm.make("shm_next_id", segment.id, || shm::create(segment.perm.key, segment.size, flags))?;
    if let Some(contents) = segment.contents {
        if contents.size() > segment.size {
            return Err(bad_image("its contents are longer than it is"));
        }
        let attached = shm::Attached::new(segment.id, false)?;
        blobs.each(contents, |offset, bytes| Ok(attached.write(offset, bytes)?))?;
    }
    if segment.locked {
        shm::lock(segment.id)?;
    }
    Ok(shm::set(segment.id, &segment.perm.raw())?)
}

fn dump_set(set: &sem::Set, pid_level: usize) -> Result<Semaphores> {
    let values = sem::values(set.id, set.count)?;
    let mut changed_by = BTreeMap::new();
    for number in 0..set.count as u32 {
        let pid = sem::last_pid(set.id, number as i32)?;
        // The dead can't change anything again.
        let inside = (pid > 0).then(|| Proc(pid).status().ok()?.ns_tgid.get(pid_level).copied()).flatten();
        changed_by.extend(inside.map(|pid| (number, pid)));
    }
    Ok(Semaphores { id: set.id, perm: perm(&set.perm), values, changed_by })
}

fn restore_set(set: &Semaphores) -> Result<()> {
    let count = i32::try_from(set.values.len()).map_err(|_| bad_image("too many semaphores"))?;
    set.perm.make("sem_next_id", set.id, || sem::create(set.perm.key, count, set.perm.mode))?;
    sem::set_values(set.id, &set.values)?;
    Ok(sem::set(set.id, &set.perm.raw())?)
}

fn dump_queue(queue: &msg::Queue, blobs: &mut Writer) -> Result<MessageQueue> {
    let mut messages = Vec::new();
    let mut texts = blobs.begin();
    // No message is longer than all of them together.
    let limit = usize::try_from(queue.bytes).unwrap_or(MAX_MESSAGE).min(MAX_MESSAGE);
    for index in 0..queue.messages {
        match peek(queue.id, index, limit) {
            Ok((kind, text)) => {
                messages.push((kind, text.len() as u64));
                texts.write(&text)?;
            }
            // Somebody outside the container took some meanwhile.
            Err(e) if e.errno() == Errno::ENOMSG => break,
            Err(e) => return Err(e.into()),
        }
    }
    let texts = Some(texts.end()?).filter(|texts| texts.size() > 0);
    Ok(MessageQueue { id: queue.id, perm: perm(&queue.perm), limit: queue.limit, messages, texts })
}

fn peek(id: i32, index: u64, limit: usize) -> rtc_sys::Result<(i64, Vec<u8>)> {
    let found = msg::peek(id, index, limit);
    if !found.as_ref().is_err_and(|e| e.errno() == Errno::EINVAL) {
        return found;
    }
    // It is longer than kernel.msgmax has allowed since. Nobody but us runs in the namespace now.
    let Ok(raised) = ipc_limits::raise(&[("kernel/msgmax", limit as u64)]) else { return found };
    let found = msg::peek(id, index, limit);
    for limit in raised {
        if let Err(e) = limit.write() {
            log::warn!("kernel.msgmax of the container stays raised: {e}");
        }
    }
    found
}

fn restore_queue(queue: &MessageQueue, blobs: &Reader) -> Result<()> {
    queue.perm.make("msg_next_id", queue.id, || msg::create(queue.perm.key, queue.perm.mode))?;
    // The limit is for the bytes of all messages, and for their number, too.
    let total = queue.messages.iter().try_fold(0_u64, |sum, (_, len)| sum.checked_add(*len));
    let size = queue.texts.map_or(0, Blob::size);
    if total != Some(size) || size > i32::MAX as u64 {
        return Err(bad_image("the lengths of its messages don't add up"));
    }
    msg::set(queue.id, &queue.perm.raw(), size.max(queue.messages.len() as u64).max(1))?;
    let texts = queue.texts.map(|texts| blobs.bytes(texts, size as usize)).transpose()?.unwrap_or_default();
    let mut rest = &texts[..];
    for (kind, len) in &queue.messages {
        let (text, later) = rest.split_at(*len as usize);
        msg::send(queue.id, *kind, text)?;
        rest = later;
    }
    Ok(msg::set(queue.id, &queue.perm.raw(), queue.limit)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_of_segments_are_told_from_files() {
        assert_eq!(segment_of_mapping("/SYSV0000a1b2 (deleted)", 32769), Some(32769));
        for name in ["/SYSV0000a1b2", "/SYSV (deleted)", "/SYSV0000a1b2/x (deleted)", "/tmp/SYSV0000a1b2 (deleted)"] {
            assert_eq!(segment_of_mapping(name, 1), None);
        }
    }

    #[test]
    fn a_process_sets_again_what_it_set_last() {
        let perm = Perm { key: 0, owner: (0, 0), creator: (0, 0), mode: 0o600 };
        let set = |id, changed_by| Semaphores { id, perm: perm.clone(), values: vec![5, 6, 7], changed_by };
        let (first, second) = (BTreeMap::from([(0, 10), (2, 11)]), BTreeMap::from([(1, 11), (9, 11)]));
        let ipc = SysvIpc { semaphores: vec![set(3, first), set(4, second)], ..SysvIpc::default() };
        let programs: Vec<String> = ipc.changed_by(11).iter().map(ToString::to_string).collect();
        assert_eq!(programs, ["0: semctl(3, 2, 16, 7)\n1: semctl(4, 1, 16, 6)\n"]);
        assert!(ipc.changed_by(12).is_empty());
    }
}
