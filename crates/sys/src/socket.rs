//! Sockets of any family: addresses and options as bytes, as the kernel has them.
//!
//! Messages with control data are in [`crate::message`].
//! Nothing here knows what an address or an option means.

use crate::{CallExt, Error, Result};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// The largest address of any family: `sizeof(struct sockaddr_storage)`.
pub const ADDRESS_MAX: usize = 128;

/// `SIOCUNIXFILE` of <linux/un.h>: a descriptor, `O_PATH`, of the node that a unix socket is bound to (Linux 4.10).
const SIOCUNIXFILE: libc::c_ulong = 0x89e0;
/// `SIOCOUTQNSD` of <linux/sockios.h>: bytes queued and not sent yet.
pub const SIOCOUTQNSD: libc::c_ulong = 0x894b;
/// `SIOCINQ`: bytes to read (datagrams: of the first one).
pub const SIOCINQ: libc::c_ulong = libc::FIONREAD;
/// `SIOCOUTQ`: bytes queued and not acknowledged (TCP), memory of what the peer has not read (unix).
pub const SIOCOUTQ: libc::c_ulong = libc::TIOCOUTQ;

fn owned(fd: i32, call: &'static str, arguments: impl std::fmt::Display) -> Result<OwnedFd> {
    if fd < 0 {
        return Err(Error::last(call, arguments));
    }
    // SAFETY: the call has just given this descriptor to us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn done(result: i32, call: &'static str, arguments: impl std::fmt::Display) -> Result<()> {
    if result < 0 { Err(Error::last(call, arguments)) } else { Ok(()) }
}

/// socket(2), close-on-exec.
///
/// # Errors
/// The errno of the call.
pub fn create(family: i32, kind: i32, protocol: i32) -> Result<OwnedFd> {
    // SAFETY: integers only.
    let fd = unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol) };
    owned(fd, "socket", format_args!("{family}, {kind}, {protocol}"))
}

/// socketpair(2) of the family `AF_UNIX`, close-on-exec.
///
/// # Errors
/// The errno of the call.
pub fn pair(kind: i32) -> Result<(OwnedFd, OwnedFd)> {
    let mut ends = [-1; 2];
    // SAFETY: `ends` has room for the two descriptors.
    let result = unsafe { libc::socketpair(libc::AF_UNIX, kind | libc::SOCK_CLOEXEC, 0, ends.as_mut_ptr()) };
    done(result, "socketpair", format_args!("AF_UNIX, {kind}, 0"))?;
    Ok((owned(ends[0], "socketpair", "")?, owned(ends[1], "socketpair", "")?))
}

/// accept4(2), close-on-exec, without the peer's address.
///
/// # Errors
/// The errno of the call.
pub fn accept(fd: BorrowedFd<'_>) -> Result<OwnedFd> {
    // SAFETY: without an address the kernel writes nothing.
    let new = unsafe { libc::accept4(fd.as_raw_fd(), std::ptr::null_mut(), std::ptr::null_mut(), libc::SOCK_CLOEXEC) };
    owned(new, "accept4", fd.as_raw_fd())
}

/// bind(2).
///
/// # Errors
/// The errno of the call.
pub fn bind(fd: BorrowedFd<'_>, address: &[u8]) -> Result<()> {
    // SAFETY: the kernel reads `address.len()` bytes.
    let result = unsafe { libc::bind(fd.as_raw_fd(), address.as_ptr().cast(), address.len() as u32) };
    done(result, "bind", format_args!("{}, {}", fd.as_raw_fd(), address.escape_ascii()))
}

/// connect(2).
///
/// # Errors
/// The errno of the call, `EINPROGRESS` too.
pub fn connect(fd: BorrowedFd<'_>, address: &[u8]) -> Result<()> {
    // SAFETY: the kernel reads `address.len()` bytes.
    let result = unsafe { libc::connect(fd.as_raw_fd(), address.as_ptr().cast(), address.len() as u32) };
    done(result, "connect", format_args!("{}, {}", fd.as_raw_fd(), address.escape_ascii()))
}

/// listen(2).
///
/// # Errors
/// The errno of the call.
pub fn listen(fd: BorrowedFd<'_>, backlog: i32) -> Result<()> {
    // SAFETY: integers only.
    let result = unsafe { libc::listen(fd.as_raw_fd(), backlog) };
    done(result, "listen", format_args!("{}, {backlog}", fd.as_raw_fd()))
}

/// shutdown(2) with `SHUT_RD`, `SHUT_WR` or `SHUT_RDWR`.
///
/// # Errors
/// The errno of the call.
pub fn shutdown(fd: BorrowedFd<'_>, how: i32) -> Result<()> {
    // SAFETY: integers only.
    let result = unsafe { libc::shutdown(fd.as_raw_fd(), how) };
    done(result, "shutdown", format_args!("{}, {how}", fd.as_raw_fd()))
}

