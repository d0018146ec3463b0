//! Internet sockets without connections: UDP, UDP-Lite, ping sockets and raw sockets.
//!
//! What waits in a UDP socket's queue is put back by packets that bear the old sender's address. All else of this kind
//! that is on its way may be lost, as on any network: the queues of the others, a pending error, corked data.
//!
//! Left out: source filters of multicast groups (refused), which messages of a queue were coalesced (UDP_GRO).

mod membership;
mod packet;
mod queue;

use super::address;
use super::base::Base;
use super::sort::Sort;
use crate::error::{Context as _, Result};
use crate::files::dumping::Dump;
use crate::files::restoring::Restore;
use crate::files::{FileRef, Probe};
use crate::proc::Proc;
use membership::Membership;
use queue::Queued;
use rtc_sys::{Errno, socket};
use rustix::event::PollFlags;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

/// What a socket without connections adds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Datagram {
    /// Its own address, if it is bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<SocketAddr>,
    /// The address that it is connected to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<SocketAddr>,
    /// It was shut down for reading.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shut_for_reading: bool,
    /// The multicast groups that it joined.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<Membership>,
    /// Datagrams that it has not read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub queue: Vec<Queued>,
}

/// Whether a socket is of this kind.
pub(super) fn is(sort: Sort) -> bool {
    let protocols = [libc::IPPROTO_UDP, libc::IPPROTO_UDPLITE, libc::IPPROTO_ICMP, libc::IPPROTO_ICMPV6];
    sort.is_inet()
        && (sort.kind == libc::SOCK_RAW || sort.kind == libc::SOCK_DGRAM && protocols.contains(&sort.protocol))
}

/// First look. None when it can't be saved, which is noted.
pub(super) fn describe(probe: &Probe<'_>, sort: Sort, cx: &mut Dump<'_>) -> Result<Option<Datagram>> {
    let peer = match socket::peer_address(probe.fd) {
        Err(e) if e.errno() == Errno::ENOTCONN => None,
        peer => address::inet(&peer?),
    };
    if peer.is_none() && is_connected_without_port(probe, sort, cx.init())? {
        cx.block(probe, "it is connected to an address without a port", "let the program close it");
        return Ok(None);
    }
    let groups = match membership::of(probe.fd, sort, cx.init())? {
        Ok(groups) => groups,
        Err(group) => {
            let why = format!("it takes packets of the group {group} from some senders only");
            cx.block(probe, why, "let the program leave the group");
            return Ok(None);
        }
    };
    let local = address::inet(&socket::local_address(probe.fd)?).filter(|local| is_bound(*local, sort));
    let shut_for_reading = peer.is_some() && socket::poll_now(probe.fd)?.contains(PollFlags::RDHUP);
    Ok(Some(Datagram { local, peer, shut_for_reading, groups, queue: Vec::new() }))
}

/// A raw socket's port is its protocol, bound or not.
fn is_bound(local: SocketAddr, sort: Sort) -> bool {
    if sort.kind == libc::SOCK_RAW { !local.ip().is_unspecified() } else { local.port() != 0 }
}

/// getpeername(2) knows no peer without a port, but raw and ping sockets may have one.
fn is_connected_without_port(probe: &Probe<'_>, sort: Sort, init: i32) -> Result<bool> {
    let table = match (sort.kind, sort.protocol, sort.family) {
        (libc::SOCK_RAW, _, libc::AF_INET) => "raw",
        (libc::SOCK_RAW, ..) => "raw6",
        (_, libc::IPPROTO_ICMP, _) => "icmp",
        (_, libc::IPPROTO_ICMPV6, _) => "icmp6",
        _ => return Ok(false),
    };
    let text = Proc(init).text(&format!("net/{table}")).unwrap_or_default();
    Ok(text.lines().any(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let remote = fields.get(2).and_then(|remote| remote.split(':').next()).unwrap_or("0");
        fields.get(9) == Some(&probe.stat.st_ino.to_string().as_str()) && remote.contains(|c| c != '0')
    }))
}

/// Second look: the queue.
pub(super) fn complete(datagram: &mut Datagram, probe: &Probe<'_>, sort: Sort, cx: &mut Dump<'_>) -> Result<()> {
    // Tasks that run would meet the offset that peeking needs.
    if sort.protocol == libc::IPPROTO_UDP && sort.kind == libc::SOCK_DGRAM && !cx.check_only() {
        datagram.queue = queue::read(probe.fd, sort, cx)?;
    }
    Ok(())
}

/// A socket of the image.
#[derive(Clone, Copy)]
pub(super) struct Entry<'a> {
    pub(super) file: FileRef,
    pub(super) base: &'a Base,
    pub(super) datagram: &'a Datagram,
}

/// Makes all of them and hands them in.
pub(super) fn open(all: &[Entry<'_>], cx: &mut Restore<'_>) -> Result<()> {
    for entry in all {
        let fd = make(*entry, cx).context(|| format!("{}", entry.file.id))?;
        cx.place(entry.file.id, fd)?;
    }
    Ok(())
}

fn make(entry: Entry<'_>, cx: &Restore<'_>) -> Result<OwnedFd> {
    let Entry { base, datagram, .. } = entry;
    let fd = cx.socket(base.sort.family, base.sort.kind, base.sort.protocol)?;
    base.options.apply_early(fd.as_fd(), base.sort)?;
    if let Some(local) = datagram.local {
        // To port 0, where the number is a protocol.
        let port = if base.sort.kind == libc::SOCK_RAW { 0 } else { local.port() };
        let local = SocketAddr::new(local.ip(), port).with_scope_of(local);
        socket::bind(fd.as_fd(), &address::inet_bytes(local)).context(|| local.to_string())?;
    }
    for group in &datagram.groups {
        group.join(fd.as_fd())?;
    }
    if let Some(peer) = datagram.peer {
        socket::connect(fd.as_fd(), &address::inet_bytes(peer)).context(|| peer.to_string())?;
    }
    Ok(fd)
}

/// `SocketAddr::new` forgets the interface of a link-local address.
trait WithScope {
    fn with_scope_of(self, other: SocketAddr) -> SocketAddr;
}

impl WithScope for SocketAddr {
    fn with_scope_of(mut self, other: SocketAddr) -> SocketAddr {
        if let (SocketAddr::V6(to), SocketAddr::V6(from)) = (&mut self, other) {
            to.set_scope_id(from.scope_id());
        }
        self
    }
}

/// Fills queues, when all sockets are there.
pub(super) fn finish(all: &[Entry<'_>], cx: &mut Restore<'_>) -> Result<()> {
    for entry in all {
        let fd = cx.opened(entry.file.id)?;
        if let (Some(local), false) = (entry.datagram.local, entry.datagram.queue.is_empty()) {
            queue::put_back(fd, local, &entry.datagram.queue, cx).context(|| format!("{}", entry.file.id))?;
        }
        if entry.datagram.shut_for_reading {
            shut_for_reading(fd)?;
        }
    }
    Ok(())
}

fn shut_for_reading(fd: BorrowedFd<'_>) -> Result<()> {
    Ok(socket::shutdown(fd, libc::SHUT_RD)?)
}
