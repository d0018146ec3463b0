//! Socket addresses: the kernel's bytes and the image's text.

use crate::image::path::ImagePath;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// Room for `sun_path`.
const PATH_MAX: usize = 108;

/// The address of an internet socket, from the bytes of `struct sockaddr_in` or `sockaddr_in6`; none for any other.
pub(super) fn inet(bytes: &[u8]) -> Option<SocketAddr> {
    let family = i32::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?));
    let port = u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?);
    let four = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    match family {
        libc::AF_INET => {
            let ip = Ipv4Addr::from(<[u8; 4]>::try_from(bytes.get(4..8)?).ok()?);
            Some(SocketAddrV4::new(ip, port).into())
        }
        libc::AF_INET6 => {
            let ip = Ipv6Addr::from(<[u8; 16]>::try_from(bytes.get(8..24)?).ok()?);
            Some(SocketAddrV6::new(ip, port, four(4)?, four(24)?).into())
        }
        _ => None,
    }
}

/// The kernel's bytes of an internet address.
pub(super) fn inet_bytes(address: SocketAddr) -> Vec<u8> {
    match address {
        SocketAddr::V4(v4) => {
            let mut bytes = (libc::AF_INET as u16).to_ne_bytes().to_vec();
            bytes.extend(v4.port().to_be_bytes());
            bytes.extend(v4.ip().octets());
            bytes.resize(16, 0);
            bytes
        }
        SocketAddr::V6(v6) => {
            let mut bytes = (libc::AF_INET6 as u16).to_ne_bytes().to_vec();
            bytes.extend(v6.port().to_be_bytes());
            bytes.extend(v6.flowinfo().to_ne_bytes());
            bytes.extend(v6.ip().octets());
            bytes.extend(v6.scope_id().to_ne_bytes());
            bytes
        }
    }
}

/// `sun_path` of a unix address: a path without its terminating zero, or an abstract name with its leading one.
/// None for a socket without a name, and for any other family.
pub(super) fn unix(bytes: &[u8]) -> Option<ImagePath> {
    let family = i32::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?));
    let name = bytes.get(2..)?;
    if family != libc::AF_UNIX || name.is_empty() {
        return None;
    }
    let end = if name[0] == 0 { name.len() } else { name.iter().position(|b| *b == 0).unwrap_or(name.len()) };
    Some(name[..end].to_vec().into())
}

/// The kernel's bytes of a unix address; none when it is longer than any can be.
pub(super) fn unix_bytes(name: &ImagePath) -> Option<Vec<u8>> {
    let name = name.as_bytes();
    if name.is_empty() || name.len() > PATH_MAX {
        return None;
    }
    let mut bytes = (libc::AF_UNIX as u16).to_ne_bytes().to_vec();
    bytes.extend(name);
    if name[0] != 0 && name.len() < PATH_MAX {
        bytes.push(0);
    }
    Some(bytes)
}

/// Whether a unix name is abstract: in a space of the network namespace's, not in the file system.
pub(super) fn is_abstract(name: &ImagePath) -> bool {
    name.as_bytes().first() == Some(&0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_there_and_back() {
        for text in ["127.0.0.1:80", "[::1]:443", "[fe80::1%3]:53", "[::ffff:10.0.0.1]:9", "0.0.0.0:0"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(inet(&inet_bytes(address)).unwrap().to_string(), text);
        }
        for name in [&b"/run/x.sock"[..], b"rel", b"\0abstract\0name\0", &[b'a'; 108]] {
            let name = ImagePath::from(name.to_vec());
            assert_eq!(unix(&unix_bytes(&name).unwrap()), Some(name));
        }
    }

    #[test]
    fn nonsense_is_no_address() {
        for bytes in [&[][..], &[1], &[2, 0], &[2, 0, 0, 80, 127], &[10, 0, 0, 80, 1, 2, 3], &[255; 28]] {
            assert_eq!(inet(bytes), None);
        }
        assert_eq!(unix(&[1, 0]), None);
        assert_eq!(unix_bytes(&ImagePath::from(vec![b'a'; 109])), None);
        assert_eq!(unix_bytes(&ImagePath::default()), None);
    }
}
