//! Message queues (msgget(2), msgctl(2), msgsnd(2), and msgrcv(2) with `MSG_COPY`).

use super::{Perm, check, each_index};
use crate::{Errno, Error, Result};
use std::mem::MaybeUninit;

const MSG_INFO: i32 = 12;
const MSG_STAT_ANY: i32 = 13;
const MSG_COPY: i32 = 0o40000;
/// The message's type stands before its text.
const TYPE_BYTES: usize = 8;

/// A queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Its id.
    pub id: i32,
    /// Who may do what with it.
    pub perm: Perm,
    /// How many messages it holds.
    pub messages: u64,
    /// How many bytes they have together.
    pub bytes: u64,
    /// How many bytes it may hold.
    pub limit: u64,
}

/// All queues of the namespace (`MSG_STAT_ANY`, Linux 4.17).
///
/// # Errors
/// The errno of the call.
pub fn list() -> Result<Vec<Queue>> {
    // struct msginfo is eight integers.
    let mut info = [0_u64; 8];
    let last = control(0, MSG_INFO, info.as_mut_ptr().cast(), "MSG_INFO")?;
    each_index(last, |index| {
        // SAFETY: the structure consists of integers, for which zero is a value.
        let mut raw: libc::msqid_ds = unsafe { MaybeUninit::zeroed().assume_init() };
        let id = control(index, MSG_STAT_ANY, &raw mut raw, "MSG_STAT_ANY")? as i32;
        Ok(Queue {
            id,
            perm: Perm::from_raw(&raw.msg_perm),
            messages: raw.msg_qnum,
            bytes: raw.__msg_cbytes,
            limit: raw.msg_qbytes,
        })
    })
}

/// Makes a queue. Fails when the key is in use.
///
/// # Errors
/// The errno of the call.
pub fn create(key: i32, mode: u32) -> Result<i32> {
    let flags = mode as i32 & 0o777 | libc::IPC_CREAT | libc::IPC_EXCL;
    // SAFETY: the call takes two integers.
    let id = unsafe { libc::msgget(key, flags) };
    check(id.into(), "msgget", format_args!("{key:#x}, {flags:#o}")).map(|id| id as i32)
}

/// Sets owner, permission bits and byte limit of a queue (`IPC_SET`).
///
/// # Errors
/// The errno of the call; `EPERM` for a limit above kernel.msgmnb without CAP_SYS_RESOURCE.
pub fn set(id: i32, perm: &Perm, limit: u64) -> Result<()> {
    // SAFETY: the structure consists of integers, for which zero is a value.
    let mut raw: libc::msqid_ds = unsafe { MaybeUninit::zeroed().assume_init() };
    perm.put(&mut raw.msg_perm);
    raw.msg_qbytes = limit;
    control(id, libc::IPC_SET, &raw mut raw, "IPC_SET").map(drop)
}

/// Removes a queue with its messages.
///
/// # Errors
/// The errno of the call.
pub fn remove(id: i32) -> Result<()> {
    control(id, libc::IPC_RMID, std::ptr::null_mut(), "IPC_RMID").map(drop)
}

/// The `index`th message of a queue, type and text, which stays where it is (`MSG_COPY`, Linux 3.8, needs
/// `CONFIG_CHECKPOINT_RESTORE`). `limit` is the longest text expected.
///
/// # Errors
/// The errno of the call: `ENOMSG` behind the last message, `E2BIG` for a longer text.
pub fn peek(id: i32, index: u64, limit: usize) -> Result<(i64, Vec<u8>)> {
    let mut buffer = vec![0_u8; TYPE_BYTES + limit];
    let flags = MSG_COPY | libc::IPC_NOWAIT;
    // SAFETY: the buffer has room for a type and a text of `limit` bytes.
    let n = unsafe { libc::msgrcv(id, buffer.as_mut_ptr().cast(), limit, index as i64, flags) };
    let n = check(n as i64, "msgrcv", format_args!("{id}, {limit}, {index}, MSG_COPY | IPC_NOWAIT"))?;
    let kind = i64::from_ne_bytes(buffer[..TYPE_BYTES].try_into().expect("eight bytes"));
    buffer.truncate(TYPE_BYTES + n as usize);
    buffer.drain(..TYPE_BYTES);
    Ok((kind, buffer))
}

/// Appends a message without waiting.
///
/// # Errors
/// The errno of the call: `EAGAIN` when the queue is full, `EINVAL` for a type below 1 or a text above kernel.msgmax.
pub fn send(id: i32, kind: i64, text: &[u8]) -> Result<()> {
    let describe = || format!("{id}, type {kind}, {} bytes, IPC_NOWAIT", text.len());
    let mut buffer = Vec::new();
    if buffer.try_reserve_exact(TYPE_BYTES + text.len()).is_err() {
        return Err(Error::new("msgsnd", describe(), Errno::ENOMEM));
    }
    buffer.extend_from_slice(&kind.to_ne_bytes());
    buffer.extend_from_slice(text);
    // SAFETY: the buffer holds a type and a text of the length that is passed.
    let done = unsafe { libc::msgsnd(id, buffer.as_ptr().cast(), text.len(), libc::IPC_NOWAIT) };
    check(done.into(), "msgsnd", format_args!("{}", describe())).map(drop)
}

fn control(id: i32, command: i32, argument: *mut libc::msqid_ds, name: &str) -> Result<i64> {
    // SAFETY: every caller passes what its command reads or writes: a msqid_ds, room for a msginfo, or nothing.
    let done = unsafe { libc::msgctl(id, command, argument) };
    check(done.into(), "msgctl", format_args!("{id}, {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peeking_leaves_messages_where_they_are() {
        let id = create(0, 0o600).unwrap();
        send(id, 3, b"three").unwrap();
        send(id, 1, b"").unwrap();
        let first = [peek(id, 0, 16), peek(id, 0, 16)];
        let (second, third, long) = (peek(id, 1, 0), peek(id, 2, 16), peek(id, 0, 4));
        let found = list().unwrap().into_iter().find(|q| q.id == id).unwrap();
        remove(id).unwrap();
        for message in first {
            assert_eq!(message.unwrap(), (3, b"three".to_vec()));
        }
        assert_eq!(second.unwrap(), (1, Vec::new()));
        assert_eq!(third.unwrap_err().errno(), Errno::ENOMSG);
        assert_eq!(long.unwrap_err().errno(), Errno::E2BIG);
        assert_eq!((found.messages, found.bytes), (2, 5));
    }
}
