//! Makes TCP sockets anew. Connections stay in repair mode until the module `finish` ends it.

use super::ghost::{Ghost, Scene};
use super::repair::{self, Agreed, Queue};
use super::{Connection, Failure, Other, State, Tcp};
use crate::error::{Context as _, Result, bad_image};
use crate::files::FileRef;
use crate::files::restoring::Restore;
use crate::image::blob::Blob;
use crate::netlock::{self, Lock, Locked};
use crate::resource::socket::address::inet_bytes;
use crate::resource::socket::base::Base;
use rtc_sys::{Errno, message, socket};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

/// More than any queue has.
const CONTENTS_MAX: usize = 1 << 30;
/// Room for whatever is put into a queue; the buffers' own sizes are set afterwards.
pub(super) const BUFFER: i32 = 1 << 29;

/// What opening leaves for finishing.
#[derive(Default)]
pub(super) struct Kept {
    /// Keeps the other ends out until all connections are whole.
    pub(super) lock: Option<Lock>,
    /// The connections that have one.
    pub(super) locked: Vec<Locked>,
}

/// A TCP socket of the image.
#[derive(Clone, Copy)]
pub(in super::super) struct Entry<'a> {
    pub(in super::super) file: FileRef,
    pub(in super::super) base: &'a Base,
    pub(in super::super) tcp: &'a Tcp,
}

impl<'a> Entry<'a> {
    pub(super) fn connection(&self) -> Option<&'a Connection> {
        self.tcp.connection()
    }

    pub(super) fn reuse(&self) -> i32 {
        i32::from(self.base.options.number("reuseaddr").unwrap_or(0) != 0)
    }
}

/// All TCP sockets of the image, by inode number.
pub(super) type All<'a> = BTreeMap<u64, Entry<'a>>;

/// Makes all TCP sockets of an image and hands them in.
pub(in super::super) fn open(all: &[Entry<'_>], cx: &mut Restore<'_>) -> Result<()> {
    let by_inode: All<'_> = all.iter().map(|entry| (entry.base.inode, *entry)).collect();
    if by_inode.len() != all.len() {
        return Err(bad_image("two sockets have one inode number"));
    }
    let locked = |entry: &Entry<'_>| {
        let outside = entry.connection().filter(|connection| connection.other == Other::Outside)?;
        Some(Locked { local: entry.tcp.local, peer: outside.peer })
    };
    let locked: Vec<Locked> = all.iter().filter_map(locked).collect();
    if !locked.is_empty() {
        let lock = Some(Lock::new(None, &locked)?);
        // What a dump in this very namespace has left.
        netlock::forget(None, &locked)?;
        *cx.kept::<Kept>() = Kept { lock, locked };
    }
    // Listeners come first: they are bound by the rules, connections in repair mode against them.
    for entry in by_inode.values() {
        if let State::Listening { backlog, waiting } = &entry.tcp.state {
            listener(*entry, *backlog, waiting, &by_inode, cx).context(|| noun(*entry))?;
        }
    }
    for entry in by_inode.values() {
        if cx.opened(entry.file.id).is_err() {
            let fd = make(*entry, &by_inode, cx).context(|| noun(*entry))?;
            cx.place(entry.file.id, fd)?;
        }
    }
    Ok(())
}

pub(super) fn noun(entry: Entry<'_>) -> String {
    match entry.connection() {
        Some(connection) => format!("{} ({} to {})", entry.file.id, entry.tcp.local, connection.peer),
        None => format!("{} ({})", entry.file.id, entry.tcp.local),
    }
}

/// Creates the socket, with the options that bind(2) looks at.
fn create(entry: Entry<'_>, cx: &Restore<'_>) -> Result<OwnedFd> {
    let sort = entry.base.sort;
    let fd = match cx.socket(sort.family, sort.kind, sort.protocol) {
        // The other end of an MPTCP listener can't tell the difference until it speaks MPTCP.
        Err(e) if !sort.is_plain_tcp() && matches!(e.errno(), Errno::EPROTONOSUPPORT | Errno::EINVAL) => {
            cx.socket(sort.family, sort.kind, 0)?
        }
        fd => fd?,
    };
    entry.base.options.apply_early(fd.as_fd(), sort)?;
    if let Some(segment) = entry.tcp.segment {
        socket::set_int_option(fd.as_fd(), libc::IPPROTO_TCP, libc::TCP_MAXSEG, segment as i32)?;
    }
    Ok(fd)
}

