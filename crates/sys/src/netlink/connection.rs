//! A netlink socket, and requests over it.

use std::os::fd::{AsFd, OwnedFd};

use super::attributes::{Reply, field, next_reply};
use crate::{Errno, Error, Result, message, socket};

/// The kernel cuts dumps into messages of at most this much (`SKB_WITH_OVERHEAD(32768)`).
const BUFFER: usize = 32 << 10;
/// See <linux/netlink.h>: only the header of a request comes back with its error.
const NETLINK_CAP_ACK: i32 = 10;
/// The objects changed while they were listed.
const NLM_F_DUMP_INTR: u16 = 0x10;

/// A netlink socket that belongs to one network namespace for good.
#[derive(Debug)]
pub struct Connection {
    socket: OwnedFd,
    sequence: u32,
}

impl Connection {
    /// Opens a socket of the netlink `protocol` (`NETLINK_*`) in the calling thread's network namespace.
    ///
    /// # Errors
    /// When the kernel lacks the protocol.
    pub fn open(protocol: i32) -> Result<Self> {
        let socket = socket::create(libc::AF_NETLINK, libc::SOCK_RAW, protocol)?;
        // Without it an error repeats the whole request.
        socket::set_int_option(socket.as_fd(), libc::SOL_NETLINK, NETLINK_CAP_ACK, 1)?;
        Ok(Self { socket, sequence: 0 })
    }

    /// The number for the next message's header.
    pub fn sequence(&mut self) -> u32 {
        self.sequence += 1;
        self.sequence
    }

    /// Sends a dump request (one message, `NLM_F_DUMP`) and calls `each` with the body of every answer.
    ///
    /// # Errors
    /// The kernel's answer, when it is an error: `ENOENT` when it has no such dump.
    pub fn dump(&mut self, request: &[u8], each: &mut dyn FnMut(&[u8])) -> Result<()> {
        self.transmit(request)?;
        let mut buffer = vec![0; BUFFER];
        loop {
            let len = self.receive(&mut buffer)?;
            let mut rest = &buffer[..len];
            while let Some(reply) = next_reply(&mut rest) {
                if self.is_last(&reply)? {
                    return Ok(());
                }
                if reply.sequence == self.sequence {
                    each(reply.body);
                }
            }
        }
    }

    /// Sends messages of which those with `NLM_F_ACK` are `acknowledgements` many, and waits for these.
    ///
    /// # Errors
    /// The first error that the kernel answers.
    pub fn apply(&mut self, messages: &[u8], acknowledgements: usize) -> Result<()> {
        self.transmit(messages)?;
        let mut buffer = vec![0; BUFFER];
        let mut seen = 0;
        while seen < acknowledgements {
            let len = self.receive(&mut buffer)?;
            let mut rest = &buffer[..len];
            while let Some(reply) = next_reply(&mut rest) {
                seen += usize::from(self.is_last(&reply)?);
            }
        }
        Ok(())
    }

    fn transmit(&self, bytes: &[u8]) -> Result<()> {
        message::send(self.socket.as_fd(), bytes, message::Extra::default(), 0)?;
        Ok(())
    }

    fn receive(&self, buffer: &mut [u8]) -> Result<usize> {
        let got = message::receive(self.socket.as_fd(), buffer, 0)?;
        if got.flags & libc::MSG_TRUNC != 0 {
            return Err(Error::new("netlink", "an answer longer than the kernel's limit", Errno::EMSGSIZE));
        }
        Ok(got.len)
    }

    /// Whether this ends the answers: `NLMSG_DONE`, or an acknowledgement.
    fn is_last(&self, reply: &Reply<'_>) -> Result<bool> {
        let (done, error) = (libc::NLMSG_DONE as u16, libc::NLMSG_ERROR as u16);
        if reply.kind != done && reply.kind != error {
            return Ok(false);
        }
        let errno = field::<4>(reply.body, 0).map_or(0, i32::from_ne_bytes);
        if errno < 0 {
            return Err(Error::from_raw("netlink", format_args!("message {}", reply.sequence), -errno));
        }
        if reply.flags & NLM_F_DUMP_INTR != 0 {
            return Err(Error::new("netlink", "dump", Errno::EINTR));
        }
        Ok(true)
    }
}
