//! Describes TCP sockets.

use super::ends::{End, Ends, Found, plain};
use super::held::Outside;
use super::read::{self, Reading};
use super::repair::Info;
use super::{Connection, Failure, Half, Other, State, Tcp};
use crate::diag::inet::{self as states, Inet};
use crate::error::{Context as _, Result};
use crate::files::dumping::Dump;
use crate::files::{FileId, Probe};
use crate::netlock::{Lock, Locked};
use crate::resource::socket::sort::Sort;
use crate::resource::socket::{address, base};
use crate::{Error, Kind};
use rtc_sys::{message, socket};
use rustix::event::PollFlags;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

/// `TCP_ULP` of <linux/tcp.h>: a protocol on top, in the kernel.
const TCP_ULP: i32 = 31;
/// `TCP_AO_INFO` of <linux/tcp.h>, and the size of `struct tcp_ao_info_opt` (Linux 6.7).
const TCP_AO_INFO: i32 = 40;
const AO_INFO: usize = 48;
/// Seconds in which the last words of an end that is closed must come.
const LAST_WORDS: i64 = 1;
/// `TCP_MSS_DEFAULT`
const DEFAULT_SEGMENT: u32 = 536;

/// First look. None when it can't be saved, which is noted.
pub(in super::super) fn describe(probe: &Probe<'_>, sort: Sort, cx: &mut Dump<'_>) -> Result<Option<Tcp>> {
    let info = Info::of(probe.fd)?;
    if let Some((why, remedy)) = obstacle(probe.fd, sort, info)? {
        cx.block(probe, why, remedy);
        return Ok(None);
    }
    let Some(local) = address::inet(&socket::local_address(probe.fd)?) else {
        return Err(Error::new(Kind::System, "a TCP socket without an internet address"));
    };
    let before = info.is_listening() || info.state == states::CLOSE && !is_over(probe.fd)?;
    let segment = socket::int_option(probe.fd, libc::IPPROTO_TCP, libc::TCP_MAXSEG).unwrap_or(0) as u32;
    let segment = (before && segment != 0 && segment != DEFAULT_SEGMENT).then_some(segment);
    Ok(Some(Tcp { local, segment, state: State::Closed }))
}

/// Whether a closed socket has had a connection.
fn is_over(fd: BorrowedFd<'_>) -> Result<bool> {
    Ok(socket::poll_now(fd)?.contains(PollFlags::RDHUP))
}

/// Why a socket can't be saved, whatever its connection is.
fn obstacle(fd: BorrowedFd<'_>, sort: Sort, info: Info) -> Result<Option<(String, &'static str)>> {
    let mut name = [0; 16];
    let len = socket::option(fd, libc::IPPROTO_TCP, TCP_ULP, &mut name).unwrap_or(0);
    let name = String::from_utf8_lossy(&name[..len]).trim_end_matches('\0').to_owned();
    if !name.is_empty() && name != "mptcp" {
        let why = format!("the kernel handles \"{name}\" on this connection, and keeps its keys");
        return Ok(Some((why, "have the program use it in user space, or close the connection before the checkpoint")));
    }
    if !sort.is_plain_tcp() && !matches!(info.state, states::LISTEN | states::CLOSE) {
        let why = "it is an MPTCP connection".to_owned();
        return Ok(Some((why, "have the program use plain TCP (Go: GODEBUG=multipathtcp=0)")));
    }
    if signs(fd) {
        let why = "it signs its segments by keys that can't be read (TCP-AO)".to_owned();
        return Ok(Some((why, "close it before the checkpoint")));
    }
    if socket::poll_now(fd)?.contains(PollFlags::PRI) {
        return Ok(Some(("urgent data waits in it".to_owned(), "let the program read it before the checkpoint")));
    }
    Ok(None)
}

/// Whether a socket has keys of the authentication option (RFC 5925). Without them, and where the kernel or the protocol
/// lacks the option, asking for it fails.
fn signs(fd: BorrowedFd<'_>) -> bool {
    socket::option(fd, libc::IPPROTO_TCP, TCP_AO_INFO, &mut [0; AO_INFO]).is_ok()
}

/// A socket of the dump, for the last look.
pub(in super::super) struct Entry<'a> {
    pub(in super::super) id: FileId,
    pub(in super::super) inode: u64,
    pub(in super::super) sort: Sort,
    pub(in super::super) tcp: &'a mut Tcp,
}

