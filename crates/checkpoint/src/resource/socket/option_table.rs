//! The socket options that are saved. One line here adds one.
//!
//! Left out: options that only give an answer (SO_TYPE), that change by themselves (TCP_QUICKACK, TCP_WINDOW_CLAMP,
//! SO_INCOMING_CPU), or that can be set but not read (IP_XFRM_POLICY, SO_ATTACH_REUSEPORT_CBPF, IP_MULTICAST_IF by
//! interface number).
//! Numbers are those of <asm-generic/socket.h>, <linux/in.h>, <linux/in6.h>, <linux/tcp.h> and their like.

use libc::{IPPROTO_IP, IPPROTO_IPV6, IPPROTO_TCP, IPPROTO_UDP, SOL_NETLINK, SOL_PACKET, SOL_RAW, SOL_SOCKET};

/// Which sockets have an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// All.
    Any,
    /// `AF_INET` and, for its IPv4 side, `AF_INET6`.
    Inet,
    /// `AF_INET6`
    Inet6,
    /// As `Inet`, without TCP, which is never multicast.
    Multicast,
    /// As `Inet6`, without TCP.
    Multicast6,
    /// TCP and MPTCP.
    Tcp,
    /// UDP.
    Udp,
    /// UDP-Lite.
    UdpLite,
    /// `SOCK_RAW` of the internet families.
    Raw,
    /// `AF_NETLINK`
    Netlink,
    /// `AF_PACKET`
    Packet,
}

/// What an option's value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// An int.
    Int,
    /// An unsigned int, whose high values are not negative numbers: a buffer's size, a mark.
    Unsigned,
    /// A 64-bit number.
    Long,
    /// That many ints.
    Ints(usize),
    /// `struct timeval` of 64-bit numbers.
    Time,
    /// A string, with or without a terminating zero, of at most so many bytes.
    Text(usize),
    /// At most so many bytes.
    Bytes(usize),
}

/// When restore sets an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    /// Before bind(2) and connect(2), because these look at it.
    Early,
    /// When the socket is connected, and its queues are filled: an option must not get in the way of these.
    Late,
}

/// An option.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    /// Its name in the image.
    pub(super) name: &'static str,
    pub(super) class: Class,
    pub(super) level: i32,
    /// Its number for getsockopt.
    pub(super) get: i32,
    /// Its number for setsockopt, where that is another.
    pub(super) set: i32,
    pub(super) shape: Shape,
    /// A new socket's value, all bytes equal to this one, or none where a sysctl or the kernel's version decides.
    pub(super) default: Option<u8>,
    pub(super) when: When,
}

const fn row(name: &'static str, class: Class, level: i32, number: i32) -> Row {
    Row { name, class, level, get: number, set: number, shape: Shape::Int, default: Some(0), when: When::Late }
}

impl Row {
    const fn early(self) -> Self {
        Self { when: When::Early, ..self }
    }
    const fn shape(self, shape: Shape) -> Self {
        Self { shape, ..self }
    }
    /// A new socket's value depends on sysctls.
    const fn varies(self) -> Self {
        Self { default: None, ..self }
    }
    const fn default(self, byte: u8) -> Self {
        Self { default: Some(byte), ..self }
    }
    const fn set_by(self, set: i32) -> Self {
        Self { set, ..self }
    }
}

use Class::{Any, Inet, Inet6, Multicast, Multicast6, Netlink, Packet, Raw, Tcp, Udp, UdpLite};
use Shape::{Bytes, Int, Ints, Long, Text, Time, Unsigned};

