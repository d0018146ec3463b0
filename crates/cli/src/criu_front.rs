//! The face that engines see when they look for criu.
//!
//! podman, CRI-O and containerd run `criu swrk FD` before they ask the runtime for a checkpoint, only to learn a version
//! and, for iterative checkpoints, whether memory can be tracked. Called by the name `criu` (`rtc install-shim`), this
//! program answers that: packets of criu's rpc.proto on a SOCK_SEQPACKET socket, one message each.
//!
//! Left out: dump and restore over this protocol. They are refused, and the caller is told to use rtc as its runtime.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::fd::RawFd;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, send};

/// The release of criu whose behaviour engines may count on.
const VERSION: (u8, u8) = (4, 2);

/// Longest request. Engines send tens of bytes; a longer one is cut by the kernel and then fails to parse.
const PACKET: usize = 4096;

/// `criu_req_type` of rpc.proto.
const FEATURE_CHECK: u64 = 9;
const VERSION_REQUEST: u64 = 10;

/// Runs as criu.
pub(crate) fn main(args: Vec<OsString>) -> u8 {
    let args: Vec<&str> = args.iter().map(|arg| arg.to_str().unwrap_or("")).collect();
    match args.as_slice() {
        ["swrk", fd, ..] => fd.parse().map_or_else(|_| refuse("swrk needs the number of a socket"), serve),
        ["--version" | "-V", ..] => {
            say(&format!("Version: {}.{} (rtc {})\n", VERSION.0, VERSION.1, env!("CARGO_PKG_VERSION")))
        }
        ["check", ..] => crate::commands::check::as_criu(),
        _ => {
            refuse("this is rtc, which answers engines for criu: swrk, check and --version; checkpoint with rtc itself")
        }
    }
}

fn say(text: &str) -> u8 {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => 0,
        Err(_) => 1,
    }
}

fn refuse(text: &str) -> u8 {
    let _ = writeln!(io::stderr(), "Error: {text}");
    1
}

/// Answers requests until the peer goes, or until one that doesn't ask to keep the connection open.
fn serve(socket: RawFd) -> u8 {
    let mut packet = [0; PACKET];
    loop {
        let length = match recv(socket, &mut packet, MsgFlags::empty()) {
            Ok(0) => return 0,
            Ok(length) => length,
            Err(Errno::EINTR) => continue,
            Err(e) => return refuse(&format!("recv({socket}) = {e:?}")),
        };
        let request = Request::parse(&packet[..length]).unwrap_or_default();
        // A peer that has gone needs no answer, and criu's exit status is then 0 too.
        if send(socket, &request.answer(), MsgFlags::MSG_NOSIGNAL).is_err() || !request.keep_open {
            return 0;
        }
    }
}

/// The fields of `criu_req` that matter here.
#[derive(Debug, Default, PartialEq, Eq)]
struct Request {
    /// 0 (EMPTY) if there was none.
    kind: u64,
    keep_open: bool,
}

impl Request {
    /// Reads a protobuf message; none if it is malformed.
    fn parse(mut bytes: &[u8]) -> Option<Self> {
        let mut request = Self::default();
        while !bytes.is_empty() {
            let tag = varint(&mut bytes)?;
            let value = match tag & 7 {
                0 => varint(&mut bytes)?,
                1 => skip(&mut bytes, 8)?,
                2 => {
                    let length = varint(&mut bytes)?;
                    skip(&mut bytes, length)?
                }
                5 => skip(&mut bytes, 4)?,
                _ => return None,
            };
            match tag >> 3 {
                1 => request.kind = value,
                4 => request.keep_open = value != 0,
                _ => {}
            }
        }
        Some(request)
    }

    /// `criu_resp`: 1 type, 2 success, 7 cr_errno, 8 features, 9 cr_errmsg, 10 version.
    fn answer(&self) -> Vec<u8> {
        match self.kind {
            // version: 1 major, 2 minor. A git id would make clients count the minor up.
            VERSION_REQUEST => vec![0x08, 10, 0x10, 1, 0x52, 4, 0x08, VERSION.0, 0x10, VERSION.1],
            // features: 1 mem_track, 2 lazy_pages, 3 pidfd_store. go-criu takes any success as a yes to what it asked.
            FEATURE_CHECK => vec![0x08, 9, 0x10, 1, 0x42, 6, 0x08, 1, 0x10, 1, 0x18, 1],
            other => {
                let message = b"rtc takes checkpoints by its own commands, not as criu";
                let mut answer = vec![0x08];
                push_varint(&mut answer, other);
                answer.extend([0x10, 0, 0x38, Errno::EOPNOTSUPP as u8, 0x4a, message.len() as u8]);
                answer.extend(message);
                answer
            }
        }
    }
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn push_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

/// Steps over `length` bytes; their value doesn't matter.
fn skip(bytes: &mut &[u8], length: u64) -> Option<u64> {
    *bytes = bytes.get(usize::try_from(length).ok()?..)?;
    Some(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes that podman's and containerd's client sends and needs (go-criu).
    #[test]
    fn what_engines_ask() {
        let answer = |bytes: &[u8]| Request::parse(bytes).expect("it is well formed").answer();
        assert_eq!(answer(&[0x08, 0x0a]), [0x08, 0x0a, 0x10, 1, 0x52, 4, 0x08, 4, 0x10, 2]);
        assert_eq!(answer(&[0x08, 0x09, 0x2a, 2, 0x08, 1]), [0x08, 0x09, 0x10, 1, 0x42, 6, 0x08, 1, 0x10, 1, 0x18, 1]);
        assert_eq!(answer(&[0x08, 0x01])[..6], [0x08, 1, 0x10, 0, 0x38, 95]);
    }

    #[test]
    fn keep_open_and_garbage() {
        assert_eq!(Request::parse(&[0x08, 10, 0x20, 1]), Some(Request { kind: 10, keep_open: true }));
        assert_eq!(Request::parse(&[]), Some(Request::default()));
        for garbage in
            [&[0x08][..], &[0x08, 0x80], &[0x2a, 9, 1], &[0x0b], &[0xff; 20], &[0x2a, 0xff, 0xff, 0xff, 0xff, 0x0f]]
        {
            assert_eq!(Request::parse(garbage), None, "{garbage:?}");
        }
    }
}
