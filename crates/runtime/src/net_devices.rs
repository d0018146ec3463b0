//! `linux.netDevices`: network devices of the host's that become the container's.
//!
//! A device keeps its hardware address, MTU and the like, which the move doesn't touch, and its global addresses, which
//! the move drops and which are therefore set anew; it ends up "up" (runtime-spec, config-linux, "Network Devices").
//! Routes, and addresses of a lease's or link's scope, are whoever configures the network's.
//! The way back is the kernel's: with its namespace a virtual device goes and a physical one returns to the host.
//! A container that can't be created gives them back before, as they were, whether the namespace was its own or not; also
//! one whose creation is killed.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::sys::signal::SigSet;
use oci_spec::runtime::LinuxNetDevice;
use rtc_sys::clone::{self, Clone3, Cloned, flags};
use rtc_sys::netlink::{Attributes, Connection, Message, field};
use rtc_sys::{CallExt, Errno};
use rustix::fs::OFlags;
use rustix::pipe::PipeFlags;

use crate::error::{Context, Error, Kind, Result};
use crate::namespaces::Entered;
use crate::proc::Proc;
use crate::process::{self, VANISH};

// linux/rtnetlink.h
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
/// `sizeof(struct ifaddrmsg)`.
const ADDRESS_HEADER: usize = 8;
// linux/if_link.h, linux/if_addr.h
const IFLA_IFNAME: u16 = 3;
const IFLA_NET_NS_FD: u16 = 28;
const IFA_LABEL: u16 = 3;
const IFA_CACHEINFO: u16 = 6;
const IFA_FLAGS: u16 = 8;
const IFA_F_PERMANENT: u32 = 0x80;
/// `RT_SCOPE_UNIVERSE`: an address that is meant for the whole net.
const SCOPE_GLOBAL: u8 = 0;
/// `IFNAMSIZ` without the terminating zero.
const NAME_MAX: usize = 15;

/// An address of a device, as the message that would make it: without the device's index.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Address {
    header: [u8; ADDRESS_HEADER],
    attributes: Vec<(u16, Vec<u8>)>,
}

/// Whether the kernel would take `name` for a device (net/core/dev.c, `dev_valid_name`).
pub(crate) fn is_valid_name(name: &str) -> bool {
    let plain = |c: char| c != '/' && c != ':' && !c.is_whitespace() && c != '\0';
    !matches!(name, "" | "." | "..") && name.len() <= NAME_MAX && name.chars().all(plain)
}

/// A network namespace: a socket in it, and a descriptor of it.
#[derive(Debug)]
struct Place {
    connection: Connection,
    namespace: OwnedFd,
}

/// A device that is to be moved, and what it is like before.
#[derive(Debug)]
struct Device {
    outside: String,
    inside: String,
    /// Its index on the host.
    index: u32,
    was_up: bool,
    addresses: Vec<Address>,
}

/// The devices that a container has been given. What is dropped is the container's for good.
#[derive(Debug)]
pub(crate) struct Given {
    moves: Moves,
    _guard: Guard,
}

#[derive(Debug)]
struct Moves {
    host: Place,
    container: Place,
    devices: Vec<Device>,
}

/// Moves devices of this process's network namespace into that of the process behind `init`, whose pid is `pid`.
///
/// # Errors
/// There is no such device, the name is taken in the container, or the kernel won't move it (`EOPNOTSUPP`, `EINVAL`);
/// those before it have been moved back.
pub(crate) fn give(
    devices: &HashMap<String, LinuxNetDevice>,
    proc: &Proc,
    init: &OwnedFd,
    pid: i32,
) -> Result<Option<Given>> {
    if devices.is_empty() {
        return Ok(None);
    }
    let host = Place { connection: Connection::open(libc::NETLINK_ROUTE)?, namespace: proc.open_namespace("net")? };
    let namespace = proc.open_link(format!("{pid}/ns/net"), OFlags::RDONLY)?;
    let entered = Entered::network_of(proc, init)?;
    let container = Connection::open(libc::NETLINK_ROUTE);
    entered.finish()?;
    let container = Place { connection: container?, namespace };
    let mut moves = Moves { host, container, devices: Vec::new() };
    let describe = |name: &str| format!("linux.netDevices: {name:?}");
    // Sorted: what fails doesn't depend on the hash.
    let sorted: BTreeMap<_, _> = devices.iter().collect();
    for (name, device) in sorted {
        let inside = device.name().as_deref().filter(|name| !name.is_empty()).unwrap_or(name);
        moves.look_at(name, inside).context(|| describe(name))?;
    }
    let guard = Guard::start(&mut moves, init)?;
    for number in 0..moves.devices.len() {
        if let Err(error) = moves.give_one(number) {
            let name = moves.devices[number].outside.clone();
            moves.take_back();
            return Err(error).context(|| describe(&name));
        }
    }
    Ok(Some(Given { moves, _guard: guard }))
}

