//! POSIX message queues (mq_overview(7)): the queues of an IPC namespace by name, and descriptors of them.
//!
//! Kept: name, sizes, owner, permission bits, messages with priorities; queues that were unlinked while open, too.
//! The kernel shows messages only to who takes them out: a child of ours receives and sends them again
//! ([`rtc_sys::mqueue::messages`]), while all tasks are stopped.
//! A queue that will notify a process (mq_notify(3)) can't be saved: what it will send can't be asked.
//! Lost: the user on whose account a queue counts (`RLIMIT_MSGQUEUE`), and times.

use crate::error::{Context as _, Result, bad_image};
use crate::files::dumping::{Dump, Object};
use crate::files::resource::Resource;
use crate::files::restoring::Restore;
use crate::files::{Blocker, FileId, FileRef, Probe};
use crate::image::blob::{Blob, Reader, Writer};
use rtc_sys::CallExt as _;
use rtc_sys::mqueue::{self as raw, Attributes};
use rustix::fs::{Gid, Mode, OFlags, Uid};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

const MQUEUE_MAGIC: i64 = 0x1980_0202;
/// The most that fs.mqueue.msg_max and msgsize_max allow together.
const MAX_BYTES: usize = 1 << 31;

/// A queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queue {
    /// How many messages it may hold, and how long each may be.
    pub sizes: (i64, i64),
    /// Permission bits.
    pub mode: u32,
    /// Owner and group, as the host counts.
    pub owner: (u32, u32),
    /// Priority and length of each message, in the order in which they will be received.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub messages: Vec<(u32, u64)>,
    /// Their texts, one after another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub texts: Option<Blob>,
}

/// A queue with its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedQueue {
    /// Its name, without a slash.
    pub name: String,
    /// All else.
    #[serde(flatten)]
    pub queue: Queue,
}

impl Queue {
    /// Saves a queue of which `fd` is open for reading and writing.
    fn dump(fd: BorrowedFd<'_>, stat: &libc::stat, blobs: Option<&mut Writer>) -> Result<Self> {
        let sizes = raw::attributes(fd)?;
        let mut queue = Self {
            sizes: (sizes.max_messages, sizes.max_bytes),
            mode: stat.st_mode & 0o7777,
            owner: (stat.st_uid, stat.st_gid),
            messages: Vec::new(),
            texts: None,
        };
        let Some(blobs) = blobs.filter(|_| sizes.messages > 0) else { return Ok(queue) };
        let mut texts = blobs.begin();
        for (priority, text) in raw::messages(fd)? {
            queue.messages.push((priority, text.len() as u64));
            texts.write(&text)?;
        }
        queue.texts = Some(texts.end()?);
        Ok(queue)
    }

    /// Makes the queue under a name.
    fn restore(&self, name: &str, blobs: &Reader) -> Result<OwnedFd> {
        let sizes = Attributes { max_messages: self.sizes.0, max_bytes: self.sizes.1, messages: 0 };
        let fd = raw::create(name, libc::O_RDWR, self.mode & 0o777, sizes)
            .context(|| "make the queue")
            .map_err(|e| e.with_hint("the limits are fs.mqueue.* and RLIMIT_MSGQUEUE"))?;
        let (user, group) = (Uid::from_raw_unchecked(self.owner.0), Gid::from_raw_unchecked(self.owner.1));
        rustix::fs::fchown(&fd, Some(user), Some(group)).call("fchown", format_args!("{name}, {:?}", self.owner))?;
        // Changing the owner clears set-id bits; the umask has had its say before.
        let mode = Mode::from_raw_mode(self.mode & 0o7777);
        rustix::fs::fchmod(&fd, mode).call("fchmod", format_args!("{name}, {mode:?}"))?;
        let texts = self.texts.map(|texts| blobs.bytes(texts, MAX_BYTES)).transpose()?.unwrap_or_default();
        let total = self.messages.iter().try_fold(0_u64, |sum, (_, len)| sum.checked_add(*len));
        if total != Some(texts.len() as u64) {
            return Err(bad_image("the lengths of its messages don't add up"));
        }
        let mut rest = &texts[..];
        for (priority, len) in &self.messages {
            let (text, later) = rest.split_at(*len as usize);
            raw::send(fd.as_fd(), *priority, text)?;
            rest = later;
        }
        Ok(fd)
    }
}

/// Whether a queue will notify somebody (mq_notify(3)).
fn notifies(fd: BorrowedFd<'_>) -> Result<bool> {
    let mut text = String::new();
    let copy = fd.try_clone_to_owned().call("dup", "queue")?;
    File::from(copy).read_to_string(&mut text).context(|| "read the queue's state")?;
    Ok(notified(&text)? != 0)
}

/// Whom a queue will notify, as the reader's pid namespace counts; 0 for nobody. The text is what read(2) gives:
/// `QSIZE:129        NOTIFY:2     SIGNO:0     NOTIFY_PID:8260`
fn notified(text: &str) -> crate::procfs::Parsed<i32> {
    let pid = text.split_once("NOTIFY_PID:").and_then(|(_, pid)| pid.trim().parse().ok());
    pid.ok_or(crate::procfs::Malformed("queue"))
}

