//! TCP sockets: listeners, connections in every state, and what is left of them.
//!
//! A connection is saved and made anew in repair mode (tcp(7) `TCP_REPAIR`), where its sequence numbers and queues can
//! be read and written. Between two ends in the container nothing else is needed, no lock and no flag:
//! all send queues are read before all receive queues, so a byte that moves meanwhile is seen twice and never missed,
//! and restore gives each byte to one of the two. An end outside needs `--tcp-established`, and the lock of
//! [`crate::netlock`], for nothing may be acknowledged after it was read.
//!
//! What an end has received that nobody has accepted yet can be read by accepting it only. That is done as the last
//! thing before the container is killed; otherwise such a connection is refused, or left out.
//!
//! The kernel offers no way to put back: explicit congestion notification, the round trip estimate, the order of
//! connections that wait to be accepted (that of their making is taken), a reuseport program, MD5 keys.

pub(super) mod dump;
mod ends;
mod finish;
mod ghost;
mod held;
mod read;
mod repair;
pub(super) mod restore;

use crate::image::blob::Blob;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

pub(super) use finish::finish;
pub(super) use restore::open;

/// A TCP socket.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Tcp {
    /// Its own address; port 0 when it is not bound.
    pub local: SocketAddr,
    /// The largest segment size that was asked for (`TCP_MAXSEG`), before a connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segment: Option<u32>,
    /// What it does.
    pub state: State,
}

impl Tcp {
    fn connection(&self) -> Option<&Connection> {
        match &self.state {
            State::Connected(connection) => Some(connection),
            _ => None,
        }
    }
}

/// What a TCP socket does.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Nothing yet.
    Closed,
    /// Its connection is over.
    Ended {
        /// How, if nobody was told yet.
        error: Option<Failure>,
        /// What it has not read.
        received: Option<Blob>,
    },
    /// It takes connections.
    Listening {
        /// As given to listen(2).
        backlog: u32,
        /// The inode numbers of those who connected and wait.
        waiting: Vec<u64>,
    },
    /// It waits for an answer to its SYN.
    Connecting {
        /// From here.
        peer: SocketAddr,
    },
    /// It is or was connected.
    Connected(Box<Connection>),
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// `ECONNREFUSED`
    Refused,
    /// `ECONNRESET`. Others (`ETIMEDOUT`) can't be told from it without taking them.
    Reset,
}

/// Where the other end of a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Other {
    /// It is the socket with this inode number.
    Inside(u64),
    /// The listener with this inode number has not accepted it yet.
    Waiting(u64),
    /// It was here and is closed.
    Gone,
    /// It is out of the container.
    Outside,
}

/// How far a connection has been closed: the states of RFC 9293.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Not at all.
    Established,
    /// This end has said FIN.
    FinWait1,
    /// And the other has acknowledged it.
    FinWait2,
    /// The other end has said FIN.
    CloseWait,
    /// And then this end.
    LastAck,
    /// Both have, before they heard the other.
    Closing,
}

impl Phase {
    /// This end has said FIN.
    fn has_sent(self) -> bool {
        matches!(self, Self::FinWait1 | Self::FinWait2 | Self::LastAck | Self::Closing)
    }

    /// The other end has said FIN.
    fn has_received(self) -> bool {
        matches!(self, Self::CloseWait | Self::LastAck | Self::Closing)
    }
}

/// A connection.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Connection {
    /// The address of the other end.
    pub peer: SocketAddr,
    /// Where the other end is.
    pub other: Other,
    /// How far it has been closed.
    pub phase: Phase,
    /// What it has received and not read.
    pub received: Half,
    /// What it has sent and the other end has not acknowledged.
    pub sent: Half,
    /// What the other end has received, which nobody has accepted yet: the first of it may be in `sent`, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken: Option<Half>,
    /// How many bytes at the end of `sent` were never sent.
    pub unsent: u32,
    /// The largest segment that the other end takes.
    pub segment: u32,
    /// Window scales, for what it sends and what it receives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<(u8, u8)>,
    /// Selective acknowledgements were agreed upon.
    #[serde(default)]
    pub sack: bool,
    /// The clock of its time stamps, if these were agreed upon; in units of the kernel's (`TCP_TIMESTAMP`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<u32>,
    /// The windows.
    pub window: Window,
    /// It was shut down for reading (shutdown(2) with `SHUT_RD`).
    #[serde(default)]
    pub shut_for_reading: bool,
}

/// One direction of a connection.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Half {
    /// The sequence number of the first byte of `contents`.
    pub sequence: u32,
    /// The bytes, if any.
    pub contents: Option<Blob>,
}

/// A connection's windows: `struct tcp_repair_window`. The first three are of sending.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// The sequence number of the segment that changed it last.
    pub snd_wl1: u32,
    /// Its size.
    pub snd_wnd: u32,
    /// The largest size it ever had.
    pub max_window: u32,
    /// The size of the window of receiving.
    pub rcv_wnd: u32,
    /// Where it began when that was last said.
    pub rcv_wup: u32,
}
