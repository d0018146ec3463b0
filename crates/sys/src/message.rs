//! sendmsg(2) and recvmsg(2) with addresses and control data as bytes: descriptors, credentials, anything.

use crate::{Error, Result};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// The most descriptors that one message can carry: `SCM_MAX_FD`.
pub const MAX_RIGHTS: usize = 253;
/// Enough control data for [`MAX_RIGHTS`] descriptors, credentials, a label and times.
const CONTROL_MAX: usize = 4096;

/// The pid, user and group that a message came with, as our own namespaces show them (`struct ucred`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// 0 when the process is not in our pid namespace.
    pub pid: i32,
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// One piece of control data.
#[derive(Debug)]
pub enum Control {
    /// `SCM_RIGHTS`: descriptors, close-on-exec.
    Rights(Vec<OwnedFd>),
    /// `SCM_CREDENTIALS`.
    Credentials(Credentials),
    /// `SCM_PIDFD` (Linux 6.5): a handle of the sender.
    Process(OwnedFd),
    /// Any other.
    Other {
        /// `cmsg_level`
        level: i32,
        /// `cmsg_type`
        kind: i32,
        /// The bytes after the header.
        data: Vec<u8>,
    },
}

/// What [`receive`] got beside the data.
#[derive(Debug)]
pub struct Received {
    /// Bytes put into the buffer; with `MSG_TRUNC` among the call's flags the message's whole length.
    pub len: usize,
    /// The sender's address; empty if it has none.
    pub address: Vec<u8>,
    /// The control data.
    pub control: Vec<Control>,
    /// `MSG_TRUNC`, `MSG_CTRUNC`, `MSG_EOR`, `MSG_OOB`.
    pub flags: i32,
}

/// `SCM_PIDFD` of <linux/socket.h>.
const SCM_PIDFD: i32 = 4;

/// Aligned as control data must be.
#[repr(C, align(16))]
struct ControlBuffer([u8; CONTROL_MAX]);

/// recvmsg(2); descriptors come close-on-exec.
///
/// # Errors
/// The errno of the call.
pub fn receive(fd: BorrowedFd<'_>, buffer: &mut [u8], flags: i32) -> Result<Received> {
    let mut iov = [libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() }];
    // SAFETY: the one range is `buffer`, which nobody else uses meanwhile.
    unsafe { receive_into(fd, &mut iov, flags) }
}

/// As [`receive`], with one byte after `buffer` that can't be written.
///
/// The kernel copies piece by piece of what was sent, and stops before the piece that does not fit, without its control
/// data. So this shows where the last piece of `buffer.len() + 1` bytes begins, which [`receive`] does not.
///
/// # Errors
/// The errno of the call; `EFAULT` when the first piece is the one that does not fit.
pub fn receive_before_fault(fd: BorrowedFd<'_>, buffer: &mut [u8], flags: i32) -> Result<Received> {
    let null = std::ptr::null_mut();
    // SAFETY: a new mapping that nothing can touch.
    let hole = unsafe { libc::mmap(null, 4096, libc::PROT_NONE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0) };
    if hole == libc::MAP_FAILED {
        return Err(Error::last("mmap", "4096, PROT_NONE"));
    }
    let mut iov = [
        libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() },
        libc::iovec { iov_base: hole, iov_len: 1 },
    ];
    // SAFETY: the first range is `buffer`; a write to the second fails with EFAULT.
    let result = unsafe { receive_into(fd, &mut iov, flags) };
    // SAFETY: our own mapping from above.
    unsafe { libc::munmap(hole, 4096) };
    result
}

/// # Safety
/// Whatever `iov` covers may be written to.
unsafe fn receive_into(fd: BorrowedFd<'_>, iov: &mut [libc::iovec], flags: i32) -> Result<Received> {
    let mut address = [0_u8; crate::socket::ADDRESS_MAX];
    let mut control = ControlBuffer([0; CONTROL_MAX]);
    // SAFETY: all zeroes are a valid msghdr.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_name = address.as_mut_ptr().cast();
    header.msg_namelen = address.len() as libc::socklen_t;
    header.msg_iov = iov.as_mut_ptr();
    header.msg_iovlen = iov.len() as _;
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = CONTROL_MAX as _;
    // SAFETY: each pointer of the header stands with the length of what it points to.
    let len = unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut header, flags | libc::MSG_CMSG_CLOEXEC) };
    if len < 0 {
        return Err(Error::last("recvmsg", format_args!("{}, {flags:#x}", fd.as_raw_fd())));
    }
    // SAFETY: the kernel has filled the header and the control data that it points to, which are alive.
    let control = unsafe { parse(&header) };
    let address = address[..(header.msg_namelen as usize).min(address.len())].to_vec();
    Ok(Received { len: len as usize, address, control, flags: header.msg_flags })
}

