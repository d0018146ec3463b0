//! Internet sockets within the container's own network namespace.

use crate::base::{Check, Named, Prepare, Result, check, holds, read, ready, same, sys, sys_fd, write};
use crate::sockets::{option, set_option};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;

pub(crate) const ZOO: &[(&str, Prepare)] = &[
    ("tcp", tcp),
    ("tcp_v6", tcp_v6),
    ("tcp_data_on_its_way", tcp_data_on_its_way),
    ("tcp_half_closed", tcp_half_closed),
    ("tcp_closed_by_peer", tcp_closed_by_peer),
    ("tcp_options", tcp_options),
    ("tcp_listeners", tcp_listeners),
    ("tcp_backlog", tcp_backlog),
];

/// Brings the loopback device up: the runtime leaves it down.
pub(crate) fn loopback_up() -> Result<()> {
    let socket = sys_fd!(libc::socket(libc::AF_INET, libc::SOCK_DGRAM, 0))?;
    // SAFETY: plain data that is filled below.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[..2].copy_from_slice(&[b'l' as i8, b'o' as i8]);
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as i16;
    sys!(libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request)).map(drop)
}

struct Connection {
    listener: TcpListener,
    client: TcpStream,
    server: TcpStream,
}

fn connection(address: &str) -> Result<Connection> {
    loopback_up()?;
    let listener = TcpListener::bind(address).named("bind")?;
    let client = TcpStream::connect(listener.local_addr().named("name")?).named("connect")?;
    let (server, _) = listener.accept().named("accept")?;
    Ok(Connection { listener, client, server })
}

/// An idle connection and its listener.
fn idle(address: &str) -> Result<Check> {
    let Connection { listener, client, server } = connection(address)?;
    let names = |socket: &TcpStream| -> Result<(SocketAddr, SocketAddr)> {
        Ok((socket.local_addr().named("name")?, socket.peer_addr().named("peer")?))
    };
    let before = (names(&client)?, names(&server)?);
    check(move || {
        same("addresses", (names(&client)?, names(&server)?), before)?;
        for (from, to) in [(&client, &server), (&server, &client)] {
            write(from, b"across")?;
            same("data", read(to, 100)?, b"across".to_vec())?;
        }
        let new = TcpStream::connect(listener.local_addr().named("name")?).named("a new connection")?;
        let (accepted, _) = listener.accept().named("accept")?;
        write(&new, b"new")?;
        same("a new connection", read(&accepted, 100)?, b"new".to_vec())
    })
}

fn tcp() -> Result<Check> {
    idle("127.0.0.1:0")
}

fn tcp_v6() -> Result<Check> {
    idle("[::1]:0")
}

/// Kilobytes received and not read, and more that the receiver has no room for.
fn tcp_data_on_its_way() -> Result<Check> {
    let Connection { listener, client, server } = connection("127.0.0.1:0")?;
    client.set_nonblocking(true).named("nonblock")?;
    let block: Vec<u8> = (0..65_536_u32).map(|at| (at * 17 % 253) as u8).collect();
    let fill = |client: &TcpStream| -> Result<usize> {
        let mut sent = 0;
        loop {
            let from = sent % block.len();
            let part = &block[from..];
            match sys!(libc::write(client.as_raw_fd(), part.as_ptr().cast(), part.len())) {
                Ok(count) => sent += count as usize,
                Err(_) => return Ok(sent),
            }
        }
    };
    let mut sent = fill(&client)?;
    check(move || {
        let _open = &listener;
        let mut received = 0;
        while received < sent {
            for byte in read(&server, 65_536)? {
                if byte != block[received % block.len()] {
                    return same("byte of the stream", received, usize::MAX);
                }
                received += 1;
            }
        }
        sent = 0;
        // The next round starts with a stream that is aligned again.
        let mut refill = |count: usize| -> Result<()> {
            write(&client, &block[..count])?;
            sent += count;
            Ok(())
        };
        refill(50_000)
    })
}

/// The client has said that it is done; the server answers still.
fn tcp_half_closed() -> Result<Check> {
    let Connection { listener, client, server } = connection("127.0.0.1:0")?;
    client.shutdown(std::net::Shutdown::Write).named("shutdown")?;
    check(move || {
        let _open = &listener;
        same("the shut direction", read(&server, 10)?, vec![])?;
        write(&server, b"still here")?;
        same("the open direction", read(&client, 100)?, b"still here".to_vec())
    })
}

