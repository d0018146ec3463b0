//! inet_diag: <linux/inet_diag.h>.

use super::Diag;
use crate::error::Result;
use crate::netlink::{Attributes, field};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// `TCP_ESTABLISHED` of <net/tcp_states.h>.
pub const ESTABLISHED: u8 = 1;
/// `TCP_SYN_SENT`
pub const SYN_SENT: u8 = 2;
/// `TCP_SYN_RECV`
pub const SYN_RECV: u8 = 3;
/// `TCP_FIN_WAIT1`
pub const FIN_WAIT1: u8 = 4;
/// `TCP_FIN_WAIT2`
pub const FIN_WAIT2: u8 = 5;
/// `TCP_TIME_WAIT`
pub const TIME_WAIT: u8 = 6;
/// `TCP_CLOSE`
pub const CLOSE: u8 = 7;
/// `TCP_CLOSE_WAIT`
pub const CLOSE_WAIT: u8 = 8;
/// `TCP_LAST_ACK`
pub const LAST_ACK: u8 = 9;
/// `TCP_LISTEN`
pub const LISTEN: u8 = 10;
/// `TCP_CLOSING`
pub const CLOSING: u8 = 11;

/// A socket of the internet families as the kernel lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inet {
    /// The inode of its description; 0 for a connection that nobody has accepted, or whose owner has closed it.
    pub inode: u32,
    /// [`ESTABLISHED`] and so on; UDP has [`ESTABLISHED`] when connected and [`CLOSE`].
    pub state: u8,
    /// Its own address; an IPv4 one in IPv6 clothes where the socket is of that family.
    pub local: SocketAddr,
    /// The other end.
    pub peer: SocketAddr,
    /// Bytes to read; listeners: connections that wait.
    pub receive: u32,
    /// Bytes not acknowledged; listeners: the backlog.
    pub send: u32,
    /// `RCV_SHUTDOWN` (1), `SEND_SHUTDOWN` (2).
    pub shutdown: u8,
    /// It has keys for TCP MD5 signatures, which nobody can read.
    pub has_md5: bool,
}

impl Diag {
    /// All sockets of the namespace with this family (`AF_INET`, `AF_INET6`) and protocol (`IPPROTO_*` below 256).
    ///
    /// # Errors
    /// `ENOENT` when the kernel has no diag for the protocol.
    pub fn inet(&mut self, family: i32, protocol: i32) -> Result<Vec<Inet>> {
        let mut request = [0; 56];
        request[0] = family as u8;
        request[1] = protocol as u8;
        request[4..8].copy_from_slice(&u32::MAX.to_ne_bytes());
        let mut list = Vec::new();
        self.dump("internet", &request, &mut |body| list.extend(parse(body)))?;
        Ok(list)
    }
}

fn parse(body: &[u8]) -> Option<Inet> {
    let word = |at| field::<4>(body, at).map(u32::from_ne_bytes);
    let port = |at| field::<2>(body, at).map(u16::from_be_bytes);
    let family = i32::from(*body.first()?);
    let interface = word(40)?;
    let address = |at, port| -> Option<SocketAddr> {
        match family {
            libc::AF_INET => Some(SocketAddr::new(IpAddr::from(field::<4>(body, at)?), port)),
            libc::AF_INET6 => {
                let ip = Ipv6Addr::from(field::<16>(body, at)?);
                // Of these the interface is part of the address.
                let scope = if ip.is_unicast_link_local() { interface } else { 0 };
                Some(SocketAddrV6::new(ip, port, 0, scope).into())
            }
            _ => None,
        }
    };
    let mut socket = Inet {
        state: *body.get(1)?,
        local: address(8, port(4)?)?,
        peer: address(24, port(6)?)?,
        receive: word(56)?,
        send: word(60)?,
        inode: word(68)?,
        shutdown: 0,
        has_md5: false,
    };
    for (kind, value) in Attributes(body.get(72..)?) {
        match kind {
            8 => socket.shutdown = *value.first()?,
            18 => socket.has_md5 = !value.is_empty(),
            _ => {}
        }
    }
    Some(socket)
}