/// Makes a listener, and puts into its queue those who waited there; before the next listens, which may share
/// its address (`SO_REUSEPORT`) and so get what is meant for this one.
fn listener(entry: Entry<'_>, backlog: u32, waiting: &[u64], all: &All<'_>, cx: &mut Restore<'_>) -> Result<()> {
    let fd = create(entry, cx)?;
    bind(fd.as_fd(), entry.tcp.local)?;
    let backlog = backlog.min(i32::MAX as u32) as i32;
    let room = backlog.max(waiting.len().min(i32::MAX as usize) as i32);
    socket::listen(fd.as_fd(), room)?;
    for client in waiting {
        let client =
            all.get(client).filter(|c| c.connection().is_some_and(|c| c.other == Other::Waiting(entry.base.inode)));
        let Some(client) = client else {
            return Err(bad_image("someone waits in its queue who is not in the image"));
        };
        let peer = client.connection().map_or(client.tcp.local, |connection| connection.peer);
        let client_fd = create_bound(*client, cx)?;
        // The answer comes at once; if it doesn't, restore must not hang.
        let limit = [5_i64.to_ne_bytes(), 0_i64.to_ne_bytes()].concat();
        socket::set_option(client_fd.as_fd(), libc::SOL_SOCKET, libc::SO_SNDTIMEO, &limit)?;
        socket::connect(client_fd.as_fd(), &inet_bytes(peer))?;
        socket::set_option(client_fd.as_fd(), libc::SOL_SOCKET, libc::SO_SNDTIMEO, &[0; 16])?;
        cx.place(client.file.id, client_fd)?;
    }
    if room != backlog {
        socket::listen(fd.as_fd(), backlog)?;
    }
    cx.place(entry.file.id, fd)
}

fn bind(fd: BorrowedFd<'_>, address: SocketAddr) -> Result<()> {
    if address.port() == 0 && address.ip().is_unspecified() {
        return Ok(());
    }
    Ok(socket::bind(fd, &inet_bytes(address))?)
}

/// Creates a socket and binds it, even to an address that others have, who let it when it was first bound.
fn create_bound(entry: Entry<'_>, cx: &Restore<'_>) -> Result<OwnedFd> {
    let fd = create(entry, cx)?;
    if entry.base.sort.is_plain_tcp() {
        repair::on(fd.as_fd())?;
        bind(fd.as_fd(), entry.tcp.local)?;
        repair::off(fd.as_fd())?;
        repair::set_reuse(fd.as_fd(), entry.reuse())?;
    } else {
        bind(fd.as_fd(), entry.tcp.local)?;
    }
    Ok(fd)
}

fn make(entry: Entry<'_>, all: &All<'_>, cx: &Restore<'_>) -> Result<OwnedFd> {
    match &entry.tcp.state {
        State::Closed => create_bound(entry, cx),
        State::Ended { error, received } => ended(entry, *error, *received, cx),
        State::Connecting { peer } => connecting(entry, *peer, cx),
        State::Connected(connection) if matches!(connection.other, Other::Waiting(_)) => {
            Err(bad_image("it waits at a listener that doesn't know of it"))
        }
        State::Connected(connection) => connected(entry, connection, all, cx),
        State::Listening { .. } => Err(bad_image("a listener was not made with the others")),
    }
}

/// Sends a new SYN. Whatever becomes of it, its task learns as it would have.
fn connecting(entry: Entry<'_>, peer: SocketAddr, cx: &Restore<'_>) -> Result<OwnedFd> {
    let fd = create_bound(entry, cx)?;
    rustix::io::ioctl_fionbio(&fd, true).map_err(std::io::Error::from)?;
    match socket::connect(fd.as_fd(), &inet_bytes(peer)) {
        Err(e) if e.errno() != Errno::EINPROGRESS => log::warn!("{}: {e}", noun(entry)),
        _ => {}
    }
    Ok(fd)
}

/// A socket whose connection is over: it has one, which a ghost ends.
fn ended(entry: Entry<'_>, error: Option<Failure>, received: Option<Blob>, cx: &Restore<'_>) -> Result<OwnedFd> {
    let fd = create(entry, cx)?;
    // The other address is nowhere to be seen afterwards; only nobody must have it.
    let nobody = socket::create(entry.base.sort.family, libc::SOCK_STREAM, 0)?;
    socket::bind(nobody.as_fd(), &inet_bytes(SocketAddr::new(entry.tcp.local.ip(), 0)))?;
    let ghost = crate::resource::socket::address::inet(&socket::local_address(nobody.as_fd())?);
    let ghost = ghost.ok_or_else(|| bad_image("no internet address"))?;
    let scene = Scene { ghost, socket: entry.tcp.local, sequence: 1, acknowledged: 1, segment: 1460, scale: None };
    let bytes = contents(received, cx)?;
    repair::on(fd.as_fd())?;
    repair::set_sequences(fd.as_fd(), 1, 1)?;
    bind(fd.as_fd(), entry.tcp.local)?;
    if error == Some(Failure::Refused) {
        repair::off(fd.as_fd())?;
        rustix::io::ioctl_fionbio(&fd, true).map_err(std::io::Error::from)?;
        // It is bound and does not listen, so that a RST is the answer.
        let _: rtc_sys::Result<()> = socket::connect(fd.as_fd(), &inet_bytes(ghost));
    } else {
        socket::connect(fd.as_fd(), &inet_bytes(ghost))?;
        // By that a later dump tells that it was connected.
        repair::agree(fd.as_fd(), Agreed { segment: 1460, scale: None, sack: true, timestamp: None })?;
        fill_received(fd.as_fd(), &bytes)?;
        drop(nobody);
        let end = Scene { sequence: 1_u32.wrapping_add(bytes.len() as u32), ..scene };
        let ghost = Ghost::appear(end)?;
        repair::off(fd.as_fd())?;
        ghost.reset()?;
    }
    if error.is_none() {
        socket::int_option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_ERROR)?;
    }
    repair::set_reuse(fd.as_fd(), entry.reuse())?;
    Ok(fd)
}

