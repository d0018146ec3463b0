//! Regular files and directories of this process, dumped and opened again.

use super::*;
use crate::files::kind::FileKind;
use crate::files::testing::{How, Shell, TempDir, dump_ours, dump_with, us};
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};

fn link(fd: &OwnedFd) -> String {
    std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap().to_str().unwrap().to_owned()
}

fn flags(fd: &OwnedFd) -> i32 {
    nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_GETFL).unwrap()
}

#[test]
fn path_position_and_flags_are_kept() {
    let dir = TempDir::new();
    let path = dir.path().join("log");
    std::fs::write(&path, "0123456789").unwrap();
    let mut append =
        OpenOptions::new().append(true).custom_flags(libc::O_NONBLOCK | libc::O_NOATIME).open(&path).unwrap();
    let mut read = File::open(&path).unwrap();
    read.seek(std::io::SeekFrom::Start(4)).unwrap();
    let dumped = dump_ours(&[&append, &read]);
    append.write_all(b"ab").unwrap();
    let open = dumped.restore();
    let (append2, read2) = (open.copy(dumped.added[0]), open.copy(dumped.added[1]));
    assert_eq!(flags(&append2), flags(&append.into()));
    assert_eq!(flags(&read2), flags(&read.into()));
    File::from(append2).write_all(b"cd").unwrap();
    let mut rest = String::new();
    File::from(read2).read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "456789abcd");
}

#[test]
fn one_description_under_two_numbers_is_one_and_two_openings_are_two() {
    let dir = TempDir::new();
    let a = File::create(dir.path().join("f")).unwrap();
    let (twin, b) = (a.try_clone().unwrap(), File::create(dir.path().join("f")).unwrap());
    let dumped = dump_ours(&[&a, &twin, &b]);
    assert_eq!(dumped.added[0], dumped.added[1]);
    assert_ne!(dumped.added[0], dumped.added[2]);
    assert_eq!(dumped.files.unwrap().files.len(), 2);
}

#[test]
fn a_deleted_sparse_file_comes_back_with_all_its_openings() {
    let dir = TempDir::new();
    let path = dir.path().join("ghost");
    let mut write = OpenOptions::new().write(true).create_new(true).mode(0o640).open(&path).unwrap();
    let read = File::open(&path).unwrap();
    write.write_all(b"begin").unwrap();
    write.set_len(200 << 20).unwrap();
    write.write_all_at(b"end", (200 << 20) - 3).unwrap();
    std::os::unix::fs::fchown(&write, Some(12), Some(34)).unwrap();
    rustix::fs::fsetxattr(&write, "user.a", b"b", rustix::fs::XattrFlags::empty()).unwrap();
    std::fs::remove_file(&path).unwrap();
    let before = Attributes::read(read.as_fd()).unwrap();
    let dumped = dump_ours(&[&write, &read]);
    drop((write, read));
    let open = dumped.restore();
    let (write, read) = (open.copy(dumped.added[0]), File::from(open.copy(dumped.added[1])));
    assert_eq!(link(&write), format!("{} (deleted)", path.display()));
    assert_eq!(Attributes::read(read.as_fd()).unwrap(), before);
    let meta = read.metadata().unwrap();
    assert_eq!((meta.nlink(), meta.len()), (0, 200 << 20));
    assert!(meta.blocks() < 100, "{} blocks of a file with two blocks of data", meta.blocks());
    let mut write = File::from(write);
    assert_eq!(write.stream_position().unwrap(), 5);
    write.write_all(b"-more").unwrap();
    let mut start = [0; 10];
    read.read_exact_at(&mut start, 0).unwrap();
    assert_eq!(&start, b"begin-more", "both openings are one file");
    assert!(write.read(&mut start).is_err(), "still write-only");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "no name is left");
}

