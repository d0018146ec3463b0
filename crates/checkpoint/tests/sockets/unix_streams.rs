//! Connections of streams and sequenced packets.

use crate::world::{World, turn, twice};
use rtc_sys::socket;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};

fn read(stream: &UnixStream, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    (&mut &*stream).read_exact(&mut bytes).unwrap();
    bytes
}

fn read_to_end(mut stream: &UnixStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn a_pair_keeps_what_was_sent_both_ways() {
    let _turn = turn();
    let restored = twice(|| {
        let (a, b) = UnixStream::pair().unwrap();
        (&a).write_all(b"from a").unwrap();
        (&b).write_all(&[b'b'; 100_000]).unwrap();
        vec![a.into(), b.into()]
    });
    let (a, b): (UnixStream, UnixStream) = (restored.get(0), restored.get(1));
    assert_eq!(read(&b, 6), b"from a");
    assert_eq!(read(&a, 100_000), [b'b'; 100_000]);
    (&a).write_all(b"more").unwrap();
    assert_eq!(read(&b, 4), b"more");
}

#[test]
fn an_end_whose_peer_closed_reads_the_rest_and_ends() {
    let _turn = turn();
    let restored = twice(|| {
        let (a, b) = UnixStream::pair().unwrap();
        (&b).write_all(b"last words").unwrap();
        let (reset, mut other) = UnixStream::pair().unwrap();
        (&reset).write_all(b"never read").unwrap();
        other.write_all(b"seen").unwrap();
        vec![a.into(), reset.into()]
    });
    let (ended, mut reset): (UnixStream, UnixStream) = (restored.get(0), restored.get(1));
    assert_eq!(read_to_end(&ended), b"last words");
    assert_eq!((&ended).write(b"x").unwrap_err().kind(), std::io::ErrorKind::BrokenPipe);
    assert_eq!(read(&reset, 4), b"seen");
    assert_eq!(reset.read(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(reset.read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_half_closed_connection_stays_so() {
    let _turn = turn();
    let restored = twice(|| {
        let (a, b) = UnixStream::pair().unwrap();
        (&a).write_all(b"the end").unwrap();
        a.shutdown(Shutdown::Write).unwrap();
        vec![a.into(), b.into()]
    });
    let (a, b): (UnixStream, UnixStream) = (restored.get(0), restored.get(1));
    assert_eq!(read_to_end(&b), b"the end");
    (&b).write_all(b"still open").unwrap();
    assert_eq!(read(&a, 10), b"still open");
    assert_eq!((&a).write(b"x").unwrap_err().kind(), std::io::ErrorKind::BrokenPipe);
}

#[test]
fn accepted_connections_keep_the_listeners_name() {
    let _turn = turn();
    let restored = twice(|| {
        let listener = UnixListener::bind("/mnt/server").unwrap();
        let client = UnixStream::connect("/mnt/server").unwrap();
        let server = listener.accept().unwrap().0;
        (&client).write_all(b"query").unwrap();
        // Of a listener that is gone, with a client that has a name of its own.
        let other = UnixListener::bind("/mnt/gone").unwrap();
        let bound = socket::create(libc::AF_UNIX, libc::SOCK_STREAM, 0).unwrap();
        socket::bind(bound.as_fd(), b"\x01\0\0client").unwrap();
        socket::connect(bound.as_fd(), b"\x01\0/mnt/gone\0").unwrap();
        let accepted = other.accept().unwrap().0;
        std::fs::remove_file("/mnt/gone").unwrap();
        vec![accepted.into(), bound, server.into(), client.into(), listener.into()]
    });
    let (accepted, bound): (UnixStream, UnixStream) = (restored.get(0), restored.get(1));
    assert_eq!(accepted.local_addr().unwrap().as_pathname().unwrap().to_str(), Some("/mnt/gone"));
    assert_eq!(socket::local_address(bound.as_fd()).unwrap(), b"\x01\0\0client");
    assert_eq!(socket::peer_address(accepted.as_fd()).unwrap(), b"\x01\0\0client");
    let (server, client): (UnixStream, UnixStream) = (restored.get(2), restored.get(3));
    assert_eq!(server.local_addr().unwrap().as_pathname().unwrap().to_str(), Some("/mnt/server"));
    assert_eq!(client.peer_addr().unwrap().as_pathname().unwrap().to_str(), Some("/mnt/server"));
    assert!(client.local_addr().unwrap().is_unnamed());
    assert_eq!(read(&server, 5), b"query");
    // The listener takes new ones, by its path.
    let listener: UnixListener = restored.get(4);
    let new = restored.world.inside(|| UnixStream::connect("/mnt/server").unwrap());
    let mut answer = listener.accept().unwrap().0;
    answer.write_all(b"hello").unwrap();
    assert_eq!(read(&new, 5), b"hello");
}

#[test]
fn connections_wait_to_be_accepted_in_order() {
    let _turn = turn();
    let restored = twice(|| {
        let listener = UnixListener::bind("/mnt/server").unwrap();
        let clients: Vec<UnixStream> = (0..5).map(|_| UnixStream::connect("/mnt/server").unwrap()).collect();
        clients[3].shutdown(Shutdown::Write).unwrap();
        let mut fds: Vec<OwnedFd> = clients.into_iter().map(Into::into).collect();
        fds.swap(0, 4);
        fds.push(listener.into());
        fds
    });
    let listener: UnixListener = restored.get(5);
    for n in [4, 1, 2, 3, 0] {
        let (client, mut server): (UnixStream, UnixStream) = (restored.get(n), listener.accept().unwrap().0);
        server.write_all(&[n as u8]).unwrap();
        assert_eq!(read(&client, 1), [n as u8]);
        if n == 3 {
            assert_eq!(read_to_end(&server), b"");
        }
    }
    listener.set_nonblocking(true).unwrap();
    assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn a_waiting_connection_with_data_is_refused_or_left_out() {
    let _turn = turn();
    let world = World::new(|| {
        let listener = UnixListener::bind("/mnt/server").unwrap();
        let client = UnixStream::connect("/mnt/server").unwrap();
        (&client).write_all(b"impatient").unwrap();
        vec![listener.into(), client.into()]
    });
    let blockers = world.blockers();
    assert_eq!(blockers.len(), 1, "{blockers:?}");
    assert!(blockers[0].contains("fd 500") && blockers[0].contains("--tcp-skip-in-flight"), "{blockers:?}");

    let options = rtc_checkpoint::files::FileOptions { tcp_skip_in_flight: true, ..Default::default() };
    let restored = world.dump_with(&options).unwrap().restore();
    let (listener, client): (UnixListener, UnixStream) = (restored.get(0), restored.get(1));
    listener.set_nonblocking(true).unwrap();
    assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    assert_eq!(read_to_end(&client), b"");
}

#[test]
fn a_last_dump_takes_what_waits_to_be_accepted() {
    let _turn = turn();
    for kind in [libc::SOCK_STREAM, libc::SOCK_SEQPACKET] {
        let world = World::new(|| {
            let listener = socket::create(libc::AF_UNIX, kind, 0).unwrap();
            socket::bind(listener.as_fd(), b"\x01\0/mnt/server\0").unwrap();
            socket::listen(listener.as_fd(), 9).unwrap();
            let client = |text: &[u8]| {
                let client = socket::create(libc::AF_UNIX, kind, 0).unwrap();
                socket::connect(client.as_fd(), b"\x01\0/mnt/server\0").unwrap();
                if !text.is_empty() {
                    rustix::io::write(&client, text).unwrap();
                }
                client
            };
            let (first, gone, silent) = (client(b"impatient"), client(b"and gone"), client(b""));
            drop(gone);
            vec![listener, first, silent]
        });
        assert_eq!(world.blockers().len(), 2, "{:?}", world.blockers());
        let image = world.last_dump();
        drop(world);
        let restored = image.restore();
        let accept = || UnixStream::from(socket::accept(restored.fds[0].as_fd()).unwrap());
        let (first, gone, silent) = (accept(), accept(), accept());
        assert_eq!(read(&first, 9), b"impatient");
        (&first).write_all(b"answer").unwrap();
        assert_eq!(read(&restored.get(1), 6), b"answer");
        assert_eq!(read_to_end(&gone), b"and gone");
        (&restored.get::<UnixStream>(2)).write_all(b"at last").unwrap();
        assert_eq!(read(&silent, 7), b"at last");
    }
}

#[test]
fn an_end_outside_needs_a_choice() {
    let _turn = turn();
    let (inside, outside) = UnixStream::pair().unwrap();
    let world = World::new(|| {
        // Made here: it belongs to this network namespace.
        let (a, b) = UnixStream::pair().unwrap();
        (&b).write_all(b"rest").unwrap();
        std::mem::forget(b);
        drop(inside);
        vec![a.into()]
    });
    drop(outside);
    let blockers = world.blockers();
    assert_eq!(blockers.len(), 1, "{blockers:?}");
    assert!(blockers[0].contains("outside the container") && blockers[0].contains("--ext-unix-sk"), "{blockers:?}");
    let options = rtc_checkpoint::files::FileOptions { ext_unix_sk: true, ..Default::default() };
    let restored = world.dump_with(&options).unwrap().restore();
    assert_eq!(read_to_end(&restored.get(0)), b"rest");
}

#[test]
fn a_listener_keeps_its_backlog() {
    let _turn = turn();
    let restored = twice(|| {
        let listener = socket::create(libc::AF_UNIX, libc::SOCK_SEQPACKET, 0).unwrap();
        socket::bind(listener.as_fd(), b"\x01\0\0small").unwrap();
        socket::listen(listener.as_fd(), 1).unwrap();
        vec![listener]
    });
    restored.world.inside(|| {
        let connect = || {
            let kind = libc::SOCK_SEQPACKET | libc::SOCK_NONBLOCK;
            let client = socket::create(libc::AF_UNIX, kind, 0).unwrap();
            socket::connect(client.as_fd(), b"\x01\0\0small").map(|()| client)
        };
        let kept: Vec<_> = [connect().unwrap(), connect().unwrap()].into();
        assert_eq!(connect().unwrap_err().errno(), rtc_sys::Errno::EAGAIN);
        drop(kept);
    });
}
