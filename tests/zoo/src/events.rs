//! Descriptors that count, collect or report events: eventfd, epoll, signalfd, inotify, pidfd.

use crate::base::{
    Check, Child, Named, Prepare, Result, check, fails, holds, pipe, read, ready, same, sys, sys_fd, write,
};
use crate::signals::set;
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};

pub(crate) const ZOO: &[(&str, Prepare)] = &[
    ("eventfd", eventfd),
    ("epoll", epoll),
    ("epoll_nested", epoll_nested),
    ("epoll_duplicates", epoll_duplicates),
    ("signalfd", signalfd),
    ("inotify", inotify),
    ("inotify_pending", inotify_pending),
    ("pidfd", pidfd),
];

/// A counter, and one that counts down by ones.
fn eventfd() -> Result<Check> {
    let counter = sys_fd!(libc::eventfd(5, libc::EFD_NONBLOCK))?;
    let semaphore = sys_fd!(libc::eventfd(3, libc::EFD_NONBLOCK | libc::EFD_SEMAPHORE | libc::EFD_CLOEXEC))?;
    let empty = sys_fd!(libc::eventfd(0, libc::EFD_NONBLOCK))?;
    check(move || {
        same("counter", read(&counter, 8)?, 5_u64.to_ne_bytes().to_vec())?;
        write(&counter, &5_u64.to_ne_bytes())?;
        for _ in 0..3 {
            same("semaphore", read(&semaphore, 8)?, 1_u64.to_ne_bytes().to_vec())?;
        }
        fails("the semaphore is down", read(&semaphore, 8), libc::EAGAIN)?;
        write(&semaphore, &3_u64.to_ne_bytes())?;
        fails("the empty one", read(&empty, 8), libc::EAGAIN)
    })
}

fn add(epoll: &OwnedFd, fd: &impl AsRawFd, events: i32, data: u64) -> Result<()> {
    let mut event = libc::epoll_event { events: events as u32, u64: data };
    sys!(libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd.as_raw_fd(), &raw mut event)).map(drop)
}

/// What is ready now: data and events, in the order of the data.
fn wait(epoll: &OwnedFd) -> Result<Vec<(u64, i32)>> {
    let mut events = [libc::epoll_event { events: 0, u64: 0 }; 16];
    let count = sys!(libc::epoll_wait(epoll.as_raw_fd(), events.as_mut_ptr(), 16, 0))?;
    let mut found: Vec<_> = events[..count as usize].iter().map(|event| (event.u64, event.events as i32)).collect();
    found.sort_unstable();
    Ok(found)
}

/// Watches of several kinds, with their data.
fn epoll() -> Result<Check> {
    let epoll = sys_fd!(libc::epoll_create1(libc::EPOLL_CLOEXEC))?;
    let (full, full_end) = pipe(0)?;
    let (empty, empty_end) = pipe(0)?;
    let once = sys_fd!(libc::eventfd(1, 0))?;
    let edge = sys_fd!(libc::eventfd(0, libc::EFD_NONBLOCK))?;
    write(&full_end, b"data")?;
    add(&epoll, &full, libc::EPOLLIN, 0x1234_5678_9abc_def0)?;
    add(&epoll, &empty, libc::EPOLLIN, 2)?;
    add(&epoll, &empty_end, libc::EPOLLOUT, 3)?;
    // Told once, and then quiet until it is armed again.
    add(&epoll, &once, libc::EPOLLIN | libc::EPOLLONESHOT, 4)?;
    wait(&epoll)?;
    add(&epoll, &edge, libc::EPOLLIN | libc::EPOLLET, 5)?;
    let open = [full, full_end, empty, empty_end, once];
    check(move || {
        let _open = &open;
        let steady = [(3, libc::EPOLLOUT), (0x1234_5678_9abc_def0, libc::EPOLLIN)];
        let now: Vec<_> = wait(&epoll)?.into_iter().filter(|(data, _)| *data != 5).collect();
        same("ready", now, steady.to_vec())?;
        write(&edge, &1_u64.to_ne_bytes())?;
        holds("the edge is reported", wait(&epoll)?.contains(&(5, libc::EPOLLIN)))?;
        holds("and only once", !wait(&epoll)?.iter().any(|(data, _)| *data == 5))?;
        read(&edge, 8).map(drop)
    })
}

/// An epoll within an epoll.
fn epoll_nested() -> Result<Check> {
    let (outer, inner) = (sys_fd!(libc::epoll_create1(0))?, sys_fd!(libc::epoll_create1(0))?);
    let (end, write_end) = pipe(0)?;
    add(&inner, &end, libc::EPOLLIN, 7)?;
    add(&outer, &inner, libc::EPOLLIN, 8)?;
    check(move || {
        same("nothing yet", wait(&outer)?, vec![])?;
        write(&write_end, b"x")?;
        same("outer", wait(&outer)?, vec![(8, libc::EPOLLIN)])?;
        same("inner", wait(&inner)?, vec![(7, libc::EPOLLIN)])?;
        read(&end, 1).map(drop)
    })
}

