//! Names, nodes, owners and options of unix sockets.

use crate::world::{World, turn, twice};
use rtc_sys::identity::{Identity, acting_as};
use rtc_sys::socket;
use std::fs::Permissions;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixListener};

fn bound(kind: i32, name: &[u8]) -> OwnedFd {
    let fd = socket::create(libc::AF_UNIX, kind, 0).unwrap();
    let address = [b"\x01\0", name].concat();
    socket::bind(fd.as_fd(), &address).unwrap();
    fd
}

fn name(fd: &OwnedFd) -> Vec<u8> {
    socket::local_address(fd.as_fd()).unwrap()[2..].to_vec()
}

#[test]
fn names_of_every_sort_come_back() {
    let _turn = turn();
    let restored = twice(|| {
        std::env::set_current_dir("/mnt/dir").unwrap();
        let relative = bound(libc::SOCK_STREAM, b"relative");
        std::env::set_current_dir("/").unwrap();
        let deleted = bound(libc::SOCK_STREAM, b"/mnt/deleted");
        std::fs::remove_file("/mnt/deleted").unwrap();
        let again = bound(libc::SOCK_STREAM, b"/mnt/deleted");
        let deep = bound(libc::SOCK_DGRAM, b"mnt/dir/../deep");
        std::fs::remove_file("/mnt/deep").unwrap();
        vec![
            bound(libc::SOCK_SEQPACKET, b"\0abstract\0name"),
            relative,
            deleted,
            again,
            deep,
            bound(libc::SOCK_DGRAM, b""),
            socket::create(libc::AF_UNIX, libc::SOCK_STREAM, 0).unwrap(),
        ]
    });
    let names: Vec<_> = restored.fds.iter().map(name).collect();
    assert_eq!(names[0], b"\0abstract\0name");
    assert_eq!(names[1], b"relative\0");
    assert_eq!((&names[2], &names[3]), (&b"/mnt/deleted\0".to_vec(), &b"/mnt/deleted\0".to_vec()));
    assert_eq!(names[4], b"mnt/dir/../deep\0");
    assert_eq!((names[5].len(), names[5][0]), (6, 0), "autobind gives a zero and five digits");
    assert_eq!(names[6], b"");
    restored.world.inside(|| {
        assert!(std::fs::metadata("/mnt/dir/relative").unwrap().file_type().is_socket());
        assert!(std::fs::metadata("/mnt/deleted").unwrap().file_type().is_socket());
        assert!(!std::fs::exists("/mnt/deep").unwrap());
    });
}

#[test]
fn a_node_keeps_its_owner_mode_and_times_and_replaces_an_old_one() {
    let _turn = turn();
    let world = World::new(|| {
        let listener = UnixListener::bind("/mnt/server").unwrap();
        std::os::unix::fs::chown("/mnt/server", Some(12), Some(34)).unwrap();
        std::fs::set_permissions("/mnt/server", Permissions::from_mode(0o620)).unwrap();
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
        filetime("/mnt/server", time);
        vec![listener.into()]
    });
    let image = world.dump();
    drop(world);
    let target = World::new(|| {
        drop(UnixListener::bind("/mnt/server").unwrap());
        filetime("/mnt", std::time::UNIX_EPOCH + std::time::Duration::from_secs(5));
        vec![]
    });
    let restored = image.restore_in(target);
    restored.world.inside(|| {
        let meta = std::fs::metadata("/mnt/server").unwrap();
        assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777, meta.mtime()), (12, 34, 0o620, 1_000_000));
        assert_eq!(std::fs::metadata("/mnt").unwrap().mtime(), 5);
        std::os::unix::net::UnixStream::connect("/mnt/server").unwrap();
    });
}

