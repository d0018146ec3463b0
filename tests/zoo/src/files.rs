//! Open files: offsets, flags, sharing of descriptions, files without a name, folders, devices.

use crate::base::{Check, Child, Named, Prepare, Result, check, fails, holds, read, same, sys, sys_fd, write};
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};

pub(crate) const ZOO: &[(&str, Prepare)] = &[
    ("offsets", offsets),
    ("append", append),
    ("shared_description", shared_description),
    ("descriptor_numbers", descriptor_numbers),
    ("deleted_file", deleted_file),
    ("deleted_large_file", deleted_large_file),
    ("deleted_shared", deleted_shared),
    ("linked_elsewhere", linked_elsewhere),
    ("replaced_file", replaced_file),
    ("folders", folders),
    ("path_only", path_only),
    ("devices", devices),
    ("proc_files", proc_files),
];

fn new(path: &str) -> Result<File> {
    File::options().read(true).write(true).create_new(true).open(path).named(path)
}

fn offset(file: &File) -> Result<i64> {
    sys!(libc::lseek(file.as_raw_fd(), 0, libc::SEEK_CUR))
}

/// Position and status flags of several descriptions of one file.
fn offsets() -> Result<Check> {
    let all = new("/var/offsets")?;
    write(&all, b"0123456789")?;
    let readonly = File::open("/var/offsets").named("open")?;
    let sync =
        File::options().write(true).custom_flags(libc::O_SYNC | libc::O_NONBLOCK).open("/var/offsets").named("open")?;
    sys!(libc::lseek(readonly.as_raw_fd(), 4, libc::SEEK_SET))?;
    sys!(libc::lseek(sync.as_raw_fd(), 1 << 40, libc::SEEK_SET))?;
    let files = [all, readonly, sync];
    let show = move || -> Result<Vec<(i64, i32)>> {
        files.iter().map(|file| Ok((offset(file)?, sys!(libc::fcntl(file.as_raw_fd(), libc::F_GETFL))?))).collect()
    };
    let before = show()?;
    check(move || same("positions and flags", show()?, before.clone()))
}

/// Writes go to the end wherever the position is.
fn append() -> Result<Check> {
    let file = File::options().append(true).read(true).create(true).open("/var/append").named("open")?;
    write(&file, b"a")?;
    let mut length = 1;
    check(move || {
        sys!(libc::lseek(file.as_raw_fd(), 0, libc::SEEK_SET))?;
        write(&file, b"b")?;
        length += 1;
        same("length", file.metadata().named("stat")?.len(), length)?;
        same("content", fs::read_to_string("/var/append").named("read")?.starts_with("ab"), true)
    })
}

/// One description under two numbers and in two processes: one position for all.
fn shared_description() -> Result<Check> {
    let file = new("/var/description")?;
    write(&file, &[7; 1000])?;
    let copy = file.try_clone().named("dup")?;
    let separate = File::open("/var/description").named("open")?;
    sys!(libc::lseek(file.as_raw_fd(), 100, libc::SEEK_SET))?;
    let inherited = file.as_raw_fd();
    let mut child = Child::fork(move || check(move || sys!(libc::lseek(inherited, 10, libc::SEEK_CUR)).map(drop)))?;
    let mut wanted = 100;
    check(move || {
        same("position", offset(&copy)?, wanted)?;
        child.check()?;
        wanted += 10;
        same("position after the child moved it", (offset(&file)?, offset(&copy)?), (wanted, wanted))?;
        same("position of the separate one", offset(&separate)?, 0)
    })
}

