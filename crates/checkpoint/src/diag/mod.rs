//! sock_diag(7): what the kernel tells of a network namespace's sockets without a descriptor of them.
//!
//! Needed for what getsockopt does not tell: who a unix socket's peer is, connections that nobody has accepted yet,
//! and which ends of a connection are in the same namespace.
//! Numbers are the kernel's; lists are as long as the namespace has sockets.

pub mod inet;
pub mod packet;
pub mod unix;

use crate::error::{Context as _, Result};
use crate::netlink::{self, Connection, Message};
use std::os::fd::BorrowedFd;

/// `SOCK_DIAG_BY_FAMILY` of <linux/sock_diag.h>.
const SOCK_DIAG_BY_FAMILY: u16 = 20;

/// A `NETLINK_SOCK_DIAG` socket in one network namespace.
#[derive(Debug)]
pub struct Diag(Connection);

impl Diag {
    /// Opens it in the network namespace given, or in ours.
    ///
    /// # Errors
    /// When the namespace can't be entered.
    pub fn open(namespace: Option<BorrowedFd<'_>>) -> Result<Self> {
        Ok(Self(netlink::open(libc::NETLINK_SOCK_DIAG, namespace).context(|| "sock_diag")?))
    }

    /// Dumps with the request `fixed`; `each` gets the body of every answer.
    fn dump(&mut self, what: &str, fixed: &[u8], each: &mut dyn FnMut(&[u8])) -> Result<()> {
        let mut message = Message::default();
        message.begin(SOCK_DIAG_BY_FAMILY, libc::NLM_F_DUMP as u16, self.0.sequence()).fixed(fixed);
        self.0.dump(message.bytes(), each).context(|| format!("list the {what} sockets"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rtc_sys::socket;
    use std::os::fd::{AsFd, AsRawFd};

    fn inode(fd: impl AsFd) -> u64 {
        rustix::fs::fstat(fd).unwrap().st_ino
    }

    #[test]
    fn ends_of_a_pair_are_each_others_peer() {
        let (a, b) = socket::pair(libc::SOCK_STREAM).unwrap();
        let list = Diag::open(None).unwrap().unix().unwrap();
        let find = |fd: &std::os::fd::OwnedFd| list.iter().find(|s| u64::from(s.inode) == inode(fd)).unwrap().clone();
        assert_eq!(find(&a).peer.map(u64::from), Some(inode(&b)));
        assert_eq!(find(&b).peer.map(u64::from), Some(inode(&a)));
        assert_eq!((find(&a).kind, find(&a).name), (libc::SOCK_STREAM as u8, None));
    }

    #[test]
    fn a_listener_names_those_who_wait() {
        let directory = std::env::temp_dir().join(format!("sockets-diag-{}", std::process::id()));
        let listener = std::os::unix::net::UnixListener::bind(&directory).unwrap();
        let client = std::os::unix::net::UnixStream::connect(&directory).unwrap();
        let list = Diag::open(None).unwrap().unix().unwrap();
        std::fs::remove_file(&directory).unwrap();
        let listener = list.iter().find(|s| u64::from(s.inode) == inode(&listener)).unwrap();
        assert_eq!(listener.waiting.iter().map(|&i| u64::from(i)).collect::<Vec<_>>(), [inode(&client)]);
        assert_eq!(listener.name.as_deref(), Some(directory.as_os_str().as_encoded_bytes()));
        assert!(listener.is_listening());
    }

    #[test]
    fn a_connection_nobody_accepted_has_no_inode() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let list = Diag::open(None).unwrap().inet(libc::AF_INET, libc::IPPROTO_TCP).unwrap();
        let server =
            list.iter().find(|s| s.local == client.peer_addr().unwrap() && s.peer == client.local_addr().unwrap());
        assert_eq!(server.map(|s| (s.inode, s.state)), Some((0, inet::ESTABLISHED)));
        let end = list.iter().find(|s| u64::from(s.inode) == inode(&client)).unwrap();
        assert_eq!(end.local, client.local_addr().unwrap());
    }

    #[test]
    fn a_ring_is_seen() {
        // struct tpacket_req: block size, blocks, frame size, frames
        let ring: Vec<u8> = [4096_u32, 1, 2048, 2].iter().flat_map(|n| n.to_ne_bytes()).collect();
        let plain = socket::create(libc::AF_PACKET, libc::SOCK_RAW, 0).unwrap();
        let ringed = socket::create(libc::AF_PACKET, libc::SOCK_RAW, 0).unwrap();
        socket::set_option(ringed.as_fd(), libc::SOL_PACKET, libc::PACKET_RX_RING, &ring).unwrap();
        let list = Diag::open(None).unwrap().packet().unwrap();
        for (fd, has) in [(&plain, false), (&ringed, true)] {
            let entry = list.iter().find(|s| u64::from(s.inode) == inode(fd)).unwrap();
            assert_eq!(entry.has_ring, has, "fd {}", fd.as_raw_fd());
        }
    }
}
