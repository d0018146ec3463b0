//! Processes: parents and children, zombies, groups and sessions, stopped ones.

use crate::base::{Check, Child, Named, Prepare, Result, Worker, check, holds, read, same, state, sys, write};
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;

pub(crate) const ZOO: &[(&str, Prepare)] = &[
    ("small_tree", small_tree),
    ("process_tree", process_tree),
    ("many_processes", many_processes),
    ("orphan", orphan),
    ("zombies", zombies),
    ("zombie_with_children", zombie_with_children),
    ("sessions_and_groups", sessions_and_groups),
    ("dead_leaders", dead_leaders),
    ("stopped", stopped),
    ("exit_is_seen", exit_is_seen),
    ("exit_signal", exit_signal),
    ("pids_go_on", pids_go_on),
];

/// A little of everything: a child, threads in both, pipes, a connection, a socket pair with something in it, memory.
fn small_tree() -> Result<Check> {
    crate::tcp::loopback_up()?;
    let listener = TcpListener::bind("127.0.0.1:0").named("bind")?;
    let client = TcpStream::connect(listener.local_addr().named("name")?).named("connect")?;
    let (server, _) = listener.accept().named("accept")?;
    let (left, right) = UnixStream::pair().named("socketpair")?;
    write(&left, b"waits")?;
    let thread = || Worker::spawn(|| leaf_of(std::process::id() as i32));
    let threads = [thread()?, thread()?];
    let mut child = Child::fork(move || {
        let thread = Worker::spawn(|| leaf_of(std::process::id() as i32))?;
        let mut own = leaf()?;
        check(move || own().and_then(|()| thread.check()))
    })?;
    let memory: Vec<u32> = (0..300_000).collect();
    check(move || {
        threads.iter().try_for_each(Worker::check)?;
        child.check()?;
        write(&client, b"over TCP")?;
        same("connection", read(&server, 100)?, b"over TCP".to_vec())?;
        same("queue", read(&right, 100)?, b"waits".to_vec())?;
        write(&left, b"waits")?;
        holds("memory", memory.iter().enumerate().all(|(at, value)| at as u32 == *value))
    })
}

/// A thread goes on in the process it was in.
fn leaf_of(pid: i32) -> Result<Check> {
    check(move || same("process of a thread", std::process::id() as i32, pid))
}

/// pid, parent, group, session.
fn identity() -> [i32; 4] {
    // SAFETY: takes nothing but a plain value.
    unsafe { [libc::getpid(), libc::getppid(), libc::getpgrp(), libc::getsid(0)] }
}

fn leaf() -> Result<Check> {
    let before = identity();
    check(move || same("pid, parent, group, session", identity(), before))
}

fn node(levels: u32, width: u32) -> Result<Check> {
    let mut children: Vec<Child> = Vec::new();
    for _ in 0..if levels == 0 { 0 } else { width } {
        children.push(Child::fork(|| node(levels - 1, width))?);
    }
    let mut own = leaf()?;
    check(move || {
        own()?;
        children.iter_mut().try_for_each(Child::check)
    })
}

/// Three levels with three children each.
fn process_tree() -> Result<Check> {
    node(3, 3)
}

/// A hundred children of one.
fn many_processes() -> Result<Check> {
    node(1, 100)
}

/// A process whose parent is gone belongs to the container's first.
fn orphan() -> Result<Check> {
    let (end, write_end) = crate::base::pipe(0)?;
    let parent = sys!(libc::fork())?;
    if parent == 0 {
        let grandchild = sys!(libc::fork())?;
        if grandchild == 0 {
            // SAFETY: waits for ever.
            unsafe { libc::pause() };
        }
        crate::base::write(&write_end, &grandchild.to_ne_bytes())?;
        // SAFETY: ends this process.
        unsafe { libc::_exit(0) };
    }
    let bytes = crate::base::read(&end, 4)?;
    let orphan = i32::from_ne_bytes(bytes.try_into().map_err(|_| "a pid")?);
    sys!(libc::waitpid(parent, std::ptr::null_mut(), 0))?;
    check(move || {
        let stat = fs::read_to_string(format!("/proc/{orphan}/stat")).named("stat")?;
        let ppid = stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1)).unwrap_or_default().to_owned();
        same("the orphan's parent", ppid, "1".into())
    })
}

