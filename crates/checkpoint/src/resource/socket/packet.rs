//! Packet sockets: protocol, interface, what they asked interfaces to receive.
//!
//! Left out: rings (refused), packets that nobody has read, which are lost as on any busy interface.

use super::base::{self, Base};
use crate::diag::packet::Membership;
use crate::error::{Context as _, Result};
use crate::files::dumping::Dump;
use crate::files::restoring::Restore;
use crate::files::{FileRef, Probe};
use crate::netns;
use rtc_sys::{CallExt as _, socket};
use rustix::net::netdevice::{index_to_name, name_to_index};
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

/// `PACKET_ADD_MEMBERSHIP` of <linux/if_packet.h>.
const ADD_MEMBERSHIP: i32 = 1;
/// Room for an address in `struct packet_mreq`.
const ADDRESS: usize = 8;

/// A packet socket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packet {
    /// The `ETH_P_*` that it takes; 0 for none yet.
    pub protocol: u16,
    /// The name of the interface that it is bound to, if to one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// What it asked interfaces to receive.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub memberships: Vec<Asked>,
}

/// Something that an interface was asked to receive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// The interface's name.
    pub interface: String,
    /// `PACKET_MR_*`
    pub kind: u16,
    /// The link-layer address, where the kind has one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub address: Vec<u8>,
    /// How often.
    pub count: u32,
}

/// Looks at a socket. None when it can't be saved, which is noted.
pub(super) fn describe(probe: &Probe<'_>, cx: &mut Dump<'_>) -> Result<Option<Packet>> {
    let namespace = base::container_namespace(cx)?;
    let listed = crate::diag::Diag::open(Some(namespace.as_fd()))?.packet()?;
    let listed = listed.into_iter().find(|socket| u64::from(socket.inode) == probe.stat.st_ino).unwrap_or_default();
    if listed.has_ring {
        cx.block(probe, "it has a ring of packets", "let the program close it before the checkpoint");
        return Ok(None);
    }
    let address = socket::local_address(probe.fd)?;
    // struct sockaddr_ll: family (2), protocol (2, as in the network), interface (4)
    let protocol = address.get(2..4).map_or(0, |b| u16::from_be_bytes([b[0], b[1]]));
    let index = address.get(4..8).map_or(0, |b| u32::from_ne_bytes(b.try_into().expect("four bytes")));
    let packet = netns::inside(namespace.as_fd(), || {
        let interface = if index == 0 { None } else { Some(name_of(probe.fd, index)?) };
        let asked = |m: &Membership| {
            let interface = name_of(probe.fd, m.interface)?;
            Ok(Asked { interface, kind: m.kind, address: m.address.clone(), count: m.count })
        };
        let memberships = listed.memberships.iter().map(asked).collect::<Result<_>>()?;
        Ok(Packet { protocol, interface, memberships })
    })?;
    Ok(Some(packet))
}

fn name_of(fd: BorrowedFd<'_>, index: u32) -> Result<String> {
    Ok(index_to_name(fd, index).call("ioctl", format_args!("SIOCGIFNAME, {index}"))?)
}

/// A socket of the image.
#[derive(Clone, Copy)]
pub(super) struct Entry<'a> {
    pub(super) file: FileRef,
    pub(super) base: &'a Base,
    pub(super) packet: &'a Packet,
}

/// Makes all of them and hands them in.
pub(super) fn open(all: &[Entry<'_>], cx: &mut Restore<'_>) -> Result<()> {
    for entry in all {
        let fd = make(*entry).context(|| format!("{}", entry.file.id))?;
        cx.place(entry.file.id, fd)?;
    }
    Ok(())
}

fn make(Entry { base, packet, .. }: Entry<'_>) -> Result<OwnedFd> {
    // Without a protocol it takes nothing before it is bound.
    let fd = socket::create(base.sort.family, base.sort.kind, 0)?;
    base.options.apply_early(fd.as_fd(), base.sort)?;
    let index = |name: &String| name_to_index(&fd, name).call("ioctl", format_args!("SIOCGIFINDEX, {name}"));
    for asked in &packet.memberships {
        // struct packet_mreq: interface, kind, length of the address, address
        let mut request = index(&asked.interface)?.to_ne_bytes().to_vec();
        request.extend(asked.kind.to_ne_bytes());
        request.extend((asked.address.len().min(ADDRESS) as u16).to_ne_bytes());
        request.extend(asked.address.iter().take(ADDRESS));
        request.resize(8 + ADDRESS, 0);
        for _ in 0..asked.count.min(1000) {
            socket::set_option(fd.as_fd(), libc::SOL_PACKET, ADD_MEMBERSHIP, &request)?;
        }
    }
    if packet.protocol != 0 || packet.interface.is_some() {
        let index = packet.interface.as_ref().map(index).transpose()?.unwrap_or(0);
        let mut address = (libc::AF_PACKET as u16).to_ne_bytes().to_vec();
        address.extend(packet.protocol.to_be_bytes());
        address.extend(index.to_ne_bytes());
        address.resize(20, 0);
        socket::bind(fd.as_fd(), &address).context(|| "bind")?;
    }
    Ok(fd)
}
