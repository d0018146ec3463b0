//! Queues: boundaries, senders, descriptors and credentials in flight; datagram sockets and their peers.

use crate::world::{World, turn, twice};
use rtc_checkpoint::files::FileOptions;
use rtc_sys::message::{self, Control, Credentials, Extra};
use rtc_sys::socket;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};

fn receive(fd: impl AsFd, room: usize) -> (Vec<u8>, message::Received) {
    let mut buffer = vec![0; room];
    let got = message::receive(fd.as_fd(), &mut buffer, libc::MSG_DONTWAIT).unwrap();
    buffer.truncate(got.len);
    (buffer, got)
}

fn send(from: impl AsFd, data: &[u8], rights: &[&dyn AsFd]) {
    let rights: Vec<_> = rights.iter().map(|fd| fd.as_fd()).collect();
    message::send(from.as_fd(), data, Extra { rights: &rights, ..Default::default() }, 0).unwrap();
}

fn descriptors(got: message::Received) -> Vec<OwnedFd> {
    let rights = got.control.into_iter().filter_map(|piece| match piece {
        Control::Rights(fds) => Some(fds),
        _ => None,
    });
    rights.flatten().collect()
}

fn is_empty(fd: impl AsFd) -> bool {
    let result = message::receive(fd.as_fd(), &mut [0; 8], libc::MSG_DONTWAIT);
    result.is_err_and(|e| e.errno() == rtc_sys::Errno::EAGAIN)
}

#[test]
fn packets_keep_their_boundaries() {
    let _turn = turn();
    for kind in [libc::SOCK_SEQPACKET, libc::SOCK_DGRAM] {
        let restored = twice(|| {
            let (a, b) = socket::pair(kind).unwrap();
            for data in [&b"one"[..], b"", &[7; 100_000], b"four"] {
                send(&a, data, &[]);
            }
            vec![a, b]
        });
        let b = &restored.fds[1];
        for len in [3, 0, 100_000, 4] {
            // What a second dump can't see is an empty packet behind others.
            if len > 0 {
                let (mut data, mut got) = receive(b, 200_000);
                if data.is_empty() {
                    (data, got) = receive(b, 200_000);
                }
                assert_eq!((data.len(), got.flags & libc::MSG_TRUNC), (len, 0));
            }
        }
        assert!(is_empty(b));
    }
}

#[test]
fn descriptors_arrive_with_the_byte_they_were_sent_with() {
    let _turn = turn();
    let restored = twice(|| {
        let (a, b) = UnixStream::pair().unwrap();
        let counter = || rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap();
        let (one, other) = (counter(), counter());
        send(&a, b"plain", &[]);
        send(&a, b"with", &[&one, &other]);
        send(&a, b"after", &[]);
        send(&a, b"w", &[&other]);
        vec![a.into(), b.into()]
    });
    let b = &restored.fds[1];
    let (data, got) = receive(b, 5);
    assert_eq!((&data[..], descriptors(got).len()), (&b"plain"[..], 0));
    let (data, got) = receive(b, 100);
    assert_eq!(data, b"with");
    let first = descriptors(got);
    // A reader of few bytes gets nothing before its time.
    let (data, got) = receive(b, 4);
    assert_eq!((&data[..], descriptors(got).len()), (&b"afte"[..], 0));
    let (data, got) = receive(b, 100);
    assert_eq!(data, b"rw");
    let second = descriptors(got);
    assert_eq!((first.len(), second.len()), (2, 1));
    // The third is the same counter as the second.
    rustix::io::write(&second[0], &7_u64.to_ne_bytes()).unwrap();
    let mut value = [0; 8];
    rustix::io::read(&first[1], &mut value).unwrap();
    assert_eq!(u64::from_ne_bytes(value), 7);
}

#[test]
fn sockets_in_flight_bring_their_own_queues() {
    let _turn = turn();
    let restored = twice(|| {
        let (a, b) = UnixStream::pair().unwrap();
        let (c, d) = UnixStream::pair().unwrap();
        let (e, f) = UnixStream::pair().unwrap();
        (&f).write_all(b"innermost").unwrap();
        send(&c, b"c", &[&e]);
        send(&a, b"a", &[&d]);
        // A socket in its own queue, which nobody can reach any more when this is read.
        send(&a, b"b", &[&b]);
        vec![a.into(), b.into(), f.into()]
    });
    let (_, got) = receive(&restored.fds[1], 1);
    let d = descriptors(got).remove(0);
    let (_, got) = receive(&d, 1);
    let mut e = UnixStream::from(descriptors(got).remove(0));
    let mut text = [0; 9];
    e.read_exact(&mut text).unwrap();
    assert_eq!(&text, b"innermost");
    (&restored.get::<UnixStream>(2)).write_all(b"!").unwrap();
    e.read_exact(&mut text[..1]).unwrap();
    let (_, got) = receive(&restored.fds[1], 1);
    assert_eq!(descriptors(got).len(), 1);
}