/// Takes the control data out of a received header.
///
/// # Safety
/// `header` was filled by recvmsg and its buffer is alive. To be called once: the descriptors become ours.
unsafe fn parse(header: &libc::msghdr) -> Vec<Control> {
    let mut list = Vec::new();
    // SAFETY: as the caller promises.
    let mut at = unsafe { libc::CMSG_FIRSTHDR(header) };
    // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR give null or a header within the buffer.
    while let Some(piece) = unsafe { at.as_ref() } {
        // SAFETY: integers only.
        let head = unsafe { libc::CMSG_LEN(0) } as usize;
        let len = piece.cmsg_len.saturating_sub(head);
        // SAFETY: the data of `at` are `len` bytes long and follow its header.
        let data = unsafe { std::slice::from_raw_parts(libc::CMSG_DATA(at), len) };
        list.push(match (piece.cmsg_level, piece.cmsg_type) {
            // SAFETY: the kernel has just installed these descriptors for us.
            (libc::SOL_SOCKET, libc::SCM_RIGHTS) => Control::Rights(unsafe { rights(data) }),
            (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) if len >= 12 => Control::Credentials(credentials(data)),
            (libc::SOL_SOCKET, SCM_PIDFD) if len >= 4 && holds_descriptor(data) => {
                // SAFETY: as for SCM_RIGHTS.
                Control::Process(unsafe { rights(data) }.remove(0))
            }
            (level, kind) => Control::Other { level, kind, data: data.to_vec() },
        });
        // SAFETY: as above.
        at = unsafe { libc::CMSG_NXTHDR(header, at) };
    }
    list
}

/// # Safety
/// `data` holds descriptors that are ours and nobody else's.
unsafe fn rights(data: &[u8]) -> Vec<OwnedFd> {
    let number = |b: &[u8]| RawFd::from_ne_bytes(b.try_into().expect("chunks of four"));
    // SAFETY: as the caller promises.
    data.chunks_exact(4).map(|b| unsafe { OwnedFd::from_raw_fd(number(b)) }).collect()
}

/// Whether a descriptor is there: the kernel puts a negative errno where the sender is gone.
fn holds_descriptor(data: &[u8]) -> bool {
    data[..4].try_into().is_ok_and(|b| RawFd::from_ne_bytes(b) >= 0)
}

fn credentials(data: &[u8]) -> Credentials {
    let word = |n: usize| u32::from_ne_bytes(data[n..n + 4].try_into().expect("four bytes"));
    Credentials { pid: word(0) as i32, uid: word(4), gid: word(8) }
}

/// What [`send`] adds to the data.
#[derive(Clone, Copy, Debug, Default)]
pub struct Extra<'a> {
    /// Where to; empty: to the peer.
    pub address: &'a [u8],
    /// Descriptors to pass, at most [`MAX_RIGHTS`].
    pub rights: &'a [BorrowedFd<'a>],
    /// Credentials to claim; others than one's own need privilege over them.
    pub credentials: Option<Credentials>,
}

/// sendmsg(2) with `MSG_NOSIGNAL`; gives the bytes sent.
///
/// # Errors
/// The errno of the call.
pub fn send(fd: BorrowedFd<'_>, data: &[u8], extra: Extra<'_>, flags: i32) -> Result<usize> {
    let mut control = ControlBuffer([0; CONTROL_MAX]);
    let mut used = 0;
    if !extra.rights.is_empty() {
        let numbers: Vec<u8> = extra.rights.iter().flat_map(|fd| fd.as_raw_fd().to_ne_bytes()).collect();
        used += put(&mut control.0[used..], libc::SCM_RIGHTS, &numbers).ok_or_else(|| too_long(fd))?;
    }
    if let Some(Credentials { pid, uid, gid }) = extra.credentials {
        let bytes = [pid as u32, uid, gid].map(u32::to_ne_bytes).concat();
        used += put(&mut control.0[used..], libc::SCM_CREDENTIALS, &bytes).ok_or_else(|| too_long(fd))?;
    }
    let mut iov = libc::iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: data.len() };
    // SAFETY: all zeroes are a valid msghdr.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    if !extra.address.is_empty() {
        header.msg_name = extra.address.as_ptr().cast_mut().cast();
        header.msg_namelen = extra.address.len() as libc::socklen_t;
    }
    header.msg_iov = &raw mut iov;
    header.msg_iovlen = 1;
    if used > 0 {
        header.msg_control = control.0.as_mut_ptr().cast();
        header.msg_controllen = used as _;
    }
    // SAFETY: each pointer of the header stands with the length of what it points to; the kernel only reads.
    let sent = unsafe { libc::sendmsg(fd.as_raw_fd(), &raw const header, flags | libc::MSG_NOSIGNAL) };
    if sent < 0 {
        let arguments = format!("{}, {} bytes, {} descriptors", fd.as_raw_fd(), data.len(), extra.rights.len());
        return Err(Error::last("sendmsg", arguments));
    }
    Ok(sent as usize)
}

