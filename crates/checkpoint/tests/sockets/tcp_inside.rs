//! TCP with both ends in the container: no flag, no lock.

use crate::world::{Restored, World, turn, twice};
use rtc_checkpoint::files::FileOptions;
use rtc_sys::socket;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};

fn connection(listener: &TcpListener) -> (TcpStream, TcpStream) {
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (client, listener.accept().unwrap().0)
}

fn pair(address: &str) -> (TcpStream, TcpStream) {
    connection(&TcpListener::bind(address).unwrap())
}

fn read(mut stream: &TcpStream, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

fn read_to_end(mut stream: &TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    bytes
}

fn talks(a: &TcpStream, b: &TcpStream) {
    for (mut from, to) in [(a, b), (b, a)] {
        from.write_all(b"are you there").unwrap();
        assert_eq!(read(to, 13), b"are you there");
    }
}

fn stream(restored: &Restored, n: usize) -> TcpStream {
    let stream: TcpStream = restored.get(n);
    // A lost byte must fail the test, not stop it.
    stream.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    stream
}

/// Writes until nothing more fits anywhere; gives what was written.
fn flood(mut stream: &TcpStream) -> Vec<u8> {
    stream.set_nonblocking(true).unwrap();
    let (mut written, block): (Vec<u8>, Vec<u8>) = (Vec::new(), (0..=250).cycle().take(65_521).collect());
    loop {
        match stream.write(&block) {
            Ok(n) => written.extend(&block[..n]),
            Err(e) if e.kind() == ErrorKind::WouldBlock => break,
            Err(e) => panic!("{e}"),
        }
    }
    stream.set_nonblocking(false).unwrap();
    written
}

#[test]
fn both_ends_go_on_where_they_were() {
    let _turn = turn();
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let restored = twice(|| {
            let (a, b) = pair(address);
            (&a).write_all(b"to b").unwrap();
            (&b).write_all(&[9; 50_000]).unwrap();
            vec![a.into(), b.into()]
        });
        let (a, b) = (stream(&restored, 0), stream(&restored, 1));
        assert_eq!(a.local_addr().unwrap(), b.peer_addr().unwrap());
        assert_eq!(read(&b, 4), b"to b");
        assert_eq!(read(&a, 50_000), [9; 50_000]);
        talks(&a, &b);
    }
}

#[test]
fn full_queues_on_both_sides_lose_nothing() {
    let _turn = turn();
    let mut written = Vec::new();
    let world = World::new(|| {
        let (a, b) = pair("127.0.0.1:0");
        written = vec![flood(&a), flood(&b)];
        vec![a.into(), b.into()]
    });
    let image = world.dump();
    drop(world);
    let restored = image.restore().again();
    let (a, b) = (stream(&restored, 0), stream(&restored, 1));
    assert!(written[0].len() > 1_000_000, "{}", written[0].len());
    assert!(read(&b, written[0].len()) == written[0]);
    assert!(read(&a, written[1].len()) == written[1]);
    talks(&a, &b);
}

#[test]
fn the_dumped_connection_lives_on() {
    let _turn = turn();
    let mut flooded = Vec::new();
    let (sender, receiver) = std::sync::mpsc::channel();
    let world = World::new(|| {
        let (a, b) = pair("127.0.0.1:0");
        socket::set_int_option(a.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEADDR, 1).unwrap();
        flooded = flood(&a);
        sender.send((a.try_clone().unwrap(), b.try_clone().unwrap())).unwrap();
        vec![a.into(), b.into()]
    });
    for _ in 0..3 {
        drop(world.dump());
    }
    let (a, b) = receiver.recv().unwrap();
    assert_eq!(socket::int_option(a.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEADDR).unwrap(), 1);
    assert_eq!(socket::int_option(b.as_fd(), libc::IPPROTO_TCP, libc::TCP_REPAIR).unwrap(), 0);
    assert!(read(&b, flooded.len()) == flooded);
    talks(&a, &b);
}

