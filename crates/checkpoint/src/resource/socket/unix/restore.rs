//! Makes unix sockets anew: bound, listening, connected; their queues are filled later ([`super::fill`]).
//!
//! An accepted socket has its listener's name without being bound to it, which only accept(2) can bring about:
//! such a connection is made anew by connecting to the listener, or to a stand-in for one that is gone.

use super::spot::{Scratch, Spot};
use super::{Credentials, Listening, Peer, Unix};
use crate::error::{Context as _, Result, bad_image};
use crate::files::FileRef;
use crate::files::restoring::Restore;
use crate::image::path::ImagePath;
use crate::resource::socket::base::Base;
use rtc_sys::identity::{Identity, acting_as};
use rtc_sys::{CallExt as _, socket};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What opening leaves for finishing.
#[derive(Default)]
pub(super) struct Kept {
    /// Where bound sockets are reached, by inode number.
    pub(super) spots: BTreeMap<u64, Spot>,
    /// Other ends that were closed and must still send or close, by the inode number of their peer.
    pub(super) closing: BTreeMap<u64, OwnedFd>,
    /// Clients that were closed while they waited, by the listener's inode number and their place in its queue.
    pub(super) gone: BTreeMap<(u64, usize), OwnedFd>,
    pub(super) scratch: Scratch,
}

/// A unix socket of the image.
#[derive(Clone, Copy)]
pub(in super::super) struct Entry<'a> {
    pub(in super::super) file: FileRef,
    pub(in super::super) base: &'a Base,
    pub(in super::super) unix: &'a Unix,
}

struct Build<'a, 'b, 'c> {
    all: BTreeMap<u64, Entry<'a>>,
    made: BTreeMap<u64, OwnedFd>,
    kept: Kept,
    cx: &'b mut Restore<'c>,
}