/// A connection in repair mode, with its receive queue full.
fn connected(entry: Entry<'_>, connection: &Connection, all: &All<'_>, cx: &Restore<'_>) -> Result<OwnedFd> {
    let fd = create(entry, cx)?;
    let start = send_start(entry, connection, all)?;
    repair::on(fd.as_fd())?;
    repair::set_sequences(fd.as_fd(), start, connection.received.sequence)?;
    bind(fd.as_fd(), entry.tcp.local).context(|| "bind")?;
    socket::connect(fd.as_fd(), &inet_bytes(connection.peer))?;
    let Connection { segment, scale, sack, timestamp, .. } = *connection;
    repair::agree(fd.as_fd(), Agreed { segment, scale, sack, timestamp })?;
    fill_received(fd.as_fd(), &contents(connection.received.contents, cx)?)?;
    repair::set_window(fd.as_fd(), window(entry, connection, all)?).context(|| "set the windows")?;
    Ok(fd)
}

/// The sequence number at which sending goes on: what an end in the image has received needs no sending again.
pub(super) fn send_start(entry: Entry<'_>, connection: &Connection, all: &All<'_>) -> Result<u32> {
    let Other::Inside(inode) = connection.other else { return Ok(connection.sent.sequence) };
    let other = other_end(entry, inode, all)?;
    let start = received_end(other);
    let len = connection.sent.contents.map_or(0, Blob::size);
    let passed = start.wrapping_sub(connection.sent.sequence);
    if u64::from(passed) > len {
        return Err(bad_image("its other end has received what it has not sent"));
    }
    Ok(start)
}

/// The other end, by its inode number, which must agree.
fn other_end<'a>(entry: Entry<'_>, inode: u64, all: &All<'a>) -> Result<&'a Connection> {
    let other = all.get(&inode).and_then(Entry::connection);
    let agree = |other: &&Connection| other.other == Other::Inside(entry.base.inode);
    other.filter(agree).ok_or_else(|| bad_image(format!("its other end, socket {inode}, is no connection to it")))
}

/// The sequence number behind the last byte received, FIN left out.
pub(super) fn received_end(connection: &Connection) -> u32 {
    let len = connection.received.contents.map_or(0, Blob::size);
    connection.received.sequence.wrapping_add(len as u32)
}

/// The windows as they fit to the numbers at which both directions go on.
fn window(entry: Entry<'_>, connection: &Connection, all: &All<'_>) -> Result<super::Window> {
    let mut window = connection.window;
    let end = received_end(connection);
    // A FIN that comes again does not count yet.
    if end.wrapping_sub(window.rcv_wup) > u32::MAX / 2 {
        window.rcv_wnd = window.rcv_wnd.saturating_add(window.rcv_wup.wrapping_sub(end));
        window.rcv_wup = end;
    }
    if let Other::Inside(inode) = connection.other {
        let other = other_end(entry, inode, all)?;
        let right = other.window.rcv_wup.wrapping_add(other.window.rcv_wnd);
        let room = right.wrapping_sub(received_end(other));
        window.snd_wnd = if room > u32::MAX / 2 { 0 } else { room };
        window.max_window = window.max_window.max(window.snd_wnd);
        window.snd_wl1 = end;
    }
    Ok(window)
}

pub(super) fn contents(blob: Option<Blob>, cx: &Restore<'_>) -> Result<Vec<u8>> {
    Ok(blob.map(|blob| cx.env().blobs.bytes(blob, CONTENTS_MAX)).transpose()?.unwrap_or_default())
}

fn fill_received(fd: BorrowedFd<'_>, bytes: &[u8]) -> Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    socket::set_int_option(fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, BUFFER)?;
    repair::select(fd, Queue::Receive)?;
    send_all(fd, bytes).context(|| "fill the receive queue")?;
    repair::select(fd, Queue::None)
}

/// Sends everything; in repair mode, puts it into the selected queue.
pub(super) fn send_all(fd: BorrowedFd<'_>, bytes: &[u8]) -> Result<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let sent = message::send(fd, rest, message::Extra::default(), libc::MSG_DONTWAIT)?;
        rest = &rest[sent..];
    }
    Ok(())
}
