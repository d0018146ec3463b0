//! TCP with one end outside the container, in another network namespace behind a pair of virtual interfaces,
//! which go with the container and are made anew for the restored one.

use crate::world::{Image, Restored, World, turn};
use rtc_checkpoint::files::FileOptions;
use rtc_checkpoint::netlock::{self, Locked};
use rtc_sys::message::{self, Extra};
use rtc_sys::socket;
use rustix::event::PollFlags;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::process::Command;
use std::time::Duration;

const FAMILIES: [[&str; 2]; 2] = [["10.9.0.1", "10.9.0.2"], ["fd09::1", "fd09::2"]];

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output().expect("ip, of iproute2");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Links the calling thread's network namespace with that of `outside`.
fn link(outside: &World, name: &str) {
    ip(&format!("link add in type veth peer name {name} netns {}", outside.pid()));
    configure("in", 0);
    outside.inside(|| configure(name, 1));
}

fn configure(name: &str, end: usize) {
    for [addresses, length, more] in [[0, 24, 0], [1, 64, 1]] {
        let nodad = if more == 1 { " nodad" } else { "" };
        ip(&format!("addr add {}/{length} dev {name}{nodad}", FAMILIES[addresses][end]));
    }
    ip(&format!("link set {name} up"));
}

/// A container connected to the outside, and the other ends.
struct Scene {
    outside: World,
    container: World,
    peers: Vec<TcpStream>,
}

/// Makes `count` connections over each family and has `act` do something with both ends.
fn scene(act: impl Fn(&TcpStream, &TcpStream) + Send + Sync) -> Scene {
    let outside = World::new(Vec::new);
    let mut peers = Vec::new();
    let container = World::new(|| {
        link(&outside, "out0");
        let mut fds: Vec<OwnedFd> = Vec::new();
        for [_, address] in FAMILIES {
            let listener = outside.inside(|| TcpListener::bind((address, 80)).unwrap());
            let end = TcpStream::connect((address, 80)).unwrap();
            let peer = listener.accept().unwrap().0;
            for stream in [&end, &peer] {
                stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            }
            act(&end, &peer);
            fds.push(end.into());
            peers.push(peer);
        }
        fds
    });
    Scene { outside, container, peers }
}

fn allowed() -> FileOptions {
    FileOptions { tcp_established: true, ..Default::default() }
}

impl Scene {
    /// Dumps the container, kills it, and makes it anew; `between` runs while its connections are held.
    fn survive(&mut self, between: impl Fn(&TcpStream)) -> Restored {
        let image = self.end(between);
        for peer in &self.peers {
            let events = socket::poll_now(peer.as_fd()).unwrap();
            assert!(!events.intersects(PollFlags::ERR | PollFlags::HUP), "the other end has heard of it: {events:?}");
        }
        // A namespace that has outlived the container: what the other ends send again finds nobody, and no reset.
        let ends = |peer: &TcpStream| Locked { local: peer.peer_addr().unwrap(), peer: peer.local_addr().unwrap() };
        let locked: Vec<Locked> = self.peers.iter().map(ends).collect();
        image.restore_in(World::new(|| {
            netlock::keep(None, &locked, 60).unwrap();
            link(&self.outside, "out1");
            vec![]
        }))
    }

    fn end(&mut self, between: impl Fn(&TcpStream)) -> Image {
        let mut image = self.container.dump_with(&allowed()).unwrap();
        self.peers.iter().for_each(between);
        for held in &mut image.held {
            held.before_kill().unwrap();
        }
        drop(std::mem::replace(&mut self.container, World::new(Vec::new)));
        image.held.iter_mut().for_each(|held| held.after_kill());
        image.held.clear();
        image
    }
}

