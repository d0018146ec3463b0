//! Unix sockets: queues with boundaries and descriptors in them, names, backlog, options; netlink.

use crate::base::{
    Check, Named, Prepare, Result, check, fails, holds, owned, pipe, read, ready, same, sys, sys_fd, write,
};
use std::fs;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};

pub(crate) const ZOO: &[(&str, Prepare)] = &[
    ("unix_stream", unix_stream),
    ("unix_half_closed", unix_half_closed),
    ("unix_packets", unix_packets),
    ("unix_datagram", unix_datagram),
    ("unix_listener", unix_listener),
    ("unix_abstract", unix_abstract),
    ("unix_backlog", unix_backlog),
    ("unix_deleted", unix_deleted),
    ("unix_descriptors", unix_descriptors),
    ("unix_options", unix_options),
    ("netlink", netlink),
];

pub(crate) fn pair(kind: i32) -> Result<(OwnedFd, OwnedFd)> {
    let mut fds = [0; 2];
    sys!(libc::socketpair(libc::AF_UNIX, kind, 0, fds.as_mut_ptr()))?;
    Ok(owned(fds))
}

/// Data on its way in both directions.
fn unix_stream() -> Result<Check> {
    let (left, right) = pair(libc::SOCK_STREAM | libc::SOCK_NONBLOCK)?;
    write(&left, b"to the right")?;
    write(&right, b"to the left")?;
    check(move || {
        same("right", read(&right, 100)?, b"to the right".to_vec())?;
        same("left", read(&left, 100)?, b"to the left".to_vec())?;
        fails("no more", read(&left, 100), libc::EAGAIN)?;
        write(&left, b"to the right")?;
        write(&right, b"to the left")
    })
}

/// One direction is shut; in another pair the peer is gone and data is left.
fn unix_half_closed() -> Result<Check> {
    // SAFETY: takes plain values.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    let (left, right) = pair(libc::SOCK_STREAM)?;
    sys!(libc::shutdown(left.as_raw_fd(), libc::SHUT_WR))?;
    let orphan = || -> Result<OwnedFd> {
        let (alone, gone) = pair(libc::SOCK_STREAM)?;
        write(&gone, b"last words")?;
        Ok(alone)
    };
    let mut alone = orphan()?;
    check(move || {
        same("the shut direction", read(&right, 10)?, vec![])?;
        fails("write into it", write(&left, b"x"), libc::EPIPE)?;
        write(&right, b"open")?;
        same("the other direction", read(&left, 10)?, b"open".to_vec())?;
        same("last words", read(&alone, 100)?, b"last words".to_vec())?;
        same("the end", read(&alone, 100)?, vec![])?;
        alone = orphan()?;
        Ok(())
    })
}

/// Packets of a connected pair, an empty one among them.
fn unix_packets() -> Result<Check> {
    let (left, right) = pair(libc::SOCK_SEQPACKET)?;
    let packets = [&b"one"[..], b"", b"a longer one"];
    let fill = move |to: &OwnedFd| packets.iter().try_for_each(|packet| write(to, packet));
    fill(&left)?;
    check(move || {
        for packet in packets {
            same("packet", read(&right, 100)?, packet.to_vec())?;
        }
        fill(&left)
    })
}

/// Datagrams in a named socket's queue, with their senders' addresses.
fn unix_datagram() -> Result<Check> {
    let receiver = UnixDatagram::bind("/tmp/receiver").named("bind")?;
    let sender = UnixDatagram::bind("/var/sender").named("bind")?;
    let nameless = UnixDatagram::unbound().named("socket")?;
    sender.connect("/tmp/receiver").named("connect")?;
    let fill = move || -> Result<()> {
        sender.send(b"named").named("send")?;
        nameless.send_to(b"nameless", "/tmp/receiver").named("send")?;
        Ok(())
    };
    fill()?;
    check(move || {
        let mut buffer = [0; 100];
        for (text, address) in [(&b"named"[..], Some("/var/sender".into())), (b"nameless", None)] {
            let (len, from) = receiver.recv_from(&mut buffer).named("recv")?;
            same("datagram", &buffer[..len], text)?;
            same("sender", from.as_pathname().map(std::path::PathBuf::from), address)?;
        }
        fill()
    })
}

