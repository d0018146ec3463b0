//! Multicast groups that a socket has joined. No call lists them: the interface's groups are asked for one by one.

use crate::error::{Context as _, Result, bad_image};
use crate::proc::Proc;
use crate::resource::socket::address;
use crate::resource::socket::sort::Sort;
use rtc_sys::{CallExt as _, Errno, socket};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::BorrowedFd;

/// `MCAST_JOIN_GROUP`, `MCAST_MSFILTER`, `MCAST_EXCLUDE` of <linux/in.h>.
const MCAST_JOIN_GROUP: i32 = 42;
const MCAST_MSFILTER: i32 = 48;
const MCAST_EXCLUDE: u32 = 0;
/// The length of `struct sockaddr_storage`, and where it stands in `struct group_req` and `struct group_filter`.
const STORAGE: usize = 128;
const GROUP_AT: usize = 8;

/// A group, on an interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// The interface's name.
    pub interface: String,
    /// The group's address.
    pub group: IpAddr,
}

/// A group of an interface, of whichever socket.
#[derive(Debug, PartialEq, Eq)]
struct Listed {
    index: u32,
    interface: String,
    group: IpAddr,
}

/// The groups that a socket has joined, or one that it has joined in a way that can't be saved.
pub(super) fn of(fd: BorrowedFd<'_>, sort: Sort, init: i32) -> Result<std::result::Result<Vec<Membership>, IpAddr>> {
    let mut all = Vec::new();
    let v6 = Proc(init).text("net/igmp6").unwrap_or_default();
    let v4 = Proc(init).text("net/igmp").unwrap_or_default();
    let listed = parse_igmp(&v4).into_iter().chain(parse_igmp6(&v6));
    for one in listed.filter(|one| one.group.is_ipv4() || sort.family == libc::AF_INET6) {
        // group_filter: interface, group, mode, number of sources
        let mut filter = request(one.index, one.group);
        filter.resize(GROUP_AT + STORAGE + 8, 0);
        match socket::option(fd, level(one.group), MCAST_MSFILTER, &mut filter) {
            Err(e) if matches!(e.errno(), Errno::EADDRNOTAVAIL | Errno::EINVAL | Errno::ENOPROTOOPT) => continue,
            got => got.context(|| format!("membership of {}", one.group))?,
        };
        let word = |at: usize| u32::from_ne_bytes(filter[at..at + 4].try_into().expect("four bytes"));
        if (word(GROUP_AT + STORAGE), word(GROUP_AT + STORAGE + 4)) != (MCAST_EXCLUDE, 0) {
            return Ok(Err(one.group));
        }
        all.push(Membership { interface: one.interface, group: one.group });
    }
    Ok(Ok(all))
}

impl Membership {
    /// Joins the group again.
    pub(super) fn join(&self, fd: BorrowedFd<'_>) -> Result<()> {
        if !self.group.is_multicast() {
            return Err(bad_image(format!("{} is no multicast group", self.group)));
        }
        let noun = || format!("group {} on {}", self.group, self.interface);
        let index = rustix::net::netdevice::name_to_index(fd, &self.interface).call("ioctl", "SIOCGIFINDEX");
        let request = request(index.context(noun)?, self.group);
        socket::set_option(fd, level(self.group), MCAST_JOIN_GROUP, &request).context(noun)
    }
}

fn level(group: IpAddr) -> i32 {
    if group.is_ipv4() { libc::IPPROTO_IP } else { libc::IPPROTO_IPV6 }
}

/// `struct group_req`.
fn request(index: u32, group: IpAddr) -> Vec<u8> {
    let mut bytes = index.to_ne_bytes().to_vec();
    bytes.resize(GROUP_AT, 0);
    bytes.extend(address::inet_bytes(SocketAddr::new(group, 0)));
    bytes.resize(GROUP_AT + STORAGE, 0);
    bytes
}

/// /proc/net/igmp: a line for each interface, below it an indented one for each of its groups.
fn parse_igmp(text: &str) -> Vec<Listed> {
    let mut all = Vec::new();
    let mut interface: Option<(u32, String)> = None;
    for line in text.lines().skip(1) {
        let mut words = line.split_ascii_whitespace();
        let first = words.next().unwrap_or("");
        if !line.starts_with(['\t', ' ']) {
            let name = words.next().unwrap_or("").trim_end_matches(':');
            interface = first.parse().ok().map(|index| (index, name.to_owned()));
        } else if let (Some((index, name)), Ok(group)) = (&interface, u32::from_str_radix(first, 16)) {
            // The address's bytes, printed as a number of this machine.
            let group = Ipv4Addr::from(group.to_ne_bytes()).into();
            all.push(Listed { index: *index, interface: name.clone(), group });
        }
    }
    all
}

/// /proc/net/igmp6: number and name of the interface, group, users.
fn parse_igmp6(text: &str) -> Vec<Listed> {
    let line = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let (index, name, group) = (words.next()?, words.next()?, words.next()?);
        let group = Ipv6Addr::from(u128::from_str_radix(group, 16).ok()?).into();
        Some(Listed { index: index.parse().ok()?, interface: name.to_owned(), group })
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd as _;

    #[test]
    fn the_tables_of_the_kernel() {
        let text = "Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n\
                    1\tlo        :     1      V3\n\t\t\t\t010000E0     1 0:00000000\t\t0\n\
                    2\teth0      :     2      V3\n\t\t\t\tFB0000E0     1 0:00000000\t\t1\n";
        let listed = |index, name: &str, group: &str| Listed {
            index,
            interface: name.to_owned(),
            group: group.parse().unwrap(),
        };
        assert_eq!(parse_igmp(text), [listed(1, "lo", "224.0.0.1"), listed(2, "eth0", "224.0.0.251")]);
        let text = "1    lo              ff020000000000000000000000000001     1 0000000C 0\n";
        assert_eq!(parse_igmp6(text), [listed(1, "lo", "ff02::1")]);
    }

    #[test]
    fn a_group_that_was_joined_is_found() {
        let sort = Sort { family: libc::AF_INET, kind: libc::SOCK_DGRAM, protocol: libc::IPPROTO_UDP };
        let fd = socket::create(sort.family, sort.kind, 0).unwrap();
        let wanted = Membership { interface: "lo".to_owned(), group: "239.1.2.3".parse().unwrap() };
        let own = std::process::id() as i32;
        assert_eq!(of(fd.as_fd(), sort, own).unwrap(), Ok(vec![]));
        wanted.join(fd.as_fd()).unwrap();
        assert_eq!(of(fd.as_fd(), sort, own).unwrap(), Ok(vec![wanted]));
    }
}
