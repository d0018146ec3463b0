//! Internet sockets without connections.

use crate::base::{Check, Named, Prepare, Result, check, same, sys, sys_fd};
use crate::sockets::{option, set_option};
use crate::tcp::loopback_up;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

pub(crate) const ZOO: &[(&str, Prepare)] = &[
    ("udp", udp),
    ("udp_queue", udp_queue),
    ("udp_queue_v6", udp_queue_v6),
    ("udp_multicast", udp_multicast),
    ("raw_socket", raw_socket),
    ("packet_socket", packet_socket),
];

/// Bound and connected sockets of both families.
fn udp() -> Result<Check> {
    loopback_up()?;
    let mut pairs = Vec::new();
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let (left, right) = (UdpSocket::bind(address).named("bind")?, UdpSocket::bind(address).named("bind")?);
        left.connect(right.local_addr().named("name")?).named("connect")?;
        pairs.push((left, right));
    }
    check(move || {
        for (left, right) in &pairs {
            left.send(b"ping").named("send")?;
            let mut buffer = [0; 100];
            let (len, from) = right.recv_from(&mut buffer).named("recv")?;
            same("datagram", (&buffer[..len], from), (b"ping", left.local_addr().named("name")?))?;
            right.send_to(b"pong", from).named("send")?;
            let len = left.recv(&mut buffer).named("recv")?;
            same("answer", &buffer[..len], b"pong")?;
        }
        Ok(())
    })
}

/// Datagrams that nobody has read yet, with their sender.
fn udp_queue() -> Result<Check> {
    loopback_up()?;
    let (left, right) = (UdpSocket::bind("127.0.0.1:0").named("bind")?, UdpSocket::bind("127.0.0.1:0").named("bind")?);
    right.set_nonblocking(true).named("nonblock")?;
    let to = right.local_addr().named("name")?;
    let fill = move |left: &UdpSocket| -> Result<()> {
        for text in [&b"one"[..], b"", b"three"] {
            left.send_to(text, to).named("send")?;
        }
        Ok(())
    };
    fill(&left)?;
    check(move || {
        for text in [&b"one"[..], b"", b"three"] {
            let mut buffer = [0; 100];
            let (len, from) = right.recv_from(&mut buffer).named("a queued datagram")?;
            same("datagram", (&buffer[..len], from), (text, left.local_addr().named("name")?))?;
        }
        fill(&left)
    })
}

/// A socket for both protocols with datagrams of both, sent to two of its addresses.
fn udp_queue_v6() -> Result<Check> {
    loopback_up()?;
    let right = UdpSocket::bind("[::]:0").named("bind")?;
    right.set_nonblocking(true).named("nonblock")?;
    let port = right.local_addr().named("name")?.port();
    let (six, four) = (UdpSocket::bind("[::1]:0").named("bind")?, UdpSocket::bind("127.0.0.1:0").named("bind")?);
    let large = vec![7_u8; 60_000];
    let fill = move || -> Result<()> {
        six.send_to(&large, ("::1", port)).named("send")?;
        four.send_to(b"four", ("127.0.0.1", port)).named("send")?;
        Ok(())
    };
    let options = move |right: &UdpSocket| -> Result<Vec<i32>> {
        let wanted = [(libc::SOL_SOCKET, libc::SO_PEEK_OFF), (libc::IPPROTO_IP, 20), (libc::IPPROTO_IPV6, 74)];
        wanted.iter().map(|(level, name)| option(right, *level, *name)).collect()
    };
    let before = options(&right)?;
    fill()?;
    check(move || {
        same("options that a dump changes", options(&right)?, before.clone())?;
        let mut buffer = vec![0; 65_535];
        for (len, byte, family) in [(60_000, 7, "::1"), (4, b'f', "::ffff:127.0.0.1")] {
            let (got, from) = right.recv_from(&mut buffer).named("a queued datagram")?;
            same("datagram", (got, buffer[0], from.ip().to_string()), (len, byte, family.to_owned()))?;
        }
        fill()
    })
}