/// Numbers with gaps, high ones, close-on-exec.
fn descriptor_numbers() -> Result<Check> {
    let file = new("/var/numbers")?;
    for (number, flags) in [(50, 0), (51, libc::O_CLOEXEC), (900, 0)] {
        sys!(libc::dup3(file.as_raw_fd(), number, flags))?;
    }
    let show = || -> Result<Vec<(String, String)>> {
        let mut list = Vec::new();
        for entry in fs::read_dir("/proc/self/fd").named("fd")? {
            let name = entry.named("fd")?.file_name().to_string_lossy().into_owned();
            let number: i32 = name.parse().named("fd")?;
            // The descriptor of the listing itself is gone by the time of the next call.
            if let Ok(flag) = sys!(libc::fcntl(number, libc::F_GETFD)) {
                let link = fs::read_link(format!("/proc/self/fd/{name}")).named("readlink")?;
                // The numbers 0 to 2 are given anew by whoever restores.
                let link = if number < 3 { String::new() } else { link.to_string_lossy().into_owned() };
                if !link.ends_with("/fd") {
                    list.push((format!("{name} {flag}"), link));
                }
            }
        }
        list.sort();
        Ok(list)
    };
    let before = show()?;
    check(move || {
        let _open = &file;
        same("descriptors", show()?, before.clone())
    })
}

/// A file on disk and one in memory that have lost their names.
fn deleted_file() -> Result<Check> {
    let mut files = Vec::new();
    for path in ["/var/deleted", "/tmp/deleted"] {
        let file = File::options().read(true).write(true).create_new(true).mode(0o640).open(path).named(path)?;
        write(&file, path.as_bytes())?;
        fs::remove_file(path).named(path)?;
        files.push((path, file));
    }
    check(move || {
        for (path, file) in &mut files {
            let meta = file.metadata().named("stat")?;
            same("links, mode", (meta.nlink(), meta.mode() & 0o7777), (0, 0o640))?;
            same("position", offset(file)?, path.len() as i64)?;
            let mut text = String::new();
            file.seek(SeekFrom::Start(0)).named("seek")?;
            file.read_to_string(&mut text).named("read")?;
            same("content", &text, &(*path).to_owned())?;
        }
        Ok(())
    })
}

/// Megabytes with holes, without a name.
fn deleted_large_file() -> Result<Check> {
    const BLOCK: u64 = 1 << 20;
    let file = new("/var/large")?;
    let content = |block: u64| vec![block as u8 + 1; 4096];
    for block in (0..40).step_by(3) {
        file.write_all_at(&content(block), block * BLOCK).named("write")?;
    }
    file.set_len(1 << 30).named("ftruncate")?;
    fs::remove_file("/var/large").named("unlink")?;
    check(move || {
        let meta = file.metadata().named("stat")?;
        same("length", meta.len(), 1 << 30)?;
        holds(&format!("{} blocks: holes are still holes", meta.blocks()), meta.blocks() < 1 << 12)?;
        for block in 0..40 {
            let mut now = vec![0; 4096];
            file.read_exact_at(&mut now, block * BLOCK).named("read")?;
            let wanted = if block % 3 == 0 { content(block) } else { vec![0; 4096] };
            same(&format!("block {block}"), now == wanted, true)?;
        }
        Ok(())
    })
}

/// Two descriptions, in two processes, of one file without a name: still one file.
fn deleted_shared() -> Result<Check> {
    let file = new("/var/both")?;
    let second = File::open("/var/both").named("open")?;
    fs::remove_file("/var/both").named("unlink")?;
    let mut length = 0;
    let mut child = Child::fork(move || {
        check(move || {
            length += 1;
            same("what the parent wrote", second.metadata().named("stat")?.len(), length)
        })
    })?;
    check(move || {
        write(&file, b"x")?;
        child.check()
    })
}

/// The name it was opened by is gone, another one is left.
fn linked_elsewhere() -> Result<Check> {
    let file = new("/var/first")?;
    write(&file, b"linked")?;
    fs::hard_link("/var/first", "/var/second").named("link")?;
    fs::remove_file("/var/first").named("unlink")?;
    check(move || {
        let (open, named) = (file.metadata().named("stat")?, fs::metadata("/var/second").named("stat")?);
        same("the open file is the named one", (open.dev(), open.ino()), (named.dev(), named.ino()))?;
        holds("the first name stays away", !fs::exists("/var/first").unwrap_or(true))?;
        same("links", open.nlink(), 1)
    })
}

