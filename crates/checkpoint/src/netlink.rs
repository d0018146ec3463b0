//! Netlink sockets in the container's network namespace; the messages are [`rtc_sys::netlink`]'s.
//!
//! What the messages mean is for [`crate::diag`] and [`crate::netlock`].

use std::os::fd::BorrowedFd;

pub use rtc_sys::netlink::{Attributes, Connection, Message, NESTED, Nest, field};

use crate::error::{Error, Result};

/// Opens a socket of the netlink `protocol` (`NETLINK_*`) in our network namespace, or in the one given.
///
/// # Errors
/// When the namespace can't be entered or the kernel lacks the protocol.
pub fn open(protocol: i32, namespace: Option<BorrowedFd<'_>>) -> Result<Connection> {
    let open = || Connection::open(protocol).map_err(Error::from);
    match namespace {
        None => open(),
        Some(namespace) => crate::netns::inside(namespace, open),
    }
}