impl Entry<'_> {
    fn has_waiting(&self) -> bool {
        matches!(&self.tcp.state, State::Listening { waiting, .. } if !waiting.is_empty())
    }
}

/// A connection that is to be read, and where it goes to.
struct Pending {
    /// The position among the entries.
    entry: usize,
    reading: Reading,
    locked: Locked,
    other: Other,
    shut_for_reading: bool,
}

struct Concluding<'a, 'b, 'c> {
    all: &'a mut [Entry<'b>],
    fds: Vec<OwnedFd>,
    ends: Vec<End>,
    pending: Vec<Pending>,
    cx: &'a mut Dump<'c>,
}

/// Last look: connections, with all their ends.
pub(in super::super) fn conclude(all: &mut [Entry<'_>], cx: &mut Dump<'_>) -> Result<()> {
    let namespace = base::container_namespace(cx)?;
    // The order in which they were made, which is that of waiting at a listener, as far as anyone can tell.
    all.sort_by_key(|entry| entry.inode);
    let fds: Vec<OwnedFd> = all.iter().map(|entry| cx.fetch(entry.id)).collect::<Result<_>>()?;
    let listed = listed(namespace.as_fd())?;
    let end = |(entry, fd): (&Entry<'_>, &OwnedFd)| {
        let listed = listed.get(&entry.inode);
        let peer = listed.map(|socket| socket.peer).filter(|peer| peer.port() != 0);
        let queued = listed.map_or(0, |socket| socket.send);
        Ok(End { inode: entry.inode, info: Info::of(fd.as_fd())?, local: entry.tcp.local, peer, queued })
    };
    let list: Vec<End> = all.iter().zip(&fds).map(end).collect::<Result<_>>()?;
    let mut ends = Ends::new(namespace.as_fd(), &list)?;
    let mut concluding = Concluding { all, fds, ends: list, pending: Vec::new(), cx };
    // Listeners first, whose queues the others may be in. Inode numbers don't tell: each processor counts its own.
    let (listeners, others): (Vec<usize>, Vec<usize>) =
        (0..concluding.all.len()).partition(|n| concluding.ends[*n].info.is_listening());
    for n in listeners.into_iter().chain(others) {
        concluding.classify(n, &mut ends).context(|| format!("{}", concluding.all[n].id))?;
    }
    concluding.check_strangers(&ends)?;
    if concluding.cx.check_only() || concluding.cx.blocked() > 0 {
        return Ok(());
    }
    concluding.read(namespace)
}

fn listed(namespace: BorrowedFd<'_>) -> Result<BTreeMap<u64, Inet>> {
    let mut diag = crate::diag::Diag::open(Some(namespace))?;
    let mut all = BTreeMap::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        let list = diag.inet(family, libc::IPPROTO_TCP)?;
        all.extend(list.into_iter().filter(|s| s.inode != 0).map(|s| (u64::from(s.inode), s)));
    }
    Ok(all)
}

/// Accepts the connections of those listeners where someone who waits has sent something, and reads it.
pub(in super::super) fn take(all: &mut [Entry<'_>], cx: &mut Dump<'_>) -> Result<()> {
    let namespace = base::container_namespace(cx)?;
    let listed = if all.iter().any(|entry| entry.has_waiting()) { listed_waiting(namespace.as_fd())? } else { vec![] };
    for n in 0..all.len() {
        let State::Listening { waiting, .. } = &all[n].tcp.state else { continue };
        let clients: Vec<usize> = (0..all.len()).filter(|m| waiting.contains(&all[*m].inode)).collect();
        let has_sent = |m: &usize| {
            let key = all[*m].tcp.connection().map(|c| (plain(c.peer), plain(all[*m].tcp.local)));
            key.is_some_and(|key| listed.contains(&key))
        };
        if !clients.iter().any(has_sent) {
            continue;
        }
        let listener = cx.fetch(all[n].id)?;
        for _ in 0..Info::of(listener.as_fd())?.waiting {
            let server = socket::accept(listener.as_fd())?;
            let from = address::inet(&socket::peer_address(server.as_fd())?).map(plain);
            let client = clients.iter().find(|m| Some(plain(all[**m].tcp.local)) == from);
            let info = Info::of(server.as_fd())?;
            let mut readings = [Reading::new(server, info)?];
            read::read(&mut readings)?;
            let [reading] = readings;
            if let (Some(m), true) = (client, !reading.received.contents.is_empty()) {
                let contents = Some(cx.blobs().bytes(&reading.received.contents)?);
                let half = Half { sequence: reading.received.sequence, contents };
                if let State::Connected(connection) = &mut all[*m].tcp.state {
                    connection.taken = Some(half);
                }
            }
            // Closed now, it would be an error for whoever waits, should the container live on after all.
            cx.hold(Box::new(reading.into_held().0));
        }
    }
    Ok(())
}

/// The addresses, own and other, of connections that nobody has accepted and that have received something.
fn listed_waiting(namespace: BorrowedFd<'_>) -> Result<Vec<(SocketAddr, SocketAddr)>> {
    let mut diag = crate::diag::Diag::open(Some(namespace))?;
    let mut all = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        let list = diag.inet(family, libc::IPPROTO_TCP)?;
        let with_data = list.into_iter().filter(|s| s.inode == 0 && s.receive > 0);
        all.extend(with_data.map(|s| (plain(s.local), plain(s.peer))));
    }
    Ok(all)
}