/// Another file has taken the name.
fn replaced_file() -> Result<Check> {
    let file = new("/var/name")?;
    write(&file, b"old")?;
    fs::write("/var/name.new", "new").named("write")?;
    fs::rename("/var/name.new", "/var/name").named("rename")?;
    check(move || {
        let mut old = [0; 3];
        file.read_exact_at(&mut old, 0).named("read")?;
        same("the open file", &old, b"old")?;
        same("the named file", fs::read_to_string("/var/name").named("read")?, "new".into())
    })
}

/// An open folder, a working directory, one that has been deleted.
fn folders() -> Result<Check> {
    for path in ["/var/folder", "/var/here", "/var/gone"] {
        fs::create_dir(path).named(path)?;
    }
    fs::write("/var/folder/a", "a").named("write")?;
    let open = File::open("/var/folder").named("open")?;
    let mut child = Child::fork(|| {
        std::env::set_current_dir("/var/gone").named("chdir")?;
        check(|| {
            let now = fs::read_link("/proc/self/cwd").named("cwd")?.to_string_lossy().into_owned();
            same("working directory", now, "/var/gone (deleted)".into())
        })
    })?;
    fs::remove_dir("/var/gone").named("rmdir")?;
    std::env::set_current_dir("/var/here").named("chdir")?;
    check(move || {
        let inside = format!("/proc/self/fd/{}/a", open.as_raw_fd());
        same("through the folder", fs::read_to_string(inside).named("read")?, "a".into())?;
        same("working directory", std::env::current_dir().named("cwd")?, "/var/here".into())?;
        child.check()
    })
}

/// Descriptors that only name a place, one of them a symbolic link.
fn path_only() -> Result<Check> {
    std::os::unix::fs::symlink("/nowhere", "/var/link").named("symlink")?;
    let link = sys_fd!(libc::open(c"/var/link".as_ptr(), libc::O_PATH | libc::O_NOFOLLOW))?;
    let folder = sys_fd!(libc::open(c"/etc".as_ptr(), libc::O_PATH | libc::O_DIRECTORY))?;
    check(move || {
        let mut target = [0_u8; 64];
        let (buffer, len) = (target.as_mut_ptr().cast(), target.len());
        let count = sys!(libc::readlinkat(link.as_raw_fd(), c"".as_ptr(), buffer, len))?;
        same("the link's target", &target[..count as usize], b"/nowhere")?;
        fails("read through O_PATH", read(&folder, 1), libc::EBADF)?;
        let flags = sys!(libc::fcntl(folder.as_raw_fd(), libc::F_GETFL))?;
        same("O_PATH", flags & libc::O_PATH, libc::O_PATH)
    })
}

/// The devices that every container has.
fn devices() -> Result<Check> {
    let open = |path: &str| File::options().read(true).write(true).open(path).named(path);
    let (null, zero, full) = (open("/dev/null")?, open("/dev/zero")?, open("/dev/full")?);
    let random = File::open("/dev/urandom").named("urandom")?;
    check(move || {
        same("/dev/null", read(&null, 10)?, vec![])?;
        same("/dev/zero", read(&zero, 10)?, vec![0; 10])?;
        fails("/dev/full", write(&full, b"x"), libc::ENOSPC)?;
        same("/dev/urandom", read(&random, 10)?.len(), 10)
    })
}

/// Files and folders of /proc, of this process and of another.
fn proc_files() -> Result<Check> {
    let mut child = Child::fork(|| check(|| Ok(())))?;
    let status = File::open("/proc/self/status").named("status")?;
    let theirs = File::open(format!("/proc/{}/stat", child.pid)).named("stat")?;
    let folder: OwnedFd = File::open("/proc/self/fd").named("fd")?.into();
    check(move || {
        let mut text = [0; 4096];
        let count = status.read_at(&mut text, 0).named("read")?;
        holds("our name", String::from_utf8_lossy(&text[..count]).contains("Name:\tzoo"))?;
        let count = theirs.read_at(&mut text, 0).named("read")?;
        holds("the child's pid", String::from_utf8_lossy(&text[..count]).starts_with(&child.pid.to_string()))?;
        let link = fs::read_link(format!("/proc/self/fd/{}", folder.as_raw_fd())).named("readlink")?;
        same("the folder", link.to_string_lossy().into_owned(), format!("/proc/{}/fd", std::process::id()))?;
        child.check()
    })
}
