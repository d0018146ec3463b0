//! System V shared memory, semaphores and messages; POSIX message queues.

use crate::base::{Check, Child, Prepare, Result, check, same, sys, sys_fd};
use crate::memory::Map;
use std::os::fd::AsRawFd;

pub(crate) const ZOO: &[(&str, Prepare)] = &[
    ("sysv_shared_memory", shared_memory),
    ("sysv_deleted_memory", deleted_memory),
    ("sysv_partly_mapped", partly_mapped),
    ("sysv_semaphores", semaphores),
    ("sysv_messages", messages),
    ("posix_messages", posix_messages),
];

const KEY: libc::key_t = 0x1234_5678;
const LEN: usize = 16 * 4096;

fn attach(id: i32, flags: i32) -> Result<Map> {
    Ok(Map { at: sys!(libc::shmat(id, std::ptr::null(), flags))? as usize, len: LEN })
}

/// A segment with a key, attached in two processes, once for reading only.
fn shared_memory() -> Result<Check> {
    let id = sys!(libc::shmget(KEY, LEN, libc::IPC_CREAT | 0o640))?;
    let map = attach(id, 0)?;
    map.fill(0);
    let mut theirs = 0;
    let mut child = Child::fork(move || {
        let readonly = attach(id, libc::SHM_RDONLY)?;
        check(move || {
            theirs += 1;
            readonly.expect(theirs)
        })
    })?;
    let mut generation = 0;
    check(move || {
        same("id", sys!(libc::shmget(KEY, LEN, 0))?, id)?;
        // SAFETY: plain data that is filled by the call.
        let mut info: libc::shmid_ds = unsafe { std::mem::zeroed() };
        sys!(libc::shmctl(id, libc::IPC_STAT, &raw mut info))?;
        // The child has what it inherited and what it attached.
        same("attached, mode", (info.shm_nattch, info.shm_perm.mode & 0o777), (3, 0o640))?;
        map.expect(generation)?;
        generation += 1;
        map.fill(generation);
        child.check()
    })
}

/// A segment of which pieces were unmapped, with other mappings in the gaps, and one that lies beside it.
fn partly_mapped() -> Result<Check> {
    const PAGE: usize = 4096;
    let id = sys!(libc::shmget(libc::IPC_PRIVATE, LEN, 0o600))?;
    let map = attach(id, 0)?;
    map.fill(0);
    // Pages 2 and 3 stay, and 8 to 15; the first of the holes is filled again.
    for (first, count) in [(0, 2), (4, 4)] {
        sys!(libc::munmap((map.at + first * PAGE) as *mut libc::c_void, count * PAGE))?;
    }
    let (protection, how) = (libc::PROT_READ, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED);
    sys!(libc::mmap(map.at as *mut libc::c_void, PAGE, protection, how, -1, 0))?;
    let at = map.at;
    // SAFETY: plain data that is filled by the call.
    let mut info: libc::shmid_ds = unsafe { std::mem::zeroed() };
    check(move || {
        let maps = std::fs::read_to_string("/proc/self/maps").map_err(|e| e.to_string())?;
        let parts: Vec<&str> =
            maps.lines().filter(|l| l.contains("/SYSV")).map(|l| l.split(' ').next().unwrap_or("")).collect();
        let wanted = [(2, 4), (8, 16)].map(|(from, to)| format!("{:x}-{:x}", at + from * PAGE, at + to * PAGE));
        same("parts", parts, wanted.iter().map(String::as_str).collect())?;
        sys!(libc::shmctl(id, libc::IPC_STAT, &raw mut info))?;
        same("attached", info.shm_nattch, 2)?;
        // The parts show the pages they showed: what is written through a second mapping is seen there.
        let whole = attach(id, 0)?;
        for page in [2, 3, 8, 15] {
            // SAFETY: both addresses are within mappings that this program has made.
            unsafe {
                let (there, here) = ((whole.at + page * PAGE) as *mut usize, (at + page * PAGE) as *const usize);
                there.write_volatile(page);
                same("page", here.read_volatile(), page)?;
            }
        }
        sys!(libc::shmdt(whole.at as *const libc::c_void))?;
        Ok(())
    })
}

