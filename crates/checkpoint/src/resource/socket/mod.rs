//! Sockets of every family that can be saved.
//!
//! Each is looked at by a descriptor of the same description; what that does not tell comes from sock_diag.
//! All sockets of an image are made together, because connections need both their ends.
//!
//! Left out: the error queue (`MSG_ERRQUEUE`), and options that can't be read back (see [`option_table`]).

mod address;
mod hex;
mod option_table;
pub mod options;
pub mod unix;

use crate::error::{Context as _, Result, bad_image};
use crate::files::dumping::Dump;
use crate::files::resource::Resource;
use crate::files::restoring::Restore;
use crate::files::{FileId, FileRef, Probe, Table};
use crate::program::{Program, TargetFd};
use options::Options;
use rtc_sys::{CallExt as _, socket};
use serde::{Deserialize, Serialize};
use std::os::fd::{BorrowedFd, OwnedFd};

/// What socket(2) was called with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sort {
    /// `AF_*`
    pub family: i32,
    /// `SOCK_*`
    pub kind: i32,
    /// `IPPROTO_*`, `NETLINK_*`
    pub protocol: i32,
}

/// `IPPROTO_MPTCP`
const MPTCP: i32 = 262;

impl Sort {
    fn of(fd: BorrowedFd<'_>) -> Result<Self> {
        let get = |name| socket::int_option(fd, libc::SOL_SOCKET, name);
        Ok(Self { family: get(libc::SO_DOMAIN)?, kind: get(libc::SO_TYPE)?, protocol: get(libc::SO_PROTOCOL)? })
    }

    fn is_inet(self) -> bool {
        matches!(self.family, libc::AF_INET | libc::AF_INET6)
    }

    fn is_tcp(self) -> bool {
        self.is_inet() && self.kind == libc::SOCK_STREAM && matches!(self.protocol, libc::IPPROTO_TCP | MPTCP)
    }
}

/// Whom a socket belongs to: the owner of its inode, which packet filters look at, as the host counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// A socket.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Socket {
    /// Its inode number at dump, by which others name it.
    pub inode: u64,
    /// What it is.
    pub sort: Sort,
    /// Whom it belongs to.
    pub owner: Owner,
    /// Its options.
    pub options: Options,
    /// What its family adds.
    pub detail: Detail,
}

/// What a family adds to a socket.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Detail {
    /// `AF_UNIX`
    Unix(Box<unix::Unix>),
}

impl Detail {
    fn of(probe: &Probe<'_>, sort: Sort, cx: &mut Dump<'_>) -> Result<Option<Self>> {
        Ok(match sort.family {
            libc::AF_UNIX => unix::dump::describe(probe, sort, cx)?.map(|unix| Self::Unix(Box::new(unix))),
            _ => {
                let why = format!("sockets of the family {} can't be saved", family_name(sort));
                cx.block(probe, why, "let the program close it before the checkpoint");
                None
            }
        })
    }
}

/// The name of a family, or of its number.
fn family_name(sort: Sort) -> String {
    const NAMES: &[(i32, &str)] = &[
        (libc::AF_ALG, "AF_ALG (kernel cryptography)"),
        (libc::AF_BLUETOOTH, "AF_BLUETOOTH"),
        (libc::AF_CAN, "AF_CAN"),
        (libc::AF_KEY, "AF_KEY"),
        (libc::AF_PPPOX, "AF_PPPOX"),
        (libc::AF_RDS, "AF_RDS"),
        (libc::AF_TIPC, "AF_TIPC"),
        (libc::AF_VSOCK, "AF_VSOCK"),
        (libc::AF_XDP, "AF_XDP"),
        (43, "AF_SMC"),
        (41, "AF_KCM"),
        (42, "AF_QIPCRTR"),
    ];
    let known = NAMES.iter().find(|(number, _)| *number == sort.family);
    known.map_or_else(|| format!("{}, protocol {}", sort.family, sort.protocol), |(_, name)| (*name).to_owned())
}

/// The container's network namespace.
fn container_namespace(cx: &Dump<'_>) -> Result<OwnedFd> {
    let path = format!("/proc/{}/ns/net", cx.init());
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
    Ok(rustix::fs::open(&path, flags, rustix::fs::Mode::empty()).call("open", &path)?)
}

