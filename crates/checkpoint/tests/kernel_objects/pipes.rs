//! Pipes.

use crate::holder::{FIRST, Holder, alone, copy, dump, try_dump};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

fn pipe() -> (OwnedFd, OwnedFd) {
    pipe_with(PipeFlags::CLOEXEC).unwrap()
}

fn flags(fd: &OwnedFd) -> OFlag {
    OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL).unwrap())
}

fn set_flags(fd: &OwnedFd, flags: OFlag) {
    fcntl(fd, FcntlArg::F_SETFL(flags)).unwrap();
}

fn reopen(fd: &OwnedFd, options: &mut std::fs::OpenOptions) -> OwnedFd {
    options.open(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap().into()
}

fn read(fd: &OwnedFd) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0; 1 << 20];
    let n = rustix::io::read(fd, &mut buffer)?;
    buffer.truncate(n);
    Ok(buffer)
}

fn events(fd: &OwnedFd) -> PollFlags {
    let mut state = [PollFd::new(fd, PollFlags::IN | PollFlags::OUT)];
    poll(&mut state, Some(&rustix::time::Timespec::default())).unwrap();
    state[0].revents()
}

#[test]
fn ends_of_one_pipe_are_ends_of_one_pipe_again() {
    let _alone = alone();
    let (reader, writer) = pipe();
    fcntl_setpipe_size(&reader, 1 << 20).unwrap();
    let contents: Vec<u8> = (0..200_000_u32).map(|n| (n / 7) as u8).collect();
    assert_eq!(rustix::io::write(&writer, &contents).unwrap(), contents.len());
    let second = reopen(&writer, std::fs::File::options().read(true).write(true));
    set_flags(&reader, OFlag::O_NONBLOCK);
    rustix::fs::fchown(&reader, Some(rustix::fs::Uid::from_raw(1234)), Some(rustix::fs::Gid::from_raw(77))).unwrap();
    rustix::fs::fchmod(&reader, rustix::fs::Mode::from_raw_mode(0o620)).unwrap();
    let before = [flags(&reader), flags(&writer), flags(&second)];

    let new = copy(vec![reader, writer, second]);
    let (reader, writer, second) = (new.get(FIRST), new.get(FIRST + 1), new.get(FIRST + 2));
    assert_eq!([flags(&reader), flags(&writer), flags(&second)], before);
    assert_eq!(fcntl_getpipe_size(&writer).unwrap(), 1 << 20);
    let stat = rustix::fs::fstat(&writer).unwrap();
    assert_eq!((stat.st_uid, stat.st_gid, stat.st_mode & 0o777), (1234, 77, 0o620));
    assert!(read(&reader).unwrap() == contents);
    assert_eq!(read(&reader), Err(Errno::AGAIN));
    rustix::io::write(&second, b"to the same pipe").unwrap();
    assert_eq!(read(&reader).unwrap(), b"to the same pipe");
}

#[test]
fn packets_stay_packets() {
    let _alone = alone();
    let (reader, writer) = pipe();
    set_flags(&writer, OFlag::O_DIRECT);
    for packet in [&b"one"[..], b"2", &[3; 4096]] {
        rustix::io::write(&writer, packet).unwrap();
    }
    let new = copy(vec![reader, writer]);
    let (reader, writer) = (new.get(FIRST), new.get(FIRST + 1));
    assert!(flags(&writer).contains(OFlag::O_DIRECT) && !flags(&reader).contains(OFlag::O_DIRECT));
    rustix::io::write(&writer, b"four").unwrap();
    for packet in [&b"one"[..], b"2", &[3; 4096], b"four"] {
        assert!(read(&reader).unwrap() == packet);
    }
}

#[test]
fn the_end_of_a_pipe_without_writers_is_still_its_end() {
    let _alone = alone();
    let (reader, writer) = pipe();
    rustix::io::write(&writer, b"last words").unwrap();
    drop(writer);
    let new = copy(vec![reader]);
    let reader = new.get(FIRST);
    assert_eq!(events(&reader), PollFlags::IN | PollFlags::HUP);
    assert_eq!(read(&reader).unwrap(), b"last words");
    assert_eq!(read(&reader).unwrap(), b"");
}

#[test]
fn a_pipe_without_readers_is_still_broken_and_holds_what_it_held() {
    let _alone = alone();
    let (reader, writer) = pipe();
    rustix::io::write(&writer, b"unread").unwrap();
    drop(reader);
    let new = copy(vec![writer]);
    let writer = new.get(FIRST);
    assert!(events(&writer).contains(PollFlags::ERR));
    assert_eq!(read(&reopen(&writer, std::fs::File::options().read(true))).unwrap(), b"unread");
}

#[test]
fn a_pipe_to_the_outside_is_named_with_who_holds_it() {
    let _alone = alone();
    let (reader, writer) = pipe();
    let inside = Holder::new(&[writer.as_fd()]);
    let outside = Holder::new(&[reader.as_fd()]);
    drop((reader, writer));
    let blockers = try_dump(&[&inside]).map(drop).unwrap_err();
    let ino = rustix::fs::stat(format!("/proc/{}/fd/{FIRST}", inside.pid())).unwrap().st_ino;
    let expected = format!(
        "pid {}: fd {FIRST} (pipe:[{ino}]): the read end of the pipe is held by pid {} (cat) outside; \
         start the container with the pipe as its stdin, stdout or stderr, or close it first",
        inside.pid(),
        outside.pid(),
    );
    assert_eq!(blockers, [expected]);
}

#[test]
fn looking_changes_nothing() {
    let _alone = alone();
    let (reader, writer) = pipe();
    rustix::io::write(&writer, b"still here").unwrap();
    let holder = Holder::new(&[reader.as_fd(), writer.as_fd()]);
    let before = flags(&writer);
    drop(dump(&holder));
    assert_eq!(read(&reader).unwrap(), b"still here");
    assert_eq!(flags(&writer), before);
}
