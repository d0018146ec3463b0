//! Finds the other ends of connections, and who waits to be accepted.

use super::Other;
use super::repair::Info;
use crate::diag::Diag;
use crate::diag::inet::{self, Inet};
use crate::error::Result;
use crate::netns;
use rtc_sys::socket;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd as _, BorrowedFd};

/// `TCP_SYN_RECV`, `TCP_NEW_SYN_RECV`
const ANSWERING: [u8; 2] = [inet::SYN_RECV, 12];

/// A TCP socket of the dump, as far as it matters to others.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    pub(super) inode: u64,
    pub(super) info: Info,
    pub(super) local: SocketAddr,
    pub(super) peer: Option<SocketAddr>,
    /// Bytes not acknowledged, a SYN or FIN included.
    pub(super) queued: u32,
}

/// All connections of a network namespace, by their two addresses.
pub(super) struct Ends<'a> {
    namespace: BorrowedFd<'a>,
    listed: BTreeMap<(SocketAddr, SocketAddr), Inet>,
    ours: BTreeMap<(SocketAddr, SocketAddr), u64>,
    listeners: Vec<Listener>,
    /// Whether an address is the namespace's own, as far as it was asked.
    local: BTreeMap<IpAddr, bool>,
}

struct Listener {
    inode: u64,
    local: SocketAddr,
    /// Connections in its queue that have not been found yet.
    unknown: u32,
}

/// What was found of a connection's other end.
pub(super) struct Found {
    pub(super) other: Other,
    /// Bytes that are in its queues: received there, on the way from there.
    pub(super) held: (u32, u32),
    /// It is a socket of this network namespace, though not of the container: of another in the same pod.
    pub(super) near: bool,
}

impl<'a> Ends<'a> {
    pub(super) fn new(namespace: BorrowedFd<'a>, all: &[End]) -> Result<Self> {
        let mut diag = Diag::open(Some(namespace))?;
        let mut listed = BTreeMap::new();
        for family in [libc::AF_INET, libc::AF_INET6] {
            let list = diag.inet(family, libc::IPPROTO_TCP)?;
            listed.extend(list.into_iter().map(|s| ((plain(s.local), plain(s.peer)), s)));
        }
        let connected = |end: &End| Some(((plain(end.local), plain(end.peer?)), end.inode));
        let listener = |end: &End| Listener { inode: end.inode, local: plain(end.local), unknown: end.info.waiting };
        Ok(Self {
            namespace,
            listed,
            ours: all.iter().filter_map(connected).collect(),
            listeners: all.iter().filter(|end| end.info.is_listening()).map(listener).collect(),
            local: BTreeMap::new(),
        })
    }

    /// Whether the kernel lists MD5 keys for the socket with these addresses.
    pub(super) fn has_md5(&self, end: &End) -> bool {
        let any = SocketAddr::new(IpAddr::from([0, 0, 0, 0]), 0);
        let any6 = SocketAddr::new(IpAddr::from([0; 16]), 0);
        let peers = end.peer.map_or(vec![any, any6], |peer| vec![plain(peer)]);
        let listed = |peer| self.listed.get(&(plain(end.local), peer));
        peers.into_iter().filter_map(listed).any(|socket| socket.has_md5)
    }

    /// Whether `end` was shut down for reading, by either side.
    pub(super) fn is_shut_for_reading(&self, local: SocketAddr, peer: SocketAddr) -> bool {
        self.listed.get(&(plain(local), plain(peer))).is_some_and(|socket| socket.shutdown & 1 != 0)
    }

    /// The other end of the connection from `local`, in `state`, to `peer`.
    pub(super) fn other(&mut self, local: SocketAddr, state: u8, peer: SocketAddr) -> Result<Found> {
        let key = (plain(peer), plain(local));
        if let Some(inode) = self.ours.get(&key) {
            return Ok(Found { other: Other::Inside(*inode), held: (0, 0), near: false });
        }
        let Some(listed) = self.listed.get(&key).cloned() else {
            // Who has not said FIN may be elsewhere: packets to an address of ours may be translated (a published port).
            let said_fin = matches!(state, inet::CLOSE_WAIT | inet::LAST_ACK | inet::CLOSING);
            let here = plain_ip(peer.ip()).is_loopback() || said_fin && self.is_local(peer.ip())?;
            let other = if here { Other::Gone } else { Other::Outside };
            return Ok(Found { other, held: (0, 0), near: false });
        };
        // A FIN counts as a byte.
        let fin = u32::from(listed.state == inet::CLOSE_WAIT);
        let held = (listed.receive.saturating_sub(fin), listed.send);
        let answering = ANSWERING.contains(&listed.state);
        let pending = matches!(listed.state, inet::ESTABLISHED | inet::CLOSE_WAIT) || answering;
        let other = match listed.inode {
            0 if pending => self.listener(key.0, !answering).map_or(Other::Outside, Other::Waiting),
            0 => Other::Gone,
            _ => Other::Outside,
        };
        Ok(Found { other, held, near: other == Other::Outside })
    }

    /// The listener of ours in whose queue a connection to `address` waits; `counted` among those that it has.
    fn listener(&mut self, address: SocketAddr, counted: bool) -> Option<u64> {
        let serves = |l: &&mut Listener| {
            l.local.port() == address.port() && (l.local.ip() == address.ip() || l.local.ip().is_unspecified())
        };
        // Of several with one address (SO_REUSEPORT), one that still has room for it.
        let mut fitting: Vec<&mut Listener> = self.listeners.iter_mut().filter(serves).collect();
        fitting.sort_by_key(|l| l.unknown == 0);
        let listener = fitting.into_iter().next()?;
        listener.unknown = listener.unknown.saturating_sub(u32::from(counted));
        Some(listener.inode)
    }

    /// How many connections in a listener's queue come from nowhere in the container.
    pub(super) fn strangers(&self, listener: u64) -> u32 {
        self.listeners.iter().find(|l| l.inode == listener).map_or(0, |l| l.unknown)
    }

    /// Whether an address is one of the namespace's own.
    fn is_local(&mut self, ip: IpAddr) -> Result<bool> {
        if let Some(known) = self.local.get(&ip) {
            return Ok(*known);
        }
        let is_local = self.can_bind(ip)?;
        self.local.insert(ip, is_local);
        Ok(is_local)
    }

    fn can_bind(&self, ip: IpAddr) -> Result<bool> {
        let family = if plain_ip(ip).is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        let address = crate::resource::socket::address::inet_bytes(SocketAddr::new(plain_ip(ip), 0));
        netns::inside(self.namespace, || {
            let probe = socket::create(family, libc::SOCK_DGRAM, 0)?;
            Ok(socket::bind(probe.as_fd(), &address).is_ok())
        })
    }
}

fn plain_ip(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}

/// An address without IPv6 clothes, scope and flow.
pub(super) fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(plain_ip(address.ip()), address.port())
}