/// getsockname(2): the whole address, its family included; empty where the family has none.
///
/// # Errors
/// The errno of the call.
pub fn local_address(fd: BorrowedFd<'_>) -> Result<Vec<u8>> {
    address(fd, libc::getsockname, "getsockname")
}

/// getpeername(2).
///
/// # Errors
/// The errno of the call; `ENOTCONN` without a peer.
pub fn peer_address(fd: BorrowedFd<'_>) -> Result<Vec<u8>> {
    address(fd, libc::getpeername, "getpeername")
}

type GetName = unsafe extern "C" fn(i32, *mut libc::sockaddr, *mut libc::socklen_t) -> i32;

fn address(fd: BorrowedFd<'_>, get: GetName, name: &'static str) -> Result<Vec<u8>> {
    let mut bytes = vec![0_u8; ADDRESS_MAX];
    let mut len = ADDRESS_MAX as libc::socklen_t;
    // SAFETY: both calls write at most `len` bytes and the length.
    let result = unsafe { get(fd.as_raw_fd(), bytes.as_mut_ptr().cast(), &raw mut len) };
    done(result, name, fd.as_raw_fd())?;
    bytes.truncate(len as usize);
    Ok(bytes)
}

/// getsockopt(2) into `value`; gives the length that the kernel reports, which for a filter counts instructions.
///
/// # Errors
/// The errno of the call: `ENOPROTOOPT` or `EOPNOTSUPP` where socket or kernel lack the option.
pub fn option(fd: BorrowedFd<'_>, level: i32, name: i32, value: &mut [u8]) -> Result<usize> {
    let mut len = value.len() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes, for every option.
    let result = unsafe { libc::getsockopt(fd.as_raw_fd(), level, name, value.as_mut_ptr().cast(), &raw mut len) };
    done(result, "getsockopt", format_args!("{}, {level}, {name}", fd.as_raw_fd()))?;
    Ok(len as usize)
}

/// The value of an option that is an int.
///
/// # Errors
/// As [`option`].
pub fn int_option(fd: BorrowedFd<'_>, level: i32, name: i32) -> Result<i32> {
    let mut value = [0; 4];
    option(fd, level, name, &mut value)?;
    Ok(i32::from_ne_bytes(value))
}

/// setsockopt(2) with any bytes that hold no address.
///
/// # Errors
/// The errno of the call.
pub fn set_option(fd: BorrowedFd<'_>, level: i32, name: i32, value: &[u8]) -> Result<()> {
    // SAFETY: the kernel reads `value.len()` bytes, for every option.
    // The options whose value holds an address of ours have wrappers of their own;
    // through this one a stray address makes the kernel read, not write, our memory.
    let result =
        unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, value.as_ptr().cast(), value.len() as libc::socklen_t) };
    done(result, "setsockopt", format_args!("{}, {level}, {name}, {value:02x?}", fd.as_raw_fd()))
}

/// Sets an option that is an int.
///
/// # Errors
/// The errno of the call.
pub fn set_int_option(fd: BorrowedFd<'_>, level: i32, name: i32, value: i32) -> Result<()> {
    set_option(fd, level, name, &value.to_ne_bytes()).map_err(|e| {
        Error::new("setsockopt", format_args!("{}, {level}, {name}, [{value}]", fd.as_raw_fd()), e.errno())
    })
}

/// One instruction of a classic BPF program: `struct sock_filter`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// Jump if true.
    pub jt: u8,
    /// Jump if false.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

/// The classic filter of a socket (`SO_GET_FILTER`), empty when there is none.
///
/// # Errors
/// `EACCES` when the filter is an eBPF program, which the kernel gives to nobody.
pub fn filter(fd: BorrowedFd<'_>) -> Result<Vec<Instruction>> {
    // A length of 0 asks how many instructions there are; it is counted in instructions, both ways.
    let count = option(fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &mut [])?;
    let mut program = vec![Instruction::default(); count];
    if count > 0 {
        let mut len = count as libc::socklen_t;
        // SAFETY: the kernel writes at most `len` instructions, for which there is room.
        let result = unsafe {
            libc::getsockopt(
                fd.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_ATTACH_FILTER,
                program.as_mut_ptr().cast(),
                &raw mut len,
            )
        };
        done(result, "getsockopt", format_args!("{}, SOL_SOCKET, SO_GET_FILTER", fd.as_raw_fd()))?;
        program.truncate(len as usize);
    }
    Ok(program)
}

/// `SO_ATTACH_FILTER`.
///
/// # Errors
/// The errno of the call; `EINVAL` for a program that the kernel's checker refuses.
pub fn attach_filter(fd: BorrowedFd<'_>, program: &[Instruction]) -> Result<()> {
    let arguments = format!("{}, SOL_SOCKET, SO_ATTACH_FILTER, {} instructions", fd.as_raw_fd(), program.len());
    let Ok(len) = u16::try_from(program.len()) else {
        return Err(Error::new("setsockopt", arguments, crate::Errno::EINVAL));
    };
    let value = libc::sock_fprog { len, filter: program.as_ptr().cast_mut().cast() };
    // SAFETY: Instruction has the layout of sock_filter; the kernel reads `len` of them and writes none.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const value).cast(),
            size_of_val(&value) as libc::socklen_t,
        )
    };
    done(result, "setsockopt", arguments)
}