fn read(mut stream: &TcpStream, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

fn talks(a: &TcpStream, b: &TcpStream) {
    for (mut from, to) in [(a, b), (b, a)] {
        from.write_all(b"are you there").unwrap();
        assert_eq!(read(to, 13), b"are you there");
    }
}

#[test]
fn it_needs_the_flag() {
    let _turn = turn();
    let scene = scene(|_, _| ());
    let blockers = scene.container.blockers();
    assert_eq!(blockers.len(), 2, "{blockers:?}");
    for address in ["10.9.0.2:80", "[fd09::2]:80"] {
        let named = |blocker: &&String| blocker.contains(address) && blocker.contains("--tcp-established");
        assert!(blockers.iter().any(|blocker| named(&blocker)), "{blockers:?}");
    }
}

#[test]
fn the_other_end_notices_nothing() {
    let _turn = turn();
    let mut scene = scene(|mut end, mut peer| {
        end.write_all(b"from inside").unwrap();
        peer.write_all(b"from outside").unwrap();
        // The container has received it, and not read.
        assert!(socket::poll_until(end.as_fd(), PollFlags::IN, 10).unwrap());
    });
    let restored = scene.survive(|mut peer| peer.write_all(b", meanwhile").unwrap());
    for (n, peer) in scene.peers.iter().enumerate() {
        let end: TcpStream = restored.get(n);
        assert_eq!(read(&end, 23), b"from outside, meanwhile");
        assert_eq!(read(peer, 11), b"from inside");
        talks(&end, peer);
    }
}

#[test]
fn what_did_not_fit_is_sent_later() {
    let _turn = turn();
    let block: Vec<u8> = (0..=250).cycle().take(60_000).collect();
    let (sender, receiver) = std::sync::mpsc::channel();
    let mut scene = scene(|mut end, _| {
        end.set_nonblocking(true).unwrap();
        let mut written = 0;
        while let Ok(n) = end.write(&block[written % block.len()..]) {
            written += n;
        }
        sender.send(written).unwrap();
        end.set_nonblocking(false).unwrap();
        end.shutdown(Shutdown::Write).unwrap();
    });
    let restored = scene.survive(|_| ());
    for (n, mut peer) in scene.peers.iter().enumerate() {
        let written = receiver.recv().unwrap();
        let mut bytes = Vec::new();
        peer.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len(), written);
        assert!(bytes.iter().zip(block.iter().cycle()).all(|(a, b)| a == b));
        let end: TcpStream = restored.get(n);
        peer.write_all(b"thanks").unwrap();
        assert_eq!(read(&end, 6), b"thanks");
    }
}

#[test]
fn half_closed_connections_stay_so() {
    let _turn = turn();
    // This end has said FIN.
    let mut closing = scene(|mut end, peer| {
        end.write_all(b"all").unwrap();
        end.shutdown(Shutdown::Write).unwrap();
        assert!(socket::poll_until(peer.as_fd(), PollFlags::RDHUP, 10).unwrap());
    });
    let restored = closing.survive(|_| ());
    for (n, mut peer) in closing.peers.iter().enumerate() {
        let end: TcpStream = restored.get(n);
        peer.write_all(b"answer").unwrap();
        assert_eq!(read(&end, 6), b"answer");
        let mut bytes = Vec::new();
        peer.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, b"all");
        assert_eq!((&end).write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
    }
    // The other end has.
    let mut closed = scene(|end, mut peer| {
        peer.write_all(b"all").unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        assert!(socket::poll_until(end.as_fd(), PollFlags::RDHUP, 10).unwrap());
    });
    let restored = closed.survive(|_| ());
    for (n, peer) in closed.peers.iter().enumerate() {
        let mut end: TcpStream = restored.get(n);
        let mut bytes = Vec::new();
        end.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, b"all");
        end.write_all(b"answer").unwrap();
        assert_eq!(read(peer, 6), b"answer");
    }
}

#[test]
fn a_container_that_runs_on_keeps_its_connections() {
    let _turn = turn();
    let (sender, receiver) = std::sync::mpsc::channel();
    let scene = scene(|end, _| sender.send(end.try_clone().unwrap()).unwrap());
    let image = scene.container.dump_with(&allowed()).unwrap();
    for mut peer in &scene.peers {
        peer.write_all(b"locked out").unwrap();
    }
    drop(image);
    for peer in &scene.peers {
        let end = receiver.recv().unwrap();
        assert_eq!(read(&end, 10), b"locked out");
        talks(&end, peer);
    }
}

/// The container could not be killed, say, after all was prepared for it.
#[test]
fn an_end_that_does_not_come_leaves_no_silence() {
    let _turn = turn();
    let (sender, receiver) = std::sync::mpsc::channel();
    let scene = scene(|end, _| sender.send(end.try_clone().unwrap()).unwrap());
    let mut image = scene.container.dump_with(&allowed()).unwrap();
    for held in &mut image.held {
        held.before_kill().unwrap();
    }
    drop(image);
    for peer in &scene.peers {
        talks(&receiver.recv().unwrap(), peer);
    }
}