/// A listener with a name, on disk and in memory, and an accepted connection.
fn unix_listener() -> Result<Check> {
    let mut served = Vec::new();
    for path in ["/var/listener", "/tmp/listener"] {
        let listener = UnixListener::bind(path).named(path)?;
        let client = UnixStream::connect(path).named(path)?;
        let (server, _) = listener.accept().named(path)?;
        served.push((path, listener, client, server));
    }
    check(move || {
        for (path, listener, client, server) in &served {
            write(client, b"old connection")?;
            same("old connection", read(server, 100)?, b"old connection".to_vec())?;
            let name = client.peer_addr().named("peer")?;
            same("peer's name", name.as_pathname(), Some(std::path::Path::new(path)))?;
            let new = UnixStream::connect(path).named(path)?;
            let (accepted, _) = listener.accept().named(path)?;
            write(&new, b"new")?;
            same("new connection", read(&accepted, 100)?, b"new".to_vec())?;
        }
        Ok(())
    })
}

/// A name that is in no file system.
fn unix_abstract() -> Result<Check> {
    let name = SocketAddr::from_abstract_name(b"zoo\0inner").named("name")?;
    let listener = UnixListener::bind_addr(&name).named("bind")?;
    check(move || {
        let client = UnixStream::connect_addr(&name).named("connect")?;
        let (server, _) = listener.accept().named("accept")?;
        write(&client, b"x")?;
        same("data", read(&server, 10)?, b"x".to_vec())
    })
}

/// Connections that wait to be accepted, with data that they have sent already.
fn unix_backlog() -> Result<Check> {
    let listener = UnixListener::bind("/tmp/backlog").named("bind")?;
    let connect = |text: &[u8]| -> Result<UnixStream> {
        let client = UnixStream::connect("/tmp/backlog").named("connect")?;
        write(&client, text)?;
        Ok(client)
    };
    let mut clients = vec![connect(b"first")?, connect(b"second")?];
    check(move || {
        for (client, text) in clients.drain(..).zip([&b"first"[..], b"second"]) {
            let (server, _) = listener.accept().named("accept")?;
            same("early data", read(&server, 100)?, text.to_vec())?;
            write(&server, b"answer")?;
            same("answer", read(&client, 100)?, b"answer".to_vec())?;
        }
        clients = vec![connect(b"first")?, connect(b"second")?];
        Ok(())
    })
}

/// The file of the name is gone, connections live on.
fn unix_deleted() -> Result<Check> {
    let listener = UnixListener::bind("/tmp/deleted-socket").named("bind")?;
    let client = UnixStream::connect("/tmp/deleted-socket").named("connect")?;
    let (server, _) = listener.accept().named("accept")?;
    fs::remove_file("/tmp/deleted-socket").named("unlink")?;
    check(move || {
        write(&client, b"x")?;
        same("data", read(&server, 10)?, b"x".to_vec())?;
        let name = listener.local_addr().named("name")?;
        same("name", name.as_pathname(), Some(std::path::Path::new("/tmp/deleted-socket")))?;
        holds("the file stays away", !fs::exists("/tmp/deleted-socket").unwrap_or(true))
    })
}

const SPACE: usize = 64;

fn send_descriptor(through: &OwnedFd, text: &[u8], descriptor: &OwnedFd) -> Result<()> {
    let mut control = [0_u64; SPACE / 8];
    let mut part = libc::iovec { iov_base: text.as_ptr() as *mut _, iov_len: text.len() };
    // SAFETY: plain data that is filled below.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    (message.msg_iov, message.msg_iovlen) = (&raw mut part, 1);
    message.msg_control = control.as_mut_ptr().cast();
    // SAFETY: the control buffer has room for one header with one descriptor.
    unsafe {
        message.msg_controllen = libc::CMSG_SPACE(4) as usize;
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(4) as usize;
        libc::CMSG_DATA(header).cast::<i32>().write_unaligned(descriptor.as_raw_fd());
    }
    sys!(libc::sendmsg(through.as_raw_fd(), &raw const message, 0)).map(drop)
}

fn receive_descriptor(from: &OwnedFd, text: &[u8]) -> Result<OwnedFd> {
    let (mut control, mut buffer) = ([0_u64; SPACE / 8], [0_u8; 64]);
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: plain data that is filled below.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    (message.msg_iov, message.msg_iovlen) = (&raw mut part, 1);
    (message.msg_control, message.msg_controllen) = (control.as_mut_ptr().cast(), SPACE);
    let count = sys!(libc::recvmsg(from.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT))?;
    same("text", &buffer[..count as usize], text)?;
    // SAFETY: the kernel has filled the control buffer.
    let header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    holds("a descriptor came with it", !header.is_null())?;
    // SAFETY: the header is not null and one descriptor, which is ours now, follows it.
    unsafe { Ok(OwnedFd::from_raw_fd(libc::CMSG_DATA(header).cast::<i32>().read_unaligned())) }
}

