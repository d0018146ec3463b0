//! Sockets of every family that can be saved.
//!
//! Each is looked at by a descriptor of the same description; what that does not tell comes from sock_diag.
//! All sockets of an image are made together, because connections need both their ends. Those of the internet families
//! are made in the container's control group ([`Restore::socket`]), whose programs are to see their packets.
//!
//! Left out: the error queue (`MSG_ERRQUEUE`), and options that can't be read back (see `option_table`).

mod address;
pub mod base;
pub mod datagram;
mod hex;
pub mod netlink;
mod option_table;
pub mod options;
pub mod packet;
mod privilege;
pub mod sort;
pub mod tcp;
pub mod unix;

use crate::error::{Context as _, Result, bad_image};
use crate::files::dumping::Dump;
use crate::files::resource::Resource;
use crate::files::restoring::Restore;
use crate::files::{FileId, FileRef, Probe, Table};
use crate::program::{Program, TargetFd};
use base::{Base, Owner};
use options::Options;
pub(crate) use privilege::Privilege;
use serde::{Deserialize, Serialize};
use sort::Sort;
use std::os::fd::OwnedFd;

/// A socket.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Socket {
    /// What all sockets have.
    #[serde(flatten)]
    pub base: Base,
    /// What its family adds.
    pub detail: Detail,
}

/// What a family adds to a socket.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Detail {
    /// `AF_UNIX`
    Unix(Box<unix::Unix>),
    /// `AF_INET` and `AF_INET6`, stream
    Tcp(Box<tcp::Tcp>),
    /// `AF_INET` and `AF_INET6`, without connections
    Datagram(Box<datagram::Datagram>),
    /// `AF_NETLINK`
    Netlink(netlink::Netlink),
    /// `AF_PACKET`
    Packet(packet::Packet),
}

impl Detail {
    fn of(probe: &Probe<'_>, sort: Sort, cx: &mut Dump<'_>) -> Result<Option<Self>> {
        Ok(match sort.family {
            libc::AF_UNIX => unix::dump::describe(probe, sort, cx)?.map(|unix| Self::Unix(Box::new(unix))),
            libc::AF_PACKET => packet::describe(probe, cx)?.map(Self::Packet),
            libc::AF_NETLINK => netlink::describe(probe, sort, cx)?.map(Self::Netlink),
            _ if sort.is_tcp() => tcp::dump::describe(probe, sort, cx)?.map(|tcp| Self::Tcp(Box::new(tcp))),
            _ if datagram::is(sort) => datagram::describe(probe, sort, cx)?.map(|one| Self::Datagram(Box::new(one))),
            _ => {
                let why = format!("sockets of the family {} can't be saved", sort::family_name(sort));
                cx.block(probe, why, "let the program close it before the checkpoint");
                None
            }
        })
    }
}

impl Resource for Socket {
    fn recognises(probe: &Probe<'_>, _cx: &Dump<'_>) -> bool {
        // The node of a unix socket, opened with O_PATH, is of the same type.
        probe.file_type() == libc::S_IFSOCK && probe.flags & libc::O_PATH == 0
    }

    fn dump(probe: &Probe<'_>, cx: &mut Dump<'_>) -> Result<Option<Self>> {
        let sort = Sort::of(probe.fd)?;
        if !base::is_at_home(probe, cx)? {
            let why = "it belongs to another network namespace than the container";
            cx.block(probe, why, "let the program close it before the checkpoint");
            return Ok(None);
        }
        let Some(detail) = Detail::of(probe, sort, cx)? else { return Ok(None) };
        let Ok(options) = Options::read(probe.fd, sort)? else {
            cx.block(probe, "it has an eBPF filter, which can't be read back", "detach it before the checkpoint");
            return Ok(None);
        };
        let owner = Owner { uid: probe.stat.st_uid, gid: probe.stat.st_gid };
        let base = Base { inode: probe.stat.st_ino, sort, owner, options };
        Ok(Some(Self { base, detail }))
    }

    const COMPLETES: bool = true;

    fn complete(&mut self, probe: &Probe<'_>, cx: &mut Dump<'_>) -> Result<()> {
        match &mut self.detail {
            Detail::Unix(unix) => unix::dump::complete(unix, probe, self.base.sort, cx),
            Detail::Datagram(one) => datagram::complete(one, probe, self.base.sort, cx).context(|| "queue"),
            Detail::Tcp(_) | Detail::Netlink(_) | Detail::Packet(_) => Ok(()),
        }
    }

    fn conclude(all: &mut [(FileId, &mut Self)], cx: &mut Dump<'_>) -> Result<()> {
        let (mut unixes, mut tcps) = sorted(all);
        if !unixes.is_empty() {
            unix::dump::conclude(&mut unixes, cx).context(|| "unix sockets")?;
        }
        if !tcps.is_empty() {
            tcp::dump::conclude(&mut tcps, cx).context(|| "TCP sockets")?;
        }
        Ok(())
    }