#[test]
fn listeners_take_new_connections_and_keep_their_options() {
    let _turn = turn();
    let restored = twice(|| {
        let listener = TcpListener::bind("[::]:7000").unwrap();
        let (client, server) = connection(&listener);
        socket::listen(listener.as_fd(), 7).unwrap();
        let set = |level, name, value| socket::set_int_option(listener.as_fd(), level, name, value).unwrap();
        set(libc::IPPROTO_TCP, libc::TCP_FASTOPEN, 5);
        set(libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, 77);
        set(libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1);
        let reno = socket::set_option(listener.as_fd(), libc::IPPROTO_TCP, libc::TCP_CONGESTION, b"reno\0");
        reno.unwrap();
        let only = TcpListener::bind("127.0.0.1:7001").unwrap();
        vec![listener.into(), client.into(), server.into(), only.into()]
    });
    let listener: TcpListener = restored.get(0);
    let get = |level, name| socket::int_option(listener.as_fd(), level, name).unwrap();
    assert_eq!(get(libc::IPPROTO_TCP, libc::TCP_FASTOPEN), 5);
    assert_eq!(get(libc::IPPROTO_TCP, libc::TCP_KEEPIDLE), 77);
    assert_eq!((get(libc::SOL_SOCKET, libc::SO_KEEPALIVE), get(libc::IPPROTO_IPV6, libc::IPV6_V6ONLY)), (1, 0));
    let mut name = [0; 16];
    socket::option(listener.as_fd(), libc::IPPROTO_TCP, libc::TCP_CONGESTION, &mut name).unwrap();
    assert_eq!(&name[..5], b"reno\0");
    assert_eq!(backlog(&restored.fds[0]), 7);
    talks(&stream(&restored, 1), &stream(&restored, 2));
    restored.world.inside(|| {
        for address in ["127.0.0.1:7000", "[::1]:7000"] {
            let client = TcpStream::connect(address).unwrap();
            talks(&client, &listener.accept().unwrap().0);
        }
        TcpStream::connect("127.0.0.1:7001").unwrap();
        assert!(TcpListener::bind("127.0.0.1:7001").is_err());
    });
}

fn backlog(fd: &OwnedFd) -> u32 {
    let mut info = [0; 104];
    socket::option(fd.as_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, &mut info).unwrap();
    u32::from_ne_bytes(info[28..32].try_into().unwrap())
}

fn state(fd: impl AsFd) -> u8 {
    let mut info = [0; 104];
    socket::option(fd.as_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, &mut info).unwrap();
    info[0]
}

#[test]
fn options_of_connections_come_back() {
    let _turn = turn();
    let restored = twice(|| {
        let (a, b) = pair("127.0.0.1:0");
        a.set_nodelay(true).unwrap();
        let set = |level, name, value| socket::set_int_option(b.as_fd(), level, name, value).unwrap();
        set(libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, 12_345);
        set(libc::SOL_SOCKET, libc::SO_RCVBUF, 100_000);
        set(libc::SOL_SOCKET, libc::SO_REUSEADDR, 1);
        set(libc::IPPROTO_TCP, libc::TCP_CORK, 1);
        vec![a.into(), b.into()]
    });
    let (a, b) = (stream(&restored, 0), stream(&restored, 1));
    assert_eq!((a.nodelay().unwrap(), b.nodelay().unwrap()), (true, false));
    let get = |level, name| socket::int_option(b.as_fd(), level, name).unwrap();
    assert_eq!(get(libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT), 12_345);
    assert_eq!((get(libc::SOL_SOCKET, libc::SO_RCVBUF), get(libc::SOL_SOCKET, 72)), (200_000, 2));
    assert_eq!((get(libc::SOL_SOCKET, libc::SO_REUSEADDR), get(libc::IPPROTO_TCP, libc::TCP_CORK)), (1, 1));
    (&b).write_all(b"corked").unwrap();
    socket::set_int_option(b.as_fd(), libc::IPPROTO_TCP, libc::TCP_CORK, 0).unwrap();
    assert_eq!(read(&a, 6), b"corked");
    // A buffer that was never asked for still grows by itself.
    assert_eq!(socket::int_option(a.as_fd(), libc::SOL_SOCKET, 72).unwrap(), 0);
}

