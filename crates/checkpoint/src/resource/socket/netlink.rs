//! Netlink sockets: port, groups, peer. They must be idle: what waits in a queue was made for the moment.
//!
//! Left out: families where the kernel keeps more for a socket than its groups (queues of netfilter, connectors).

use super::base::Base;
use super::sort::Sort;
use crate::error::{Context as _, Result};
use crate::files::dumping::Dump;
use crate::files::restoring::Restore;
use crate::files::{FileRef, Probe};
use rtc_sys::socket;
use rustix::event::PollFlags;
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

/// `NETLINK_ADD_MEMBERSHIP`, `NETLINK_LIST_MEMBERSHIPS` of <linux/netlink.h>.
const ADD_MEMBERSHIP: i32 = 1;
const LIST_MEMBERSHIPS: i32 = 9;
/// `SOL_NETLINK`
const LEVEL: i32 = 270;
/// Room for the memberships of 16384 groups; no family has as many.
const ROOM: usize = 2048;
/// The families whose sockets have no state but this, by `NETLINK_*`: routes, listing of sockets, device events,
/// generic, audit, SELinux.
const FAMILIES: [i32; 6] = [0, 4, 15, 16, 9, 7];

/// A netlink socket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Netlink {
    /// Its port; 0 when it has none yet.
    pub port: u32,
    /// The groups that it listens to, by number.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<u32>,
    /// The port and the mask of groups that it is connected to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<(u32, u32)>,
}

/// Looks at a socket. None when it can't be saved, which is noted.
pub(super) fn describe(probe: &Probe<'_>, sort: Sort, cx: &mut Dump<'_>) -> Result<Option<Netlink>> {
    if !FAMILIES.contains(&sort.protocol) {
        let why = format!("the kernel may keep more than can be read for a netlink socket of family {}", sort.protocol);
        cx.block(probe, why, "let the program close it before the checkpoint");
        return Ok(None);
    }
    // Tasks that run may be in the middle of an exchange.
    if !cx.check_only() && socket::poll_now(probe.fd)?.intersects(PollFlags::IN | PollFlags::ERR) {
        cx.block(probe, "messages of the kernel wait in it", "try again when the program has read them");
        return Ok(None);
    }
    let (port, _) = address(&socket::local_address(probe.fd)?);
    let (to, mask) = address(&socket::peer_address(probe.fd)?);
    let peer = ((to, mask) != (0, 0)).then_some((to, mask));
    Ok(Some(Netlink { port, groups: groups(probe.fd)?, peer }))
}

/// Port and mask of groups of a `struct sockaddr_nl`.
fn address(bytes: &[u8]) -> (u32, u32) {
    let word = |at: usize| bytes.get(at..at + 4).map_or(0, |b| u32::from_ne_bytes(b.try_into().expect("four bytes")));
    (word(4), word(8))
}

fn address_bytes(port: u32, mask: u32) -> Vec<u8> {
    let mut bytes = (libc::AF_NETLINK as u16).to_ne_bytes().to_vec();
    bytes.extend([0, 0]);
    bytes.extend(port.to_ne_bytes());
    bytes.extend(mask.to_ne_bytes());
    bytes
}

fn groups(fd: BorrowedFd<'_>) -> Result<Vec<u32>> {
    let mut bits = vec![0; ROOM];
    let len = socket::option(fd, LEVEL, LIST_MEMBERSHIPS, &mut bits).context(|| "memberships")?;
    // Words of 32 bits; of this machine, whose first byte is the lowest.
    let set = |group: &u32| bits[*group as usize / 8] >> (group % 8) & 1 == 1;
    Ok((0..len.min(ROOM) as u32 * 8).filter(set).map(|bit| bit + 1).collect())
}

/// A socket of the image.
#[derive(Clone, Copy)]
pub(super) struct Entry<'a> {
    pub(super) file: FileRef,
    pub(super) base: &'a Base,
    pub(super) netlink: &'a Netlink,
}

/// Makes all of them and hands them in.
pub(super) fn open(all: &[Entry<'_>], cx: &mut Restore<'_>) -> Result<()> {
    for entry in all {
        let fd = make(*entry).context(|| format!("{}", entry.file.id))?;
        cx.place(entry.file.id, fd)?;
    }
    Ok(())
}

fn make(Entry { base, netlink, .. }: Entry<'_>) -> Result<OwnedFd> {
    let fd = socket::create(base.sort.family, base.sort.kind, base.sort.protocol)?;
    base.options.apply_early(fd.as_fd(), base.sort)?;
    if netlink.port != 0 {
        let context = || format!("netlink port {}", netlink.port);
        socket::bind(fd.as_fd(), &address_bytes(netlink.port, 0)).context(context)?;
    }
    for group in &netlink.groups {
        let group = *group as i32;
        socket::set_int_option(fd.as_fd(), LEVEL, ADD_MEMBERSHIP, group)
            .context(|| format!("netlink group {group}"))?;
    }
    if let Some((port, mask)) = netlink.peer {
        socket::connect(fd.as_fd(), &address_bytes(port, mask))
            .context(|| format!("connect to netlink port {port}"))?;
    }
    Ok(fd)
}