/// A watch outlives the number it was made with while the description is open under another.
fn epoll_duplicates() -> Result<Check> {
    let epoll = sys_fd!(libc::epoll_create1(0))?;
    let (end, write_end) = pipe(0)?;
    add(&epoll, &end, libc::EPOLLIN, 9)?;
    let copy = sys_fd!(libc::dup(end.as_raw_fd()))?;
    add(&epoll, &copy, libc::EPOLLIN, 10)?;
    drop(end);
    check(move || {
        write(&write_end, b"x")?;
        same("both watches", wait(&epoll)?, vec![(9, libc::EPOLLIN), (10, libc::EPOLLIN)])?;
        read(&copy, 1).map(drop)
    })
}

/// Signals taken from a descriptor, one of them pending.
fn signalfd() -> Result<Check> {
    let (waiting, quiet) = (libc::SIGUSR1, libc::SIGUSR2);
    let mask = set(&[waiting, quiet]);
    sys!(libc::pthread_sigmask(libc::SIG_BLOCK, &raw const mask, std::ptr::null_mut()))?;
    let fd = sys_fd!(libc::signalfd(-1, &raw const mask, libc::SFD_NONBLOCK | libc::SFD_CLOEXEC))?;
    sys!(libc::kill(libc::getpid(), waiting))?;
    check(move || {
        for signal in [waiting, quiet] {
            if signal == quiet {
                sys!(libc::kill(libc::getpid(), quiet))?;
            }
            let info = read(&fd, size_of::<libc::signalfd_siginfo>())?;
            same("signal", info[..4].to_vec(), (signal as u32).to_ne_bytes().to_vec())?;
        }
        fails("no more", read(&fd, 128), libc::EAGAIN)?;
        sys!(libc::kill(libc::getpid(), waiting)).map(drop)
    })
}

/// Watch, mask, name of each event.
fn events(fd: &OwnedFd) -> Result<Vec<(i32, u32, String)>> {
    let bytes = match read(fd, 4096) {
        Err(e) if e.contains("Resource temporarily unavailable") => return Ok(Vec::new()),
        other => other?,
    };
    let mut found = Vec::new();
    let mut rest = &bytes[..];
    while rest.len() >= 16 {
        let number = |at: usize| rest[at..at + 4].try_into().map(u32::from_ne_bytes).unwrap_or(0);
        let len = number(12) as usize;
        let name = String::from_utf8_lossy(&rest[16..16 + len]).trim_end_matches('\0').to_owned();
        found.push((number(0) as i32, number(4), name));
        rest = &rest[16 + len..];
    }
    Ok(found)
}

fn watch(fd: &OwnedFd, path: &std::ffi::CStr, mask: u32) -> Result<i32> {
    sys!(libc::inotify_add_watch(fd.as_raw_fd(), path.as_ptr(), mask))
}

/// Watches on a folder and a file of the root folder and of a tmpfs, with their numbers.
fn inotify() -> Result<Check> {
    let fd = sys_fd!(libc::inotify_init1(libc::IN_NONBLOCK | libc::IN_CLOEXEC))?;
    for path in ["/var/watched", "/tmp/watched"] {
        fs::create_dir(path).named(path)?;
    }
    fs::write("/var/file", "x").named("/var/file")?;
    let disk = watch(&fd, c"/var/watched", libc::IN_CREATE | libc::IN_DELETE)?;
    let gone = watch(&fd, c"/var", libc::IN_CREATE)?;
    let file = watch(&fd, c"/var/file", libc::IN_MODIFY)?;
    let memory = watch(&fd, c"/tmp/watched", libc::IN_CREATE)?;
    sys!(libc::inotify_rm_watch(fd.as_raw_fd(), gone))?;
    events(&fd)?;
    let mut round = 0;
    check(move || {
        round += 1;
        let name = format!("new-{round}");
        // The folder on disk isn't brought back: what came after the checkpoint may have made the file already.
        let _ = fs::remove_file(format!("/var/watched/{name}"));
        events(&fd)?;
        for path in [format!("/var/watched/{name}"), "/var/file".into(), format!("/tmp/watched/{name}")] {
            fs::write(&path, "y").named(&path)?;
        }
        let mut seen = events(&fd)?;
        seen.dedup();
        let create = libc::IN_CREATE;
        let wanted = [(disk, create, name.clone()), (file, libc::IN_MODIFY, String::new()), (memory, create, name)];
        same("events", seen, wanted.to_vec())
    })
}

/// Events that nobody has read yet are not lost.
fn inotify_pending() -> Result<Check> {
    let fd = sys_fd!(libc::inotify_init1(libc::IN_NONBLOCK))?;
    fs::create_dir("/var/queue").named("mkdir")?;
    let number = watch(&fd, c"/var/queue", libc::IN_CREATE)?;
    fs::write("/var/queue/0", "x").named("write")?;
    let mut round = 0;
    check(move || {
        same("the pending event", events(&fd)?, vec![(number, libc::IN_CREATE, round.to_string())])?;
        round += 1;
        fs::write(format!("/var/queue/{round}"), "x").named("write")
    })
}

/// A handle on a child that lives.
fn pidfd() -> Result<Check> {
    let mut child = Child::fork(|| check(|| Ok(())))?;
    let fd = sys_fd!(libc::syscall(libc::SYS_pidfd_open, child.pid, 0))?;
    check(move || {
        child.check()?;
        same("it lives", ready(&fd, libc::POLLIN)?, 0)?;
        sys!(libc::syscall(libc::SYS_pidfd_send_signal, fd.as_raw_fd(), 0, std::ptr::null::<u8>(), 0)).map(drop)
    })
}