/// The steps, in order.
const STEPS: &[fn(&mut Build<'_, '_, '_>) -> Result<()>] = &[
    // Accepted sockets come from them.
    |build| build.listeners(),
    // Before the rest is bound: a stand-in listener may need a name that somebody else has taken since.
    |build| build.connections(),
    |build| build.datagram_pairs(),
    |build| build.rest(),
    // Last, so that nobody else is in a listener's queue before.
    |build| build.waiting(),
    |build| build.backlogs(),
];

/// Makes all unix sockets of an image and hands them in.
pub(in super::super) fn open(all: &[Entry<'_>], cx: &mut Restore<'_>) -> Result<()> {
    let by_inode = all.iter().map(|entry| (entry.base.inode, *entry)).collect::<BTreeMap<_, _>>();
    if by_inode.len() != all.len() {
        return Err(bad_image("two sockets have one inode number"));
    }
    let mut build = Build { all: by_inode, made: BTreeMap::new(), kept: Kept::default(), cx };
    for step in STEPS {
        step(&mut build)?;
    }
    let Build { all, made, kept, cx } = build;
    for (inode, fd) in made {
        cx.place(all[&inode].file.id, fd)?;
    }
    *cx.kept() = kept;
    Ok(())
}

impl<'a> Build<'a, '_, '_> {
    fn entries(&self) -> Vec<Entry<'a>> {
        self.all.values().copied().collect()
    }

    /// Creates the socket of `entry`, with the options that bind(2) looks at.
    fn create(&self, entry: Entry<'_>) -> Result<OwnedFd> {
        let sort = entry.base.sort;
        let fd = socket::create(libc::AF_UNIX, sort.kind, 0)?;
        entry.base.options.apply_early(fd.as_fd(), sort)?;
        Ok(fd)
    }

    /// Creates and binds the socket of `entry`.
    fn create_bound(&mut self, entry: Entry<'_>) -> Result<OwnedFd> {
        let fd = self.create(entry)?;
        if let Some(spot) = Spot::bind(fd.as_fd(), entry.unix, &mut self.kept.scratch, self.cx)? {
            self.kept.spots.insert(entry.base.inode, spot);
        }
        Ok(fd)
    }

    fn add(&mut self, inode: u64, fd: OwnedFd) -> Result<()> {
        match self.made.insert(inode, fd) {
            None => Ok(()),
            Some(_) => Err(bad_image(format!("socket {inode} has two peers"))),
        }
    }

    fn listeners(&mut self) -> Result<()> {
        for entry in self.entries() {
            let Some(Listening { backlog, waiting, .. }) = &entry.unix.listening else { continue };
            let fd = self.create_bound(entry)?;
            let room = (*backlog as usize).max(waiting.len()).min(i32::MAX as usize) as i32;
            acting(entry.unix.credentials.as_ref(), || Ok(socket::listen(fd.as_fd(), room)?))?;
            self.add(entry.base.inode, fd)?;
        }
        Ok(())
    }

    /// Streams and sequenced packets with another end, also one that is closed.
    fn connections(&mut self) -> Result<()> {
        for entry in self.entries() {
            let inode = entry.base.inode;
            if entry.is_datagram() || entry.unix.listening.is_some() || self.made.contains_key(&inode) {
                continue;
            }
            match entry.unix.peer {
                Peer::None | Peer::Waiting(_) | Peer::Outside(_) => {}
                Peer::Closed => {
                    let (fd, other) = self.connection(entry, None)?;
                    self.kept.closing.insert(inode, other);
                    self.add(inode, fd)?;
                }
                Peer::Socket(other) => {
                    let peer = self.peer(entry, other)?;
                    let (fd, other_fd) = self.connection(entry, Some(peer))?;
                    self.add(inode, fd)?;
                    self.add(other, other_fd)?;
                }
            }
        }
        Ok(())
    }

    /// The entry of the socket that `entry` names as its peer.
    fn peer(&self, entry: Entry<'_>, inode: u64) -> Result<Entry<'a>> {
        let peer = self.all.get(&inode).filter(|peer| {
            peer.base.sort == entry.base.sort && peer.unix.listening.is_none() && inode != entry.base.inode
        });
        peer.copied().ok_or_else(|| bad_image(format!("socket {} can't have the peer {inode}", entry.base.inode)))
    }

    /// A connection between `entry` and `other`, or someone without a name if that is closed: both ends in this order.
    fn connection(&mut self, entry: Entry<'_>, other: Option<Entry<'_>>) -> Result<(OwnedFd, OwnedFd)> {
        let other_name = other.and_then(|other| other.unix.name.as_ref());
        match (&entry.unix.name, other_name) {
            (None, None) => {
                let make = || Ok(socket::pair(entry.base.sort.kind)?);
                acting(entry.unix.credentials.as_ref(), make)
            }
            // Who has a listener's name was accepted.
            (Some(name), other_name) if other_name.is_none() || self.listener_of(entry, name).is_some() => {
                let (client, server) = self.accepted(other, entry)?;
                Ok((server, client))
            }
            (_, _) => self.accepted(Some(entry), other.expect("who has a name is there")),
        }
    }

    /// Has `client` connect to a listener with `server`'s name, and gives both ends.
    fn accepted(&mut self, client: Option<Entry<'_>>, server: Entry<'_>) -> Result<(OwnedFd, OwnedFd)> {
        let kind = server.base.sort.kind;
        let client_fd = match client {
            Some(client) => self.create_bound(client)?,
            None => socket::create(libc::AF_UNIX, kind, 0)?,
        };
        let name = server.unix.name.as_ref().expect("the caller has seen a name");
        let stand_in;
        let (listener, spot) = match self.listener_of(server, name) {
            Some(inode) => (self.made[&inode].as_fd(), &self.kept.spots[&inode]),
            None => {
                let fd = socket::create(libc::AF_UNIX, kind, 0)?;
                let spot = Spot::bind_aside(fd.as_fd(), name, &mut self.kept.scratch, self.cx)?;
                // Whom the client sees as its peer.
                acting(client.and_then(|c| c.unix.credentials.as_ref()), || Ok(socket::listen(fd.as_fd(), 1)?))?;
                stand_in = (fd, spot);
                (stand_in.0.as_fd(), &stand_in.1)
            }
        };
        connect(client_fd.as_fd(), spot, server.unix.credentials.as_ref(), self.cx)?;
        Ok((client_fd, socket::accept(listener)?))
    }

    /// The inode number of the listener, made already, that has accepted `server`.
    fn listener_of(&self, server: Entry<'_>, name: &ImagePath) -> Option<u64> {
        let is = |entry: &&Entry<'_>| {
            entry.unix.listening.is_some()
                && entry.unix.name.as_ref() == Some(name)
                && entry.base.sort == server.base.sort
                && entry.unix.node.as_ref().map(|node| &node.path) == server.unix.node.as_ref().map(|node| &node.path)
        };
        self.all.values().find(is).map(|entry| entry.base.inode)
    }

    /// A datagram socket whose peer has no name was made along with it.
    fn datagram_pairs(&mut self) -> Result<()> {
        for entry in self.entries().into_iter().filter(Entry::is_datagram) {
            let inode = entry.base.inode;
            match entry.unix.peer {
                Peer::Socket(other) if self.all.get(&other).is_some_and(|other| other.unix.name.is_none()) => {
                    if self.made.contains_key(&inode) && self.made.contains_key(&other) {
                        continue;
                    }
                    self.peer(entry, other)?;
                    let (fd, other_fd) = self.pair(entry)?;
                    self.add(inode, fd)?;
                    self.add(other, other_fd)?;
                }
                // With a name it may have messages from before it was connected: see fill::connect_datagrams.
                Peer::Closed if entry.unix.name.is_none() => {
                    let (fd, other) = self.pair(entry)?;
                    self.kept.closing.insert(inode, other);
                    self.add(inode, fd)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn pair(&mut self, entry: Entry<'_>) -> Result<(OwnedFd, OwnedFd)> {
        acting(entry.unix.credentials.as_ref(), || Ok(socket::pair(entry.base.sort.kind)?))
    }

    /// Binds those of [`Build::datagram_pairs`] and makes all others.
    fn rest(&mut self) -> Result<()> {
        for entry in self.entries() {
            let inode = entry.base.inode;
            if let Some(fd) = self.made.get(&inode) {
                if entry.is_datagram() {
                    if let Some(spot) = Spot::bind(fd.as_fd(), entry.unix, &mut self.kept.scratch, self.cx)? {
                        self.kept.spots.insert(inode, spot);
                    }
                }
                continue;
            }
            let fd = self.create_bound(entry)?;
            self.add(inode, fd)?;
        }
        Ok(())
    }

    /// Sets the backlog where more waits than it lets in.
    fn backlogs(&mut self) -> Result<()> {
        for entry in self.entries() {
            let Some(Listening { backlog, waiting, .. }) = &entry.unix.listening else { continue };
            if waiting.len() > *backlog as usize {
                let fd = &self.made[&entry.base.inode];
                acting(entry.unix.credentials.as_ref(), || Ok(socket::listen(fd.as_fd(), *backlog as i32)?))?;
            }
        }
        Ok(())
    }

    /// Puts connections that nobody has accepted back into their listener's queue.
    fn waiting(&mut self) -> Result<()> {
        let mut connected = BTreeSet::new();
        for entry in self.entries() {
            for (n, client) in entry.unix.listening.iter().flat_map(|listening| &listening.waiting).enumerate() {
                let spot = &self.kept.spots[&entry.base.inode];
                if *client == 0 {
                    let fd = socket::create(libc::AF_UNIX, entry.base.sort.kind, 0)?;
                    connect_at_once(fd.as_fd(), spot, None, self.cx)?;
                    self.kept.gone.insert((entry.base.inode, n), fd);
                    continue;
                }
                let is_client = |c: &&Entry<'_>| c.unix.peer == Peer::Waiting(entry.base.inode);
                let Some(client_entry) = self.all.get(client).filter(is_client) else {
                    return Err(bad_image(format!("socket {client} does not wait for socket {}", entry.base.inode)));
                };
                if !connected.insert(*client) {
                    return Err(bad_image(format!("socket {client} waits twice")));
                }
                // Whom the server will see; the client's own answer names the listener.
                let (uid, gid) = (client_entry.base.owner.uid, client_entry.base.owner.gid);
                let creator = Credentials { uid, gid, ..Credentials::default() };
                connect_at_once(self.made[client].as_fd(), spot, Some(&creator), self.cx)?;
            }
        }
        Ok(())
    }
}

impl Entry<'_> {
    pub(super) fn is_datagram(&self) -> bool {
        self.base.sort.kind == libc::SOCK_DGRAM
    }
}

/// Runs `act` as whoever `credentials` name, whom the kernel writes into the sockets.
fn acting<T>(credentials: Option<&Credentials>, act: impl FnOnce() -> Result<T>) -> Result<T> {
    match credentials {
        None => act(),
        Some(who) => acting_as(Identity { uid: who.uid, gid: who.gid, groups: &who.groups }, act)?,
    }
}

fn connect(fd: BorrowedFd<'_>, spot: &Spot, who: Option<&Credentials>, cx: &Restore<'_>) -> Result<()> {
    spot.within(cx, |address| acting(who, || Ok(socket::connect(fd, address)?))).context(|| "connect a unix socket")
}

/// Connects where nobody accepts: more than the queue holds would wait for ever, and are an error.
fn connect_at_once(fd: BorrowedFd<'_>, spot: &Spot, who: Option<&Credentials>, cx: &Restore<'_>) -> Result<()> {
    let non_blocking = |on| rustix::io::ioctl_fionbio(fd, on).call("ioctl", "FIONBIO");
    non_blocking(true)?;
    connect(fd, spot, who, cx)?;
    Ok(non_blocking(false)?)
}