#[test]
fn a_deleted_files_name_that_is_taken_is_left_alone() {
    let dir = TempDir::new();
    let path = dir.path().join("data");
    std::fs::write(&path, "old").unwrap();
    let old = File::open(&path).unwrap();
    std::fs::write(dir.path().join("new"), "new").unwrap();
    std::fs::rename(dir.path().join("new"), &path).unwrap();
    let dumped = dump_ours(&[&old]);
    let open = dumped.restore();
    let mut text = String::new();
    File::from(open.copy(dumped.added[0])).read_to_string(&mut text).unwrap();
    assert_eq!((text.as_str(), std::fs::read_to_string(&path).unwrap().as_str()), ("old", "new"));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn another_hard_link_in_the_directory_is_the_file() {
    let dir = TempDir::new();
    let (tmp, lock) = (dir.path().join("lock.tmp"), dir.path().join("lock"));
    let file = File::create(&tmp).unwrap();
    std::fs::hard_link(&tmp, &lock).unwrap();
    std::fs::remove_file(&tmp).unwrap();
    let dumped = dump_ours(&[&file]);
    let restored = File::from(dumped.restore().copy(dumped.added[0]));
    assert_eq!(restored.metadata().unwrap().ino(), std::fs::metadata(&lock).unwrap().ino());
}

#[test]
fn an_unnamed_temporary_file_stays_one() {
    let dir = TempDir::new();
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).custom_flags(libc::O_TMPFILE).open(dir.path()).unwrap();
    file.write_all_at(b"unnamed", 0).unwrap();
    let dumped = dump_ours(&[&file]);
    let restored = dumped.restore().copy(dumped.added[0]);
    assert_eq!(flags(&restored) & libc::O_TMPFILE, libc::O_TMPFILE);
    let restored = File::from(restored);
    let mut text = [0; 7];
    restored.read_exact_at(&mut text, 0).unwrap();
    assert_eq!(&text, b"unnamed");
    let own = format!("/proc/self/fd/{}", restored.as_raw_fd());
    let follow = rustix::fs::AtFlags::SYMLINK_FOLLOW;
    rustix::fs::linkat(rustix::fs::CWD, own, rustix::fs::CWD, dir.path().join("name"), follow).unwrap();
}

#[test]
fn a_removed_directory_and_a_file_in_it() {
    let dir = TempDir::new();
    let gone = dir.path().join("gone");
    std::fs::create_dir(&gone).unwrap();
    std::fs::write(gone.join("f"), "x").unwrap();
    let (opened, file) = (File::open(&gone).unwrap(), File::open(gone.join("f")).unwrap());
    std::fs::remove_dir_all(&gone).unwrap();
    let dumped = dump_ours(&[&opened, &file]);
    let open = dumped.restore();
    assert_eq!(link(&open.copy(dumped.added[0])), format!("{} (deleted)", gone.display()));
    assert_eq!(File::from(open.copy(dumped.added[1])).metadata().unwrap().len(), 1);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_mapped_file_must_not_shrink_and_a_missing_one_is_named() {
    let dir = TempDir::new();
    let path = dir.path().join("program");
    // The mapping of a child's program: its exact range is asked for as the engine does.
    std::fs::copy("/bin/bash", &path).unwrap();
    let child = Shell::at(&path, "");
    let pid = child.pid();
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let line = maps.lines().find(|line| line.ends_with("/program")).unwrap();
    let (start, end) = line.split(' ').next().unwrap().split_once('-').unwrap();
    let range = [start, end].map(|n| u64::from_str_radix(n, 16).unwrap());
    let dumped = dump_with(us(), &How::default(), |dumper| {
        let id = dumper.add_mapped(pid, range[0], range[1], false).unwrap();
        assert_eq!(dumper.add_mapped(pid, range[0], range[1], false).unwrap(), id);
        id
    });
    drop(child);
    match &dumped.files.as_ref().unwrap().files[dumped.added.index()].file {
        FileKind::RegFile(file) => assert!(file.mapped),
        other => panic!("{other:?}"),
    }
    dumped.restore();
    std::fs::write(&path, "short").unwrap();
    let error = dumped.restore_in(us()).err().unwrap();
    assert_eq!(*error.kind(), Kind::Incompatible);
    std::fs::remove_file(&path).unwrap();
    let error = dumped.restore_in(us()).err().unwrap().to_string();
    assert!(error.contains("/program") && error.ends_with("= ENOENT"), "{error}");
    std::fs::create_dir(&path).unwrap();
    let error = dumped.restore_in(us()).err().unwrap().to_string();
    assert!(error.ends_with("program is a directory here, and was a regular file"), "{error}");
}

#[test]
fn an_o_path_descriptor_stays_one() {
    let dir = TempDir::new();
    std::fs::write(dir.path().join("f"), "").unwrap();
    let path = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(dir.path().join("f")).unwrap();
    let dumped = dump_ours(&[&path]);
    let restored = dumped.restore().copy(dumped.added[0]);
    assert_eq!(flags(&restored) & libc::O_PATH, libc::O_PATH);
    assert_eq!(link(&restored), dir.path().join("f").to_str().unwrap());
}