fn too_long(fd: BorrowedFd<'_>) -> Error {
    Error::new("sendmsg", format_args!("{}, control data too long", fd.as_raw_fd()), crate::Errno::EMSGSIZE)
}

/// Writes one piece of control data of the level `SOL_SOCKET`; gives the room it takes, none when there is too little.
fn put(room: &mut [u8], kind: i32, data: &[u8]) -> Option<usize> {
    // SAFETY: integers only.
    let (len, space) = unsafe { (libc::CMSG_LEN(data.len() as u32), libc::CMSG_SPACE(data.len() as u32) as usize) };
    let room = room.get_mut(..space)?;
    let head = len as usize - data.len();
    room[..8].copy_from_slice(&u64::from(len).to_ne_bytes());
    room[8..12].copy_from_slice(&libc::SOL_SOCKET.to_ne_bytes());
    room[12..16].copy_from_slice(&kind.to_ne_bytes());
    room[head..head + data.len()].copy_from_slice(data);
    Some(space)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::socket::{pair, set_int_option};
    use std::io::{Read, Write};
    use std::os::fd::AsFd;

    #[test]
    fn descriptors_and_credentials_travel_together() {
        let (a, b) = pair(libc::SOCK_SEQPACKET).unwrap();
        set_int_option(b.as_fd(), libc::SOL_SOCKET, libc::SO_PASSCRED, 1).unwrap();
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let me = Credentials { pid: std::process::id() as i32, uid: 7, gid: 8 };
        let rights = [writer.as_fd()];
        send(a.as_fd(), b"hello", Extra { rights: &rights, credentials: Some(me), ..Default::default() }, 0).unwrap();
        drop(writer);

        let mut buffer = [0; 3];
        let got = receive(b.as_fd(), &mut buffer, 0).unwrap();
        assert_eq!((&buffer, got.len, got.flags & libc::MSG_TRUNC), (b"hel", 3, libc::MSG_TRUNC));
        let mut passed = None;
        for piece in got.control {
            match piece {
                Control::Rights(fds) => passed = fds.into_iter().next(),
                Control::Credentials(who) => assert_eq!(who, me),
                Control::Process(_) | Control::Other { .. } => panic!("{piece:?}"),
            }
        }
        std::fs::File::from(passed.unwrap()).write_all(b"!").unwrap();
        let mut text = String::new();
        std::fs::File::from(reader).read_to_string(&mut text).unwrap();
        assert_eq!(text, "!");
    }

    #[test]
    fn a_fault_shows_where_the_piece_with_descriptors_begins() {
        let (a, b) = pair(libc::SOCK_STREAM).unwrap();
        send(a.as_fd(), b"plain", Extra::default(), 0).unwrap();
        send(a.as_fd(), b"with", Extra { rights: &[a.as_fd()], ..Default::default() }, 0).unwrap();
        let got = receive_before_fault(b.as_fd(), &mut [0; 8], libc::MSG_PEEK).unwrap();
        assert_eq!((got.len, got.control.len()), (5, 0));
        let got = receive(b.as_fd(), &mut [0; 5], 0).unwrap();
        assert_eq!((got.len, got.control.len()), (5, 0));
        let error = receive_before_fault(b.as_fd(), &mut [0; 3], libc::MSG_PEEK).unwrap_err();
        assert_eq!(error.errno(), crate::Errno::EFAULT);
    }

    #[test]
    fn too_many_descriptors_are_refused_here() {
        let (a, _b) = pair(libc::SOCK_DGRAM).unwrap();
        let rights = vec![a.as_fd(); 2000];
        let error = send(a.as_fd(), b"", Extra { rights: &rights, ..Default::default() }, 0).unwrap_err();
        assert_eq!(error.errno(), crate::Errno::EMSGSIZE);
    }
}
