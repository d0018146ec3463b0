//! Describes unix sockets.

use super::{Credentials, Listening, Peer, Unix, node, queue};
use crate::diag::unix as diag;
use crate::error::Result;
use crate::files::dumping::Dump;
use crate::files::{FileId, Probe};
use crate::image::path::ImagePath;
use crate::resource::socket::sort::Sort;
use crate::resource::socket::{address, base};
use rtc_sys::socket;
use rustix::event::PollFlags;
use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, BorrowedFd};

/// `SO_PEERGROUPS` of <asm-generic/socket.h>.
const SO_PEERGROUPS: i32 = 59;
/// `NGROUPS_MAX`
const GROUPS_MAX: usize = 65536;

/// First look: what the socket tells of itself. None when it can't be saved, which is noted.
pub(in super::super) fn describe(probe: &Probe<'_>, sort: Sort, cx: &mut Dump<'_>) -> Result<Option<Unix>> {
    let name = address::unix(&socket::local_address(probe.fd)?);
    let node = match &name {
        Some(name) if !address::is_abstract(name) => node::find(probe, cx, name)?,
        _ => None,
    };
    let events = socket::poll_now(probe.fd)?;
    if events.contains(PollFlags::PRI) {
        cx.block(probe, "out-of-band data waits in it", "let the program read it before the checkpoint");
        return Ok(None);
    }
    let listening = socket::int_option(probe.fd, libc::SOL_SOCKET, libc::SO_ACCEPTCONN)? != 0;
    Ok(Some(Unix {
        name,
        node,
        listening: listening.then(Listening::default),
        reset: sort.kind != libc::SOCK_DGRAM && events.contains(PollFlags::ERR),
        credentials: peer_credentials(probe.fd, cx)?,
        ..Unix::default()
    }))
}

/// `SO_PEERCRED` and `SO_PEERGROUPS`.
fn peer_credentials(fd: BorrowedFd<'_>, cx: &mut Dump<'_>) -> Result<Option<Credentials>> {
    let mut bytes = [0; 12];
    socket::option(fd, libc::SOL_SOCKET, libc::SO_PEERCRED, &mut bytes)?;
    let word = |n: usize| u32::from_ne_bytes(bytes[n..n + 4].try_into().expect("four bytes"));
    let (pid, uid, gid) = (word(0) as i32, word(4), word(8));
    if uid == u32::MAX {
        return Ok(None);
    }
    let groups = peer_groups(fd);
    let pid = if pid == 0 { 0 } else { cx.container_pid(pid).unwrap_or(0) };
    Ok(Some(Credentials { pid, uid, gid, groups }))
}

/// `SO_PEERGROUPS` (Linux 4.13), none where the kernel doesn't say.
fn peer_groups(fd: BorrowedFd<'_>) -> Vec<u32> {
    let mut room = vec![0; 256];
    loop {
        match socket::option(fd, libc::SOL_SOCKET, SO_PEERGROUPS, &mut room) {
            Ok(len) => {
                let group = |bytes: &[u8]| u32::from_ne_bytes(bytes.try_into().expect("chunks of four"));
                return room[..len].chunks_exact(4).map(group).collect();
            }
            Err(e) if e.errno() == rtc_sys::Errno::ERANGE && room.len() < 4 * GROUPS_MAX => {
                room.resize(room.len() * 8, 0);
            }
            Err(_) => return Vec::new(),
        }
    }
}

/// Second look: the queue.
pub(in super::super) fn complete(unix: &mut Unix, probe: &Probe<'_>, sort: Sort, cx: &mut Dump<'_>) -> Result<()> {
    // Tasks that run would meet the offset that peeking needs.
    if unix.listening.is_none() && !cx.check_only() {
        if let Some(queue) = queue::read(probe, sort.kind, cx)? {
            unix.queue = queue;
        }
    }
    Ok(())
}

/// A socket of the dump, for the last look.
pub(in super::super) struct Entry<'a> {
    pub(in super::super) id: FileId,
    pub(in super::super) inode: u64,
    pub(in super::super) kind: i32,
    pub(in super::super) unix: &'a mut Unix,
}