#[test]
fn an_address_that_is_not_there_is_named() {
    let _turn = turn();
    let mut scene = scene(|_, _| ());
    let image = scene.end(|_| ());
    let error = image.restore_error(&World::new(Vec::new));
    let named = error.contains("10.9.0.1") || error.contains("fd09::1");
    assert!(named && error.ends_with("= EADDRNOTAVAIL"), "{error}");
}

/// FAMILIES[0][1], port 80, as `struct sockaddr_in`.
const OUTSIDE: &[u8] = b"\x02\0\0\x50\x0a\x09\0\x02\0\0\0\0\0\0\0\0";

/// The outside, and a container with a socket that `connect` has connect to [`OUTSIDE`], from where no answer comes.
fn unanswered(connect: impl Fn(&OwnedFd) + Send + Sync) -> [World; 2] {
    let outside = World::new(Vec::new);
    let container = World::new(|| {
        link(&outside, "out0");
        outside.inside(|| ip("link set out0 down"));
        let end = socket::create(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_NONBLOCK, 0).unwrap();
        connect(&end);
        vec![end]
    });
    [outside, container]
}

#[test]
fn an_unanswered_syn_is_sent_again() {
    let _turn = turn();
    let [outside, container] = unanswered(|end| {
        assert_eq!(socket::connect(end.as_fd(), OUTSIDE).unwrap_err().errno(), rtc_sys::Errno::EINPROGRESS);
    });
    // Nothing has been agreed upon yet: no flag is needed.
    let image = container.dump();
    drop(container);
    let listener = outside.inside(|| TcpListener::bind("0.0.0.0:80").unwrap());
    let restored = image.restore_in(World::new(|| {
        link(&outside, "out1");
        vec![]
    }));
    let peer = listener.accept().unwrap().0;
    let end: TcpStream = restored.get(0);
    end.set_nonblocking(false).unwrap();
    talks(&end, &peer);
}

#[test]
fn a_syn_with_data_is_refused() {
    const NO_COOKIE: i32 = 34;
    let _turn = turn();
    let [_outside, container] = unanswered(|end| {
        socket::set_int_option(end.as_fd(), libc::IPPROTO_TCP, NO_COOKIE, 1).unwrap();
        let to = Extra { address: OUTSIDE, ..Extra::default() };
        assert_eq!(message::send(end.as_fd(), b"early", to, libc::MSG_FASTOPEN).unwrap(), 5);
    });
    let blockers = container.blockers();
    assert!(blockers.len() == 1 && blockers[0].contains("its SYN carries data"), "{blockers:?}");
}

/// A published port of another container, say: the address is ours, and the other end is not.
#[test]
fn an_end_that_is_only_said_to_be_here_is_outside() {
    let _turn = turn();
    let outside = World::new(Vec::new);
    let container = World::new(|| {
        link(&outside, "out0");
        let listener = TcpListener::bind((FAMILIES[0][0], 0)).unwrap();
        let end = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (peer, _) = listener.accept().unwrap();
        // It vanishes without a word.
        socket::set_int_option(peer.as_fd(), libc::IPPROTO_TCP, libc::TCP_REPAIR, 1).unwrap();
        vec![end.into()]
    });
    let blockers = container.blockers();
    assert!(blockers.len() == 1 && blockers[0].contains("--tcp-established"), "{blockers:?}");
}

/// Another container of the same pod, say: both ends are in one network namespace.
#[test]
fn a_half_closed_connection_within_the_namespace_is_refused() {
    let _turn = turn();
    let mut peers: Vec<TcpStream> = Vec::new();
    let container = World::new(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut ends: Vec<OwnedFd> = Vec::new();
        for _ in 0..2 {
            ends.push(TcpStream::connect(listener.local_addr().unwrap()).unwrap().into());
            peers.push(listener.accept().unwrap().0);
        }
        peers[1].shutdown(Shutdown::Write).unwrap();
        assert!(socket::poll_until(ends[1].as_fd(), PollFlags::RDHUP, 10).unwrap());
        ends
    });
    let blockers = container.dump_with(&allowed()).map(|_| ()).unwrap_err();
    assert!(blockers.len() == 1 && blockers[0].contains("it is half closed"), "{blockers:?}");
}
