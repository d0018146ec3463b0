//! Pseudo-terminals: data, modes, sizes, who controls whom.

use crate::base::{Check, Child, Named, Prepare, Result, check, fails, holds, read, same, sys, sys_fd, write};
use std::fs::{self, File};
use std::os::fd::{AsRawFd, OwnedFd};

pub(crate) const ZOO: &[(&str, Prepare)] =
    &[("terminal", terminal), ("terminal_closed", terminal_closed), ("terminal_session", terminal_session)];

/// Both ends of a new terminal, with its name.
fn open() -> Result<(OwnedFd, OwnedFd, String)> {
    let master = sys_fd!(libc::open(c"/dev/ptmx".as_ptr(), libc::O_RDWR | libc::O_NOCTTY | libc::O_NONBLOCK))?;
    let (unlocked, mut number) = (0_i32, 0_u32);
    sys!(libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlocked))?;
    sys!(libc::ioctl(master.as_raw_fd(), libc::TIOCGPTN, &raw mut number))?;
    let path = format!("/dev/pts/{number}");
    let name = std::ffi::CString::new(path.clone()).named("name")?;
    let slave = sys_fd!(libc::open(name.as_ptr(), libc::O_RDWR | libc::O_NOCTTY | libc::O_NONBLOCK))?;
    Ok((master, slave, path))
}

fn modes(fd: &OwnedFd) -> Result<(u32, u32, u32, u32, Vec<u8>)> {
    // SAFETY: plain data that is filled by the call.
    let mut now: libc::termios = unsafe { std::mem::zeroed() };
    sys!(libc::tcgetattr(fd.as_raw_fd(), &raw mut now))?;
    Ok((now.c_iflag, now.c_oflag, now.c_cflag, now.c_lflag, now.c_cc.to_vec()))
}

fn size(fd: &OwnedFd) -> Result<(u16, u16)> {
    // SAFETY: plain data that is filled by the call.
    let mut now: libc::winsize = unsafe { std::mem::zeroed() };
    sys!(libc::ioctl(fd.as_raw_fd(), libc::TIOCGWINSZ, &raw mut now))?;
    Ok((now.ws_row, now.ws_col))
}

fn make_raw(fd: &OwnedFd) -> Result<()> {
    // SAFETY: plain data that is filled by the calls.
    let mut modes: libc::termios = unsafe { std::mem::zeroed() };
    sys!(libc::tcgetattr(fd.as_raw_fd(), &raw mut modes))?;
    // SAFETY: changes the local modes.
    unsafe { libc::cfmakeraw(&raw mut modes) };
    modes.c_cc[libc::VEOF] = 9;
    sys!(libc::tcsetattr(fd.as_raw_fd(), libc::TCSANOW, &raw const modes)).map(drop)
}

/// Two terminals, the second number free before them, with modes, size and data both ways.
fn terminal() -> Result<Check> {
    let gap = open()?;
    let (master, slave, path) = open()?;
    drop(gap);
    make_raw(&slave)?;
    let window = libc::winsize { ws_row: 33, ws_col: 111, ws_xpixel: 0, ws_ypixel: 0 };
    sys!(libc::ioctl(master.as_raw_fd(), libc::TIOCSWINSZ, &raw const window))?;
    write(&master, b"typed")?;
    write(&slave, b"shown")?;
    let before = modes(&slave)?;
    check(move || {
        same("modes", modes(&slave)?, before.clone())?;
        same("size", size(&slave)?, (33, 111))?;
        let link = fs::read_link(format!("/proc/self/fd/{}", slave.as_raw_fd())).named("readlink")?;
        same("name", link.to_string_lossy().into_owned(), path.clone())?;
        same("typed", read(&slave, 100)?, b"typed".to_vec())?;
        same("shown", read(&master, 100)?, b"shown".to_vec())?;
        write(&master, b"typed")?;
        write(&slave, b"shown")
    })
}

/// The slave's end is closed: the master reads an error until it is opened again.
fn terminal_closed() -> Result<Check> {
    let (master, slave, path) = open()?;
    make_raw(&slave)?;
    drop(slave);
    check(move || {
        fails("read", read(&master, 1), libc::EIO)?;
        let slave = File::options().read(true).write(true).open(&path).named(&path)?;
        write(&slave, b"again")?;
        same("again", read(&master, 100)?, b"again".to_vec())
    })
}

/// A session with a controlling terminal, its leader and a foreground group.
fn terminal_session() -> Result<Check> {
    let (master, slave, _) = open()?;
    let number = slave.as_raw_fd();
    let mut leader = Child::fork(move || {
        let session = sys!(libc::setsid())?;
        sys!(libc::ioctl(number, libc::TIOCSCTTY, 0))?;
        let mut job = Child::fork(|| {
            sys!(libc::setpgid(0, 0))?;
            check(|| {
                let tty = File::options().read(true).write(true).open("/dev/tty").named("/dev/tty")?;
                // SAFETY: takes plain values.
                let (front, group) = unsafe { (libc::tcgetpgrp(tty.as_raw_fd()), libc::getpgrp()) };
                same("the foreground group", front, group)
            })
        })?;
        // SAFETY: takes plain values.
        unsafe { libc::signal(libc::SIGTTOU, libc::SIG_IGN) };
        sys!(libc::tcsetpgrp(number, job.pid))?;
        check(move || {
            same("session", sys!(libc::getsid(0))?, session)?;
            same("the terminal's session", sys!(libc::tcgetsid(number))?, session)?;
            job.check()
        })
    })?;
    check(move || {
        let _open = (&master, &slave);
        leader.check()?;
        holds("we have no terminal", File::open("/dev/tty").is_err())
    })
}
