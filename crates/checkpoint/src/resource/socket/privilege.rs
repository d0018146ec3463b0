//! What of a socket takes a capability to bring about. Restore has them all, and the image's claims are measured by
//! what config.json gives ([`crate::restore`], authority).

use super::{Detail, Socket};
use crate::resource::socket::options::Value;

const CAP_NET_BROADCAST: u32 = 11;
const CAP_NET_ADMIN: u32 = 12;
const CAP_NET_RAW: u32 = 13;
const CAP_AUDIT_READ: u32 = 37;
/// `NETLINK_SOCK_DIAG`, `NETLINK_AUDIT`
const SOCK_DIAG: i32 = 4;
const AUDIT: i32 = 9;

/// Something that takes a capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Privilege {
    /// What the socket is or has, as the end of a sentence.
    pub(crate) what: &'static str,
    /// The name of the usual capability.
    pub(crate) capability: &'static str,
    /// Any of these does.
    pub(crate) any_of: &'static [u32],
}

const RAW: &[u32] = &[CAP_NET_RAW];
const ADMIN: &[u32] = &[CAP_NET_ADMIN];
const EITHER: &[u32] = &[CAP_NET_ADMIN, CAP_NET_RAW];

/// Options that anybody may have up to a number, and others not at all (net/core/sock.c, net/ipv4/ip_sockglue.c,
/// net/ipv6/ipv6_sockglue.c).
const OPTIONS: &[(&str, i64, Privilege)] = &[
    ("ip_transparent", 0, takes("speaks for other machines", "CAP_NET_RAW", EITHER)),
    ("ipv6_transparent", 0, takes("speaks for other machines", "CAP_NET_RAW", EITHER)),
    ("mark", 0, takes("has a mark for packet filters", "CAP_NET_ADMIN", EITHER)),
    ("priority", 6, takes("has a high priority", "CAP_NET_ADMIN", EITHER)),
    ("debug", 0, takes("is debugged", "CAP_NET_ADMIN", ADMIN)),
    ("prefer_busy_poll", 0, takes("polls devices", "CAP_NET_ADMIN", ADMIN)),
    ("ipv6_hopopts", -1, takes("writes its own headers", "CAP_NET_RAW", RAW)),
    ("ipv6_rthdrdstopts", -1, takes("writes its own headers", "CAP_NET_RAW", RAW)),
    ("ipv6_rthdr", -1, takes("writes its own headers", "CAP_NET_RAW", RAW)),
    ("ipv6_dstopts", -1, takes("writes its own headers", "CAP_NET_RAW", RAW)),
    (
        "netlink_listen_all_nsid",
        0,
        takes("hears of other network namespaces", "CAP_NET_BROADCAST", &[CAP_NET_BROADCAST]),
    ),
];

const fn takes(what: &'static str, capability: &'static str, any_of: &'static [u32]) -> Privilege {
    Privilege { what, capability, any_of }
}

impl Socket {
    /// All that takes a capability.
    pub(crate) fn privileges(&self) -> impl Iterator<Item = Privilege> {
        let sort = self.base.sort;
        let raw = sort.family == libc::AF_PACKET || sort.is_inet() && sort.kind == libc::SOCK_RAW;
        let raw = raw.then_some(takes("is a raw socket", "CAP_NET_RAW", RAW));
        let heard = match &self.detail {
            Detail::Netlink(netlink) if netlink.groups.is_empty() => None,
            Detail::Netlink(_) if sort.protocol == AUDIT => {
                Some(takes("reads the audit log", "CAP_AUDIT_READ", &[CAP_AUDIT_READ]))
            }
            Detail::Netlink(_) if sort.protocol == SOCK_DIAG => {
                Some(takes("hears of all sockets' ends", "CAP_NET_ADMIN", ADMIN))
            }
            _ => None,
        };
        raw.into_iter().chain(heard).chain(OPTIONS.iter().filter_map(|(name, free, privilege)| {
            let beyond = match self.base.options.values.get(*name)? {
                // The kernel reads a number as unsigned, where it is one.
                Value::Number(number) => !(0..=*free).contains(number),
                Value::Numbers(_) | Value::Text(_) => true,
            };
            beyond.then_some(*privilege)
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn privileges(
        family: i32,
        kind: i32,
        protocol: i32,
        options: serde_json::Value,
        detail: serde_json::Value,
    ) -> String {
        let socket: Socket = serde_json::from_value(serde_json::json!({
            "inode": 1, "sort": { "family": family, "kind": kind, "protocol": protocol }, "owner": { "uid": 0, "gid": 0 },
            "options": { "values": options }, "detail": detail,
        }))
        .unwrap();
        socket.privileges().map(|privilege| privilege.what).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn what_takes_a_capability_is_seen() {
        let udp =
            |options| privileges(libc::AF_INET, libc::SOCK_DGRAM, 17, options, serde_json::json!({"datagram": {}}));
        assert_eq!(udp(serde_json::json!({"reuseaddr": 1, "priority": 6, "mark": 0})), "");
        assert_eq!(
            udp(serde_json::json!({"priority": 7, "mark": 1})),
            "has a mark for packet filters, has a high priority"
        );
        assert_eq!(
            udp(serde_json::json!({"priority": -1, "ip_transparent": 1})),
            "speaks for other machines, has a high priority"
        );
        assert_eq!(udp(serde_json::json!({"ipv6_rthdr": "00"})), "writes its own headers");
        let netlink = |protocol, groups: &[u32]| {
            let detail = serde_json::json!({"netlink": {"port": 0, "groups": groups}});
            privileges(libc::AF_NETLINK, libc::SOCK_RAW, protocol, serde_json::json!({}), detail)
        };
        assert_eq!((netlink(AUDIT, &[1]).as_str(), netlink(AUDIT, &[]).as_str()), ("reads the audit log", ""));
        assert_eq!(netlink(0, &[1]), "");
        let raw =
            privileges(libc::AF_INET, libc::SOCK_RAW, 1, serde_json::json!({}), serde_json::json!({"datagram": {}}));
        assert_eq!(raw, "is a raw socket");
    }
}
