//! POSIX message queues (mq_overview(7)) of the calling thread's IPC namespace.

use crate::clone::{Clone3, SilentChild};
use crate::{CallExt, Errno, Error, Result};
use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Sizes of a queue (`struct mq_attr`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// How many messages it may hold.
    pub max_messages: i64,
    /// How long each may be.
    pub max_bytes: i64,
    /// How many it holds.
    pub messages: i64,
}

/// A message: priority and text.
pub type Message = (u32, Vec<u8>);

/// Opens a queue by its name, which has no slash; close-on-exec.
///
/// # Errors
/// The errno of mq_open(2).
pub fn open(name: &str, flags: i32) -> Result<OwnedFd> {
    mq_open(name, flags, 0, None)
}

/// Makes a queue, which must not exist.
///
/// # Errors
/// The errno of mq_open(2): `EINVAL` or `EMFILE` when the sizes are above the limits of fs.mqueue.* or
/// `RLIMIT_MSGQUEUE`.
pub fn create(name: &str, flags: i32, mode: u32, sizes: Attributes) -> Result<OwnedFd> {
    mq_open(name, flags | libc::O_CREAT | libc::O_EXCL, mode, Some(sizes))
}

fn mq_open(name: &str, flags: i32, mode: u32, sizes: Option<Attributes>) -> Result<OwnedFd> {
    let describe = || format!("{name}, {flags:#o}, {mode:#o}, {sizes:?}");
    let name_c = CString::new(name).map_err(|_| Error::new("mq_open", describe(), Errno::EINVAL))?;
    let raw = sizes.map(|s| [0, s.max_messages, s.max_bytes, 0, 0, 0, 0, 0]);
    let attr = raw.as_ref().map_or(std::ptr::null(), |raw| raw.as_ptr());
    let flags = i64::from(flags | libc::O_CLOEXEC);
    // SAFETY: the name is a C string and the attributes have the eight longs of struct mq_attr, or are absent.
    let fd = unsafe { libc::syscall(libc::SYS_mq_open, name_c.as_ptr(), flags, u64::from(mode), attr) };
    if fd < 0 {
        return Err(Error::last("mq_open", describe()));
    }
    // SAFETY: the call has just made this descriptor, nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Removes a queue's name.
///
/// # Errors
/// The errno of mq_unlink(2).
pub fn unlink(name: &str) -> Result<()> {
    let name_c = CString::new(name).map_err(|_| Error::new("mq_unlink", name, Errno::EINVAL))?;
    // SAFETY: the name is a C string.
    let done = unsafe { libc::syscall(libc::SYS_mq_unlink, name_c.as_ptr()) };
    if done < 0 { Err(Error::last("mq_unlink", name)) } else { Ok(()) }
}

/// A queue's sizes.
///
/// # Errors
/// The errno of mq_getsetattr(2).
pub fn attributes(fd: BorrowedFd<'_>) -> Result<Attributes> {
    let mut raw = [0_i64; 8];
    let fd = i64::from(fd.as_raw_fd());
    let none = std::ptr::null::<i64>();
    // SAFETY: the call writes the eight longs of struct mq_attr.
    if unsafe { libc::syscall(libc::SYS_mq_getsetattr, fd, none, raw.as_mut_ptr()) } < 0 {
        return Err(Error::last("mq_getsetattr", format_args!("{fd}, NULL")));
    }
    Ok(Attributes { max_messages: raw[1], max_bytes: raw[2], messages: raw[3] })
}

/// Appends a message without waiting.
///
/// # Errors
/// The errno of mq_timedsend(2): `ETIMEDOUT` when the queue is full, `EMSGSIZE`, `EINVAL` for a priority above 32767.
pub fn send(fd: BorrowedFd<'_>, priority: u32, text: &[u8]) -> Result<()> {
    let past = [0_i64; 2];
    let (fd, priority) = (i64::from(fd.as_raw_fd()), u64::from(priority));
    // SAFETY: the call reads the text and a timespec.
    let done = unsafe { libc::syscall(libc::SYS_mq_timedsend, fd, text.as_ptr(), text.len(), priority, past.as_ptr()) };
    if done < 0 {
        return Err(Error::last("mq_timedsend", format_args!("{fd}, {} bytes, {priority}", text.len())));
    }
    Ok(())
}

/// A directory, open for reading, with the names of all queues of the calling thread's IPC namespace.
///
/// # Errors
/// The errno of fsopen(2), fsconfig(2) or fsmount(2); it needs CAP_SYS_ADMIN.
pub fn directory() -> Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};
    let context = fsopen("mqueue", FsOpenFlags::FSOPEN_CLOEXEC).call("fsopen", "mqueue")?;
    fsconfig_create(&context).call("fsconfig", "mqueue, CMD_CREATE")?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes).call("fsmount", "mqueue")?;
    // The mount's own descriptor is O_PATH and can't be listed; the mount lives as long as the directory is open.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(&mount, ".", flags, Mode::empty()).call("openat", "mqueue, .")
}

/// What stands before each message in the memory shared with the child of [`messages`].
#[repr(C)]
struct Slot {
    len: i64,
    priority: u32,
}

/// Room for a slot, so that texts are aligned.
const SLOT: usize = 16;

