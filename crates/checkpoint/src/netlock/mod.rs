//! A lock on connections: nothing passes between their two ends.
//!
//! What came in would be acknowledged after it was read, and lost; what went out would be acknowledged by the other end
//! and not known here as sent.
//!
//! It is an nftables table that its netlink socket owns (`NFT_TABLE_F_OWNER`, Linux 5.12): nobody else can change it,
//! and it goes with the socket, so also when we are killed. Nothing runs `nft` or `iptables`.
//!
//! When a container has been killed, its network namespace takes a while to go, or stays, and would answer
//! the other ends with a reset. [`keep`] has a table of its own that outlives us; its entries expire.
//! And while the container is away its namespace may be made anew, empty, before rtc is called to fill it: [`road`].

mod name;
pub mod road;

use crate::error::{Context as _, Result};
use crate::netlink::{self, Attributes, Connection, Message};
use name::{Purpose, now};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU32, Ordering};

const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEW_TABLE: u16 = SUBSYSTEM << 8;
const GET_TABLE: u16 = SUBSYSTEM << 8 | 1;
const DELETE_TABLE: u16 = SUBSYSTEM << 8 | 2;
const NEW_CHAIN: u16 = SUBSYSTEM << 8 | 3;
const NEW_RULE: u16 = SUBSYSTEM << 8 | 6;
const NEW_SET: u16 = SUBSYSTEM << 8 | 9;
const NEW_ELEMENTS: u16 = SUBSYSTEM << 8 | 12;
const NFPROTO_INET: u8 = 1;
const TABLE_OWNER: u32 = 2;
const SET_TIMEOUT: u32 = 0x10;
/// Before anybody else's rules.
const PRIORITY: i32 = -500;
/// `NLM_F_ACK`
const ACK: u16 = 4;
/// `NLM_F_CREATE | NLM_F_ACK`
const CREATE: u16 = 0x400 | ACK;
/// `NLM_F_APPEND`
const APPEND: u16 = 0x800;
/// The elements' list is one attribute, whose length is a 16-bit number.
const ELEMENTS: usize = 512;
/// The first of the registers, each of four bytes, that values are loaded to and compared in.
const REGISTER: u32 = 8;
/// Packets with this mark (`SO_MARK`) pass: those of whoever stands in for an end that is kept out.
pub const PASS: u32 = 0x7274_6370;

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

/// A direction: its chain, where the kernel calls it, and whether the other end is the source.
#[derive(Clone, Copy)]
struct Direction {
    chain: &'static str,
    hook: u32,
    from_peer: bool,
}

const DIRECTIONS: [Direction; 2] =
    [Direction { chain: "in", hook: 1, from_peer: true }, Direction { chain: "out", hook: 3, from_peer: false }];

/// Where the road to the container is another namespace's: to it alone, as its packets can't be told from those of
/// whoever has its address next. After the addresses have been translated.
const ROAD: [Direction; 1] = [Direction { chain: "road", hook: 4, from_peer: true }];

/// Tables that outlive us, and are found again by their names.
struct Lasting {
    purpose: Purpose,
    directions: &'static [Direction],
}

/// Those in the container's own network.
const KEPT: Lasting = Lasting { purpose: Purpose("rtc-kept-"), directions: &DIRECTIONS };

/// The two IP families: what distinguishes them here.
#[derive(Clone, Copy)]
struct Family {
    set: &'static str,
    /// `NFPROTO_IPV4`, `NFPROTO_IPV6`
    protocol: u8,
    /// Where the source address begins in the header; the destination follows.
    source_at: u32,
    /// The length of an address.
    address: u32,
}

const FAMILIES: [Family; 2] = [
    Family { set: "v4", protocol: 2, source_at: 12, address: 4 },
    Family { set: "v6", protocol: 10, source_at: 8, address: 16 },
];

impl Family {
    /// The length of an element: two addresses and two ports, each in registers of its own.
    fn key(self) -> u32 {
        2 * self.address + 8
    }
}

impl Lock {
    /// Locks `connections` of TCP in the network namespace given, or in ours.
    ///
    /// # Errors
    /// When the kernel has no nftables for IPv4 and IPv6, or is older than Linux 5.12.
    pub fn new(namespace: Option<BorrowedFd<'_>>, connections: &[Locked]) -> Result<Self> {
        let owner = table(namespace, &unique(), TABLE_OWNER, None, &DIRECTIONS, connections)?;
        Ok(Self { _owner: owner })
    }
}

/// Keeps the ends of `connections` apart for `seconds`, also when we have gone.
///
/// # Errors
/// As [`Lock::new`].
pub fn keep(namespace: Option<BorrowedFd<'_>>, connections: &[Locked], seconds: u64) -> Result<()> {
    KEPT.put(namespace, connections, seconds)
}