impl Given {
    /// Moves them back to the host, under their old names, with their addresses, up if they were. What fails is logged.
    pub(crate) fn take_back(mut self) {
        self.moves.take_back();
    }
}

impl Moves {
    /// Takes note of a device, and that its name in the container is free: after the move it would be too late.
    fn look_at(&mut self, outside: &str, inside: &str) -> Result<()> {
        let (index, flags) = find(&mut self.host.connection, outside)?.ok_or_else(missing)?;
        if find(&mut self.container.connection, inside)?.is_some() {
            return Err(Error::new(Kind::Invalid, format!("the container has a network device {inside:?} already")));
        }
        let addresses = addresses(&mut self.host.connection, index)?;
        let (outside, inside) = (outside.to_owned(), inside.to_owned());
        self.devices.push(Device { outside, inside, index, was_up: flags & libc::IFF_UP as u32 != 0, addresses });
        Ok(())
    }

    fn give_one(&mut self, number: usize) -> Result<()> {
        let device = &self.devices[number];
        let moved = self.host.send(device.index, &self.container, &device.inside);
        moved.context(|| "move it to the container")?;
        let (index, _) = find(&mut self.container.connection, &device.inside)?.ok_or_else(missing)?;
        self.container.set_up(index, &device.addresses, true)
    }

    /// Moves those back that are in the container.
    fn take_back(&mut self) {
        for device in std::mem::take(&mut self.devices).into_iter().rev() {
            if let Err(e) = self.take_one_back(&device) {
                log::warn!("network device {:?}: {e}", device.outside);
            }
        }
    }

    fn take_one_back(&mut self, device: &Device) -> Result<()> {
        let Some((index, _)) = find(&mut self.container.connection, &device.inside)? else { return Ok(()) };
        self.container.send(index, &self.host, &device.outside).context(|| "move it back to the host")?;
        match find(&mut self.host.connection, &device.outside)? {
            Some((index, _)) => self.host.set_up(index, &device.addresses, device.was_up),
            None => Ok(()),
        }
    }

    /// Leaves this process in the container's namespace. Answers to what the killed one has asked may wait on the
    /// connections that it shares.
    fn connect_anew(&mut self) -> Result<()> {
        self.host.connection = Connection::open(libc::NETLINK_ROUTE)?;
        clone::setns(self.container.namespace.as_fd(), flags::NEWNET)?;
        self.container.connection = Connection::open(libc::NETLINK_ROUTE)?;
        Ok(())
    }
}

fn missing() -> Error {
    Error::new(Kind::Invalid, "there is no such network device on the host")
}

/// A process that moves the devices back when this one is killed: init dies with it, and a virtual device with init's
/// network namespace, which the guard holds for so long. Against a SIGKILL of both, as by `cgroup.kill`, it can't help.
///
/// It ends when this is dropped.
#[derive(Debug)]
struct Guard {
    pidfd: OwnedFd,
    _end: OwnedFd,
}

impl Guard {
    fn start(moves: &mut Moves, init: &OwnedFd) -> Result<Self> {
        let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).call("pipe2", "CLOEXEC")?;
        match clone::clone3(&Clone3::default())? {
            Cloned::Parent { pidfd, .. } => Ok(Self { pidfd, _end: writer }),
            Cloned::Child => {
                drop(writer);
                // An interrupt from the terminal is for the one that is guarded, too.
                let _ = SigSet::all().thread_block();
                // Nobody writes: this ends with the last writer.
                let _ = rustix::io::retry_on_intr(|| rustix::io::read(&reader, &mut [0; 1]));
                // Init is killed a moment after that, unless the container stands already.
                if process::wait_for_end(init, VANISH).and_then(|()| moves.connect_anew()).is_ok() {
                    moves.take_back();
                }
                clone::exit(0)
            }
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Err(e) = process::kill_and_reap(&self.pidfd) {
            log::warn!("end the process that guards network devices: {e}");
        }
    }
}

impl Place {
    /// Sends a device elsewhere, under a name.
    fn send(&mut self, index: u32, to: &Self, name: &str) -> rtc_sys::Result<()> {
        let mut message = Message::default();
        message.begin(RTM_NEWLINK, libc::NLM_F_ACK as u16, self.connection.sequence()).fixed(&link_header(index, 0));
        message.attribute(IFLA_NET_NS_FD, &to.namespace.as_fd().as_raw_fd().to_ne_bytes());
        message.string(IFLA_IFNAME, name);
        self.connection.apply(message.bytes(), 1)
    }

    /// Gives a device that has come here its addresses again, and brings it up.
    fn set_up(&mut self, index: u32, addresses: &[Address], up: bool) -> Result<()> {
        for address in addresses {
            let message = add(self.connection.sequence(), address, index);
            self.connection.apply(&message, 1).context(|| "give it its address again")?;
        }
        if !up {
            return Ok(());
        }
        let mut message = Message::default();
        message.begin(RTM_NEWLINK, libc::NLM_F_ACK as u16, self.connection.sequence());
        message.fixed(&link_header(index, libc::IFF_UP as u32));
        self.connection.apply(message.bytes(), 1).context(|| "bring it up")
    }
}

