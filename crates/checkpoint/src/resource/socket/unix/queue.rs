//! Reads a unix socket's receive queue without taking anything out of it.
//!
//! `MSG_PEEK` shows the first message; `SO_PEEK_OFF` lets it go on from there.
//! The offset belongs to the socket, so it is put back at once, by a guard if we are killed meanwhile.
//! Known loss: an empty message behind others is not seen by a second dump of the same queue
//! (the kernel notes that it has been shown, `skb->peeked`).

use super::{Credentials, Message, Queue};
use crate::error::{Context as _, Result};
use crate::files::dumping::Dump;
use crate::files::{FileId, Probe};
use crate::resource::socket::address;
use crate::{Error, Kind};
use rtc_sys::guard::{Guard, Undo};
use rtc_sys::message::{self, Control, Received};
use rtc_sys::{Errno, socket};
use rustix::event::PollFlags;
use std::os::fd::{BorrowedFd, OwnedFd};

/// No message is longer: it takes part of the sender's buffer, whose size is an int of bytes.
const MESSAGE_MAX: usize = 1 << 30;
const FIRST_BUFFER: usize = 64 << 10;

/// A message as it was peeked.
struct Peeked {
    bytes: Vec<u8>,
    from: Vec<u8>,
    files: Vec<OwnedFd>,
    credentials: Option<message::Credentials>,
}

struct Reader<'a> {
    fd: BorrowedFd<'a>,
    stream: bool,
    buffer: Vec<u8>,
    /// Bytes seen so far.
    offset: usize,
}

/// Reads the queue of a socket that does not listen. None when it can't be saved, which is noted.
pub(super) fn read(probe: &Probe<'_>, kind: i32, cx: &mut Dump<'_>) -> Result<Option<Queue>> {
    let messages = peek_all(probe.fd, kind)?;
    store(messages, probe, cx)
}

/// Reads the queue of a connection that was taken from a listener. Descriptors can't be saved any more.
pub(super) fn read_taken(fd: BorrowedFd<'_>, kind: i32, cx: &mut Dump<'_>) -> Result<Queue> {
    let mut contents = Vec::new();
    let mut queue = Queue::default();
    for message in peek_all(fd, kind)? {
        if !message.files.is_empty() {
            let what = "a connection that was not accepted yet carried descriptors";
            return Err(Error::new(Kind::Unsupported, what));
        }
        // Those of whoever is gone are not worth the container's end.
        let credentials = message.credentials.and_then(|who| credentials(who, cx).unwrap_or(None));
        let len = message.bytes.len() as u32;
        queue.messages.push(Message { len, credentials, ..Message::default() });
        contents.extend(message.bytes);
    }
    if !contents.is_empty() {
        queue.contents = Some(cx.blobs().bytes(&contents).context(|| "store a queue")?);
    }
    Ok(queue)
}

fn peek_all(fd: BorrowedFd<'_>, kind: i32) -> Result<Vec<Peeked>> {
    let waiting = socket::queue_length(fd, socket::SIOCINQ)?;
    let events = socket::poll_now(fd)?;
    let stream = kind == libc::SOCK_STREAM;
    // Reading an empty queue would take the socket's pending error.
    if waiting == 0 && (stream || events.contains(PollFlags::ERR)) {
        return Ok(Vec::new());
    }
    let buffer = vec![0; waiting.max(FIRST_BUFFER)];
    let mut reader = Reader { fd, stream, buffer, offset: 0 };
    let ended = kind == libc::SOCK_SEQPACKET && events.contains(PollFlags::RDHUP);
    Ok(reader.all(waiting, ended)?.unwrap_or_default())
}

