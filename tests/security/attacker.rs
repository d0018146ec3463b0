//! What a program in a container can try against rtc while rtc enters it. Run in containers by tests/security.
//!
//! `attacker peek` looks for descriptors, roots, directories and executables of the host in every process it sees;
//! `attacker overwrite` gets hold of executables that are not the container's and tries to write to them.
//! Both go on until the file /stop is there and leave a report in /report.

#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

fn main() {
    fs::write("/ready", "").expect("the container's root can be written");
    let report = match std::env::args().nth(1).as_deref() {
        Some("peek") => peek(),
        Some("overwrite") => overwrite(),
        other => panic!("no attack is called {other:?}"),
    };
    fs::write("/report.new", report).expect("the container's root can be written");
    fs::rename("/report.new", "/report").expect("the container's root can be written");
}

fn stopped() -> bool {
    Path::new("/stop").exists()
}

/// The folders of all other processes.
fn others() -> Vec<PathBuf> {
    let own = std::process::id().to_string();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().into_string().ok());
    pids.filter(|pid| pid.bytes().all(|b| b.is_ascii_digit()) && *pid != own)
        .map(|pid| Path::new("/proc").join(pid))
        .collect()
}

fn open(path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty())
}

fn identity(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

/// Whether what a link of procfs leads to is reached in the container by the link's text.
fn is_ours(link: &Path, opened: &OwnedFd) -> bool {
    let (Ok(text), Ok(stat)) = (fs::read_link(link), rustix::fs::fstat(opened)) else { return true };
    let kind = FileType::from_raw_mode(stat.st_mode);
    let is_fd = link.parent().is_some_and(|parent| parent.ends_with("fd"));
    // Standard descriptors are the caller's files; a directory is nobody's to give.
    if is_fd && kind != FileType::Directory {
        return true;
    }
    open(&text, OFlags::PATH).and_then(rustix::fs::fstat).is_ok_and(|ours| identity(&ours) == identity(&stat))
}

fn peek() -> String {
    let (mut denied, mut seen, mut foreign) = (0, 0, BTreeSet::new());
    while !stopped() {
        for process in others() {
            let mut links: Vec<PathBuf> = ["exe", "cwd", "root"].map(|name| process.join(name)).into();
            let fds = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
            links.extend(fds.map(|entry| entry.path()));
            for link in links {
                match open(&link, OFlags::PATH) {
                    Ok(opened) if is_ours(&link, &opened) => seen += 1,
                    Ok(_) => drop(foreign.insert(format!("{}: {:?}", link.display(), fs::read_link(&link)))),
                    Err(Errno::ACCESS | Errno::PERM) => denied += 1,
                    Err(_) => {}
                }
            }
        }
    }
    format!("denied {denied}\nseen {seen}\nforeign {}\n{foreign:?}\n", foreign.len())
}

fn overwrite() -> String {
    let mut ours = BTreeSet::new();
    for program in ["/proc/self/exe", "/bin/busybox"] {
        ours.insert(identity(
            &open(Path::new(program), OFlags::PATH).and_then(rustix::fs::fstat).expect("our program"),
        ));
    }
    let mut prey: BTreeMap<(u64, u64), OwnedFd> = BTreeMap::new();
    let mut results: BTreeMap<String, u64> = BTreeMap::new();
    while !stopped() {
        // The test wants to know when all of this has been done once more.
        let asked = Path::new("/again").exists();
        for process in others() {
            let Ok(exe) = open(&process.join("exe"), OFlags::RDONLY) else { continue };
            let Ok(stat) = rustix::fs::fstat(&exe) else { continue };
            if !ours.contains(&identity(&stat)) {
                prey.entry(identity(&stat)).or_insert(exe);
            }
        }
        for exe in prey.values() {
            let path = format!("/proc/self/fd/{}", exe.as_raw_fd());
            for flags in [OFlags::WRONLY, OFlags::RDWR, OFlags::WRONLY | OFlags::APPEND] {
                let result = match open(Path::new(&path), flags) {
                    Ok(file) => format!("written: {:?}", rustix::io::write(File::from(file).as_fd(), b"#!/attacked\n")),
                    Err(e) => format!("{e:?}"),
                };
                *results.entry(result).or_default() += 1;
            }
            *results.entry(format!("chmod {:?}", rustix::fs::fchmod(exe, Mode::from(0o777)))).or_default() += 1;
        }
        if asked {
            fs::rename("/again", "/done").expect("the container's root can be written");
        }
    }
    format!("held {}\n{results:?}\n", prey.len())
}
