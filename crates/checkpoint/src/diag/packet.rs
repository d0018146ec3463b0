//! packet_diag: <linux/packet_diag.h>.

use super::Diag;
use crate::error::Result;
use crate::netlink::{Attributes, field};

/// A packet socket as the kernel lists it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packet {
    /// The inode of its description.
    pub inode: u32,
    /// A ring is set up, and perhaps mapped.
    pub has_ring: bool,
    /// Multicast, promiscuous or all-multicast memberships.
    pub memberships: Vec<Membership>,
}

/// What a packet socket asks an interface to receive: `struct packet_mreq`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Membership {
    /// The interface's number.
    pub interface: u32,
    /// `PACKET_MR_MULTICAST`, `PACKET_MR_PROMISC`, …
    pub kind: u16,
    /// The link-layer address, where the kind has one.
    pub address: Vec<u8>,
    /// How often the socket asked.
    pub count: u32,
}

impl Diag {
    /// All packet sockets of the namespace.
    ///
    /// # Errors
    /// `ENOENT` when the kernel has no packet_diag.
    pub fn packet(&mut self) -> Result<Vec<Packet>> {
        // memberships, rings
        const SHOW: u32 = 0x2 | 0x4;
        let mut request = [0; 20];
        request[0] = libc::AF_PACKET as u8;
        request[8..12].copy_from_slice(&SHOW.to_ne_bytes());
        let mut list = Vec::new();
        self.dump("packet", &request, &mut |body| list.extend(parse(body)))?;
        Ok(list)
    }
}

fn parse(body: &[u8]) -> Option<Packet> {
    let mut socket = Packet { inode: field::<4>(body, 4).map(u32::from_ne_bytes)?, ..Packet::default() };
    for (kind, value) in Attributes(body.get(16..)?) {
        match kind {
            1 => socket.memberships = value.chunks_exact(44).filter_map(membership).collect(),
            2 | 3 => socket.has_ring = true,
            _ => {}
        }
    }
    Some(socket)
}

/// `struct packet_diag_mclist`: index (4), count (4), type (2), length (2), address (32).
fn membership(bytes: &[u8]) -> Option<Membership> {
    let len = usize::from(field(bytes, 10).map(u16::from_ne_bytes)?);
    Some(Membership {
        interface: field(bytes, 0).map(u32::from_ne_bytes)?,
        count: field(bytes, 4).map(u32::from_ne_bytes)?,
        kind: field(bytes, 8).map(u16::from_ne_bytes)?,
        address: bytes.get(12..12 + len)?.to_vec(),
    })
}