impl Reader<'_> {
    /// `waiting` bytes are known to be there; `ended` says that nothing can be told from an empty message.
    /// None when the queue is empty.
    fn all(&mut self, waiting: usize, ended: bool) -> Result<Option<Vec<Peeked>>> {
        let old = socket::int_option(self.fd, libc::SOL_SOCKET, libc::SO_PEEK_OFF)?;
        // The common case changes nothing: a stream without control data shows everything at once.
        if old < 0 && self.stream {
            let first = self.peek(self.buffer.len())?;
            match first {
                Some(first) if first.bytes.len() == waiting && first.files.is_empty() => return Ok(Some(vec![first])),
                None => return Ok(None),
                Some(_) => {}
            }
        }
        let undo = Undo { socket: self.fd, level: libc::SOL_SOCKET, name: libc::SO_PEEK_OFF, value: old };
        let guard = Guard::start(&[undo])?;
        let messages = self.read_from_start(ended);
        socket::set_int_option(self.fd, libc::SOL_SOCKET, libc::SO_PEEK_OFF, old)?;
        guard.dismiss()?;
        Ok(Some(messages?))
    }

    fn read_from_start(&mut self, ended: bool) -> Result<Vec<Peeked>> {
        let mut messages = Vec::new();
        self.go_to(0)?;
        while let Some(message) = self.peek(self.buffer.len())? {
            if message.bytes.is_empty() && (self.stream || ended) {
                break;
            }
            let (begin, len) = (self.offset, message.bytes.len());
            if self.stream && !message.files.is_empty() && len > 1 {
                messages.extend(self.split(message)?);
            } else {
                messages.push(message);
            }
            self.go_to(begin + len)?;
        }
        Ok(messages)
    }

    /// Bytes without descriptors are glued to those with them that follow; a reader of few bytes must not get
    /// the descriptors sooner than before. Peeking fewer bytes shows them all the same, so a fault must tell.
    fn split(&mut self, message: Peeked) -> Result<Vec<Peeked>> {
        self.go_to(self.offset)?;
        let room = &mut self.buffer[..message.bytes.len() - 1];
        let without = match message::receive_before_fault(self.fd, room, libc::MSG_PEEK | libc::MSG_DONTWAIT) {
            Err(e) if e.errno() == Errno::EFAULT => return Ok(vec![message]),
            got => got?.len,
        };
        let mut first = message;
        let second = first.bytes.split_off(without);
        let files = std::mem::take(&mut first.files);
        let (from, credentials) = (first.from.clone(), first.credentials);
        Ok(vec![first, Peeked { bytes: second, from, files, credentials }])
    }

    fn go_to(&mut self, offset: usize) -> Result<()> {
        self.offset = offset;
        let value = i32::try_from(offset).map_err(|_| Error::new(Kind::Unsupported, "a queue of more than 2 GiB"))?;
        Ok(socket::set_int_option(self.fd, libc::SOL_SOCKET, libc::SO_PEEK_OFF, value)?)
    }

    /// The message at the offset, or its first `limit` bytes; none at the end.
    fn peek(&mut self, limit: usize) -> Result<Option<Peeked>> {
        let mut limit = limit;
        loop {
            let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
            let got = match message::receive(self.fd, &mut self.buffer[..limit], flags) {
                // A sequenced packet's socket without a peer says ENOTCONN.
                Err(e) if matches!(e.errno(), Errno::EAGAIN | Errno::ENOTCONN) => return Ok(None),
                // It was pending, and is noted elsewhere; the queue lies behind it.
                Err(e) if e.errno() == Errno::ECONNRESET => continue,
                got => got?,
            };
            if got.flags & libc::MSG_CTRUNC != 0 {
                let hint = "raise the limit of open files (ulimit -n)";
                return Err(Error::new(Kind::System, "too many descriptors in a queue").with_hint(hint));
            }
            if self.stream || got.flags & libc::MSG_TRUNC == 0 {
                return Ok(Some(self.peeked(got)));
            }
            if limit >= MESSAGE_MAX {
                return Err(Error::new(Kind::Unsupported, "a message of more than 1 GiB"));
            }
            limit = limit.max(FIRST_BUFFER) * 4;
            self.buffer.resize(limit, 0);
            self.go_to(self.offset)?;
        }
    }

    fn peeked(&self, got: Received) -> Peeked {
        let bytes = self.buffer[..got.len].to_vec();
        let mut peeked = Peeked { bytes, from: got.address, files: Vec::new(), credentials: None };
        for piece in got.control {
            match piece {
                Control::Rights(files) => peeked.files.extend(files),
                Control::Credentials(who) => peeked.credentials = Some(who),
                // Made by the kernel for each reader from what the message bears anyway.
                Control::Process(_) | Control::Other { .. } => {}
            }
        }
        peeked
    }
}

fn store(messages: Vec<Peeked>, probe: &Probe<'_>, cx: &mut Dump<'_>) -> Result<Option<Queue>> {
    let mut contents = Vec::new();
    let mut queue = Queue::default();
    for message in messages {
        let credentials = match message.credentials.map(|who| credentials(who, cx)) {
            Some(Err(pid)) => {
                let why = format!("a message in its queue bears the credentials of pid {pid}, which is gone");
                cx.block(probe, why, "let the program read it before the checkpoint");
                return Ok(None);
            }
            Some(Ok(credentials)) => credentials,
            None => None,
        };
        let place = format!("message in {}", probe.place);
        let file = |fd| cx.describe(fd, probe, &place);
        let files: Vec<FileId> = message.files.into_iter().map(file).collect::<Result<_>>()?;
        let len = message.bytes.len() as u32;
        queue.messages.push(Message { len, from: address::unix(&message.from), files, credentials });
        contents.extend(message.bytes);
    }
    if !contents.is_empty() {
        queue.contents = Some(cx.blobs().bytes(&contents).context(|| "store a queue")?);
    }
    Ok(Some(queue))
}

/// What a message bears; none when nobody asked for credentials when it was sent. The pid when that process is gone.
fn credentials(who: message::Credentials, cx: &mut Dump<'_>) -> std::result::Result<Option<Credentials>, i32> {
    if who.pid == 0 {
        return Ok(None);
    }
    let pid = cx.container_pid(who.pid).ok_or(who.pid)?;
    Ok(Some(Credentials { pid, uid: who.uid, gid: who.gid, groups: Vec::new() }))
}