/// An ioctl that gives an int: [`SIOCINQ`], [`SIOCOUTQ`], [`SIOCOUTQNSD`].
///
/// # Errors
/// The errno of the call.
pub fn queue_length(fd: BorrowedFd<'_>, request: libc::c_ulong) -> Result<usize> {
    let mut value: i32 = 0;
    // SAFETY: each of these requests writes one int.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), request as _, &raw mut value) };
    done(result, "ioctl", format_args!("{}, {request:#x}", fd.as_raw_fd()))?;
    Ok(usize::try_from(value).unwrap_or(0))
}

/// A descriptor, `O_PATH`, of the node that a unix socket is bound to, deleted or not.
///
/// # Errors
/// `ENOENT` when it is bound to no node, `EPERM` without `CAP_NET_ADMIN` over the socket's network namespace.
pub fn bound_node(fd: BorrowedFd<'_>) -> Result<OwnedFd> {
    // SAFETY: this request takes no argument.
    let new = unsafe { libc::ioctl(fd.as_raw_fd(), SIOCUNIXFILE as _, 0) };
    owned(new, "ioctl", format_args!("{}, SIOCUNIXFILE", fd.as_raw_fd()))
}

/// A descriptor of the network namespace that the socket belongs to (Linux 4.12).
///
/// # Errors
/// `EPERM` without `CAP_NET_ADMIN` over it.
pub fn network_namespace(fd: BorrowedFd<'_>) -> Result<OwnedFd> {
    // SAFETY: this request takes no argument.
    let new = unsafe { libc::ioctl(fd.as_raw_fd(), libc::SIOCGSKNS as _, 0) };
    owned(new, "ioctl", format_args!("{}, SIOCGSKNS", fd.as_raw_fd()))
}

/// What poll(2) says of a socket at once: `POLLERR`, `POLLHUP`, `POLLPRI`, …
///
/// # Errors
/// The errno of the call.
pub fn poll_now(fd: BorrowedFd<'_>) -> Result<rustix::event::PollFlags> {
    let all = rustix::event::PollFlags::all();
    let mut fds = [rustix::event::PollFd::from_borrowed_fd(fd, all)];
    rustix::event::poll(&mut fds, Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 }))
        .call("poll", fd.as_raw_fd())?;
    Ok(fds[0].revents())
}

/// Waits until poll(2) says one of `events`, at most `seconds`; false when it does not.
///
/// # Errors
/// The errno of the call.
pub fn poll_until(fd: BorrowedFd<'_>, events: rustix::event::PollFlags, seconds: i64) -> Result<bool> {
    let mut fds = [rustix::event::PollFd::from_borrowed_fd(fd, events)];
    let limit = rustix::event::Timespec { tv_sec: seconds, tv_nsec: 0 };
    rustix::event::poll(&mut fds, Some(&limit)).call("poll", fd.as_raw_fd())?;
    Ok(fds[0].revents().intersects(events))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_filter_comes_back_as_it_was_attached() {
        let (socket, _peer) = pair(libc::SOCK_DGRAM).unwrap();
        assert_eq!(filter(socket.as_fd()).unwrap(), []);
        // ld len; ret #0xffff
        let program = [
            Instruction { code: 0x80, ..Default::default() },
            Instruction { code: 6, k: 0xffff, ..Default::default() },
        ];
        attach_filter(socket.as_fd(), &program).unwrap();
        assert_eq!(filter(socket.as_fd()).unwrap(), program);
    }

    #[test]
    fn an_abstract_name_keeps_its_bytes() {
        let socket = create(libc::AF_UNIX, libc::SOCK_STREAM, 0).unwrap();
        let mut name = (libc::AF_UNIX as u16).to_ne_bytes().to_vec();
        name.extend_from_slice(format!("\0rtc-sys-{}\0x", std::process::id()).as_bytes());
        bind(socket.as_fd(), &name).unwrap();
        assert_eq!(local_address(socket.as_fd()).unwrap(), name);
        assert_eq!(peer_address(socket.as_fd()).unwrap_err().errno(), crate::Errno::ENOTCONN);
        assert_eq!(bound_node(socket.as_fd()).unwrap_err().errno(), crate::Errno::ENOENT);
    }

    #[test]
    fn a_failed_option_names_itself() {
        let (socket, _peer) = pair(libc::SOCK_DGRAM).unwrap();
        let error = set_int_option(socket.as_fd(), libc::SOL_SOCKET, 9999, 1).unwrap_err();
        assert_eq!(error.to_string(), format!("setsockopt({}, 1, 9999, [1]) = ENOPROTOOPT", socket.as_raw_fd()));
    }
}
