//! A stream socket of ttrpc that never blocks: what has come in, and what still has to go out.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use rustix::event::PollFlags;

use crate::frame::{self, Frame};

/// One side of a connection.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: UnixStream,
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
    ended: bool,
}

impl Connection {
    pub(crate) fn new(stream: UnixStream) -> std::io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self { stream, incoming: Vec::new(), outgoing: Vec::new(), ended: false })
    }

    /// What to wait for.
    pub(crate) fn interest(&self) -> PollFlags {
        if self.outgoing.is_empty() { PollFlags::IN } else { PollFlags::IN | PollFlags::OUT }
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// Whether the other side is gone, or speaks another protocol.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    pub(crate) fn has_all_sent(&self) -> bool {
        self.ended || self.outgoing.is_empty()
    }

    /// Sends, now or when there is room.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.outgoing.extend(bytes);
        self.flush();
    }

    /// Sends what there is room for.
    pub(crate) fn flush(&mut self) {
        while !self.outgoing.is_empty() {
            match self.stream.write(&self.outgoing) {
                Ok(count) => drop(self.outgoing.drain(..count)),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => {
                    self.ended = true;
                    return;
                }
            }
        }
        self.outgoing.shrink_to(4096);
    }

    /// Reads what has come in: the whole frames in it.
    pub(crate) fn receive(&mut self) -> Vec<Frame> {
        let mut buffer = [0; 4096];
        // What is left is read the next time: a flood must not fill the memory before its frames are looked at.
        for _ in 0..16 {
            match self.stream.read(&mut buffer) {
                Ok(0) => self.ended = true,
                Ok(count) => {
                    self.incoming.extend(&buffer[..count]);
                    continue;
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(_) => self.ended = true,
            }
            break;
        }
        let mut frames = Vec::new();
        loop {
            match frame::take(&mut self.incoming) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => return frames,
                Err(_) => {
                    self.ended = true;
                    return frames;
                }
            }
        }
    }
}