/// A member of a multicast group goes on getting what is sent to it.
fn udp_multicast() -> Result<Check> {
    loopback_up()?;
    let (group, lo) = (Ipv4Addr::new(239, 1, 2, 3), Ipv4Addr::LOCALHOST);
    let member = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).named("bind")?;
    member.join_multicast_v4(&group, &lo).named("join")?;
    let sender = UdpSocket::bind((lo, 0)).named("bind")?;
    let interface = libc::in_addr { s_addr: u32::from_ne_bytes(lo.octets()) };
    let (fd, len) = (sender.as_raw_fd(), size_of_val(&interface) as u32);
    sys!(libc::setsockopt(fd, libc::IPPROTO_IP, libc::IP_MULTICAST_IF, (&raw const interface).cast(), len))?;
    let port = member.local_addr().named("name")?.port();
    check(move || {
        sender.send_to(b"all", SocketAddr::new(group.into(), port)).named("send to the group")?;
        let mut buffer = [0; 10];
        let (len, from) = member.recv_from(&mut buffer).named("recv")?;
        same("datagram", (&buffer[..len], from), (b"all", sender.local_addr().named("name")?))
    })
}

/// A raw socket with its own protocol number, address and filter.
fn raw_socket() -> Result<Check> {
    loopback_up()?;
    let raw = || sys_fd!(libc::socket(libc::AF_INET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 253));
    let (left, right) = (raw()?, raw()?);
    // SAFETY: plain data that is filled below.
    let mut address: libc::sockaddr_in = unsafe { std::mem::zeroed() };
    address.sin_family = libc::AF_INET as u16;
    address.sin_addr.s_addr = u32::from_ne_bytes([127, 0, 0, 7]);
    let len = size_of_val(&address) as u32;
    sys!(libc::bind(right.as_raw_fd(), (&raw const address).cast(), len))?;
    set_option(&left, libc::IPPROTO_IP, libc::IP_TTL, 33)?;
    check(move || {
        same("TTL", option(&left, libc::IPPROTO_IP, libc::IP_TTL)?, 33)?;
        let to = (&raw const address).cast();
        sys!(libc::sendto(left.as_raw_fd(), b"raw".as_ptr().cast(), 3, 0, to, len))?;
        let mut packet = [0_u8; 100];
        let got = sys!(libc::recv(right.as_raw_fd(), packet.as_mut_ptr().cast(), packet.len(), 0))?;
        same("packet", (&packet[20..got as usize], packet[8], &packet[16..20]), (&b"raw"[..], 33, &[127, 0, 0, 7][..]))
    })
}

/// A packet socket that is bound to the loopback device, which it has put into promiscuous mode, sees what passes.
fn packet_socket() -> Result<Check> {
    loopback_up()?;
    let fd = sys_fd!(libc::socket(libc::AF_PACKET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0))?;
    let index = sys!(libc::if_nametoindex(c"lo".as_ptr()))? as i32;
    // SAFETY: plain data that is filled below.
    let mut asked: libc::packet_mreq = unsafe { std::mem::zeroed() };
    (asked.mr_ifindex, asked.mr_type) = (index, libc::PACKET_MR_PROMISC as u16);
    let (level, name) = (libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP);
    let len = size_of_val(&asked) as u32;
    sys!(libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const asked).cast(), len))?;
    // SAFETY: as above.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    (address.sll_family, address.sll_ifindex) = (libc::AF_PACKET as u16, index);
    address.sll_protocol = (libc::ETH_P_IP as u16).to_be();
    let len = size_of_val(&address) as u32;
    sys!(libc::bind(fd.as_raw_fd(), (&raw const address).cast(), len))?;
    let flags = || std::fs::read_to_string("/sys/class/net/lo/flags").named("flags");
    let before = flags()?;
    let sender = UdpSocket::bind("127.0.0.1:0").named("bind")?;
    check(move || {
        same("the device's flags", flags()?, before.clone())?;
        sender.send_to(b"seen", "127.0.0.1:9").named("send")?;
        let mut packet = [0_u8; 100];
        let got = sys!(libc::recv(fd.as_raw_fd(), packet.as_mut_ptr().cast(), packet.len(), 0))?;
        same("packet", &packet[28..got as usize], b"seen")?;
        // It passes twice, out and in; and so does the answer that nobody is there.
        while sys!(libc::recv(fd.as_raw_fd(), packet.as_mut_ptr().cast(), packet.len(), libc::MSG_DONTWAIT)).is_ok() {}
        Ok(())
    })
}