    fn take(all: &mut [(FileId, &mut Self)], cx: &mut Dump<'_>) -> Result<()> {
        let (mut unixes, mut tcps) = sorted(all);
        unix::dump::take(&mut unixes, cx).context(|| "unix sockets")?;
        tcp::dump::take(&mut tcps, cx).context(|| "TCP sockets")
    }

    const TOGETHER: bool = true;

    fn open_together(all: &[(FileRef, &Self)], cx: &mut Restore<'_>) -> Result<()> {
        unix::open(&unixes(all), cx).context(|| "unix sockets")?;
        tcp::open(&tcps(all), cx).context(|| "TCP sockets")?;
        datagram::open(&datagrams(all), cx).context(|| "UDP and raw sockets")?;
        netlink::open(&netlinks(all), cx).context(|| "netlink sockets")?;
        packet::open(&packets(all), cx).context(|| "packet sockets")
    }

    fn open(&self, file: FileRef, _cx: &mut Restore<'_>) -> Result<OwnedFd> {
        Err(bad_image(format!("socket {} of {} was not made with the others", self.base.inode, file.id)))
    }

    fn after_table(&self, table: Table<'_>, fd: TargetFd, program: &mut Program) -> Result<bool> {
        match &self.detail {
            Detail::Unix(unix) => Ok(unix.listen_again(table.pid, fd, program)),
            _ => Ok(true),
        }
    }

    fn finish_together(all: &[(FileRef, &Self)], cx: &mut Restore<'_>) -> Result<()> {
        unix::finish(&unixes(all), cx).context(|| "unix sockets")?;
        tcp::finish(&tcps(all), cx).context(|| "TCP sockets")?;
        datagram::finish(&datagrams(all), cx).context(|| "UDP and raw sockets")?;
        for (file, socket) in all {
            let fd = cx.opened(file.id)?;
            // TCP has set them before it sent anything.
            if !matches!(socket.detail, Detail::Tcp(_)) {
                socket.base.options.apply_late(fd, socket.base.sort).context(|| format!("{}", file.id))?;
            }
            socket.base.give_owner(fd)?;
        }
        Ok(())
    }
}

/// Sockets of a dump by family.
fn sorted<'a>(all: &'a mut [(FileId, &mut Socket)]) -> (Vec<unix::dump::Entry<'a>>, Vec<tcp::dump::Entry<'a>>) {
    let (mut unixes, mut tcps) = (Vec::new(), Vec::new());
    for (id, socket) in all {
        let (id, inode, sort) = (*id, socket.base.inode, socket.base.sort);
        match &mut socket.detail {
            Detail::Unix(unix) => unixes.push(unix::dump::Entry { id, inode, kind: sort.kind, unix }),
            Detail::Tcp(tcp) => tcps.push(tcp::dump::Entry { id, inode, sort, tcp }),
            // Nobody else knows of them.
            _ => {}
        }
    }
    (unixes, tcps)
}

fn unixes<'a>(all: &[(FileRef, &'a Socket)]) -> Vec<unix::restore::Entry<'a>> {
    let unix = |(file, socket): &(FileRef, &'a Socket)| match &socket.detail {
        Detail::Unix(unix) => Some(unix::restore::Entry { file: *file, base: &socket.base, unix }),
        _ => None,
    };
    all.iter().filter_map(unix).collect()
}

fn tcps<'a>(all: &[(FileRef, &'a Socket)]) -> Vec<tcp::restore::Entry<'a>> {
    let tcp = |(file, socket): &(FileRef, &'a Socket)| match &socket.detail {
        Detail::Tcp(tcp) => Some(tcp::restore::Entry { file: *file, base: &socket.base, tcp }),
        _ => None,
    };
    all.iter().filter_map(tcp).collect()
}

fn datagrams<'a>(all: &[(FileRef, &'a Socket)]) -> Vec<datagram::Entry<'a>> {
    let one = |(file, socket): &(FileRef, &'a Socket)| match &socket.detail {
        Detail::Datagram(datagram) => Some(datagram::Entry { file: *file, base: &socket.base, datagram }),
        _ => None,
    };
    all.iter().filter_map(one).collect()
}

fn netlinks<'a>(all: &[(FileRef, &'a Socket)]) -> Vec<netlink::Entry<'a>> {
    let one = |(file, socket): &(FileRef, &'a Socket)| match &socket.detail {
        Detail::Netlink(netlink) => Some(netlink::Entry { file: *file, base: &socket.base, netlink }),
        _ => None,
    };
    all.iter().filter_map(one).collect()
}

fn packets<'a>(all: &[(FileRef, &'a Socket)]) -> Vec<packet::Entry<'a>> {
    let one = |(file, socket): &(FileRef, &'a Socket)| match &socket.detail {
        Detail::Packet(packet) => Some(packet::Entry { file: *file, base: &socket.base, packet }),
        _ => None,
    };
    all.iter().filter_map(one).collect()
}
