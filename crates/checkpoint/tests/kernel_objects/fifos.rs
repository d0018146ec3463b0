//! Named pipes.

use crate::holder::{FIRST, Holder, Restored, alone, copy, dump, try_dump};
use crate::image_dir::ImageDir;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// A FIFO in a directory of its own.
fn fifo(dir: &ImageDir) -> PathBuf {
    let path = dir.path().join("fifo");
    rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o640), 0).unwrap();
    path
}

fn open(path: &Path, flags: OFlags) -> OwnedFd {
    rustix::fs::open(path, flags | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

fn read(fd: &OwnedFd) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0; 4096];
    let n = rustix::io::read(fd, &mut buffer)?;
    buffer.truncate(n);
    Ok(buffer)
}

fn events(fd: &OwnedFd) -> PollFlags {
    let mut state = [PollFd::new(fd, PollFlags::IN)];
    poll(&mut state, Some(&rustix::time::Timespec::default())).unwrap();
    state[0].revents()
}

fn link(new: &Restored, fd: i32) -> PathBuf {
    use std::os::fd::AsRawFd;
    let fd = new.get(fd);
    std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap()
}

#[test]
fn ends_and_contents() {
    let _alone = alone();
    let dir = ImageDir::new();
    let path = fifo(&dir);
    let (reader, writer) = (open(&path, OFlags::RDONLY), open(&path, OFlags::WRONLY));
    let both = open(&path, OFlags::RDWR);
    rustix::io::write(&writer, b"in the fifo").unwrap();
    let new = copy(vec![reader, writer, both]);
    assert_eq!(link(&new, FIRST), path);
    assert_eq!(read(&new.get(FIRST)).unwrap(), b"in the fifo");
    assert_eq!(read(&new.get(FIRST)), Err(Errno::AGAIN));
    rustix::io::write(new.get(FIRST + 1), b"again").unwrap();
    assert_eq!(read(&new.get(FIRST + 2)).unwrap(), b"again");
}

#[test]
fn a_deleted_fifo() {
    let _alone = alone();
    let dir = ImageDir::new();
    let path = fifo(&dir);
    let (reader, writer) = (open(&path, OFlags::RDONLY), open(&path, OFlags::WRONLY));
    std::fs::remove_file(&path).unwrap();
    rustix::io::write(&writer, b"unseen").unwrap();
    let new = copy(vec![writer, reader]);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    assert_eq!(link(&new, FIRST).to_str().unwrap(), format!("{} (deleted)", path.display()));
    assert_eq!(rustix::fs::fstat(new.get(FIRST)).unwrap().st_mode & 0o777, 0o640);
    assert_eq!(read(&new.get(FIRST + 1)).unwrap(), b"unseen");
}

#[test]
fn a_reader_that_waits_for_its_first_writer_is_told_from_one_whose_writers_are_gone() {
    let _alone = alone();
    let dir = ImageDir::new();
    let path = fifo(&dir);
    let waiting = open(&path, OFlags::RDONLY);
    let new = copy(vec![waiting]).get(FIRST);
    assert_eq!(events(&new), PollFlags::empty());
    drop(open(&path, OFlags::WRONLY));
    assert_eq!(events(&new), PollFlags::HUP);
    let new = copy(vec![new]).get(FIRST);
    assert_eq!(events(&new), PollFlags::HUP);
    // With something left behind.
    rustix::io::write(open(&path, OFlags::WRONLY), b"left").unwrap();
    let new = copy(vec![new]).get(FIRST);
    assert_eq!(events(&new), PollFlags::HUP | PollFlags::IN);
    assert_eq!(read(&new).unwrap(), b"left");
    assert_eq!(read(&new).unwrap(), b"");
}

#[test]
fn a_writer_outside_is_named_and_one_that_is_gone_is_not() {
    let _alone = alone();
    let dir = ImageDir::new();
    let path = fifo(&dir);
    let inside = Holder::new(&[open(&path, OFlags::RDONLY).as_fd()]);
    drop(dump(&inside));
    let outside = Holder::new(&[open(&path, OFlags::WRONLY).as_fd()]);
    let blockers = try_dump(&[&inside]).map(drop).unwrap_err();
    let expected = format!("the write end of the pipe is held by pid {} (cat) outside", outside.pid());
    assert!(blockers.len() == 1 && blockers[0].contains(&expected), "{blockers:?}");
}