#[test]
fn half_closed_connections_stay_so() {
    let _turn = turn();
    let restored = twice(|| {
        let (a, b) = pair("127.0.0.1:0");
        (&a).write_all(b"the end").unwrap();
        a.shutdown(Shutdown::Write).unwrap();
        // The FIN is behind data that don't fit.
        let (c, d) = pair("127.0.0.1:0");
        flood(&c);
        c.shutdown(Shutdown::Write).unwrap();
        vec![a.into(), b.into(), c.into(), d.into()]
    });
    let (a, b, d) = (stream(&restored, 0), stream(&restored, 1), stream(&restored, 3));
    // The acknowledgement of the FIN may be delayed.
    assert!(matches!((state(&a), state(&b)), (4 | 5, 8)), "FIN_WAIT1 or 2, CLOSE_WAIT: {} {}", state(&a), state(&b));
    assert_eq!(read_to_end(&b), b"the end");
    (&b).write_all(b"still open").unwrap();
    assert_eq!(read(&a, 10), b"still open");
    assert_eq!((&a).write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
    assert!(read_to_end(&d).len() > 1_000_000);
    assert_eq!(state(&d), 8);
}

#[test]
fn who_is_left_behind_by_a_closed_end_reads_the_rest() {
    let _turn = turn();
    let restored = twice(|| {
        let (a, b) = pair("127.0.0.1:0");
        (&b).write_all(b"last words").unwrap();
        drop(b);
        vec![a.into()]
    });
    let mut a = stream(&restored, 0);
    assert_eq!(state(&a), 8, "CLOSE_WAIT");
    assert_eq!(read_to_end(&a), b"last words");
    // The first is answered by a reset; what comes after it fails.
    a.write_all(b"x").unwrap();
    let error = loop {
        if let Err(e) = a.write(b"x") {
            break e.kind();
        }
    };
    assert!(matches!(error, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{error}");
}

#[test]
fn ended_connections_tell_how() {
    let _turn = turn();
    let restored = twice(|| {
        let (reset, other) = pair("127.0.0.1:0");
        (&other).write_all(b"before").unwrap();
        (&reset).write_all(b"unread").unwrap();
        drop(other);
        let (told, other) = pair("127.0.0.1:0");
        (&told).write_all(b"unread").unwrap();
        drop(other);
        assert!(told.take_error().unwrap().is_some());
        let refused = socket::create(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_NONBLOCK, 0).unwrap();
        let _: rtc_sys::Result<()> = socket::connect(refused.as_fd(), b"\x02\0\0\x01\x7f\0\0\x01\0\0\0\0\0\0\0\0");
        vec![reset.into(), told.into(), refused]
    });
    let (mut reset, told, refused) = (stream(&restored, 0), stream(&restored, 1), stream(&restored, 2));
    assert_eq!(read(&reset, 6), b"before");
    assert_eq!(reset.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(reset.read(&mut [0]).unwrap(), 0);
    assert_eq!(read_to_end(&told), b"");
    assert_eq!(refused.take_error().unwrap().unwrap().kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn connections_wait_in_their_listeners_queue() {
    let _turn = turn();
    let restored = twice(|| {
        // Two share one address: each has its own queue.
        let shared = || {
            let fd = socket::create(libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
            socket::set_int_option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEPORT, 1).unwrap();
            socket::bind(fd.as_fd(), b"\x02\0\x1b\x58\x7f\0\0\x01\0\0\0\0\0\0\0\0").unwrap();
            socket::listen(fd.as_fd(), 100).unwrap();
            fd
        };
        let mut fds = vec![shared(), shared()];
        for n in 0..6_u8 {
            let client = TcpStream::connect("127.0.0.1:7000").unwrap();
            if n == 5 {
                client.shutdown(Shutdown::Write).unwrap();
            }
            fds.push(client.into());
        }
        fds
    });
    let mut found = 0;
    for n in 0..2 {
        let listener: TcpListener = restored.get(n);
        listener.set_nonblocking(true).unwrap();
        while let Ok((server, address)) = listener.accept() {
            server.set_nonblocking(false).unwrap();
            let client = (2..8).find(|n| stream(&restored, *n).local_addr().unwrap() == address).unwrap();
            if client == 7 {
                assert_eq!(read_to_end(&server), b"");
            } else {
                talks(&stream(&restored, client), &server);
            }
            found += 1;
        }
    }
    assert_eq!(found, 6);
}

#[test]
fn a_waiting_connection_with_data_is_refused_or_left_out() {
    let _turn = turn();
    let world = World::new(|| {
        let listener = TcpListener::bind("127.0.0.1:7000").unwrap();
        let mut client = TcpStream::connect("127.0.0.1:7000").unwrap();
        client.write_all(b"impatient").unwrap();
        vec![listener.into(), client.into()]
    });
    let blockers = world.blockers();
    assert_eq!(blockers.len(), 1, "{blockers:?}");
    assert!(blockers[0].contains("fd 501") && blockers[0].contains("--tcp-skip-in-flight"), "{blockers:?}");
    let options = FileOptions { tcp_skip_in_flight: true, ..Default::default() };
    let restored = world.dump_with(&options).unwrap().restore();
    let listener: TcpListener = restored.get(0);
    listener.set_nonblocking(true).unwrap();
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn a_last_dump_takes_what_waits_to_be_accepted() {
    let _turn = turn();
    let mut flooded = Vec::new();
    let world = World::new(|| {
        let listener = TcpListener::bind("[::]:7000").unwrap();
        let client = |address: &str| TcpStream::connect(address).unwrap();
        let (talks, floods, silent) = (client("127.0.0.1:7000"), client("[::1]:7000"), client("127.0.0.1:7000"));
        (&talks).write_all(b"impatient").unwrap();
        talks.shutdown(Shutdown::Write).unwrap();
        flooded = flood(&floods);
        vec![listener.into(), talks.into(), floods.into(), silent.into()]
    });
    assert_eq!(world.blockers().len(), 2, "{:?}", world.blockers());
    let image = world.last_dump();
    drop(world);
    let restored = image.restore();
    let listener: TcpListener = restored.get(0);
    let mut found = Vec::new();
    for _ in 0..3 {
        let (mut server, address) = listener.accept().unwrap();
        server.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
        let client = (1..4).find(|n| stream(&restored, *n).local_addr().unwrap().port() == address.port()).unwrap();
        match client {
            1 => {
                assert_eq!(read_to_end(&server), b"impatient");
                server.write_all(b"answer").unwrap();
                assert_eq!(read(&stream(&restored, 1), 6), b"answer");
            }
            2 => assert!(read(&server, flooded.len()) == flooded),
            _ => talks(&stream(&restored, 3), &server),
        }
        found.push(client);
    }
    found.sort_unstable();
    assert_eq!(found, [1, 2, 3]);
}

#[test]
fn unconnected_sockets_and_those_that_wait_for_an_answer() {
    let _turn = turn();
    let restored = twice(|| {
        let fresh = socket::create(libc::AF_INET6, libc::SOCK_STREAM, 0).unwrap();
        let bound = socket::create(libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
        socket::bind(bound.as_fd(), b"\x02\0\x1b\x59\x7f\0\0\x01\0\0\0\0\0\0\0\0").unwrap();
        let listener = socket::create(libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
        socket::bind(listener.as_fd(), b"\x02\0\x1b\x58\x7f\0\0\x01\0\0\0\0\0\0\0\0").unwrap();
        socket::listen(listener.as_fd(), 0).unwrap();
        let waits = TcpStream::connect("127.0.0.1:7000").unwrap();
        // No room for this one: its SYN is not answered.
        let hangs = socket::create(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_NONBLOCK, 0).unwrap();
        let address = b"\x02\0\x1b\x58\x7f\0\0\x01\0\0\0\0\0\0\0\0";
        assert!(socket::connect(hangs.as_fd(), address).is_err());
        assert_eq!(state(&hangs), 2, "SYN_SENT");
        vec![fresh, bound, listener, waits.into(), hangs]
    });
    assert_eq!(socket::local_address(restored.fds[1].as_fd()).unwrap()[2..8], *b"\x1b\x59\x7f\0\0\x01");
    assert_eq!(state(&restored.fds[4]), 2, "SYN_SENT");
    let listener: TcpListener = restored.get(2);
    talks(&stream(&restored, 3), &listener.accept().unwrap().0);
    // Now there is room, and the SYN is sent again by itself.
    let server = listener.accept().unwrap().0;
    let hung = stream(&restored, 4);
    hung.set_nonblocking(false).unwrap();
    talks(&hung, &server);
    restored.world.inside(|| {
        let free = TcpListener::bind("[::1]:7002").unwrap();
        socket::connect(restored.fds[0].as_fd(), &socket::local_address(free.as_fd()).unwrap()).unwrap();
    });
}

#[test]
fn mptcp_listeners_come_back_and_connections_are_refused() {
    let _turn = turn();
    const MPTCP: i32 = 262;
    let restored = twice(|| {
        let listener = socket::create(libc::AF_INET, libc::SOCK_STREAM, MPTCP).unwrap();
        socket::bind(listener.as_fd(), b"\x02\0\x1b\x58\x7f\0\0\x01\0\0\0\0\0\0\0\0").unwrap();
        socket::listen(listener.as_fd(), 9).unwrap();
        // From plain TCP comes plain TCP, as in a Go program.
        let client = TcpStream::connect("127.0.0.1:7000").unwrap();
        let server = socket::accept(listener.as_fd()).unwrap();
        vec![listener, client.into(), server]
    });
    talks(&stream(&restored, 1), &stream(&restored, 2));
    assert_eq!(socket::int_option(restored.fds[0].as_fd(), libc::SOL_SOCKET, libc::SO_PROTOCOL).unwrap(), MPTCP);
    restored.world.inside(|| {
        let client = TcpStream::connect("127.0.0.1:7000").unwrap();
        talks(&client, &TcpStream::from(socket::accept(restored.fds[0].as_fd()).unwrap()));
    });

    let world = World::new(|| {
        let listener = socket::create(libc::AF_INET, libc::SOCK_STREAM, MPTCP).unwrap();
        socket::bind(listener.as_fd(), b"\x02\0\x1b\x58\x7f\0\0\x01\0\0\0\0\0\0\0\0").unwrap();
        socket::listen(listener.as_fd(), 9).unwrap();
        let client = socket::create(libc::AF_INET, libc::SOCK_STREAM, MPTCP).unwrap();
        socket::connect(client.as_fd(), b"\x02\0\x1b\x58\x7f\0\0\x01\0\0\0\0\0\0\0\0").unwrap();
        vec![client, listener]
    });
    assert!(world.blockers()[0].contains("MPTCP"), "{:?}", world.blockers());
}