#[test]
fn credentials_stay_with_their_message() {
    let _turn = turn();
    let me = std::process::id() as i32;
    let restored = twice(|| {
        let (a, b) = socket::pair(libc::SOCK_STREAM).unwrap();
        send(&a, b"nobody asked", &[]);
        socket::set_int_option(b.as_fd(), libc::SOL_SOCKET, libc::SO_PASSCRED, 1).unwrap();
        let claimed = Credentials { pid: me, uid: 55, gid: 66 };
        message::send(a.as_fd(), b"claimed", Extra { credentials: Some(claimed), ..Default::default() }, 0).unwrap();
        send(&a, b"own", &[]);
        vec![a, b]
    });
    let b = &restored.fds[1];
    let expected: [(&[u8], i32, u32, u32); 3] =
        [(b"nobody asked", 0, 65534, 65534), (b"claimed", me, 55, 66), (b"own", me, 0, 0)];
    for (text, pid, uid, gid) in expected {
        let (data, got) = receive(b, 100);
        assert_eq!(data, text);
        let who = got.control.iter().find_map(|piece| match piece {
            Control::Credentials(who) => Some(*who),
            _ => None,
        });
        assert_eq!(who, Some(Credentials { pid, uid, gid }), "{}", text.escape_ascii());
    }
}

#[test]
fn datagrams_keep_their_senders_names() {
    let _turn = turn();
    let restored = twice(|| {
        let server = UnixDatagram::bind("/mnt/server").unwrap();
        let alive = UnixDatagram::bind("/mnt/alive").unwrap();
        let connected = UnixDatagram::unbound().unwrap();
        connected.connect("/mnt/server").unwrap();
        alive.send_to(b"from alive", "/mnt/server").unwrap();
        connected.send(b"unnamed").unwrap();
        let gone = UnixDatagram::bind("/mnt/gone").unwrap();
        gone.send_to(b"from gone", "/mnt/server").unwrap();
        std::fs::remove_file("/mnt/gone").unwrap();
        alive.send_to(b"alive again", "/mnt/server").unwrap();
        // It now takes messages from one peer alone; those before stay.
        server.connect("/mnt/alive").unwrap();
        vec![server.into(), alive.into(), connected.into()]
    });
    let (server, alive): (UnixDatagram, UnixDatagram) = (restored.get(0), restored.get(1));
    server.set_nonblocking(true).unwrap();
    let expected = [
        ("from alive", Some("/mnt/alive")),
        ("unnamed", None),
        ("from gone", Some("/mnt/gone")),
        ("alive again", Some("/mnt/alive")),
    ];
    for (text, name) in expected {
        let mut buffer = [0; 100];
        let (len, from) = server.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..len], text.as_bytes());
        assert_eq!(from.as_pathname().and_then(|p| p.to_str()), name);
    }
    assert!(is_empty(&server));
    server.send(b"to its peer").unwrap();
    let mut buffer = [0; 100];
    assert_eq!(alive.recv(&mut buffer).unwrap(), 11);
    let refused = restored.get::<UnixDatagram>(2).send(b"not its peer").unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied);
}

#[test]
fn datagram_pairs_and_their_remains() {
    let _turn = turn();
    let restored = twice(|| {
        let (a, b) = UnixDatagram::pair().unwrap();
        a.send(b"to b").unwrap();
        let (widow, gone) = UnixDatagram::pair().unwrap();
        gone.send(b"will").unwrap();
        let bound = UnixDatagram::bind("/mnt/bound").unwrap();
        let service = UnixDatagram::bind("/mnt/service").unwrap();
        bound.connect("/mnt/service").unwrap();
        std::fs::remove_file("/mnt/service").unwrap();
        drop(service);
        vec![a.into(), b.into(), widow.into(), bound.into()]
    });
    let mut buffer = [0; 100];
    let socket = |n: usize| restored.get::<UnixDatagram>(n);
    assert_eq!(socket(1).recv(&mut buffer).unwrap(), 4);
    socket(1).send(b"back").unwrap();
    assert_eq!(socket(0).recv(&mut buffer).unwrap(), 4);
    assert_eq!(socket(2).recv(&mut buffer).unwrap(), 4);
    for n in [2, 3] {
        assert_eq!(socket(n).send(b"x").unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    }
    assert_eq!(socket(3).local_addr().unwrap().as_pathname().unwrap().to_str(), Some("/mnt/bound"));
}

#[test]
fn a_logger_is_connected_to_the_log_again() {
    let _turn = turn();
    let name = format!("/mnt/log-{}", std::process::id());
    let make_log = || UnixDatagram::bind("/mnt/log").unwrap();
    let world = World::new(|| {
        let log = make_log();
        let program = UnixDatagram::unbound().unwrap();
        program.connect("/mnt/log").unwrap();
        std::mem::forget(log);
        vec![program.into()]
    });
    let blockers = world.blockers();
    assert!(blockers[0].contains("(/mnt/log)") && blockers[0].contains("--ext-unix-sk"), "{blockers:?} {name}");
    let image = world.dump_with(&FileOptions { ext_unix_sk: true, ..Default::default() }).unwrap();
    drop(world);

    // Where there is a log, it is connected to it.
    let (sender, receiver) = std::sync::mpsc::channel();
    let target = World::new(|| {
        sender.send(make_log()).unwrap();
        vec![]
    });
    let log = receiver.recv().unwrap();
    let restored = image.restore_in(target);
    restored.get::<UnixDatagram>(0).send(b"line").unwrap();
    assert_eq!(log.recv(&mut [0; 10]).unwrap(), 4);
    // Where there is none, it learns it as if the log had ended.
    let restored = image.restore();
    let refused = restored.get::<UnixDatagram>(0).send(b"line").unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
}

#[test]
fn out_of_band_data_is_refused() {
    let _turn = turn();
    let world = World::new(|| {
        let (a, b) = UnixStream::pair().unwrap();
        message::send(a.as_fd(), b"!", Extra::default(), libc::MSG_OOB).unwrap();
        vec![a.into(), b.into()]
    });
    assert!(world.blockers()[0].contains("out-of-band"), "{:?}", world.blockers());
}
