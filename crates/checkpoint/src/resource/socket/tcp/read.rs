//! Reads connections in repair mode, and switches it off again.
//!
//! Tasks don't run, but packets do: bytes that are on their way between two ends here can arrive meanwhile.
//! So all send queues are read before all receive queues; see [`super`].

use super::repair::{self, Info, Queue};
use super::{Phase, Window};
use crate::diag::inet as states;
use crate::error::{Context as _, Result};
use crate::{Error, Kind};
use rtc_sys::guard::{Guard, Undo};
use rtc_sys::{message, socket};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

/// The kernel copies whole pieces of the queue, also what is acknowledged of the first.
const ONE_PIECE: usize = 256 << 10;

/// How often bytes may come in while they are read: much more than a sender's buffer holds.
const ATTEMPTS: u32 = 10_000;

/// A connection to be read.
pub(super) struct Reading {
    pub(super) fd: OwnedFd,
    /// Options that reading changes.
    reuse: i32,
    peek_offset: i32,
    pub(super) sent: Bytes,
    pub(super) received: Bytes,
    /// Bytes at the end of `sent` that were not sent yet.
    pub(super) unsent: u32,
    pub(super) segment: u32,
    pub(super) timestamp: u32,
    pub(super) window: Window,
    /// As it was when all was read.
    pub(super) info: Info,
}

/// The contents of a queue.
#[derive(Default)]
pub(super) struct Bytes {
    /// The sequence number of the first byte.
    pub(super) sequence: u32,
    pub(super) contents: Vec<u8>,
}

impl Reading {
    pub(super) fn new(fd: OwnedFd, info: Info) -> Result<Self> {
        let reuse = repair::reuse(fd.as_fd())?;
        // TCP has it since Linux 6.9.
        let peek_offset = socket::int_option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_PEEK_OFF).unwrap_or(-1);
        Ok(Self {
            fd,
            reuse,
            peek_offset,
            sent: Bytes::default(),
            received: Bytes::default(),
            unsent: 0,
            segment: 0,
            timestamp: 0,
            window: Window::default(),
            info,
        })
    }

    /// How far the connection has been closed; none when it is over.
    pub(super) fn phase(&self) -> Option<Phase> {
        phase(self.info)
    }

    /// The socket and its `SO_REUSEADDR`.
    pub(super) fn into_held(self) -> (OwnedFd, i32) {
        (self.fd, self.reuse)
    }

    fn undo(&self) -> Vec<Undo<'_>> {
        let mut list = repair::undo(self.fd.as_fd(), self.reuse).to_vec();
        if self.peek_offset >= 0 {
            list.push(Undo {
                socket: self.fd.as_fd(),
                level: libc::SOL_SOCKET,
                name: libc::SO_PEEK_OFF,
                value: self.peek_offset,
            });
        }
        list
    }

    fn begin(&mut self) -> Result<()> {
        repair::on(self.fd.as_fd())?;
        if self.peek_offset >= 0 {
            socket::set_int_option(self.fd.as_fd(), libc::SOL_SOCKET, libc::SO_PEEK_OFF, -1)?;
        }
        Ok(())
    }

    fn read_sent(&mut self) -> Result<()> {
        let fd = self.fd.as_fd();
        repair::select(fd, Queue::Send)?;
        let end = repair::sequence(fd)?;
        let mut contents = vec![0; socket::queue_length(fd, socket::SIOCOUTQ)? + ONE_PIECE];
        let len = peek(fd, &mut contents)?;
        contents.truncate(len);
        // After the peeking: what was acknowledged meanwhile is at the beginning, and is left out.
        let waiting = socket::queue_length(fd, socket::SIOCOUTQ)?;
        let unsent = socket::queue_length(fd, socket::SIOCOUTQNSD)?;
        repair::select(fd, Queue::None)?;
        let said_fin = phase(Info::of(fd)?).is_some_and(Phase::has_sent);
        let fin = usize::from(waiting > 0 && said_fin);
        let data = waiting - fin;
        if data > len {
            return Err(Error::new(Kind::System, format!("{len} bytes in a send queue of {data}")));
        }
        contents.drain(..len - data);
        // A FIN, acknowledged or not, has the last number.
        let sequence = end.wrapping_sub(u32::from(said_fin)).wrapping_sub(data as u32);
        self.sent = Bytes { sequence, contents };
        self.unsent = unsent.saturating_sub(fin).min(data) as u32;
        Ok(())
    }

    fn read_received(&mut self) -> Result<()> {
        let fd = self.fd.as_fd();
        repair::select(fd, Queue::Receive)?;
        let (end, contents) = stable(fd)?;
        self.info = Info::of(fd)?;
        // If the FIN has come only now, it is as if it had not: the other end has it still to say, or says it again.
        let fin = u32::from(repair::sequence(fd)? == end && self.phase().is_some_and(Phase::has_received));
        let sequence = end.wrapping_sub(fin).wrapping_sub(contents.len() as u32);
        self.received = Bytes { sequence, contents };
        self.segment = repair::segment(fd)?;
        self.timestamp = repair::timestamp(fd)?;
        self.window = repair::window(fd)?;
        repair::select(fd, Queue::None)
    }

    fn end(&mut self) -> Result<()> {
        repair::off(self.fd.as_fd())?;
        repair::set_reuse(self.fd.as_fd(), self.reuse)?;
        if self.peek_offset >= 0 {
            socket::set_int_option(self.fd.as_fd(), libc::SOL_SOCKET, libc::SO_PEEK_OFF, self.peek_offset)?;
        }
        Ok(())
    }
}

/// The sequence number behind the last byte received, and all bytes before it: nothing has come in between.
fn stable(fd: BorrowedFd<'_>) -> Result<(u32, Vec<u8>)> {
    for _ in 0..ATTEMPTS {
        let end = repair::sequence(fd)?;
        let mut contents = vec![0; socket::queue_length(fd, socket::SIOCINQ)?];
        let len = if contents.is_empty() { 0 } else { peek(fd, &mut contents)? };
        if repair::sequence(fd)? == end {
            if len < contents.len() {
                let message = format!("{len} bytes in a receive queue of {}", contents.len());
                return Err(Error::new(Kind::System, message));
            }
            return Ok((end, contents));
        }
    }
    Err(Error::new(Kind::System, "bytes keep coming in"))
}

fn phase(info: Info) -> Option<Phase> {
    Some(match info.state {
        states::ESTABLISHED => Phase::Established,
        states::FIN_WAIT1 => Phase::FinWait1,
        states::FIN_WAIT2 => Phase::FinWait2,
        states::CLOSE_WAIT => Phase::CloseWait,
        states::LAST_ACK => Phase::LastAck,
        states::CLOSING => Phase::Closing,
        _ => return None,
    })
}

fn peek(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize> {
    Ok(message::receive(fd, buffer, libc::MSG_PEEK | libc::MSG_DONTWAIT)?.len)
}

/// The steps, each for all connections before the next.
const STEPS: &[fn(&mut Reading) -> Result<()>] =
    &[Reading::begin, Reading::read_sent, Reading::read_received, Reading::end];

/// Reads all connections. Afterwards they are as they were, also if it fails or we are killed.
pub(super) fn read(list: &mut [Reading]) -> Result<()> {
    if list.is_empty() {
        return Ok(());
    }
    let guard = Guard::start(&list.iter().flat_map(Reading::undo).collect::<Vec<_>>())?;
    for step in STEPS {
        for reading in &mut *list {
            step(reading)?;
        }
    }
    guard.dismiss().context(|| "end the guard of TCP connections")
}