fn filetime(path: &str, time: std::time::SystemTime) {
    use rustix::fs::{AtFlags, Timespec, Timestamps};
    let seconds = time.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64;
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

#[test]
fn something_else_in_a_sockets_place_is_left_alone() {
    let _turn = turn();
    let world = World::new(|| vec![UnixListener::bind("/mnt/server").unwrap().into()]);
    let image = world.dump();
    drop(world);
    let target = World::new(|| {
        std::fs::write("/mnt/server", "precious").unwrap();
        vec![]
    });
    let error = image.restore_error(&target);
    assert!(error.contains("/mnt/server: exists and is no socket"), "{error}");
    target.inside(|| assert_eq!(std::fs::read_to_string("/mnt/server").unwrap(), "precious"));
}

#[test]
fn options_filters_and_owners_come_back() {
    let _turn = turn();
    let get = |fd: &OwnedFd, option| socket::int_option(fd.as_fd(), libc::SOL_SOCKET, option).unwrap();
    let restored = twice(|| {
        let (a, b) = socket::pair(libc::SOCK_DGRAM).unwrap();
        let set = |option, value| socket::set_int_option(a.as_fd(), libc::SOL_SOCKET, option, value).unwrap();
        set(libc::SO_PASSCRED, 1);
        set(libc::SO_PRIORITY, 5);
        set(libc::SO_SNDBUF, 30_000);
        set(libc::SO_RCVBUFFORCE, 20_000_000);
        set(libc::SO_PEEK_OFF, 3);
        let linger = [1_i32.to_ne_bytes(), 17_i32.to_ne_bytes()].concat();
        socket::set_option(a.as_fd(), libc::SOL_SOCKET, libc::SO_LINGER, &linger).unwrap();
        UnixDatagram::from(a.try_clone().unwrap())
            .set_read_timeout(Some(std::time::Duration::from_millis(1500)))
            .unwrap();
        let accept = [socket::Instruction { code: 6, k: 7, ..Default::default() }];
        socket::attach_filter(a.as_fd(), &accept).unwrap();
        set(44, 1);
        rustix::fs::fchown(&a, Some(rustix::fs::Uid::from_raw(77)), None).unwrap();
        vec![a, b]
    });
    let (a, b) = (&restored.fds[0], &restored.fds[1]);
    assert_eq!((get(a, libc::SO_PASSCRED), get(b, libc::SO_PASSCRED)), (1, 0));
    assert_eq!((get(a, libc::SO_PRIORITY), get(a, libc::SO_PEEK_OFF), get(b, libc::SO_PEEK_OFF)), (5, 3, -1));
    assert_eq!((get(a, libc::SO_SNDBUF), get(a, libc::SO_RCVBUF)), (60_000, 40_000_000));
    // Asked for, and not asked for.
    assert_eq!((get(a, 72), get(b, 72)), (3, 0));
    let fresh = socket::create(libc::AF_UNIX, libc::SOCK_DGRAM, 0).unwrap();
    assert_eq!(get(b, libc::SO_SNDBUF), get(&fresh, libc::SO_SNDBUF));
    let timeout = UnixDatagram::from(a.try_clone().unwrap()).read_timeout().unwrap();
    assert_eq!(timeout, Some(std::time::Duration::from_millis(1500)));
    let mut linger = [0; 8];
    socket::option(a.as_fd(), libc::SOL_SOCKET, libc::SO_LINGER, &mut linger).unwrap();
    assert_eq!(linger, [1, 0, 0, 0, 17, 0, 0, 0]);
    assert_eq!(socket::filter(a.as_fd()).unwrap(), [socket::Instruction { code: 6, k: 7, ..Default::default() }]);
    assert!(socket::attach_filter(a.as_fd(), &[]).is_err(), "it is locked");
    assert_eq!(rustix::fs::fstat(a).unwrap().st_uid, 77);
}

#[test]
fn peers_see_the_credentials_they_saw() {
    let _turn = turn();
    let who = |uid, gid| Identity { uid, gid, groups: &[3, 5] };
    let restored = twice(|| {
        let (a, b) = acting_as(who(1001, 1002), || socket::pair(libc::SOCK_STREAM)).unwrap().unwrap();
        let listener = bound(libc::SOCK_STREAM, b"\0creds");
        acting_as(who(2001, 2002), || socket::listen(listener.as_fd(), 9)).unwrap().unwrap();
        let client = socket::create(libc::AF_UNIX, libc::SOCK_STREAM, 0).unwrap();
        let connect = || socket::connect(client.as_fd(), b"\x01\0\0creds");
        acting_as(who(3001, 3002), connect).unwrap().unwrap();
        let server = socket::accept(listener.as_fd()).unwrap();
        vec![a, b, listener, client, server]
    });
    let ids = |n: usize| {
        let mut bytes = [0; 12];
        socket::option(restored.fds[n].as_fd(), libc::SOL_SOCKET, libc::SO_PEERCRED, &mut bytes).unwrap();
        (u32::from_ne_bytes(bytes[4..8].try_into().unwrap()), u32::from_ne_bytes(bytes[8..].try_into().unwrap()))
    };
    assert_eq!((ids(0), ids(1)), ((1001, 1002), (1001, 1002)));
    assert_eq!((ids(3), ids(4)), ((2001, 2002), (3001, 3002)));
    let mut groups = [0; 16];
    assert_eq!(socket::option(restored.fds[4].as_fd(), libc::SOL_SOCKET, 59, &mut groups).unwrap(), 8);
    assert_eq!((groups[0], groups[4]), (3, 5));
    // Who connects later meets the listener's user; its pid comes from the task, which listens once more.
    assert!(restored.program.to_string().contains("listen("), "{}", restored.program);
}
