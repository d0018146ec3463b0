//! The container's terminal: a pseudoterminal of the container's own devpts.
//!
//! The slave is opened from the master (`TIOCGPTPEER`, Linux 4.13), never by a path in the container, and bound onto
//! `/dev/console` by its descriptor (CVE-2025-52565).

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use oci_spec::runtime::{Process, User};
use rtc_sys::message::{self, Extra};
use rtc_sys::{CallExt, Errno};
use rustix::fs::{FileType, OFlags};
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

use crate::error::{Context, Error, Kind, Result};
use crate::proc::Proc;
use crate::rootfs::options::Bind;
use crate::rootfs::path::{self, RootDir};
use crate::rootfs::tree;

/// `DEVPTS_SUPER_MAGIC` (linux/magic.h).
const DEVPTS_SUPER_MAGIC: u64 = 0x1cd1;
/// The device `ptmx` (Documentation/admin-guide/devices.txt).
const PTMX: (u32, u32) = (5, 2);
/// Major number of pseudoterminal slaves (Documentation/admin-guide/devices.txt).
const PTS_MAJOR: u32 = 136;
/// The group of terminals, as devpts has it by the usual `gid=5`.
const TTY_GID: u32 = 5;

/// Both ends of a new pseudoterminal.
pub(crate) struct Terminal {
    pub(crate) master: OwnedFd,
    pub(crate) slave: OwnedFd,
}

/// Makes a pseudoterminal in the container's devpts.
pub(crate) fn open(root: &RootDir, process: &Process, proc: &Proc) -> Result<Terminal> {
    // Wherever an image's links lead, it is the ptmx of a devpts, or it is refused here: before it is opened, for to open
    // a device can do things, and the container's device rules may not be there yet.
    let found = root.resolve(Path::new("/dev/pts/ptmx")).map_err(|e| match e.errno() {
        Errno::ENOENT => Error::new(Kind::Invalid, "process.terminal needs a devpts mounted at /dev/pts"),
        _ => e.into(),
    })?;
    let fs = rustix::fs::fstatfs(&found).call("fstatfs", "/dev/pts/ptmx")?;
    if fs.f_type as u64 != DEVPTS_SUPER_MAGIC || !path::is_char_device(&found, PTMX.0, PTMX.1)? {
        return Err(Error::new(Kind::Invalid, "the container's /dev/pts is not a devpts"));
    }
    let master = proc.open_link(format!("self/fd/{}", found.as_raw_fd()), OFlags::RDWR)?;
    rustix::pty::unlockpt(&master).call("ioctl", "TIOCSPTLCK, 0")?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags).call("ioctl", "TIOCGPTPEER")?;
    let stat = path::stat(&slave)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::CharacterDevice
        || rustix::fs::major(stat.st_rdev) != PTS_MAJOR
    {
        return Err(Error::new(Kind::Invalid, "the terminal's slave is not a pseudoterminal"));
    }
    if let Some(size) = process.console_size() {
        let cells = |n: u64| u16::try_from(n).unwrap_or(u16::MAX);
        let size = Winsize { ws_row: cells(size.height()), ws_col: cells(size.width()), ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&slave, size).call("ioctl", "TIOCSWINSZ")?;
    } else if let Ok(size) = rustix::termios::tcgetwinsize(rustix::stdio::stdin()) {
        // The caller's terminal: a program in the foreground finds its size from the first instruction on.
        rustix::termios::tcsetwinsize(&slave, size).call("ioctl", "TIOCSWINSZ")?;
    }
    Ok(Terminal { master, slave })
}

/// Binds the terminal onto `/dev/console`.
pub(crate) fn bind(root: &RootDir, slave: &OwnedFd) -> Result<()> {
    let clone = tree::clone_fd(slave, Bind::One).context(|| "/dev/console")?;
    let place = root.file(Path::new("/dev/console")).context(|| "/dev/console")?;
    tree::attach(&clone, &place.fd).context(|| "/dev/console")
}

/// Makes the terminal the controlling one of this session and its descriptors 0 to 2.
pub(crate) fn take(slave: OwnedFd) -> Result<()> {
    rustix::process::ioctl_tiocsctty(&slave).call("ioctl", "TIOCSCTTY")?;
    rustix::stdio::dup2_stdin(&slave).call("dup2", "0")?;
    rustix::stdio::dup2_stdout(&slave).call("dup2", "1")?;
    rustix::stdio::dup2_stderr(&slave).call("dup2", "2")?;
    Ok(())
}

/// Gives the standard descriptors to the user the program runs as, so that it can open `/dev/stdout`.
///
/// The null device is left alone: it is everybody's. So is what belongs to that user already.
pub(crate) fn own_stdio(user: &User) -> Result<()> {
    let stdio = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
    for (number, fd) in stdio.iter().enumerate() {
        let Ok(stat) = rustix::fs::fstat(fd) else { continue };
        if stat.st_uid == user.uid() || path::is_char_device(fd, 1, 3)? {
            continue;
        }
        let terminal = rustix::termios::isatty(fd);
        let gid = if terminal { TTY_GID } else { stat.st_gid };
        let owner = (rustix::fs::Uid::from_raw(user.uid()), rustix::fs::Gid::from_raw(gid));
        match rustix::fs::fchown(fd, Some(owner.0), Some(owner.1)) {
            // Not ours to give: another user namespace's, a read-only file system's, a file without owner.
            Ok(()) | Err(rustix::io::Errno::PERM | rustix::io::Errno::INVAL | rustix::io::Errno::ROFS) => {}
            other => other.call("fchown", format_args!("{number}, {}, {gid}", user.uid()))?,
        }
    }
    Ok(())
}

/// Connects to the socket that is to get a descriptor (`--console-socket`, `--pidfd-socket`).
pub(crate) fn connect(path: &Path) -> Result<OwnedFd> {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
    let describe = || path.display();
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .call("socket", "UNIX, STREAM")?;
    let address = SocketAddrUnix::new(path.as_os_str().as_bytes()).call("connect", describe())?;
    rustix::net::connect(&socket, &address).call("connect", describe())?;
    Ok(socket)
}

/// Sends a descriptor with a name, as containerd's and conmon's receivers expect.
pub(crate) fn send(socket: BorrowedFd<'_>, name: &str, fd: impl AsFd) -> Result<()> {
    message::send(socket, name.as_bytes(), Extra { rights: &[fd.as_fd()], ..Extra::default() }, 0)?;
    Ok(())
}