/// The messages of a queue in the order in which they will be received; `queue` is open for reading and writing.
///
/// The kernel can't show them: they are received and sent again, which keeps their order.
/// A child of ours does it, with all signals blocked, so that none is lost if this process is killed meanwhile.
/// Nobody else may use the queue during this.
///
/// # Errors
/// The errno of the calls; `EIO` when the child failed, the queue may have lost messages then.
pub fn messages(queue: BorrowedFd<'_>) -> Result<Vec<Message>> {
    let sizes = attributes(queue)?;
    let describe = || format!("queue {}, {sizes:?}", queue.as_raw_fd());
    let stride = (sizes.max_bytes as usize).next_multiple_of(SLOT) + SLOT;
    let Some(len) = (sizes.messages as usize).checked_mul(stride).filter(|len| *len > 0) else {
        return Ok(Vec::new());
    };
    let (read_write, shared) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
    // SAFETY: new memory at a place that the kernel chooses.
    let memory = unsafe { libc::mmap(std::ptr::null_mut(), len, read_write, shared, -1, 0) };
    if memory == libc::MAP_FAILED {
        return Err(Error::last("mmap", format_args!("{len}, MAP_SHARED | MAP_ANONYMOUS")));
    }
    let memory: *mut u8 = memory.cast();
    // SAFETY: `memory` has room for `sizes.messages` strides, and the child makes plain system calls only.
    let child = unsafe {
        let count = sizes.messages as usize;
        SilentChild::start(&Clone3::default(), || receive_and_send(queue.as_raw_fd(), memory, count, stride))
    };
    let copied = child.and_then(|child| child.wait());
    let mut all = Vec::new();
    if copied.is_ok() {
        for n in 0..sizes.messages as usize {
            // SAFETY: the child has filled every slot and is gone; a text is no longer than its slot has room for.
            let (priority, text) = unsafe {
                let slot = memory.add(n * stride);
                let header = &*slot.cast::<Slot>();
                (header.priority, std::slice::from_raw_parts(slot.add(SLOT), header.len as usize))
            };
            all.push((priority, text.to_vec()));
        }
    }
    // SAFETY: the memory was mapped above and nothing refers to it any more.
    unsafe { libc::munmap(memory.cast(), len) };
    match copied? {
        true => Ok(all),
        false => Err(Error::new("mq_timedreceive, mq_timedsend", describe(), Errno::EIO)),
    }
}

/// Takes `count` messages out and puts them back; 0 if all went well.
///
/// # Safety
/// `memory` must have room for `count` strides. To be called in a child that shares no memory: nothing is allocated.
unsafe fn receive_and_send(queue: i32, memory: *mut u8, count: usize, stride: usize) -> i32 {
    let (queue, past) = (i64::from(queue), [0_i64; 2]);
    let mut received = 0;
    let mut failed = false;
    while received < count {
        // SAFETY: slot `received` is within the memory; a text is at most as long as the stride leaves room for.
        let n = unsafe {
            let slot = memory.add(received * stride);
            let (text, room) = (slot.add(SLOT), stride - SLOT);
            let header = slot.cast::<Slot>();
            let priority = &raw mut (*header).priority;
            let n = libc::syscall(libc::SYS_mq_timedreceive, queue, text, room, priority, past.as_ptr());
            (*header).len = n;
            n
        };
        if n < 0 {
            failed = true;
            break;
        }
        received += 1;
    }
    for n in 0..received {
        // SAFETY: slot `n` was filled above.
        let done = unsafe {
            let slot = memory.add(n * stride);
            let (header, text) = (&*slot.cast::<Slot>(), slot.add(SLOT));
            let (len, priority) = (header.len as usize, u64::from(header.priority));
            libc::syscall(libc::SYS_mq_timedsend, queue, text, len, priority, past.as_ptr())
        };
        failed |= done < 0;
    }
    i32::from(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn messages_are_seen_and_stay_in_order() {
        let name = format!("kobj-mqueue-{}", std::process::id());
        let sizes = Attributes { max_messages: 5, max_bytes: 33, messages: 0 };
        let queue = create(&name, libc::O_RDWR, 0o600, sizes).unwrap();
        let listed = rustix::fs::statat(directory().unwrap(), &name, rustix::fs::AtFlags::empty());
        unlink(&name).unwrap();
        listed.unwrap();
        assert_eq!(messages(queue.as_fd()).unwrap(), []);
        for (priority, text) in [(1, &b"low"[..]), (9, b"high"), (1, &[7; 33]), (9, b""), (0, b"last")] {
            send(queue.as_fd(), priority, text).unwrap();
        }
        assert_eq!(send(queue.as_fd(), 1, b"full").unwrap_err().errno(), Errno::ETIMEDOUT);
        let expected: Vec<Message> = [(9, &b"high"[..]), (9, b""), (1, b"low"), (1, &[7; 33]), (0, b"last")]
            .map(|(priority, text)| (priority, text.to_vec()))
            .into();
        for _ in 0..2 {
            assert_eq!(messages(queue.as_fd()).unwrap(), expected);
        }
        assert_eq!(attributes(queue.as_fd()).unwrap(), Attributes { messages: 5, ..sizes });
    }
}