/// Descriptors on their way: of a pipe with data, and of a socket that itself carries one.
fn unix_descriptors() -> Result<Check> {
    let (left, right) = pair(libc::SOCK_STREAM)?;
    let fill = move |left: &OwnedFd| -> Result<()> {
        let (end, write_end) = pipe(0)?;
        write(&write_end, b"in the pipe")?;
        send_descriptor(left, b"1", &end)?;
        let (inner_left, inner_right) = pair(libc::SOCK_STREAM)?;
        send_descriptor(&inner_left, b"2", &write_end)?;
        send_descriptor(left, b"3", &inner_right)
    };
    fill(&left)?;
    check(move || {
        let end = receive_descriptor(&right, b"1")?;
        same("the pipe's data", read(&end, 100)?, b"in the pipe".to_vec())?;
        let inner = receive_descriptor(&right, b"3")?;
        let write_end = receive_descriptor(&inner, b"2")?;
        write(&write_end, b"both ends")?;
        same("both ends of one pipe", read(&end, 100)?, b"both ends".to_vec())?;
        same("nothing is left", ready(&right, libc::POLLIN)?, 0)?;
        fill(&left)
    })
}

pub(crate) fn option(fd: &impl AsRawFd, level: i32, name: i32) -> Result<i32> {
    let (mut value, mut len) = (0_i32, 4);
    sys!(libc::getsockopt(fd.as_raw_fd(), level, name, (&raw mut value).cast(), &raw mut len))?;
    Ok(value)
}

pub(crate) fn set_option(fd: &impl AsRawFd, level: i32, name: i32, value: i32) -> Result<()> {
    sys!(libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const value).cast(), 4)).map(drop)
}

/// Buffer sizes, time limits, and who the peer is.
fn unix_options() -> Result<Check> {
    let (left, right) = pair(libc::SOCK_STREAM)?;
    set_option(&left, libc::SOL_SOCKET, libc::SO_SNDBUF, 40_000)?;
    set_option(&left, libc::SOL_SOCKET, libc::SO_PASSCRED, 1)?;
    let limit = libc::timeval { tv_sec: 77, tv_usec: 0 };
    let len = size_of::<libc::timeval>() as u32;
    let (socket, name) = (libc::SOL_SOCKET, libc::SO_RCVTIMEO);
    sys!(libc::setsockopt(left.as_raw_fd(), socket, name, (&raw const limit).cast(), len))?;
    let show = move || -> Result<Vec<i64>> {
        let mut all = Vec::new();
        for fd in [&left, &right] {
            for name in [libc::SO_SNDBUF, libc::SO_RCVBUF, libc::SO_PASSCRED, libc::SO_TYPE, libc::SO_PEERCRED] {
                all.push(option(fd, libc::SOL_SOCKET, name)?.into());
            }
            let (mut time, mut len) = (libc::timeval { tv_sec: 0, tv_usec: 0 }, size_of::<libc::timeval>() as u32);
            sys!(libc::getsockopt(fd.as_raw_fd(), socket, name, (&raw mut time).cast(), &raw mut len))?;
            all.push(time.tv_sec);
        }
        Ok(all)
    };
    let before = show()?;
    check(move || same("options", show()?, before.clone()))
}

/// A bound netlink socket.
fn netlink() -> Result<Check> {
    let fd = sys_fd!(libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_ROUTE))?;
    // SAFETY: plain data that is filled below.
    let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
    (address.nl_family, address.nl_groups) = (libc::AF_NETLINK as u16, 1);
    let len = size_of_val(&address) as u32;
    sys!(libc::bind(fd.as_raw_fd(), (&raw const address).cast(), len))?;
    let name = move || -> Result<(u32, u32)> {
        // SAFETY: plain data that is filled by the call.
        let mut now: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
        let mut len = size_of_val(&now) as u32;
        sys!(libc::getsockname(fd.as_raw_fd(), (&raw mut now).cast(), &raw mut len))?;
        Ok((now.nl_pid, now.nl_groups))
    };
    let before = name()?;
    check(move || same("port and groups", name()?, before))
}
