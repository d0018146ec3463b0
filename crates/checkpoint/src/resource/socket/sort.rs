//! What a socket is: family, type, protocol.

use crate::error::Result;
use rtc_sys::socket;
use serde::{Deserialize, Serialize};
use std::os::fd::BorrowedFd;

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
    pub(super) fn of(fd: BorrowedFd<'_>) -> Result<Self> {
        let get = |name| socket::int_option(fd, libc::SOL_SOCKET, name);
        Ok(Self { family: get(libc::SO_DOMAIN)?, kind: get(libc::SO_TYPE)?, protocol: get(libc::SO_PROTOCOL)? })
    }

    pub(super) fn is_inet(self) -> bool {
        matches!(self.family, libc::AF_INET | libc::AF_INET6)
    }

    /// TCP, and not MPTCP, which has no repair mode.
    pub(super) fn is_plain_tcp(self) -> bool {
        self.is_tcp() && self.protocol == libc::IPPROTO_TCP
    }

    pub(super) fn is_tcp(self) -> bool {
        self.is_inet() && self.kind == libc::SOCK_STREAM && matches!(self.protocol, libc::IPPROTO_TCP | MPTCP)
    }
}

/// The name of a family, or of its number.
pub(super) fn family_name(sort: Sort) -> String {
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