/// A segment without a key that goes with its last user.
fn deleted_memory() -> Result<Check> {
    let id = sys!(libc::shmget(libc::IPC_PRIVATE, LEN, 0o600))?;
    let map = attach(id, 0)?;
    sys!(libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut()))?;
    map.fill(0);
    let mut generation = 0;
    check(move || {
        map.expect(generation)?;
        generation += 1;
        map.fill(generation);
        Ok(())
    })
}

/// Values of a set with a key.
fn semaphores() -> Result<Check> {
    let id = sys!(libc::semget(KEY, 3, libc::IPC_CREAT | 0o600))?;
    for (number, value) in [(0, 5), (1, 0), (2, 31)] {
        sys!(libc::semctl(id, number, libc::SETVAL, value))?;
    }
    check(move || {
        same("id", sys!(libc::semget(KEY, 3, 0))?, id)?;
        let values = (0..3).map(|number| sys!(libc::semctl(id, number, libc::GETVAL))).collect::<Result<Vec<_>>>()?;
        same("values", values, vec![5, 0, 31])?;
        for change in [-5, 5] {
            let mut step = libc::sembuf { sem_num: 0, sem_op: change, sem_flg: libc::IPC_NOWAIT as i16 };
            sys!(libc::semop(id, &raw mut step, 1))?;
        }
        Ok(())
    })
}

#[repr(C)]
struct Message {
    kind: i64,
    text: [u8; 32],
}

/// Messages of several types and lengths, in their order.
fn messages() -> Result<Check> {
    let id = sys!(libc::msgget(KEY, libc::IPC_CREAT | 0o600))?;
    let queued: [(i64, &[u8]); 3] = [(7, b"first"), (3, b"second, longer"), (7, b"")];
    let send = move || -> Result<()> {
        for (kind, text) in queued {
            let mut message = Message { kind, text: [0; 32] };
            message.text[..text.len()].copy_from_slice(text);
            sys!(libc::msgsnd(id, (&raw const message).cast(), text.len(), libc::IPC_NOWAIT))?;
        }
        Ok(())
    };
    send()?;
    check(move || {
        same("id", sys!(libc::msgget(KEY, 0))?, id)?;
        for (kind, text) in queued {
            let mut message = Message { kind: 0, text: [0; 32] };
            let len = sys!(libc::msgrcv(id, (&raw mut message).cast(), 32, 0, libc::IPC_NOWAIT))? as usize;
            same("message", (message.kind, &message.text[..len]), (kind, text))?;
        }
        send()
    })
}

/// A queue with messages of different priority.
fn posix_messages() -> Result<Check> {
    // SAFETY: plain data that is filled below.
    let mut limits: libc::mq_attr = unsafe { std::mem::zeroed() };
    (limits.mq_maxmsg, limits.mq_msgsize) = (8, 64);
    let flags = libc::O_RDWR | libc::O_CREAT | libc::O_NONBLOCK;
    let queue = sys_fd!(libc::mq_open(c"/zoo".as_ptr(), flags, 0o600, &raw const limits))?;
    let send = |queue: i32| -> Result<()> {
        for (text, priority) in [(&b"low"[..], 1), (b"high", 9)] {
            sys!(libc::mq_send(queue, text.as_ptr().cast(), text.len(), priority))?;
        }
        Ok(())
    };
    send(queue.as_raw_fd())?;
    check(move || {
        for (text, priority) in [(&b"high"[..], 9), (b"low", 1)] {
            let (mut buffer, mut now) = ([0_u8; 64], 0);
            let len = sys!(libc::mq_receive(queue.as_raw_fd(), buffer.as_mut_ptr().cast(), 64, &raw mut now))?;
            same("message", (&buffer[..len as usize], now), (text, priority))?;
        }
        send(queue.as_raw_fd())
    })
}