/// Options whose order among themselves matters say why.
pub(super) const OPTIONS: &[Row] = &[
    row("reuseaddr", Any, SOL_SOCKET, libc::SO_REUSEADDR).early(),
    row("reuseport", Any, SOL_SOCKET, libc::SO_REUSEPORT).early(),
    row("bindtodevice", Any, SOL_SOCKET, libc::SO_BINDTODEVICE).shape(Text(16)).early(),
    row("mark", Any, SOL_SOCKET, libc::SO_MARK).shape(Unsigned).early(),
    row("debug", Any, SOL_SOCKET, libc::SO_DEBUG),
    row("dontroute", Any, SOL_SOCKET, libc::SO_DONTROUTE),
    row("broadcast", Any, SOL_SOCKET, libc::SO_BROADCAST),
    row("oobinline", Any, SOL_SOCKET, libc::SO_OOBINLINE),
    row("no_check", Any, SOL_SOCKET, libc::SO_NO_CHECK),
    row("priority", Any, SOL_SOCKET, libc::SO_PRIORITY),
    row("linger", Any, SOL_SOCKET, libc::SO_LINGER).shape(Ints(2)),
    row("passcred", Any, SOL_SOCKET, libc::SO_PASSCRED),
    row("passsec", Any, SOL_SOCKET, libc::SO_PASSSEC),
    row("passpidfd", Any, SOL_SOCKET, 76),
    // Linux 6.16
    row("passrights", Any, SOL_SOCKET, 83).varies(),
    row("inq", Any, SOL_SOCKET, 84),
    row("rcvtimeo", Any, SOL_SOCKET, libc::SO_RCVTIMEO).shape(Time),
    row("sndtimeo", Any, SOL_SOCKET, libc::SO_SNDTIMEO).shape(Time),
    row("timestamp", Any, SOL_SOCKET, libc::SO_TIMESTAMP),
    row("timestampns", Any, SOL_SOCKET, libc::SO_TIMESTAMPNS),
    row("timestamp_new", Any, SOL_SOCKET, 63),
    row("timestampns_new", Any, SOL_SOCKET, 64),
    row("timestamping", Any, SOL_SOCKET, libc::SO_TIMESTAMPING).shape(Ints(2)),
    row("rxq_ovfl", Any, SOL_SOCKET, libc::SO_RXQ_OVFL),
    row("wifi_status", Any, SOL_SOCKET, 41),
    row("nofcs", Any, SOL_SOCKET, 43),
    row("select_err_queue", Any, SOL_SOCKET, 45),
    row("busy_poll", Any, SOL_SOCKET, libc::SO_BUSY_POLL).varies(),
    row("prefer_busy_poll", Any, SOL_SOCKET, 69),
    row("max_pacing_rate", Any, SOL_SOCKET, 47).shape(Long).default(0xff),
    row("zerocopy", Any, SOL_SOCKET, libc::SO_ZEROCOPY),
    row("txtime", Any, SOL_SOCKET, libc::SO_TXTIME).shape(Ints(2)),
    row("reserve_mem", Any, SOL_SOCKET, 73),
    row("txrehash", Any, SOL_SOCKET, 74).varies(),
    row("rcvmark", Any, SOL_SOCKET, 75),
    row("rcvpriority", Any, SOL_SOCKET, 82),
    // May enlarge the receive buffer, so that its size comes after it. FORCE goes above net.core.*mem_max.
    row("rcvlowat", Any, SOL_SOCKET, libc::SO_RCVLOWAT).varies(),
    row("rcvbuf", Any, SOL_SOCKET, libc::SO_RCVBUF).set_by(libc::SO_RCVBUFFORCE).shape(Unsigned).varies(),
    row("sndbuf", Any, SOL_SOCKET, libc::SO_SNDBUF).set_by(libc::SO_SNDBUFFORCE).shape(Unsigned).varies(),
    // Whether the sizes were asked for or adjust themselves (Linux 5.14); setting a size asks for it.
    row("buf_lock", Any, SOL_SOCKET, 72).varies(),
    row("peek_off", Any, SOL_SOCKET, libc::SO_PEEK_OFF).default(0xff),
    row("ip_hdrincl", Raw, IPPROTO_IP, libc::IP_HDRINCL).early(),
    row("ip_freebind", Inet, IPPROTO_IP, libc::IP_FREEBIND).early(),
    row("ip_transparent", Inet, IPPROTO_IP, libc::IP_TRANSPARENT).early(),
    row("ip_bind_address_no_port", Inet, IPPROTO_IP, 24).early(),
    row("ip_local_port_range", Inet, IPPROTO_IP, 51).shape(Unsigned).early(),
    row("ip_tos", Inet, IPPROTO_IP, libc::IP_TOS).varies(),
    row("ip_ttl", Inet, IPPROTO_IP, libc::IP_TTL).varies(),
    row("ip_options", Inet, IPPROTO_IP, libc::IP_OPTIONS).shape(Bytes(40)),
    row("ip_recvopts", Inet, IPPROTO_IP, libc::IP_RECVOPTS),
    row("ip_retopts", Inet, IPPROTO_IP, libc::IP_RETOPTS),
    row("ip_pktinfo", Inet, IPPROTO_IP, libc::IP_PKTINFO),
    row("ip_mtu_discover", Inet, IPPROTO_IP, libc::IP_MTU_DISCOVER).varies(),
    row("ip_recverr", Inet, IPPROTO_IP, libc::IP_RECVERR),
    row("ip_recverr_rfc4884", Inet, IPPROTO_IP, 26),
    row("ip_recvttl", Inet, IPPROTO_IP, libc::IP_RECVTTL),
    row("ip_recvtos", Inet, IPPROTO_IP, libc::IP_RECVTOS),
    row("ip_passsec", Inet, IPPROTO_IP, 18),
    row("ip_recvorigdstaddr", Inet, IPPROTO_IP, 20),
    row("ip_minttl", Inet, IPPROTO_IP, libc::IP_MINTTL),
    row("ip_nodefrag", Raw, IPPROTO_IP, 22),
    row("ip_checksum", Inet, IPPROTO_IP, 23),
    row("ip_recvfragsize", Inet, IPPROTO_IP, 25),
    row("ip_multicast_if", Multicast, IPPROTO_IP, libc::IP_MULTICAST_IF).shape(Bytes(4)),
    row("ip_multicast_ttl", Multicast, IPPROTO_IP, libc::IP_MULTICAST_TTL).varies(),
    row("ip_multicast_loop", Multicast, IPPROTO_IP, libc::IP_MULTICAST_LOOP).varies(),
    row("ip_multicast_all", Multicast, IPPROTO_IP, 49).varies(),
    row("ip_unicast_if", Multicast, IPPROTO_IP, 50),
    row("ipv6_v6only", Inet6, IPPROTO_IPV6, libc::IPV6_V6ONLY).varies().early(),
    row("ipv6_freebind", Inet6, IPPROTO_IPV6, 78).early(),
    row("ipv6_transparent", Inet6, IPPROTO_IPV6, libc::IPV6_TRANSPARENT).early(),
    row("ipv6_hdrincl", Raw, IPPROTO_IPV6, 36).early(),
    row("ipv6_unicast_hops", Inet6, IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS).varies(),
    row("ipv6_multicast_if", Multicast6, IPPROTO_IPV6, libc::IPV6_MULTICAST_IF),
    row("ipv6_multicast_hops", Multicast6, IPPROTO_IPV6, libc::IPV6_MULTICAST_HOPS).varies(),
    row("ipv6_multicast_loop", Multicast6, IPPROTO_IPV6, libc::IPV6_MULTICAST_LOOP).varies(),
    row("ipv6_multicast_all", Multicast6, IPPROTO_IPV6, 29).varies(),
    row("ipv6_mtu_discover", Inet6, IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER).varies(),
    row("ipv6_recverr", Inet6, IPPROTO_IPV6, libc::IPV6_RECVERR),
    row("ipv6_recverr_rfc4884", Inet6, IPPROTO_IPV6, 31),
    row("ipv6_router_alert_isolate", Inet6, IPPROTO_IPV6, 30),
    row("ipv6_flowinfo_send", Inet6, IPPROTO_IPV6, 33),
    row("ipv6_recvpktinfo", Inet6, IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
    row("ipv6_recvhoplimit", Inet6, IPPROTO_IPV6, libc::IPV6_RECVHOPLIMIT),
    row("ipv6_recvhopopts", Inet6, IPPROTO_IPV6, libc::IPV6_RECVHOPOPTS),
    row("ipv6_recvrthdr", Inet6, IPPROTO_IPV6, libc::IPV6_RECVRTHDR),
    row("ipv6_recvdstopts", Inet6, IPPROTO_IPV6, libc::IPV6_RECVDSTOPTS),
    row("ipv6_recvpathmtu", Inet6, IPPROTO_IPV6, libc::IPV6_RECVPATHMTU),
    row("ipv6_recvtclass", Inet6, IPPROTO_IPV6, libc::IPV6_RECVTCLASS),
    row("ipv6_recvorigdstaddr", Inet6, IPPROTO_IPV6, 74),
    row("ipv6_recvfragsize", Inet6, IPPROTO_IPV6, 77),
    row("ipv6_tclass", Inet6, IPPROTO_IPV6, libc::IPV6_TCLASS),
    row("ipv6_dontfrag", Inet6, IPPROTO_IPV6, libc::IPV6_DONTFRAG),
    row("ipv6_autoflowlabel", Inet6, IPPROTO_IPV6, 70).varies(),
    row("ipv6_addr_preferences", Inet6, IPPROTO_IPV6, 72).varies(),
    row("ipv6_minhopcount", Inet6, IPPROTO_IPV6, 73),
    row("ipv6_unicast_if", Multicast6, IPPROTO_IPV6, 76),
    row("ipv6_hopopts", Inet6, IPPROTO_IPV6, libc::IPV6_HOPOPTS).shape(Bytes(2048)),
    row("ipv6_rthdrdstopts", Inet6, IPPROTO_IPV6, libc::IPV6_RTHDRDSTOPTS).shape(Bytes(2048)),
    row("ipv6_rthdr", Inet6, IPPROTO_IPV6, libc::IPV6_RTHDR).shape(Bytes(2048)),
    row("ipv6_dstopts", Inet6, IPPROTO_IPV6, libc::IPV6_DSTOPTS).shape(Bytes(2048)),
    // The congestion control comes first among TCP's: its start sets others.
    row("tcp_congestion", Tcp, IPPROTO_TCP, libc::TCP_CONGESTION).shape(Text(16)).varies(),
    row("tcp_nodelay", Tcp, IPPROTO_TCP, libc::TCP_NODELAY),
    row("tcp_keepidle", Tcp, IPPROTO_TCP, libc::TCP_KEEPIDLE).varies(),
    row("tcp_keepintvl", Tcp, IPPROTO_TCP, libc::TCP_KEEPINTVL).varies(),
    row("tcp_keepcnt", Tcp, IPPROTO_TCP, libc::TCP_KEEPCNT).varies(),
    row("tcp_syncnt", Tcp, IPPROTO_TCP, libc::TCP_SYNCNT).varies(),
    row("tcp_linger2", Tcp, IPPROTO_TCP, libc::TCP_LINGER2).varies(),
    row("tcp_defer_accept", Tcp, IPPROTO_TCP, libc::TCP_DEFER_ACCEPT),
    row("tcp_thin_linear_timeouts", Tcp, IPPROTO_TCP, libc::TCP_THIN_LINEAR_TIMEOUTS),
    row("tcp_user_timeout", Tcp, IPPROTO_TCP, libc::TCP_USER_TIMEOUT),
    row("tcp_fastopen", Tcp, IPPROTO_TCP, libc::TCP_FASTOPEN),
    row("tcp_fastopen_key", Tcp, IPPROTO_TCP, 33).shape(Bytes(32)),
    row("tcp_fastopen_no_cookie", Tcp, IPPROTO_TCP, 34),
    row("tcp_fastopen_connect", Tcp, IPPROTO_TCP, 30),
    row("tcp_notsent_lowat", Tcp, IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT).shape(Unsigned).varies(),
    row("tcp_save_syn", Tcp, IPPROTO_TCP, libc::TCP_SAVE_SYN),
    row("tcp_inq", Tcp, IPPROTO_TCP, libc::TCP_INQ),
    row("tcp_tx_delay", Tcp, IPPROTO_TCP, 37),
    row("tcp_rto_max_ms", Tcp, IPPROTO_TCP, 44).varies(),
    row("tcp_rto_min_us", Tcp, IPPROTO_TCP, 45).varies(),
    row("tcp_delack_max_us", Tcp, IPPROTO_TCP, 46).varies(),
    // Keepalive starts a timer by what was set above; a cork holds back what is sent without it.
    row("keepalive", Any, SOL_SOCKET, libc::SO_KEEPALIVE),
    row("tcp_cork", Tcp, IPPROTO_TCP, libc::TCP_CORK),
    row("udp_cork", Udp, IPPROTO_UDP, libc::UDP_CORK),
    row("udp_no_check6_tx", Udp, IPPROTO_UDP, 101),
    row("udp_no_check6_rx", Udp, IPPROTO_UDP, 102),
    row("udp_segment", Udp, IPPROTO_UDP, 103),
    row("udp_gro", Udp, IPPROTO_UDP, 104),
    row("udplite_send_cscov", UdpLite, 136, 10),
    row("udplite_recv_cscov", UdpLite, 136, 11),
    row("icmp_filter", Raw, SOL_RAW, 1),
    row("icmp6_filter", Raw, libc::IPPROTO_ICMPV6, 1).shape(Ints(8)),
    row("ipv6_checksum", Raw, IPPROTO_IPV6, 7).varies(),
    row("netlink_pktinfo", Netlink, SOL_NETLINK, 3),
    row("netlink_broadcast_error", Netlink, SOL_NETLINK, 4),
    row("netlink_no_enobufs", Netlink, SOL_NETLINK, 5),
    row("netlink_listen_all_nsid", Netlink, SOL_NETLINK, 8),
    row("netlink_cap_ack", Netlink, SOL_NETLINK, 10),
    row("netlink_ext_ack", Netlink, SOL_NETLINK, 11),
    row("netlink_get_strict_chk", Netlink, SOL_NETLINK, 12),
    row("packet_version", Packet, SOL_PACKET, 10).early(),
    row("packet_reserve", Packet, SOL_PACKET, 12).early(),
    row("packet_vnet_hdr", Packet, SOL_PACKET, 15).early(),
    row("packet_auxdata", Packet, SOL_PACKET, 8),
    row("packet_origdev", Packet, SOL_PACKET, 9),
    row("packet_loss", Packet, SOL_PACKET, 14),
    row("packet_timestamp", Packet, SOL_PACKET, 17),
    row("packet_fanout", Packet, SOL_PACKET, 18).shape(Unsigned),
    row("packet_tx_has_off", Packet, SOL_PACKET, 19),
    row("packet_qdisc_bypass", Packet, SOL_PACKET, 20),
    row("packet_ignore_outgoing", Packet, SOL_PACKET, 23),
];

impl Shape {
    /// The size of the buffer for getsockopt.
    pub(super) fn room(self) -> usize {
        match self {
            Int | Unsigned => 4,
            Long => 8,
            Ints(n) => 4 * n,
            Time => 16,
            Text(n) | Bytes(n) => n,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = OPTIONS.iter().map(|row| row.name).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
