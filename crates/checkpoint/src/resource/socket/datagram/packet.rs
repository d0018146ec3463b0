//! IP packets with a UDP datagram, from whomever to whomever: bytes only.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

const UDP: u8 = 17;
const HOPS: u8 = 64;
const UDP_HEADER: usize = 8;

/// A packet for a raw socket that takes whole headers; none when the addresses are of two families, or it is too long.
pub(super) fn udp(from: SocketAddr, to: SocketAddr, contents: &[u8]) -> Option<Vec<u8>> {
    let len = u16::try_from(UDP_HEADER + contents.len()).ok()?;
    let mut datagram = [from.port(), to.port(), len, 0].map(u16::to_be_bytes).concat();
    datagram.extend(contents);
    match (from, to) {
        (SocketAddr::V4(from), SocketAddr::V4(to)) => ipv4(*from.ip(), *to.ip(), &datagram),
        (SocketAddr::V6(from), SocketAddr::V6(to)) => Some(ipv6(*from.ip(), *to.ip(), datagram)),
        _ => None,
    }
}

/// The kernel fills in length, id and checksum of the header. The datagram needs no checksum.
fn ipv4(from: Ipv4Addr, to: Ipv4Addr, datagram: &[u8]) -> Option<Vec<u8>> {
    let len = u16::try_from(20 + datagram.len()).ok()?.to_be_bytes();
    let mut packet = vec![0x45, 0, len[0], len[1], 0, 0, 0, 0, HOPS, UDP, 0, 0];
    packet.extend(from.octets());
    packet.extend(to.octets());
    packet.extend(datagram);
    Some(packet)
}

fn ipv6(from: Ipv6Addr, to: Ipv6Addr, mut datagram: Vec<u8>) -> Vec<u8> {
    let sum = checksum(from, to, &datagram).to_be_bytes();
    datagram[6..8].copy_from_slice(&sum);
    let len = (datagram.len() as u16).to_be_bytes();
    let mut packet = vec![0x60, 0, 0, 0, len[0], len[1], UDP, HOPS];
    packet.extend(from.octets());
    packet.extend(to.octets());
    packet.extend(datagram);
    packet
}

/// RFC 8200, section 8.1: over a pseudo header, too. 0 means none, and is sent as all ones.
fn checksum(from: Ipv6Addr, to: Ipv6Addr, datagram: &[u8]) -> u16 {
    let mut sum: u64 = datagram.len() as u64 + u64::from(UDP);
    let mut add = |bytes: &[u8]| {
        for pair in bytes.chunks(2) {
            sum += u64::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        }
    };
    [&from.octets()[..], &to.octets(), datagram].into_iter().for_each(&mut add);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    match !(sum as u16) {
        0 => 0xffff,
        sum => sum,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn headers_and_contents() {
        let packet = udp(at("10.0.0.1:5000"), at("127.0.0.1:53"), b"abc").unwrap();
        assert_eq!(packet[..12], [0x45, 0, 0, 31, 0, 0, 0, 0, 64, 17, 0, 0]);
        assert_eq!(packet[12..28], [10, 0, 0, 1, 127, 0, 0, 1, 0x13, 0x88, 0, 53, 0, 11, 0, 0]);
        assert_eq!(packet[28..], *b"abc");
        assert_eq!(udp(at("10.0.0.1:1"), at("[::1]:1"), b""), None);
        assert_eq!(udp(at("10.0.0.1:1"), at("10.0.0.2:1"), &vec![0; 65_508]), None);
    }

    #[test]
    fn a_checksum_makes_the_sum_all_ones() {
        let (from, to) = (at("[::1]:4000"), at("[fe80::2]:9"));
        let packet = udp(from, to, b"odd").unwrap();
        let mut sum = 17 + 11;
        for pair in packet[8..].chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
        }
        assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
    }
}