const NOTIFY_WHY: &str = "it will notify a process (mq_notify), and what it will send can't be asked";
const NOTIFY_REMEDY: &str = "checkpoint when no process waits for a notification of the queue";

/// Whether the calling thread's namespace has no queue.
pub(super) fn is_absent() -> Result<bool> {
    let directory = raw::directory()?;
    let mut entries = rustix::fs::Dir::new(directory).call("fdopendir", "mqueue")?;
    Ok(entries.all(|entry| entry.is_ok_and(|entry| matches!(entry.file_name().to_bytes(), b"." | b".."))))
}

/// Saves the queues of the calling thread's namespace; `blobs` is absent in a preflight.
pub(super) fn dump_named(mut blobs: Option<&mut Writer>, blockers: &mut Vec<Blocker>) -> Result<Vec<NamedQueue>> {
    let directory = raw::directory()?;
    let mut all = Vec::new();
    for entry in rustix::fs::Dir::read_from(&directory).call("openat", "mqueue")? {
        let entry = entry.call("getdents64", "mqueue")?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        if name == "." || name == ".." {
            continue;
        }
        let saved = (|| {
            let shown = rustix::fs::openat(&directory, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
            let shown = shown.call("openat", format_args!("mqueue, {name}"))?;
            if notifies(shown.as_fd())? {
                let (why, remedy) = (NOTIFY_WHY.to_owned(), NOTIFY_REMEDY.to_owned());
                blockers.push(Blocker { pid: 0, what: format!("message queue /{name}"), why, remedy });
                return Ok(());
            }
            let fd = raw::open(name, libc::O_RDWR)?;
            let stat = nix::sys::stat::fstat(&fd).call("fstat", name)?;
            let queue = Queue::dump(fd.as_fd(), &stat, blobs.as_deref_mut())?;
            all.push(NamedQueue { name: name.to_owned(), queue });
            Ok(())
        })();
        saved.map_err(|e: crate::Error| e.context(format!("message queue /{name}")))?;
    }
    Ok(all)
}

/// Makes queues in the calling thread's namespace, with umask 0.
pub(super) fn restore_named(queues: &[NamedQueue], blobs: &Reader) -> Result<()> {
    for queue in queues {
        queue.queue.restore(&queue.name, blobs).context(|| format!("message queue /{}", queue.name))?;
    }
    Ok(())
}

/// A descriptor of a queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueFile {
    /// The queue's name, without a slash; the one it had, if it was unlinked.
    pub name: String,
    /// For a queue that was unlinked: the description that carries it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unlinked: Option<FileId>,
    /// The queue, in the description that carries it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carried: Option<Queue>,
}

impl Resource for QueueFile {
    fn recognises(probe: &Probe<'_>, _cx: &Dump<'_>) -> bool {
        probe.file_type() == libc::S_IFREG
            && probe.flags & libc::O_PATH == 0
            && rustix::fs::fstatfs(probe.fd).is_ok_and(|fs| fs.f_type == MQUEUE_MAGIC)
    }

    fn dump(probe: &Probe<'_>, cx: &mut Dump<'_>) -> Result<Option<Self>> {
        let path = probe.link.strip_suffix(" (deleted)").filter(|_| probe.stat.st_nlink == 0).unwrap_or(probe.link);
        let name = path.rsplit('/').next().unwrap_or(path).to_owned();
        if probe.stat.st_nlink > 0 {
            return Ok(Some(Self { name, unlinked: None, carried: None }));
        }
        let object = Object { kind: "mqueue", major: probe.stat.st_dev, minor: probe.stat.st_ino };
        let holder = cx.holder(object, probe.id);
        let mut file = Self { name, unlinked: Some(holder), carried: None };
        if holder == probe.id {
            let fd = cx.reopen(probe.fd, OFlags::RDWR)?;
            if notifies(fd.as_fd())? {
                cx.block(probe, NOTIFY_WHY, NOTIFY_REMEDY);
                return Ok(None);
            }
            let check_only = cx.check_only();
            let blobs = Some(cx.blobs()).filter(|_| !check_only);
            file.carried = Some(Queue::dump(fd.as_fd(), &probe.stat, blobs)?);
        }
        Ok(Some(file))
    }

    fn open(&self, file: FileRef, cx: &mut Restore<'_>) -> Result<OwnedFd> {
        let access = file.flags & libc::O_ACCMODE;
        match (self.unlinked, &self.carried) {
            (None, _) => Ok(raw::open(&self.name, access)?),
            (Some(holder), None) => cx.reopen(cx.opened(holder)?, access),
            (Some(_), Some(queue)) => {
                // The name may be in use again; nobody sees this one.
                let name = format!("{}.{}", self.name.get(..200).unwrap_or(&self.name), file.id.0);
                let made = queue.restore(&name, cx.env().blobs);
                let unlinked = raw::unlink(&name);
                let made = made?;
                unlinked?;
                cx.reopen(made.as_fd(), access)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whom_a_queue_notifies() {
        assert_eq!(notified("QSIZE:129        NOTIFY:2     SIGNO:0     NOTIFY_PID:8260  \n"), Ok(8260));
        assert_eq!(notified("QSIZE:0          NOTIFY:0     SIGNO:0     NOTIFY_PID:0     \n"), Ok(0));
        assert!(notified("QSIZE:0").is_err());
    }
}