/// Last look: who is connected to whom.
pub(in super::super) fn conclude(all: &mut [Entry<'_>], cx: &mut Dump<'_>) -> Result<()> {
    let namespace = base::container_namespace(cx)?;
    let list = crate::diag::Diag::open(Some(namespace.as_fd()))?.unix()?;
    let list: BTreeMap<u64, diag::Unix> = list.into_iter().map(|s| (s.inode.into(), s)).collect();
    let ours: BTreeMap<u64, FileId> = all.iter().map(|entry| (entry.inode, entry.id)).collect();
    // Whoever waits at a listener of ours, and where; none where that connection is left out.
    let mut waiting = BTreeMap::new();
    for entry in all.iter_mut() {
        if let Some(socket) = list.get(&entry.inode).filter(|socket| socket.is_listening()) {
            let queue: Vec<u64> = socket.waiting.iter().map(|client| u64::from(*client)).collect();
            waiting.extend(queue.iter().map(|client| (*client, None)));
            entry.unix.listening = Some(Listening { backlog: socket.send, waiting: queue, taken: Vec::new() });
            let kept = check_waiting(entry, &ours, cx)?;
            waiting.extend(kept.iter().map(|client| (*client, Some(entry.inode))));
        }
    }
    for entry in all {
        let Some(socket) = list.get(&entry.inode) else {
            // Closed meanwhile by a task that runs.
            if cx.check_only() {
                continue;
            }
            let message = format!("socket {} is not in its network namespace's list", entry.inode);
            return Err(crate::Error::new(crate::Kind::System, message));
        };
        entry.unix.shutdown = socket.shutdown;
        if !socket.is_listening() {
            entry.unix.peer = peer(entry, socket, &ours, &waiting);
            check_peer(entry, cx)?;
        }
    }
    Ok(())
}

type Waiting = BTreeMap<u64, Option<u64>>;

fn peer(entry: &Entry<'_>, socket: &diag::Unix, ours: &BTreeMap<u64, FileId>, waiting: &Waiting) -> Peer {
    const BOTH: u8 = 3;
    match (socket.peer, waiting.get(&entry.inode)) {
        (None, _) => Peer::None,
        (Some(0), Some(Some(listener))) => Peer::Waiting(*listener),
        (Some(0), Some(None)) => Peer::Closed,
        // A connection's end that closes shuts the other down; a datagram's doesn't.
        (Some(0), None) if entry.kind == libc::SOCK_DGRAM || socket.shutdown == BOTH => Peer::Closed,
        (Some(0), None) => Peer::Outside(None),
        (Some(inode), _) if ours.contains_key(&inode.into()) => Peer::Socket(inode.into()),
        (Some(_), _) => Peer::Outside(None),
    }
}

fn check_peer(entry: &mut Entry<'_>, cx: &mut Dump<'_>) -> Result<()> {
    if !matches!(entry.unix.peer, Peer::Outside(_)) {
        return Ok(());
    }
    let allowed = cx.options().ext_unix_sk;
    let datagram = entry.kind == libc::SOCK_DGRAM;
    let name = cx.probe(entry.id, |probe, cx| {
        let name = socket::peer_address(probe.fd).ok().and_then(|bytes| address::unix(&bytes));
        let text = name.as_ref().map_or_else(|| "without a name".to_owned(), ImagePath::to_string);
        if !allowed {
            let why = format!("its other end ({text}) belongs to a process outside the container");
            let remedy = if datagram {
                "give --ext-unix-sk to have it connected to that name again at restore"
            } else {
                "give --ext-unix-sk to have it restored as if the other end had closed, or close it first"
            };
            cx.block(probe, why, remedy);
        }
        Ok(name)
    })?;
    // A stream can't be resumed by whoever answers to the name then; a datagram socket can.
    entry.unix.peer = match name {
        Some(name) if datagram => Peer::Outside(Some(name)),
        _ => Peer::Closed,
    };
    Ok(())
}

/// Takes the connections of those listeners where someone who waits has sent something or has closed.
pub(in super::super) fn take(all: &mut [Entry<'_>], cx: &mut Dump<'_>) -> Result<()> {
    let inodes: BTreeMap<u64, FileId> = all.iter().map(|entry| (entry.inode, entry.id)).collect();
    for entry in all {
        let (id, kind) = (entry.id, entry.kind);
        let Some(listening) = &mut entry.unix.listening else { continue };
        let mut needed = false;
        for client in &listening.waiting {
            needed |= match inodes.get(client) {
                Some(client) => has_sent(*client, cx)?,
                None => true,
            };
        }
        if !needed {
            continue;
        }
        let listener = cx.fetch(id)?;
        // Those that are left out are taken, too, when they stand before others; the queue is theirs no more.
        let inodes: Vec<u64> = std::mem::take(&mut listening.waiting);
        for client in inodes {
            let server = socket::accept(listener.as_fd())?;
            listening.taken.push(queue::read_taken(server.as_fd(), kind, cx)?);
            listening.waiting.push(client);
            // Closed now, it would be an error for whoever waits, should the container live on after all.
            cx.hold(Box::new(server));
        }
    }
    Ok(())
}

fn has_sent(client: FileId, cx: &Dump<'_>) -> Result<bool> {
    Ok(socket::queue_length(cx.fetch(client)?.as_fd(), socket::SIOCOUTQ)? > 0)
}

/// Looks at those who wait to be accepted. Gives those who can be saved.
fn check_waiting(entry: &mut Entry<'_>, ours: &BTreeMap<u64, FileId>, cx: &mut Dump<'_>) -> Result<Vec<u64>> {
    let (skip, outside_allowed) = (cx.options().tcp_skip_in_flight, cx.options().ext_unix_sk);
    // Nobody outside may stand among those that are taken.
    let taken =
        cx.kills() && entry.unix.listening.iter().flat_map(|l| &l.waiting).all(|c| *c == 0 || ours.contains_key(c));
    let mut kept = Vec::new();
    for client in entry.unix.listening.iter().flat_map(|l| l.waiting.clone()) {
        let problem = match ours.get(&client) {
            _ if taken => None,
            Some(client) if has_sent(*client, cx)? => {
                Some(("a connection that it has not accepted yet carries data", skip))
            }
            Some(_) => None,
            None if client == 0 => Some(("a connection that it has not accepted yet was closed by its client", skip)),
            None => Some(("a process outside the container waits to be accepted", skip || outside_allowed)),
        };
        match problem {
            None => kept.push(client),
            Some((_, true)) => {}
            Some((why, false)) => cx.probe(entry.id, |probe, cx| {
                cx.block(probe, why, "try again when the program has accepted it, or give --tcp-skip-in-flight");
                Ok(())
            })?,
        }
    }
    if let Some(listening) = &mut entry.unix.listening {
        listening.waiting.clone_from(&kept);
    }
    Ok(kept)
}