/// Whether a socket belongs to the container's network namespace.
fn is_at_home(probe: &Probe<'_>, cx: &Dump<'_>) -> Result<bool> {
    let its = rustix::fs::fstat(socket::network_namespace(probe.fd)?).call("fstat", "network namespace")?;
    let path = format!("/proc/{}/ns/net", cx.init());
    let containers = rustix::fs::stat(&path).call("stat", &path)?;
    Ok((its.st_dev, its.st_ino) == (containers.st_dev, containers.st_ino))
}

impl Resource for Socket {
    fn recognises(probe: &Probe<'_>, _cx: &Dump<'_>) -> bool {
        // The node of a unix socket, opened with O_PATH, is of the same type.
        probe.file_type() == libc::S_IFSOCK && probe.flags & libc::O_PATH == 0
    }

    fn dump(probe: &Probe<'_>, cx: &mut Dump<'_>) -> Result<Option<Self>> {
        let sort = Sort::of(probe.fd)?;
        if !is_at_home(probe, cx)? {
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
        Ok(Some(Self { inode: probe.stat.st_ino, sort, owner, options, detail }))
    }

    const COMPLETES: bool = true;

    fn complete(&mut self, probe: &Probe<'_>, cx: &mut Dump<'_>) -> Result<()> {
        match &mut self.detail {
            Detail::Unix(unix) => unix::dump::complete(unix, probe, self.sort, cx),
        }
    }

    fn conclude(all: &mut [(FileId, &mut Self)], cx: &mut Dump<'_>) -> Result<()> {
        let mut unixes = Vec::new();
        for (id, socket) in all.iter_mut() {
            let (id, inode, kind) = (*id, socket.inode, socket.sort.kind);
            match &mut socket.detail {
                Detail::Unix(unix) => unixes.push(unix::dump::Entry { id, inode, kind, unix }),
            }
        }
        if !unixes.is_empty() {
            unix::dump::conclude(&mut unixes, cx)?;
        }
        Ok(())
    }

    const TOGETHER: bool = true;

    fn open_together(all: &[(FileRef, &Self)], cx: &mut Restore<'_>) -> Result<()> {
        unix::open(&unixes(all), cx).context(|| "unix sockets")
    }

    fn open(&self, file: FileRef, _cx: &mut Restore<'_>) -> Result<OwnedFd> {
        Err(bad_image(format!("socket {} of {} was not made with the others", self.inode, file.id)))
    }

    fn after_table(&self, table: Table<'_>, fd: TargetFd, program: &mut Program) -> Result<bool> {
        match &self.detail {
            Detail::Unix(unix) => Ok(unix.listen_again(table.pid, fd, program)),
        }
    }

    fn finish_together(all: &[(FileRef, &Self)], cx: &mut Restore<'_>) -> Result<()> {
        unix::finish(&unixes(all), cx).context(|| "unix sockets")?;
        for (file, socket) in all {
            let fd = cx.opened(file.id)?;
            socket.options.apply_late(fd, socket.sort).context(|| format!("{}", file.id))?;
            socket.give_owner(fd)?;
        }
        Ok(())
    }
}

impl Socket {
    fn give_owner(&self, fd: BorrowedFd<'_>) -> Result<()> {
        let stat = rustix::fs::fstat(fd).call("fstat", "socket")?;
        if (stat.st_uid, stat.st_gid) != (self.owner.uid, self.owner.gid) {
            let (uid, gid) = (rustix::fs::Uid::from_raw(self.owner.uid), rustix::fs::Gid::from_raw(self.owner.gid));
            rustix::fs::fchown(fd, Some(uid), Some(gid)).call("fchown", "socket")?;
        }
        Ok(())
    }
}

fn unixes<'a>(all: &[(FileRef, &'a Socket)]) -> Vec<unix::restore::Entry<'a>> {
    let unix = |(file, socket): &(FileRef, &'a Socket)| match &socket.detail {
        Detail::Unix(unix) => Some(unix::restore::Entry { file: *file, socket, unix }),
    };
    all.iter().filter_map(unix).collect()
}
