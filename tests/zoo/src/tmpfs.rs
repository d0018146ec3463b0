//! What lies in file systems that are only memory: /tmp, /run, /dev/shm.

use crate::base::{Check, Named, Prepare, Result, check, same, sys};
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;

pub(crate) const ZOO: &[(&str, Prepare)] = &[("tmpfs", tmpfs), ("dev_shm", dev_shm), ("dev_links", dev_links)];

/// Everything about a tree that a program can see, one line each.
fn show(folder: &str) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    let mut folders = vec![folder.to_owned()];
    let mut links = std::collections::BTreeMap::new();
    while let Some(folder) = folders.pop() {
        let mut names: Vec<_> = fs::read_dir(&folder).named(&folder)?.flatten().map(|entry| entry.path()).collect();
        names.sort();
        for path in names {
            let meta = fs::symlink_metadata(&path).named("stat")?;
            let first = links.entry(meta.ino()).or_insert_with(|| path.clone());
            let content = content(&path, &meta)?;
            let (mode, uid, gid, time) = (meta.mode(), meta.uid(), meta.gid(), (meta.mtime(), meta.mtime_nsec()));
            let (path, first) = (path.display().to_string(), first.display());
            lines.push(format!("{path} {mode:o} {uid}:{gid} {time:?} x{} {first} {content}", meta.nlink()));
            if meta.is_dir() {
                folders.push(path);
            }
        }
    }
    lines.sort();
    Ok(lines)
}

fn content(path: &Path, meta: &fs::Metadata) -> Result<String> {
    if meta.is_symlink() {
        return Ok(fs::read_link(path).named("readlink")?.display().to_string());
    }
    if !meta.is_file() {
        return Ok(String::new());
    }
    let bytes = fs::read(path).named("read")?;
    let sum = bytes.iter().fold(7_u64, |sum, &byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    Ok(format!("{} bytes, {} blocks, sum {sum}", bytes.len(), meta.blocks()))
}

/// Files, folders, links of both kinds, holes, owners, modes, times, extended attributes.
fn tmpfs() -> Result<Check> {
    for folder in ["/tmp/tree/inner", "/run/service"] {
        fs::create_dir_all(folder).named(folder)?;
    }
    fs::write("/tmp/tree/file", "text").named("write")?;
    fs::write("/tmp/tree/empty", "").named("write")?;
    fs::write("/run/service/pid", "1\n").named("write")?;
    fs::hard_link("/tmp/tree/file", "/tmp/tree/inner/same").named("link")?;
    symlink("../nowhere", "/tmp/tree/link").named("symlink")?;
    let sparse = File::create("/tmp/tree/sparse").named("create")?;
    sparse.write_all_at(&[9; 5000], 1 << 20).named("write")?;
    sparse.set_len(8 << 20).named("ftruncate")?;
    drop(sparse);
    let large: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 249) as u8).collect();
    fs::write("/tmp/tree/large", large).named("write")?;
    sys!(libc::mkfifo(c"/tmp/tree/fifo".as_ptr(), 0o640))?;
    sys!(libc::chown(c"/tmp/tree/inner".as_ptr(), 12, 34))?;
    fs::set_permissions("/tmp/tree/inner", fs::Permissions::from_mode(0o2751)).named("chmod")?;
    fs::set_permissions("/tmp/tree/empty", fs::Permissions::from_mode(0o4711)).named("chmod")?;
    let (name, value) = (c"user.zoo", b"value");
    let path = c"/tmp/tree/file";
    // Since Linux 6.6; without it there is nothing to keep.
    let tagged = sys!(libc::setxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0)).is_ok();
    let all = || -> Result<Vec<String>> { Ok([show("/tmp/tree")?, show("/run/service")?].concat()) };
    let before = all()?;
    check(move || {
        same("the trees", all()?, before.clone())?;
        let mut buffer = [0_u8; 16];
        if tagged {
            let (at, len) = (buffer.as_mut_ptr().cast(), buffer.len());
            let count = sys!(libc::getxattr(path.as_ptr(), name.as_ptr(), at, len))?;
            same("extended attribute", &buffer[..count as usize], value)?;
        }
        Ok(())
    })
}

/// POSIX shared memory: a file of /dev/shm that is mapped, and one that is not.
fn dev_shm() -> Result<Check> {
    fs::write("/dev/shm/plain", "plain").named("write")?;
    let file = File::options().read(true).write(true).create(true).truncate(true).open("/dev/shm/mapped");
    let file = file.named("open")?;
    file.set_len(8 * 4096).named("ftruncate")?;
    let map = crate::memory::Map::new(8 * 4096, libc::MAP_SHARED, std::os::fd::AsRawFd::as_raw_fd(&file))?;
    drop(file);
    let mut generation = 0;
    map.fill(0);
    check(move || {
        same("plain", fs::read_to_string("/dev/shm/plain").named("read")?, "plain".into())?;
        map.expect(generation)?;
        generation += 1;
        map.fill(generation);
        // Whoever opens the name now sees the same memory.
        let bytes = fs::read("/dev/shm/mapped").named("read")?;
        same("through the name", bytes[3 * 4096 + 3], map.get(3 * 4096 + 3))
    })
}

/// What the runtime put into /dev is there again, and what the program added too.
fn dev_links() -> Result<Check> {
    symlink("/dev/null", "/dev/zoo-link").named("symlink")?;
    fs::write("/dev/zoo-file", "x").named("write")?;
    let all = || -> Result<Vec<String>> {
        let lines = show("/dev")?;
        // Terminals come and go; times of what the runtime makes are new.
        let kept = lines.into_iter().filter(|line| !line.starts_with("/dev/pts/"));
        Ok(kept.map(|line| line.split('(').next().unwrap_or_default().to_owned()).collect())
    };
    let before = all()?;
    check(move || same("/dev", all()?, before.clone()))
}