fn die(how: impl FnOnce()) -> Result<i32> {
    let pid = sys!(libc::fork())?;
    if pid == 0 {
        how();
        // SAFETY: ends this process.
        unsafe { libc::_exit(0) };
    }
    // SAFETY: plain data that is filled by the call.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    sys!(libc::waitid(libc::P_PID, pid as u32, &raw mut info, libc::WEXITED | libc::WNOWAIT))?;
    Ok(pid)
}

/// Ended children that nobody has waited for: with a code, by a signal.
fn zombies() -> Result<Check> {
    // SAFETY: ends the child in the two ways.
    let by_code = || die(|| unsafe { libc::_exit(42) });
    // SAFETY: as above.
    let by_signal = || die(|| assert_eq!(unsafe { libc::raise(libc::SIGKILL) }, 0));
    let mut dead = (by_code()?, by_signal()?);
    check(move || {
        for (pid, status) in [(dead.0, 42 << 8), (dead.1, libc::SIGKILL)] {
            same("state", state(pid)?, 'Z')?;
            let mut now = 0;
            sys!(libc::waitpid(pid, &raw mut now, 0))?;
            same("wait status", now, status)?;
        }
        dead = (by_code()?, by_signal()?);
        Ok(())
    })
}

/// A zombie that was the leader of a group in which others live.
fn zombie_with_children() -> Result<Check> {
    let leader = sys!(libc::fork())?;
    if leader == 0 {
        sys!(libc::setpgid(0, 0))?;
        let member = sys!(libc::fork())?;
        if member == 0 {
            // SAFETY: waits for ever.
            unsafe { libc::pause() };
        }
        // SAFETY: ends this process.
        unsafe { libc::_exit(member & 0x7f) };
    }
    // SAFETY: plain data that is filled by the call.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    sys!(libc::waitid(libc::P_PID, leader as u32, &raw mut info, libc::WEXITED | libc::WNOWAIT))?;
    let members = move || -> Result<usize> {
        let mut count = 0;
        for entry in fs::read_dir("/proc").named("/proc")?.flatten() {
            let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            let group = stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(2)).unwrap_or_default();
            count += usize::from(group == leader.to_string());
        }
        Ok(count)
    };
    check(move || {
        same("the leader", state(leader)?, 'Z')?;
        same("the group", members()?, 2)
    })
}

/// Several sessions, each with several groups.
fn sessions_and_groups() -> Result<Check> {
    let session = || {
        Child::fork(|| {
            sys!(libc::setsid())?;
            let mut own_group = Child::fork(|| {
                sys!(libc::setpgid(0, 0))?;
                leaf()
            })?;
            let mut same_group = Child::fork(leaf)?;
            let mut other = Child::fork(move || {
                sys!(libc::setpgid(0, own_group.pid))?;
                let mut own = leaf()?;
                check(move || {
                    own()?;
                    own_group.check()
                })
            })?;
            let mut own = leaf()?;
            check(move || {
                own()?;
                same_group.check()?;
                other.check()
            })
        })
    };
    let mut sessions = [session()?, session()?];
    check(move || sessions.iter_mut().try_for_each(Child::check))
}

/// A group and a session whose leaders are gone for good; their members keep them.
fn dead_leaders() -> Result<Check> {
    let leader = |lead: fn() -> i32| -> Result<(i32, Child)> {
        // The member is forked first, joins the leader's group, and stays when the leader goes.
        let mut member = None;
        let (end, write_end) = crate::base::pipe(0)?;
        let pid = sys!(libc::fork())?;
        if pid == 0 {
            lead();
            crate::base::read(&end, 1)?;
            // SAFETY: ends this process.
            unsafe { libc::_exit(0) };
        }
        drop(end);
        while sys!(libc::getpgid(pid))? != pid {
            std::thread::yield_now();
        }
        if sys!(libc::getsid(pid))? != pid {
            member = Some(Child::fork(move || {
                sys!(libc::setpgid(0, pid))?;
                leaf()
            })?);
        }
        crate::base::write(&write_end, b"x")?;
        sys!(libc::waitpid(pid, std::ptr::null_mut(), 0))?;
        Ok((pid, member.ok_or("no member")?))
    };
    // SAFETY: takes plain values.
    let (group, mut member) = leader(|| unsafe { libc::setpgid(0, 0) })?;
    let (session, orphan) = orphaned_session()?;
    check(move || {
        member.check()?;
        same("group of the member", sys!(libc::getpgid(member.pid))?, group)?;
        same("session of the orphan", sys!(libc::getsid(orphan))?, session)?;
        holds("the leaders are gone", !fs::exists(format!("/proc/{session}")).unwrap_or(true))
    })
}