/// Ends what [`keep`] did for these connections in the network namespace given, or in ours. Others may be kept there,
/// of containers that share it.
///
/// # Errors
/// When the kernel has no nftables.
pub fn forget(namespace: Option<BorrowedFd<'_>>, connections: &[Locked]) -> Result<()> {
    KEPT.take(namespace, connections)
}

impl Lasting {
    /// Makes one that holds `connections` up for `seconds`, and removes those whose time is over.
    fn put(&self, namespace: Option<BorrowedFd<'_>>, connections: &[Locked], seconds: u64) -> Result<()> {
        let now = now();
        delete(namespace, |name| self.purpose.is_over(name, now))?;
        let name = self.purpose.name(keys(connections), seconds);
        table(namespace, &name, 0, Some(seconds), self.directions, connections).map(drop)
    }

    /// Removes those for just these connections, and those whose time is over.
    fn take(&self, namespace: Option<BorrowedFd<'_>>, connections: &[Locked]) -> Result<()> {
        let (now, theirs) = (now(), self.purpose.of(keys(connections)));
        delete(namespace, |name| name.starts_with(&theirs) || self.purpose.is_over(name, now))
    }
}

/// Deletes the tables whose names are `wanted`.
fn delete(namespace: Option<BorrowedFd<'_>>, wanted: impl Fn(&str) -> bool) -> Result<()> {
    let mut connection = netlink::open(libc::NETLINK_NETFILTER, namespace)?;
    let mut message = Message::default();
    message.begin(GET_TABLE, libc::NLM_F_DUMP as u16, connection.sequence()).fixed(&header());
    let mut names = Vec::new();
    connection
        .dump(message.bytes(), &mut |body| {
            let name = Attributes(body.get(4..).unwrap_or_default()).find(|(kind, _)| *kind == 1);
            let name = name.map(|(_, value)| String::from_utf8_lossy(value).trim_end_matches('\0').to_owned());
            names.extend(name.filter(|name| wanted(name)));
        })
        .context(|| "list nftables")?;
    for name in names {
        batch(&mut connection, 1, |message, next| {
            message.begin(DELETE_TABLE, ACK, next()).fixed(&header()).string(1, &name);
        })
        .context(|| format!("remove the nftables table {name}"))?;
    }
    Ok(())
}