impl Concluding<'_, '_, '_> {
    fn block(&mut self, n: usize, why: &str, remedy: &str) -> Result<()> {
        let id = self.all[n].id;
        self.cx.probe(id, |probe, cx| {
            cx.block(probe, why, remedy);
            Ok(())
        })
    }

    fn classify(&mut self, n: usize, ends: &mut Ends<'_>) -> Result<()> {
        let end = self.ends[n];
        if ends.has_md5(&end) {
            return self.block(n, "it signs its segments by a key that can't be read (TCP_MD5SIG)", "close it before");
        }
        match (end.info.state, end.peer) {
            (states::LISTEN, _) => {
                self.all[n].tcp.state = State::Listening { backlog: end.info.backlog, waiting: Vec::new() };
            }
            (states::CLOSE, _) => self.all[n].tcp.state = self.closed(n)?,
            // A SYN counts as a byte.
            (states::SYN_SENT, Some(_)) if end.queued > 1 => {
                self.block(n, "its SYN carries data (TCP Fast Open)", "try again when it is connected")?;
            }
            (states::SYN_SENT, Some(peer)) => self.all[n].tcp.state = State::Connecting { peer },
            (states::SYN_RECV, _) => {
                self.block(n, "its handshake isn't over (TCP Fast Open)", "try again when it is connected")?;
            }
            (_, Some(peer)) => {
                let found = ends.other(end.local, end.info.state, peer)?;
                self.connection(n, found, Locked { local: end.local, peer }, ends)?;
            }
            // Closed or reset while we look.
            (_, None) if self.cx.check_only() => {}
            (state, None) => {
                let message = format!("a socket in state {state} is not in its network namespace's list");
                return Err(Error::new(Kind::System, message));
            }
        }
        Ok(())
    }

    /// A socket without a connection: before one, or after.
    fn closed(&mut self, n: usize) -> Result<State> {
        let fd = self.fds[n].as_fd();
        if !is_over(fd)? || !self.all[n].sort.is_plain_tcp() {
            return Ok(State::Closed);
        }
        let failure = if self.ends[n].info.was_connected() { Failure::Reset } else { Failure::Refused };
        let error = socket::poll_now(fd)?.contains(PollFlags::ERR).then_some(failure);
        // Reading an empty queue would take the error.
        let mut bytes = vec![0; socket::queue_length(fd, socket::SIOCINQ)?];
        if !bytes.is_empty() {
            let len = message::receive(fd, &mut bytes, libc::MSG_PEEK | libc::MSG_DONTWAIT)?.len;
            bytes.truncate(len);
        }
        let received = if bytes.is_empty() { None } else { Some(self.cx.blobs().bytes(&bytes)?) };
        Ok(State::Ended { error, received })
    }

    fn connection(&mut self, n: usize, found: Found, locked: Locked, ends: &Ends<'_>) -> Result<()> {
        let (held_there, on_its_way) = found.held;
        let skip = self.cx.options().tcp_skip_in_flight;
        let mut other = found.other;
        match other {
            Other::Outside if !self.cx.options().tcp_established => {
                let why = format!("it is connected to {}, outside the container", locked.peer);
                return self.block(n, &why, "give --tcp-established if that end can wait, or close it first");
            }
            Other::Outside if found.near && self.ends[n].info.state != states::ESTABLISHED => {
                let why = format!("it is half closed, and {} is in this network namespace, too", locked.peer);
                return self.block(n, &why, "close it before the checkpoint");
            }
            Other::Waiting(_) if held_there > 0 && skip => other = Other::Gone,
            Other::Waiting(_) if held_there > 0 && !self.cx.kills() => {
                let why = format!("{} has not accepted it yet and holds {held_there} bytes from it", locked.peer);
                let remedy = "try again when the program has accepted it, or give --tcp-skip-in-flight";
                return self.block(n, &why, remedy);
            }
            // What it said last comes by itself, if there is room. A FIN counts as a byte.
            Other::Gone
                if on_its_way > 0
                    && !self.cx.check_only()
                    && !socket::poll_until(self.fds[n].as_fd(), PollFlags::RDHUP, LAST_WORDS)? =>
            {
                let why = format!("{on_its_way} bytes are on their way from {}, which is closed", locked.peer);
                return self.block(n, &why, "try again when the program has read some");
            }
            _ => {}
        }
        let reading = Reading::new(self.fds[n].try_clone().context(|| "dup")?, self.ends[n].info)?;
        let shut_for_reading = ends.is_shut_for_reading(locked.local, locked.peer);
        self.pending.push(Pending { entry: n, reading, locked, other, shut_for_reading });
        if let Other::Waiting(listener) = other {
            let inode = self.all[n].inode;
            let state = self.all.iter_mut().find(|entry| entry.inode == listener).map(|entry| &mut entry.tcp.state);
            if let Some(State::Listening { waiting, .. }) = state {
                waiting.push(inode);
            }
        }
        Ok(())
    }

    /// Connections in a listener's queue whose other end is not in the dump.
    fn check_strangers(&mut self, ends: &Ends<'_>) -> Result<()> {
        for n in 0..self.all.len() {
            let strangers = ends.strangers(self.all[n].inode);
            // A client that is in the dump and left out counts as found.
            if strangers > 0 && !self.cx.options().tcp_skip_in_flight {
                let why = format!("{strangers} connections from outside the container wait to be accepted");
                self.block(n, &why, "try again when the program has accepted them, or give --tcp-skip-in-flight")?;
            }
        }
        Ok(())
    }

    fn read(self, namespace: OwnedFd) -> Result<()> {
        let Self { all, mut pending, cx, .. } = self;
        let outside = |p: &&Pending| p.other == Other::Outside;
        let locked: Vec<Locked> = pending.iter().filter(outside).map(|p| p.locked).collect();
        let lock = if locked.is_empty() { None } else { Some(Lock::new(Some(namespace.as_fd()), &locked)?) };
        let (places, mut readings): (Vec<_>, Vec<_>) =
            pending.drain(..).map(|p| ((p.entry, p.locked, p.other, p.shut_for_reading), p.reading)).unzip();
        read::read(&mut readings)?;
        let (mut held, mut kept) = (Vec::new(), Vec::new());
        for ((n, locked, other, shut), reading) in places.into_iter().zip(readings) {
            all[n].tcp.state = match reading.phase() {
                Some(phase) => State::Connected(Box::new(connection(&reading, phase, locked, other, shut, cx)?)),
                None => State::Ended { error: Some(Failure::Reset), received: None },
            };
            if other == Other::Outside {
                kept.extend(all[n].tcp.connection().map(|_| locked));
                held.push(reading.into_held());
            }
        }
        if let Some(lock) = lock {
            cx.hold(Box::new(Outside::new(held, lock, kept, namespace)));
        }
        Ok(())
    }
}

fn connection(
    reading: &Reading,
    phase: super::Phase,
    locked: Locked,
    other: Other,
    shut_for_reading: bool,
    cx: &mut Dump<'_>,
) -> Result<Connection> {
    let mut half = |bytes: &read::Bytes| -> Result<Half> {
        let contents = if bytes.contents.is_empty() { None } else { Some(cx.blobs().bytes(&bytes.contents)?) };
        Ok(Half { sequence: bytes.sequence, contents })
    };
    Ok(Connection {
        taken: None,
        peer: locked.peer,
        other,
        phase,
        received: half(&reading.received)?,
        sent: half(&reading.sent)?,
        unsent: reading.unsent,
        segment: reading.segment,
        scale: reading.info.scale(),
        sack: reading.info.has_sack(),
        timestamp: reading.info.has_timestamps().then_some(reading.timestamp),
        window: reading.window,
        shut_for_reading: shut_for_reading && !phase.has_received(),
    })
}
