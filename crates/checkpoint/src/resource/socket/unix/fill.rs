//! Fills the queues of unix sockets, and brings them to the state they were in.

use super::restore::{Entry, Kept};
use super::spot::Spot;
use super::{Message, Peer, Queue};
use crate::error::{Context as _, Result, bad_image};
use crate::files::restoring::Restore;
use crate::image::path::ImagePath;
use rtc_sys::message::{self, Extra};
use rtc_sys::{Errno, socket};
use std::collections::{BTreeMap, btree_map};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// More than any queue has: the sum of its senders' buffers.
const CONTENTS_MAX: usize = 1 << 30;
/// Room in a sender's buffer for whatever it sends here; its own size is set afterwards.
const SEND_BUFFER: i32 = 1 << 29;

struct Filling<'a, 'b, 'c> {
    all: BTreeMap<u64, Entry<'a>>,
    kept: Kept,
    cx: &'b mut Restore<'c>,
}

/// The steps, in order.
const STEPS: &[fn(&mut Filling<'_, '_, '_>) -> Result<()>] = &[
    |filling| filling.fill(),
    |filling| filling.fill_waiting(),
    // A connected datagram socket takes messages from its peer alone, and a queue may hold others' from before.
    |filling| filling.connect_datagrams(),
    |filling| filling.close(),
    |filling| filling.shut_down(),
];

/// The last touch to all unix sockets of an image.
pub(in super::super) fn finish(all: &[Entry<'_>], cx: &mut Restore<'_>) -> Result<()> {
    let kept = std::mem::take(cx.kept::<Kept>());
    let all = all.iter().map(|entry| (entry.base.inode, *entry)).collect();
    let mut filling = Filling { all, kept, cx };
    STEPS.iter().try_for_each(|step| step(&mut filling))
}

impl<'a> Filling<'a, '_, '_> {
    fn entries(&self) -> Vec<Entry<'a>> {
        self.all.values().copied().collect()
    }

    fn fd(&self, entry: Entry<'_>) -> Result<BorrowedFd<'_>> {
        self.cx.opened(entry.file.id)
    }

    fn fill(&mut self) -> Result<()> {
        for entry in self.entries().into_iter().filter(|entry| !entry.unix.queue.messages.is_empty()) {
            self.fill_one(entry).context(|| format!("the queue of {}", entry.file.id))?;
        }
        Ok(())
    }

    fn fill_one(&self, entry: Entry<'_>) -> Result<()> {
        let Queue { contents, messages } = &entry.unix.queue;
        let contents = contents.map(|blob| self.cx.env().blobs.bytes(blob, CONTENTS_MAX)).transpose()?;
        let mut rest = contents.as_deref().unwrap_or_default();
        let mut strangers = Strangers::default();
        for message in messages {
            let bytes = take_front(&mut rest, message)?;
            if entry.is_datagram() {
                self.send_datagram(entry, message, bytes, &mut strangers)?;
            } else {
                let sender = self.other_end(entry)?;
                self.send(sender, message, bytes, &[])?;
            }
        }
        Ok(())
    }

    /// Has those who wait to be accepted send what they had sent.
    fn fill_waiting(&mut self) -> Result<()> {
        for entry in self.entries() {
            let listening = entry.unix.listening.iter();
            for (n, (client, queue)) in listening.flat_map(|l| l.waiting.iter().zip(&l.taken)).enumerate() {
                let contents = queue.contents.map(|blob| self.cx.env().blobs.bytes(blob, CONTENTS_MAX)).transpose()?;
                let mut rest = contents.as_deref().unwrap_or_default();
                let sender = match (self.kept.gone.get(&(entry.base.inode, n)), self.all.get(client)) {
                    (Some(gone), _) => gone.as_fd(),
                    (None, Some(client)) => self.fd(*client)?,
                    (None, None) => return Err(bad_image(format!("nobody waits as socket {client}"))),
                };
                for message in &queue.messages {
                    self.send(sender, message, take_front(&mut rest, message)?, &[])?;
                }
            }
        }
        self.kept.gone.clear();
        Ok(())
    }

    /// The other end of a connection, or of a pair of datagram sockets.
    fn other_end(&self, entry: Entry<'_>) -> Result<BorrowedFd<'_>> {
        if let Some(fd) = self.kept.closing.get(&entry.base.inode) {
            return Ok(fd.as_fd());
        }
        match entry.unix.peer {
            Peer::Socket(inode) if self.all.contains_key(&inode) => self.fd(self.all[&inode]),
            _ => Err(bad_image("nobody can have sent what is in it")),
        }
    }

    fn send_datagram(&self, to: Entry<'_>, message: &Message, bytes: &[u8], strangers: &mut Strangers) -> Result<()> {
        let Some(spot) = self.kept.spots.get(&to.base.inode) else {
            let sender = self.other_end(to)?;
            return self.send(sender, message, bytes, &[]);
        };
        // A socket of ours with that name, preferably one that is connected to the receiver.
        let named = |entry: &&Entry<'_>| entry.is_datagram() && entry.unix.name == message.from;
        let connected = |entry: &&Entry<'_>| entry.unix.peer == Peer::Socket(to.base.inode);
        let candidates = || self.all.values().filter(named);
        let sender = candidates().find(connected).or_else(|| candidates().find(|_| message.from.is_some()));
        let sender = match sender {
            Some(entry) => self.fd(*entry)?,
            None => strangers.get(message.from.as_ref(), self.cx)?,
        };
        spot.within(self.cx, |address| self.send(sender, message, bytes, address))
    }

    fn send(&self, from: BorrowedFd<'_>, message: &Message, bytes: &[u8], address: &[u8]) -> Result<()> {
        let files = message.files.iter().map(|id| self.cx.opened(*id)).collect::<Result<Vec<_>>>()?;
        let mut extra = Extra { address, rights: &files, credentials: None };
        if let Some(who) = &message.credentials {
            let Some(pid) = self.cx.host_pid(who.pid) else {
                return Err(bad_image(format!("a message is from pid {}, which is not in the image", who.pid)));
            };
            extra.credentials = Some(message::Credentials { pid, uid: who.uid, gid: who.gid });
        }
        socket::set_int_option(from, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, SEND_BUFFER)?;
        let mut rest = bytes;
        loop {
            let sent = message::send(from, rest, extra, libc::MSG_DONTWAIT)?;
            rest = rest.get(sent..).unwrap_or_default();
            if rest.is_empty() {
                return Ok(());
            }
            // A stream takes them in pieces; control data went with the first.
            extra = Extra { address, ..Extra::default() };
        }
    }

    fn connect_datagrams(&mut self) -> Result<()> {
        for entry in self.in_order_of_connecting() {
            match &entry.unix.peer {
                Peer::Socket(inode) => {
                    // A peer without a name was made along with it.
                    if let Some(spot) = self.kept.spots.get(inode) {
                        let fd = self.fd(entry)?;
                        spot.within(self.cx, |address| Ok(socket::connect(fd, address)?))?;
                    }
                }
                Peer::Outside(Some(name)) => self.reconnect(entry, name)?,
                Peer::Closed if entry.unix.name.is_some() => connect_to_nobody(self.fd(entry)?)?,
                // It was made as one end of a pair, and has left it since.
                Peer::None if self.is_end_of_pair(entry) => {
                    socket::connect(self.fd(entry)?, &(libc::AF_UNSPEC as u16).to_ne_bytes())?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// A socket that is connected to another can't be connected to by a third: the third goes first.
    fn in_order_of_connecting(&self) -> Vec<Entry<'a>> {
        let target = |entry: &Entry<'_>| match entry.unix.peer {
            Peer::Socket(inode) => Some(inode),
            _ => None,
        };
        let mut to_come: BTreeMap<u64, usize> = BTreeMap::new();
        let datagrams: Vec<Entry<'a>> = self.entries().into_iter().filter(Entry::is_datagram).collect();
        for inode in datagrams.iter().filter_map(target) {
            *to_come.entry(inode).or_default() += 1;
        }
        let mut order = Vec::new();
        let mut ready: Vec<Entry<'a>> =
            datagrams.iter().filter(|e| !to_come.contains_key(&e.base.inode)).copied().collect();
        while let Some(entry) = ready.pop() {
            order.push(entry);
            let next = target(&entry).and_then(|inode| Some((self.all.get(&inode)?, to_come.get_mut(&inode)?)));
            if let Some((next, count)) = next {
                *count -= 1;
                if *count == 0 {
                    ready.push(*next);
                }
            }
        }
        // What is left goes in a circle: two that are each other's peer, in any order.
        let done: std::collections::BTreeSet<u64> = order.iter().map(|e| e.base.inode).collect();
        order.extend(datagrams.into_iter().filter(|e| !done.contains(&e.base.inode)));
        order
    }

    fn is_end_of_pair(&self, entry: Entry<'_>) -> bool {
        entry.unix.name.is_none() && self.all.values().any(|e| e.unix.peer == Peer::Socket(entry.base.inode))
    }

    /// Connects to a service outside the container; if it is gone, to one that goes at once,
    /// so that the program learns it as it would have learnt of the service's end.
    fn reconnect(&self, entry: Entry<'_>, name: &ImagePath) -> Result<()> {
        let fd = self.fd(entry)?;
        match Spot::named(name)?.within(self.cx, |address| Ok(socket::connect(fd, address)?)) {
            Err(e) if e.sys().is_some_and(|e| matches!(e.errno(), Errno::ENOENT | Errno::ECONNREFUSED)) => {
                log::warn!("{}: nobody answers to \"{name}\": {e}", entry.file.id);
                connect_to_nobody(fd)
            }
            result => result,
        }
    }

    /// Closes the other ends that were closed, leaving an error if there was one.
    fn close(&mut self) -> Result<()> {
        for (inode, fd) in std::mem::take(&mut self.kept.closing) {
            let entry = self.all[&inode];
            if entry.unix.reset {
                // Closed with something unread.
                message::send(self.fd(entry)?, b"!", Extra::default(), libc::MSG_DONTWAIT)?;
            }
            drop(fd);
        }
        Ok(())
    }

    fn shut_down(&mut self) -> Result<()> {
        for entry in self.entries() {
            // An end's shutting down is the other's too, the other way round; the rest is as it was closed.
            let how = match entry.unix.shutdown & 3 {
                1 => libc::SHUT_RD,
                2 => libc::SHUT_WR,
                3 => libc::SHUT_RDWR,
                _ => continue,
            };
            if entry.unix.peer != Peer::Closed {
                socket::shutdown(self.fd(entry)?, how)?;
            }
        }
        Ok(())
    }
}

/// The message's bytes, off the front of the queue's.
fn take_front<'a>(rest: &mut &'a [u8], message: &Message) -> Result<&'a [u8]> {
    let split = rest.split_at_checked(message.len as usize);
    let (bytes, after) = split.ok_or_else(|| bad_image("a message is longer than its queue"))?;
    *rest = after;
    Ok(bytes)
}

/// Connects a datagram socket to a peer that is gone at once.
fn connect_to_nobody(fd: BorrowedFd<'_>) -> Result<()> {
    let gone = socket::create(libc::AF_UNIX, libc::SOCK_DGRAM, 0)?;
    // An address of its family alone: the kernel chooses an abstract name.
    socket::bind(gone.as_fd(), &(libc::AF_UNIX as u16).to_ne_bytes())?;
    Ok(socket::connect(fd, &socket::local_address(gone.as_fd())?)?)
}

/// Senders of datagrams that are gone: sockets with their names, for a moment.
#[derive(Default)]
struct Strangers {
    scratch: super::spot::Scratch,
    made: BTreeMap<Option<ImagePath>, OwnedFd>,
}

impl Strangers {
    fn get(&mut self, name: Option<&ImagePath>, cx: &Restore<'_>) -> Result<BorrowedFd<'_>> {
        let fd: &OwnedFd = match self.made.entry(name.cloned()) {
            btree_map::Entry::Occupied(made) => made.into_mut(),
            btree_map::Entry::Vacant(place) => {
                let fd = socket::create(libc::AF_UNIX, libc::SOCK_DGRAM, 0)?;
                if let Some(name) = name {
                    Spot::bind_aside(fd.as_fd(), name, &mut self.scratch, cx)?;
                }
                place.insert(fd)
            }
        };
        Ok(fd.as_fd())
    }
}