fn unique() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("rtc-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Makes a table that drops what passes between the ends of `connections`.
fn table(
    namespace: Option<BorrowedFd<'_>>,
    table: &str,
    flags: u32,
    seconds: Option<u64>,
    directions: &[Direction],
    connections: &[Locked],
) -> Result<Connection> {
    let mut connection = netlink::open(libc::NETLINK_NETFILTER, namespace)?;
    let rules = directions.len() * FAMILIES.len();
    batch(&mut connection, 1 + FAMILIES.len() + directions.len() + rules, |message, next| {
        message.begin(NEW_TABLE, CREATE, next()).fixed(&header()).string(1, table).be32(2, flags);
        for (id, family) in (1..).zip(FAMILIES) {
            message.begin(NEW_SET, CREATE, next()).fixed(&header()).string(1, table).string(2, family.set);
            message.be32(3, if seconds.is_some() { SET_TIMEOUT } else { 0 });
            message.be32(4, 0).be32(5, family.key()).be32(10, id);
            if let Some(seconds) = seconds {
                message.attribute(11, &(seconds * 1000).to_be_bytes());
            }
        }
        for direction in directions {
            message.begin(NEW_CHAIN, CREATE, next()).fixed(&header()).string(1, table).string(3, direction.chain);
            let hook = message.nest(4);
            message.be32(1, direction.hook).be32(2, PRIORITY as u32).end(hook).string(7, "filter");
            for family in FAMILIES {
                message.begin(NEW_RULE, CREATE | APPEND, next()).fixed(&header());
                message.string(1, table).string(2, direction.chain);
                drop_members(message, family, *direction);
            }
        }
    })
    .context(|| "lock the network (nftables)")?;
    for family in FAMILIES {
        let keys: Vec<Vec<u8>> = connections.iter().filter_map(|locked| key(*locked, family)).collect();
        for part in keys.chunks(ELEMENTS) {
            batch(&mut connection, 1, |message, next| {
                message.begin(NEW_ELEMENTS, CREATE, next()).fixed(&header());
                add_elements(message, table, family, part);
            })
            .context(|| "lock the network (nftables)")?;
        }
    }
    Ok(connection)
}

/// `struct nfgenmsg`
fn header() -> [u8; 4] {
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
    Ok(owner.apply(message.bytes(), count)?)
}

/// The elements of connections, of both families.
fn keys(connections: &[Locked]) -> Vec<Vec<u8>> {
    connections.iter().flat_map(|locked| FAMILIES.into_iter().filter_map(|family| key(*locked, family))).collect()
}

/// A connection's element of its family's set: the other end first.
fn key(connection: Locked, family: Family) -> Option<Vec<u8>> {
    let octets = |ip: IpAddr| match ip.to_canonical() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let mut key = octets(connection.peer.ip());
    key.extend(octets(connection.local.ip()));
    for port in [connection.peer.port(), connection.local.port()] {
        let [high, low] = port.to_be_bytes();
        key.extend([high, low, 0, 0]);
    }
    (key.len() == family.key() as usize).then_some(key)
}

fn add_elements(message: &mut Message, table: &str, family: Family, keys: &[Vec<u8>]) {
    message.string(1, table).string(2, family.set);
    let list = message.nest(3);
    for key in keys {
        let element = message.nest(1);
        let data = message.nest(1);
        message.attribute(1, key).end(data).end(element);
    }
    message.end(list);
}

/// The rule's expressions: TCP of that family, between the ends of one of the set, is dropped.
fn drop_members(message: &mut Message, family: Family, direction: Direction) {
    const META_MARK: u32 = 3;
    const META_NFPROTO: u32 = 15;
    const META_L4PROTO: u32 = 16;
    const NETWORK: u32 = 1;
    const TRANSPORT: u32 = 2;
    let list = message.nest(4);
    meta(message, META_MARK);
    compare(message, Comparison::NotEqual, &PASS.to_ne_bytes());
    meta(message, META_NFPROTO);
    compare(message, Comparison::Equal, &[family.protocol]);
    meta(message, META_L4PROTO);
    compare(message, Comparison::Equal, &[libc::IPPROTO_TCP as u8]);
    let (source, destination) = (family.source_at, family.source_at + family.address);
    let (peer, local) = if direction.from_peer { (source, destination) } else { (destination, source) };
    let (peer_port, local_port) = if direction.from_peer { (0, 2) } else { (2, 0) };
    let registers = family.address / 4;
    payload(message, NETWORK, peer, family.address, REGISTER);
    payload(message, NETWORK, local, family.address, REGISTER + registers);
    payload(message, TRANSPORT, peer_port, 2, REGISTER + 2 * registers);
    payload(message, TRANSPORT, local_port, 2, REGISTER + 2 * registers + 1);
    expression(message, "lookup", |message| {
        message.string(1, family.set).be32(2, REGISTER);
    });
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

/// Loads what the packet is.
fn meta(message: &mut Message, key: u32) {
    expression(message, "meta", |message| {
        message.be32(1, REGISTER).be32(2, key);
    });
}

/// Loads `len` bytes of a header at `offset`.
fn payload(message: &mut Message, base: u32, offset: u32, len: u32, register: u32) {
    expression(message, "payload", |message| {
        message.be32(1, register).be32(2, base).be32(3, offset).be32(4, len);
    });
}

/// `NFT_CMP_*`
#[derive(Clone, Copy)]
enum Comparison {
    Equal = 0,
    NotEqual = 1,
}

/// Goes on if what was loaded compares so to `value`.
fn compare(message: &mut Message, comparison: Comparison, value: &[u8]) {
    expression(message, "cmp", |message| {
        message.be32(1, REGISTER).be32(2, comparison as u32);
        let data = message.nest(3);
        message.attribute(1, value).end(data);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_element_is_as_long_as_its_set_says() {
        let locked = |local: &str, peer: &str| Locked { local: local.parse().unwrap(), peer: peer.parse().unwrap() };
        let v4 = locked("10.0.0.1:258", "10.0.0.2:80");
        assert_eq!(key(v4, FAMILIES[0]), Some(vec![10, 0, 0, 2, 10, 0, 0, 1, 0, 80, 0, 0, 1, 2, 0, 0]));
        assert_eq!(key(v4, FAMILIES[1]), None);
        let mapped = locked("[::ffff:10.0.0.1]:258", "[::ffff:10.0.0.2]:80");
        assert_eq!(key(mapped, FAMILIES[0]), key(v4, FAMILIES[0]));
        assert_eq!(key(locked("[::1]:1", "[::2]:2"), FAMILIES[1]).map(|key| key.len()), Some(40));
    }

    /// In a network namespace of the test's own.
    #[test]
    fn what_is_kept_of_others_stays() {
        use std::io::{Read as _, Write as _};
        let test = || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            assert!(std::process::Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let connected = || {
                let peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
                let (end, _) = listener.accept().unwrap();
                let locked = Locked { local: end.local_addr().unwrap(), peer: end.peer_addr().unwrap() };
                keep(None, &[locked], 100).unwrap();
                (peer, end, locked)
            };
            let [(mut one, mut one_end, one_locked), (mut other, mut other_end, _)] = [connected(), connected()];
            forget(None, &[one_locked]).unwrap();
            one.write_all(b"x").unwrap();
            other.write_all(b"x").unwrap();
            let mut byte = [0];
            assert_eq!(one_end.read(&mut byte).unwrap(), 1);
            other_end.set_read_timeout(Some(std::time::Duration::from_millis(50))).unwrap();
            assert_eq!(other_end.read(&mut byte).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
        };
        std::thread::spawn(test).join().unwrap();
    }
}
