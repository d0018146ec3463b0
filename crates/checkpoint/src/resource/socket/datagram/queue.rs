//! Datagrams that nobody has read: looked at without being taken, and put back.
//!
//! `MSG_PEEK` shows the first; `SO_PEEK_OFF` lets it go on from there. Both belong to the socket, as does the option
//! that tells where a datagram was sent to; they are put back at once, by a guard if we are killed meanwhile.
//! Known loss: an empty datagram is not seen by a second dump of the same queue (`skb->peeked`).

use super::packet;
use crate::error::{Context as _, Result, bad_image};
use crate::files::dumping::Dump;
use crate::files::restoring::Restore;
use crate::image::blob::Blob;
use crate::resource::socket::address;
use crate::resource::socket::sort::Sort;
use rtc_sys::guard::{Guard, Undo};
use rtc_sys::message::{self, Control, Extra};
use rtc_sys::{Errno, socket};
use rustix::event::PollFlags;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

/// No datagram is longer.
const LONGEST: usize = 65_535;
/// `IP_RECVORIGDSTADDR`, `IPV6_RECVORIGDSTADDR`: where a datagram was sent to.
const DESTINATIONS: [(i32, i32); 2] = [(libc::IPPROTO_IP, 20), (libc::IPPROTO_IPV6, 74)];
/// Room for whatever is put back; the buffer's own size is set afterwards.
const BUFFER: i32 = 1 << 29;
/// Seconds in which a packet comes back from our own loopback interface.
const PATIENCE: i64 = 1;

/// A datagram in a queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queued {
    /// Who sent it.
    pub from: SocketAddr,
    /// Where to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<SocketAddr>,
    /// Its bytes, if it has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contents: Option<Blob>,
}

/// Reads a UDP socket's queue.
pub(super) fn read(fd: BorrowedFd<'_>, sort: Sort, cx: &mut Dump<'_>) -> Result<Vec<Queued>> {
    if !socket::poll_now(fd)?.contains(PollFlags::IN) {
        return Ok(Vec::new());
    }
    let v6 = sort.family == libc::AF_INET6;
    let mut undo = Vec::new();
    let peek_off = (libc::SOL_SOCKET, libc::SO_PEEK_OFF);
    for (level, name) in [peek_off].into_iter().chain(DESTINATIONS[..if v6 { 2 } else { 1 }].iter().copied()) {
        undo.push(Undo { socket: fd, level, name, value: socket::int_option(fd, level, name)? });
    }
    let guard = Guard::start(&undo)?;
    let peeked = undo[1..].iter().try_for_each(|o| socket::set_int_option(fd, o.level, o.name, 1));
    let peeked = peeked.map_err(Into::into).and_then(|()| peek(fd));
    for Undo { level, name, value, .. } in &undo {
        socket::set_int_option(fd, *level, *name, *value)?;
    }
    guard.dismiss()?;
    let store = |(from, to, bytes): Peeked| {
        let contents =
            if bytes.is_empty() { None } else { Some(cx.blobs().bytes(&bytes).context(|| "store a queue")?) };
        Ok(Queued { from, to, contents })
    };
    peeked?.into_iter().map(store).collect()
}

/// From, to, bytes.
type Peeked = (SocketAddr, Option<SocketAddr>, Vec<u8>);

fn peek(fd: BorrowedFd<'_>) -> Result<Vec<Peeked>> {
    let mut all = Vec::new();
    let mut buffer = vec![0; LONGEST];
    // The offset moves on by itself with each look.
    socket::set_int_option(fd, libc::SOL_SOCKET, libc::SO_PEEK_OFF, 0)?;
    // An error that was pending is shown once, in place of a datagram.
    let mut errors = 0;
    loop {
        match message::receive(fd, &mut buffer, libc::MSG_PEEK | libc::MSG_DONTWAIT) {
            Ok(got) => {
                let to = got.control.iter().find_map(destination);
                let Some(from) = address::inet(&got.address) else { continue };
                all.push((from, to, buffer[..got.len].to_vec()));
            }
            Err(e) if e.errno() == Errno::EAGAIN => return Ok(all),
            Err(_) if errors == 0 => errors += 1,
            Err(e) => return Err(e.into()),
        }
    }
}

fn destination(control: &Control) -> Option<SocketAddr> {
    match control {
        Control::Other { level, kind, data } if DESTINATIONS.contains(&(*level, *kind)) => address::inet(data),
        _ => None,
    }
}

/// Sends the datagrams to a socket bound to `local`, as if from whom they came. One that doesn't arrive is lost with a
/// warning: the container's new network may not have the address that it was sent to.
pub(super) fn put_back(fd: BorrowedFd<'_>, local: SocketAddr, queue: &[Queued], cx: &Restore<'_>) -> Result<()> {
    socket::set_int_option(fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, BUFFER)?;
    let mut lost = 0;
    for queued in queue {
        let contents = queued.contents.map(|blob| cx.env().blobs.bytes(blob, LONGEST)).transpose()?.unwrap_or_default();
        let from = plain(queued.from);
        let to = target(local, queued.to.map(plain), from);
        let packet = packet::udp(from, to, &contents);
        let packet =
            packet.ok_or_else(|| bad_image(format!("a datagram of {} bytes from {from} to {to}", contents.len())))?;
        lost += usize::from(send(to, &packet).is_err());
    }
    if lost > 0 || !socket::poll_until(fd, PollFlags::IN, PATIENCE)? {
        log::warn!("datagrams that waited at {local} are lost: they can't be sent in the container's network");
    }
    Ok(())
}

/// An IPv4 address in IPv6's clothes is one of IPv4.
fn plain(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) => v6.ip().to_ipv4_mapped().map_or(address, |ip| SocketAddr::new(ip.into(), v6.port())),
        SocketAddr::V4(_) => address,
    }
}

/// Where a datagram goes: to where it went, if that address is still the container's, or another that reaches `local`.
fn target(local: SocketAddr, to: Option<SocketAddr>, from: SocketAddr) -> SocketAddr {
    let local = plain(local);
    let kept = to.filter(|to| to.is_ipv4() == from.is_ipv4() && is_ours(*to));
    let bound = (!local.ip().is_unspecified() && local.is_ipv4() == from.is_ipv4()).then_some(local);
    let loopback: IpAddr = if from.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
    let mut to = kept.or(bound).unwrap_or_else(|| SocketAddr::new(loopback, 0));
    to.set_port(local.port());
    to
}

/// Whether an address is one of this network namespace's: only then can a socket be bound to it.
fn is_ours(address: SocketAddr) -> bool {
    let mut address = address;
    address.set_port(0);
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let multicast = address.ip().is_multicast();
    let bound = socket::create(family, libc::SOCK_DGRAM, 0)
        .and_then(|fd| socket::bind(fd.as_fd(), &address::inet_bytes(address)));
    !multicast && bound.is_ok()
}

fn send(to: SocketAddr, packet: &[u8]) -> Result<()> {
    let family = if to.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let raw: OwnedFd = socket::create(family, libc::SOCK_RAW, libc::IPPROTO_RAW)?;
    let mut to = to;
    to.set_port(0);
    message::send(raw.as_fd(), packet, Extra { address: &address::inet_bytes(to), ..Extra::default() }, 0)?;
    Ok(())
}