/// `struct ifinfomsg`: family and type (4), index, flags, which of them to change.
fn link_header(index: u32, flags: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&flags.to_ne_bytes());
    header
}

/// The index and the flags (`IFF_*`) of a device.
fn find(connection: &mut Connection, name: &str) -> Result<Option<(u32, u32)>> {
    let mut message = Message::default();
    // The acknowledgement ends the answer.
    message.begin(RTM_GETLINK, libc::NLM_F_ACK as u16, connection.sequence()).fixed(&[0; 16]);
    message.string(IFLA_IFNAME, name);
    let mut found = None;
    let number = |body: &[u8], at| field::<4>(body, at).map(u32::from_ne_bytes);
    match connection.dump(message.bytes(), &mut |body| found = number(body, 4).zip(number(body, 8))) {
        Ok(()) => Ok(found),
        Err(e) if e.errno() == Errno::ENODEV => Ok(None),
        Err(e) => Err(Error::from(e).context(format!("look for device {name:?}"))),
    }
}

/// The addresses of a device that go with it: global ones that somebody set for good.
fn addresses(connection: &mut Connection, index: u32) -> Result<Vec<Address>> {
    let mut message = Message::default();
    message.begin(RTM_GETADDR, libc::NLM_F_DUMP as u16, connection.sequence()).fixed(&[0; ADDRESS_HEADER]);
    let mut found = Vec::new();
    let mut each = |body: &[u8]| found.extend(Address::parse(body, index));
    connection.dump(message.bytes(), &mut each).context(|| "list its addresses")?;
    Ok(found)
}

impl Address {
    /// From the body of an `RTM_NEWADDR`; none when it is another device's, or doesn't go with its own.
    fn parse(body: &[u8], index: u32) -> Option<Self> {
        let header = field::<ADDRESS_HEADER>(body, 0)?;
        let scope = header[3];
        if scope != SCOPE_GLOBAL || header[4..] != index.to_ne_bytes() {
            return None;
        }
        let attributes: Vec<_> =
            Attributes(&body[ADDRESS_HEADER..]).map(|(kind, value)| (kind, value.to_vec())).collect();
        let wide = attributes.iter().find(|(kind, _)| *kind == IFA_FLAGS).and_then(|(_, value)| field::<4>(value, 0));
        let flags = wide.map_or_else(|| u32::from(header[2]), u32::from_ne_bytes);
        // Lifetimes of a permanent address are infinite, which is what leaving them out means; and a label that isn't
        // said is the device's name, which may be another now.
        let keep = attributes.into_iter().filter(|(kind, _)| !matches!(*kind, IFA_CACHEINFO | IFA_LABEL)).collect();
        (flags & IFA_F_PERMANENT != 0).then_some(Self { header, attributes: keep })
    }
}

/// The message that gives a device an address.
fn add(sequence: u32, address: &Address, index: u32) -> Vec<u8> {
    let mut header = address.header;
    header[4..].copy_from_slice(&index.to_ne_bytes());
    let mut message = Message::default();
    let flags = libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    message.begin(RTM_NEWADDR, flags as u16, sequence).fixed(&header);
    for (kind, value) in &address.attributes {
        message.attribute(*kind, value);
    }
    message.bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_the_kernel_takes() {
        for good in ["eth0", "a.b", "fifteen-letters", "e\u{e9}"] {
            assert!(is_valid_name(good), "{good:?}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "a:1", "sixteen-letters-", "a\n"] {
            assert!(!is_valid_name(bad), "{bad:?}");
        }
    }

    fn body(scope: u8, flags: u32, index: u32) -> Vec<u8> {
        let mut message = Message::default();
        let mut header = [2, 24, flags as u8, scope, 0, 0, 0, 0];
        header[4..].copy_from_slice(&index.to_ne_bytes());
        message.begin(RTM_NEWADDR, 0, 1).fixed(&header);
        message
            .attribute(2, &[10, 0, 0, 1])
            .attribute(IFA_CACHEINFO, &[255; 16])
            .attribute(IFA_FLAGS, &flags.to_ne_bytes());
        message.bytes()[16..].to_vec()
    }

    #[test]
    fn permanent_global_addresses_go_with_the_device() {
        let address = Address::parse(&body(0, IFA_F_PERMANENT, 7), 7).unwrap();
        assert_eq!(address.attributes[0], (2, vec![10, 0, 0, 1]));
        assert!(address.attributes.iter().all(|(kind, _)| *kind != IFA_CACHEINFO));
        // Of another device, of a link's scope, with a lease's lifetime.
        for other in [body(0, IFA_F_PERMANENT, 8), body(253, IFA_F_PERMANENT, 7), body(0, 0, 7), vec![2, 24]] {
            assert_eq!(Address::parse(&other, 7), None);
        }
        let message = add(3, &address, 9);
        assert_eq!(message[20..24], 9u32.to_ne_bytes());
    }
}