/// A session whose leader has ended; returns it, and the pid of its one process.
fn orphaned_session() -> Result<(i32, i32)> {
    let (end, write_end) = crate::base::pipe(0)?;
    let leader = sys!(libc::fork())?;
    if leader == 0 {
        sys!(libc::setsid())?;
        let member = sys!(libc::fork())?;
        if member == 0 {
            // SAFETY: waits for ever.
            unsafe { libc::pause() };
        }
        crate::base::write(&write_end, &member.to_ne_bytes())?;
        // SAFETY: ends this process.
        unsafe { libc::_exit(0) };
    }
    let bytes = crate::base::read(&end, 4)?;
    sys!(libc::waitpid(leader, std::ptr::null_mut(), 0))?;
    Ok((leader, i32::from_ne_bytes(bytes.try_into().map_err(|_| "a pid")?)))
}

/// A stopped process stays stopped, and goes on when told.
fn stopped() -> Result<Check> {
    let mut child = Child::fork(leaf)?;
    let stop = |pid: i32| -> Result<()> {
        sys!(libc::kill(pid, libc::SIGSTOP))?;
        let mut status = 0;
        sys!(libc::waitpid(pid, &raw mut status, libc::WUNTRACED))?;
        same("stopped by", status, libc::SIGSTOP << 8 | 0x7f)
    };
    stop(child.pid)?;
    check(move || {
        same("state", child.state()?, 'T')?;
        sys!(libc::kill(child.pid, libc::SIGCONT))?;
        child.check()?;
        stop(child.pid)
    })
}

/// A child that ends after the restore is seen by its parent.
fn exit_is_seen() -> Result<Check> {
    let start = || Child::fork(|| check(|| Ok(())));
    let mut child = start()?;
    check(move || {
        sys!(libc::kill(child.pid, libc::SIGTERM))?;
        let mut status = 0;
        same("waited for", sys!(libc::waitpid(-1, &raw mut status, 0))?, child.pid)?;
        same("status", status, libc::SIGTERM)?;
        child = start()?;
        Ok(())
    })
}

/// A child that announces its end by another signal than SIGCHLD.
fn exit_signal() -> Result<Check> {
    let start = || -> Result<i32> {
        let none = std::ptr::null_mut::<u8>();
        let pid = sys!(libc::syscall(libc::SYS_clone, i64::from(libc::SIGUSR1), none, none, none, none))?;
        if pid == 0 {
            // SAFETY: waits for ever.
            unsafe { libc::pause() };
        }
        Ok(pid as i32)
    };
    let mask = crate::signals::set(&[libc::SIGUSR1]);
    sys!(libc::pthread_sigmask(libc::SIG_BLOCK, &raw const mask, std::ptr::null_mut()))?;
    let mut child = start()?;
    check(move || {
        sys!(libc::kill(child, libc::SIGKILL))?;
        // SAFETY: plain data that is filled by the call.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        let patience = libc::timespec { tv_sec: 10, tv_nsec: 0 };
        sys!(libc::sigtimedwait(&raw const mask, &raw mut info, &raw const patience))?;
        // SAFETY: the signal of an ended child names it.
        same("who ended", unsafe { info.si_pid() }, child)?;
        sys!(libc::waitpid(child, std::ptr::null_mut(), libc::__WALL))?;
        child = start()?;
        Ok(())
    })
}

/// New processes get pids that are not in use.
fn pids_go_on() -> Result<Check> {
    let mut children = vec![Child::fork(leaf)?];
    check(move || {
        children.push(Child::fork(leaf)?);
        let mut pids: Vec<i32> = children.iter().map(|child| child.pid).collect();
        pids.sort_unstable();
        pids.dedup();
        same("different pids", pids.len(), children.len())?;
        children.iter_mut().try_for_each(Child::check)
    })
}
