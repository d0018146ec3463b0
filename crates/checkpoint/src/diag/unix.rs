//! unix_diag: <linux/unix_diag.h>.

use super::Diag;
use crate::error::Result;
use crate::netlink::{Attributes, field};

/// A unix socket as the kernel lists it. Sockets without an inode (not accepted yet, or closed) are not listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unix {
    /// The inode of its description.
    pub inode: u32,
    /// `SOCK_STREAM`, `SOCK_DGRAM`, `SOCK_SEQPACKET`.
    pub kind: u8,
    /// `TCP_ESTABLISHED` (1), `TCP_CLOSE` (7), `TCP_LISTEN` (10).
    pub state: u8,
    /// `sun_path` as it was bound: a path without its terminating zero, an abstract name with its leading one.
    pub name: Option<Vec<u8>>,
    /// The peer's inode; 0 when the peer is closed or has not been accepted.
    pub peer: Option<u32>,
    /// A listener's queue: the inodes of those who connected, in the order of acceptance; 0 for one that has closed.
    pub waiting: Vec<u32>,
    /// Listeners: connections that wait. Others: bytes to read (datagrams: of the first).
    pub receive: u32,
    /// Listeners: the backlog. Others: memory of what the peer has not read.
    pub send: u32,
    /// `RCV_SHUTDOWN` (1), `SEND_SHUTDOWN` (2).
    pub shutdown: u8,
}

impl Unix {
    /// Whether it takes connections.
    pub fn is_listening(&self) -> bool {
        self.state == 10
    }
}

impl Diag {
    /// All unix sockets of the namespace.
    ///
    /// # Errors
    /// When the kernel has no unix_diag.
    pub fn unix(&mut self) -> Result<Vec<Unix>> {
        // name, peer, icons, queue lengths
        const SHOW: u32 = 0x1 | 0x4 | 0x8 | 0x10;
        let mut request = [0; 24];
        request[0] = libc::AF_UNIX as u8;
        request[4..8].copy_from_slice(&u32::MAX.to_ne_bytes());
        request[12..16].copy_from_slice(&SHOW.to_ne_bytes());
        let mut list = Vec::new();
        self.dump("unix", &request, &mut |body| list.extend(parse(body)))?;
        Ok(list)
    }
}

fn parse(body: &[u8]) -> Option<Unix> {
    let word = |bytes: &[u8], at| field::<4>(bytes, at).map(u32::from_ne_bytes);
    let mut socket = Unix { kind: *body.get(1)?, state: *body.get(2)?, inode: word(body, 4)?, ..Unix::default() };
    for (kind, value) in Attributes(body.get(16..)?) {
        match kind {
            // The kernel counts a path's terminating zero as part of the name.
            0 if value.first() != Some(&0) => socket.name = Some(value.strip_suffix(b"\0").unwrap_or(value).to_vec()),
            0 => socket.name = Some(value.to_vec()),
            2 => socket.peer = word(value, 0),
            3 => socket.waiting = value.chunks_exact(4).filter_map(|inode| word(inode, 0)).collect(),
            4 => (socket.receive, socket.send) = (word(value, 0)?, word(value, 4)?),
            6 => socket.shutdown = *value.first()?,
            _ => {}
        }
    }
    Some(socket)
}