/// The peer has closed, with data left to read.
fn tcp_closed_by_peer() -> Result<Check> {
    loopback_up()?;
    let listener = TcpListener::bind("127.0.0.1:0").named("bind")?;
    let closed = |listener: &TcpListener| -> Result<TcpStream> {
        let client = TcpStream::connect(listener.local_addr().named("name")?).named("connect")?;
        let (server, _) = listener.accept().named("accept")?;
        write(&client, b"last words")?;
        drop(client);
        let mut poll = libc::pollfd { fd: server.as_raw_fd(), events: libc::POLLRDHUP, revents: 0 };
        sys!(libc::poll(&raw mut poll, 1, 10_000))?;
        Ok(server)
    };
    let mut server = closed(&listener)?;
    check(move || {
        same("last words", read(&server, 100)?, b"last words".to_vec())?;
        same("the end", read(&server, 100)?, vec![])?;
        server = closed(&listener)?;
        Ok(())
    })
}

/// Options that are not the default.
fn tcp_options() -> Result<Check> {
    let Connection { listener, client, server } = connection("127.0.0.1:0")?;
    let options = [
        (libc::IPPROTO_TCP, libc::TCP_NODELAY, 1),
        (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, 123),
        (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL, 45),
        (libc::IPPROTO_TCP, libc::TCP_KEEPCNT, 6),
        (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, 70_000),
        (libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1),
        (libc::SOL_SOCKET, libc::SO_OOBINLINE, 1),
        (libc::SOL_SOCKET, libc::SO_RCVLOWAT, 3),
        (libc::IPPROTO_IP, libc::IP_TOS, 0x10),
        (libc::IPPROTO_IP, libc::IP_TTL, 77),
    ];
    for (level, name, value) in options {
        set_option(&client, level, name, value)?;
    }
    let show = move || -> Result<Vec<i32>> {
        let mut all = Vec::new();
        for socket in [client.as_raw_fd(), server.as_raw_fd(), listener.as_raw_fd()] {
            for (level, name, _) in options {
                all.push(option(&socket, level, name)?);
            }
            all.push(option(&socket, libc::SOL_SOCKET, libc::SO_REUSEADDR)?);
        }
        Ok(all)
    };
    let before = show()?;
    check(move || same("options", show()?, before.clone()))
}

/// Listeners of both families on one port, one for all addresses; two that share a port.
fn tcp_listeners() -> Result<Check> {
    loopback_up()?;
    let shared = |port: u16| -> Result<std::os::fd::OwnedFd> {
        let fd = sys_fd!(libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0))?;
        set_option(&fd, libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
        // SAFETY: plain data that is filled below.
        let mut address: libc::sockaddr_in = unsafe { std::mem::zeroed() };
        (address.sin_family, address.sin_port) = (libc::AF_INET as u16, port.to_be());
        sys!(libc::bind(fd.as_raw_fd(), (&raw const address).cast(), size_of_val(&address) as u32))?;
        sys!(libc::listen(fd.as_raw_fd(), 7))?;
        Ok(fd)
    };
    let held = (shared(2000)?, shared(2000)?, TcpListener::bind("[::]:3000").named("bind")?);
    check(move || {
        for address in ["127.0.0.1:2000", "127.0.0.1:3000", "[::1]:3000"] {
            TcpStream::connect(address).named(address)?;
        }
        let waiting = [ready(&held.0, libc::POLLIN)?, ready(&held.1, libc::POLLIN)?];
        holds("one of the two got the connection", waiting.contains(&libc::POLLIN))?;
        for _ in 0..2 {
            held.2.accept().named("accept")?;
        }
        let taker = if waiting[0] == libc::POLLIN { &held.0 } else { &held.1 };
        let accepted: std::os::fd::OwnedFd =
            sys_fd!(libc::accept(taker.as_raw_fd(), std::ptr::null_mut(), std::ptr::null_mut()))?;
        drop(accepted);
        Ok(())
    })
}

/// A connection that waits to be accepted, with data.
fn tcp_backlog() -> Result<Check> {
    loopback_up()?;
    let listener = TcpListener::bind("127.0.0.1:0").named("bind")?;
    let connect = |listener: &TcpListener| -> Result<TcpStream> {
        let client = TcpStream::connect(listener.local_addr().named("name")?).named("connect")?;
        write(&client, b"early")?;
        Ok(client)
    };
    let mut client = connect(&listener)?;
    check(move || {
        let (server, _) = listener.accept().named("accept")?;
        same("early data", read(&server, 100)?, b"early".to_vec())?;
        write(&server, b"answer")?;
        same("answer", read(&client, 100)?, b"answer".to_vec())?;
        client = connect(&listener)?;
        Ok(())
    })
}
