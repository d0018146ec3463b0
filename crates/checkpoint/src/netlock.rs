//! A lock on connections: nothing from their other ends reaches them.
//!
//! It is an nftables table that its netlink socket owns (`NFT_TABLE_F_OWNER`, Linux 5.12): nobody else can change it,
//! and it goes with the socket, so also when we are killed. Nothing runs `nft` or `iptables`.
//! Packets on their way out are let through: what they acknowledge has been seen.

use crate::error::{Context as _, Result};
use crate::netlink::{Connection, Message};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU32, Ordering};

const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEW_TABLE: u16 = SUBSYSTEM << 8;
const NEW_CHAIN: u16 = SUBSYSTEM << 8 | 3;
const NEW_RULE: u16 = SUBSYSTEM << 8 | 6;
const NFPROTO_INET: u8 = 1;
const TABLE_OWNER: u32 = 2;
const HOOK_LOCAL_IN: u32 = 1;
/// Before anybody else's rules.
const PRIORITY: i32 = -500;
const CHAIN: &str = "in";
/// `NLM_F_CREATE | NLM_F_ACK`
const CREATE: u16 = 0x400 | 4;
/// `NLM_F_APPEND`
const APPEND: u16 = 0x800;
/// As many rules as fit in one batch of about 200 KiB.
const RULES: usize = 256;

/// A connection as its own end sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Locked {
    /// The end that is protected.
    pub local: SocketAddr,
    /// The end that is kept out.
    pub peer: SocketAddr,
}

/// The lock; it is open again when this is dropped.
#[derive(Debug)]
pub struct Lock {
    /// The table's owner.
    _owner: Connection,
}

impl Lock {
    /// Locks `connections` of TCP in the network namespace given, or in ours.
    ///
    /// # Errors
    /// When the kernel has no nftables for IPv4 and IPv6, or is older than Linux 5.12.
    pub fn new(namespace: Option<BorrowedFd<'_>>, connections: &[Locked]) -> Result<Self> {
        let mut owner = Connection::open(libc::NETLINK_NETFILTER, namespace)?;
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let table = format!("rtc-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        batch(&mut owner, 2, |message, next| {
            message.begin(NEW_TABLE, CREATE, next()).fixed(&family()).string(1, &table).be32(2, TABLE_OWNER);
            message.begin(NEW_CHAIN, CREATE, next()).fixed(&family()).string(1, &table).string(3, CHAIN);
            let hook = message.nest(4);
            message.be32(1, HOOK_LOCAL_IN).be32(2, PRIORITY as u32).end(hook).string(7, "filter");
        })
        .context(|| "lock the network (nftables)")?;
        for part in connections.chunks(RULES) {
            batch(&mut owner, part.len(), |message, next| {
                for connection in part {
                    message.begin(NEW_RULE, CREATE | APPEND, next()).fixed(&family());
                    message.string(1, &table).string(2, CHAIN);
                    drop_from_peer(message, connection);
                }
            })
            .context(|| "lock the network (nftables)")?;
        }
        Ok(Self { _owner: owner })
    }
}

/// `struct nfgenmsg`
fn family() -> [u8; 4] {
    [NFPROTO_INET, 0, 0, 0]
}

/// Sends `count` messages, written by `write`, in one batch.
fn batch(
    owner: &mut Connection,
    count: usize,
    write: impl FnOnce(&mut Message, &mut dyn FnMut() -> u32),
) -> Result<()> {
    let mut message = Message::default();
    let subsystem = [0, 0, 0, SUBSYSTEM as u8];
    message.begin(BATCH_BEGIN, 0, owner.sequence()).fixed(&subsystem);
    write(&mut message, &mut || owner.sequence());
    message.begin(BATCH_END, 0, owner.sequence()).fixed(&subsystem);
    owner.apply(message.bytes(), count)
}

/// The rule's expressions: TCP of that family, from there to here, is dropped.
fn drop_from_peer(message: &mut Message, connection: &Locked) {
    const META_NFPROTO: u32 = 15;
    const META_L4PROTO: u32 = 16;
    const NETWORK: u32 = 1;
    const TRANSPORT: u32 = 2;
    let (local, peer) = (connection.local.ip().to_canonical(), connection.peer.ip().to_canonical());
    let (family, source_at, from, to) = match (peer, local) {
        (IpAddr::V4(from), IpAddr::V4(to)) => (2, 12, from.octets().to_vec(), to.octets().to_vec()),
        (IpAddr::V6(from), IpAddr::V6(to)) => (10, 8, from.octets().to_vec(), to.octets().to_vec()),
        // No connection has ends of both families; nothing is matched.
        _ => (0, 0, vec![0; 4], vec![0; 4]),
    };
    let list = message.nest(4);
    meta(message, META_NFPROTO, &[family]);
    meta(message, META_L4PROTO, &[libc::IPPROTO_TCP as u8]);
    payload(message, NETWORK, source_at, &from);
    payload(message, NETWORK, source_at + from.len() as u32, &to);
    let ports = [connection.peer.port().to_be_bytes(), connection.local.port().to_be_bytes()].concat();
    payload(message, TRANSPORT, 0, &ports);
    expression(message, "immediate", |message| {
        // The verdict register, and NF_DROP.
        message.be32(1, 0);
        let data = message.nest(2);
        let verdict = message.nest(2);
        message.be32(1, 0).end(verdict).end(data);
    });
    message.end(list);
}

fn expression(message: &mut Message, name: &str, fill: impl FnOnce(&mut Message)) {
    let element = message.nest(1);
    message.string(1, name);
    let data = message.nest(2);
    fill(message);
    message.end(data).end(element);
}

/// Loads what the packet is into the first register and goes on if it equals `value`.
fn meta(message: &mut Message, key: u32, value: &[u8]) {
    expression(message, "meta", |message| {
        message.be32(1, 1).be32(2, key);
    });
    equals(message, value);
}

/// Loads bytes of a header at `offset` and goes on if they equal `value`, of at most 16 bytes.
fn payload(message: &mut Message, base: u32, offset: u32, value: &[u8]) {
    expression(message, "payload", |message| {
        message.be32(1, 1).be32(2, base).be32(3, offset).be32(4, value.len() as u32);
    });
    equals(message, value);
}

fn equals(message: &mut Message, value: &[u8]) {
    expression(message, "cmp", |message| {
        message.be32(1, 1).be32(2, 0);
        let data = message.nest(3);
        message.attribute(1, value).end(data);
    });
}
