//! Network interfaces: bringing one up.

use std::ffi::CStr;
use std::os::fd::AsRawFd;

use crate::{CallExt, Errno, Error, Result};

/// Brings the interface `name` of the calling thread's network namespace up (netdevice(7), `SIOCSIFFLAGS`).
///
/// # Errors
/// `ENODEV`, `EPERM`; `ENAMETOOLONG` for a name that no interface can have.
pub fn bring_up(name: &CStr) -> Result<()> {
    let socket = rustix::net::socket_with(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::DGRAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )
    .call("socket", "UNIX, DGRAM")?;
    // SAFETY: all zeroes are a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let bytes = name.to_bytes();
    if bytes.len() >= request.ifr_name.len() {
        return Err(Error::new("ioctl", format_args!("SIOCGIFFLAGS, {name:?}"), Errno::ENAMETOOLONG));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(bytes) {
        *to = *from as libc::c_char;
    }
    // SAFETY: the request takes a pointer to an ifreq, which it fills.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS as _, &raw mut request) } != 0 {
        return Err(Error::last("ioctl", format_args!("SIOCGIFFLAGS, {name:?}")));
    }
    // SAFETY: the kernel has just set this member of the union.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    request.ifr_ifru.ifru_flags = flags | libc::IFF_UP as libc::c_short;
    // SAFETY: the request takes a pointer to an ifreq, which it reads.
    match unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) } {
        0 => Ok(()),
        _ => Err(Error::last("ioctl", format_args!("SIOCSIFFLAGS, {name:?}, UP"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_that_is_not_there_is_an_error() {
        assert_eq!(bring_up(c"rtc-no-such").unwrap_err().to_string(), "ioctl(SIOCGIFFLAGS, \"rtc-no-such\") = ENODEV");
        assert_eq!(bring_up(c"a-name-that-is-too-long").unwrap_err().errno(), Errno::ENAMETOOLONG);
    }
}
