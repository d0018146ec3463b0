//! Terminals: the ioctls that rustix and nix lack (ioctl_tty(2)).

use crate::{Error, Result};
use std::os::fd::{AsRawFd, BorrowedFd};

/// `struct termios2` as x86-64 and aarch64 have it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Termios {
    /// Input modes.
    pub iflag: u32,
    /// Output modes.
    pub oflag: u32,
    /// Control modes.
    pub cflag: u32,
    /// Local modes.
    pub lflag: u32,
    /// Line discipline.
    pub line: u8,
    /// Control characters.
    pub cc: [u8; 19],
    /// Input speed.
    pub ispeed: u32,
    /// Output speed.
    pub ospeed: u32,
}

const TCGETS2: libc::c_ulong = 0x802c_542a;
const TCSETS2: libc::c_ulong = 0x402c_542b;
const TIOCGDEV: libc::c_ulong = 0x8004_5432;
const TIOCGPKT: libc::c_ulong = 0x8004_5438;
const TIOCGPTLCK: libc::c_ulong = 0x8004_5439;
const TIOCGEXCL: libc::c_ulong = 0x8004_5440;

/// The modes of a terminal; through a pseudo terminal's master, those of its slave.
///
/// # Errors
/// The errno of the call; `EIO` after a hangup, `ENOTTY`.
pub fn termios(fd: BorrowedFd<'_>) -> Result<Termios> {
    let mut termios = Termios::default();
    // SAFETY: TCGETS2 writes one struct termios2, for which `termios` has the layout.
    let done = unsafe { libc::ioctl(fd.as_raw_fd(), TCGETS2, &raw mut termios) };
    if done < 0 { Err(Error::last("ioctl", format_args!("{}, TCGETS2", fd.as_raw_fd()))) } else { Ok(termios) }
}

/// Sets the modes of a terminal at once; nothing is flushed.
///
/// # Errors
/// The errno of the call.
pub fn set_termios(fd: BorrowedFd<'_>, termios: &Termios) -> Result<()> {
    // SAFETY: TCSETS2 reads one struct termios2, for which `termios` has the layout.
    let done = unsafe { libc::ioctl(fd.as_raw_fd(), TCSETS2, std::ptr::from_ref(termios)) };
    if done < 0 { Err(Error::last("ioctl", format_args!("{}, TCSETS2", fd.as_raw_fd()))) } else { Ok(()) }
}

fn get(fd: BorrowedFd<'_>, request: libc::c_ulong, name: &'static str) -> Result<u32> {
    let mut value = 0_u32;
    // SAFETY: the requests passed here write one int.
    let done = unsafe { libc::ioctl(fd.as_raw_fd(), request, &raw mut value) };
    if done < 0 { Err(Error::last("ioctl", format_args!("{}, {name}", fd.as_raw_fd()))) } else { Ok(value) }
}

fn set(fd: BorrowedFd<'_>, request: libc::c_ulong, name: &'static str, value: i32) -> Result<()> {
    // SAFETY: the requests passed here read one int.
    let done = unsafe { libc::ioctl(fd.as_raw_fd(), request, &raw const value) };
    if done < 0 { Err(Error::last("ioctl", format_args!("{}, {name}, {value}", fd.as_raw_fd()))) } else { Ok(()) }
}

/// The number of a master's pseudo terminal (`TIOCGPTN`).
///
/// # Errors
/// The errno of the call.
pub fn pty_number(master: BorrowedFd<'_>) -> Result<u32> {
    get(master, libc::TIOCGPTN, "TIOCGPTN")
}

/// The device number of the terminal behind a description, which for /dev/tty is another than the file's own
/// (`TIOCGDEV`).
///
/// # Errors
/// The errno of the call; `EIO` after a hangup.
pub fn device(fd: BorrowedFd<'_>) -> Result<u64> {
    // The kernel's new_encode_dev: 12 bits of major between the minor's low 8 and high 12.
    let raw = get(fd, TIOCGDEV, "TIOCGDEV")?;
    Ok(libc::makedev((raw >> 8) & 0xfff, (raw & 0xff) | ((raw >> 12) & 0xf_ff00)))
}

/// Whether a master's slave can't be opened (`TIOCGPTLCK`).
///
/// # Errors
/// The errno of the call.
pub fn is_locked(master: BorrowedFd<'_>) -> Result<bool> {
    Ok(get(master, TIOCGPTLCK, "TIOCGPTLCK")? != 0)
}

/// Locks or unlocks a master's slave (`TIOCSPTLCK`).
///
/// # Errors
/// The errno of the call.
pub fn lock(master: BorrowedFd<'_>, locked: bool) -> Result<()> {
    set(master, libc::TIOCSPTLCK, "TIOCSPTLCK", locked.into())
}

/// Whether a master is in packet mode (`TIOCGPKT`).
///
/// # Errors
/// The errno of the call.
pub fn packet_mode(master: BorrowedFd<'_>) -> Result<bool> {
    Ok(get(master, TIOCGPKT, "TIOCGPKT")? != 0)
}

/// Turns a master's packet mode on or off (`TIOCPKT`).
///
/// # Errors
/// The errno of the call.
pub fn set_packet_mode(master: BorrowedFd<'_>, on: bool) -> Result<()> {
    set(master, libc::TIOCPKT, "TIOCPKT", on.into())
}

/// Whether a terminal can't be opened any more (`TIOCGEXCL`).
///
/// # Errors
/// The errno of the call.
pub fn is_exclusive(fd: BorrowedFd<'_>) -> Result<bool> {
    Ok(get(fd, TIOCGEXCL, "TIOCGEXCL")? != 0)
}

/// Lets nobody else open a terminal (`TIOCEXCL`).
///
/// # Errors
/// The errno of the call.
pub fn set_exclusive(fd: BorrowedFd<'_>) -> Result<()> {
    // TIOCEXCL takes no argument and ignores the one given.
    set(fd, libc::TIOCEXCL, "TIOCEXCL", 0)
}

/// How many bytes a read would give (`FIONREAD`, `TIOCINQ`).
///
/// # Errors
/// The errno of the call.
pub fn unread(fd: BorrowedFd<'_>) -> Result<u32> {
    get(fd, libc::FIONREAD, "FIONREAD")
}

/// Lets a terminal take a byte as if it had been typed (`TIOCSTI`, needs CAP_SYS_ADMIN).
///
/// # Errors
/// The errno of the call.
pub fn push_input(fd: BorrowedFd<'_>, byte: u8) -> Result<()> {
    // SAFETY: TIOCSTI reads one char.
    let done = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCSTI, &raw const byte) };
    if done < 0 { Err(Error::last("ioctl", format_args!("{}, TIOCSTI, {byte}", fd.as_raw_fd()))) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::{AsFd as _, OwnedFd};

    #[test]
    fn a_new_pty_tells_its_state() {
        let master: OwnedFd = std::fs::File::options().read(true).write(true).open("/dev/ptmx").unwrap().into();
        let master = master.as_fd();
        assert!(is_locked(master).unwrap());
        lock(master, false).unwrap();
        assert!(!is_locked(master).unwrap() && !packet_mode(master).unwrap());
        set_packet_mode(master, true).unwrap();
        assert!(packet_mode(master).unwrap());
        let path = format!("/dev/pts/{}", pty_number(master).unwrap());
        let slave = std::fs::File::options().read(true).write(true).open(path).unwrap();
        use std::os::unix::fs::MetadataExt as _;
        assert_eq!(device(slave.as_fd()).unwrap(), slave.metadata().unwrap().rdev());
        let mut modes = termios(slave.as_fd()).unwrap();
        assert_ne!(modes.lflag & libc::ICANON, 0);
        modes.lflag &= !(libc::ECHO | libc::ICANON);
        modes.cc[5] = 77;
        set_termios(slave.as_fd(), &modes).unwrap();
        assert_eq!(termios(master).unwrap(), modes);
        push_input(slave.as_fd(), b'x').unwrap();
        assert_eq!(unread(slave.as_fd()).unwrap(), 1);
        assert!(!is_exclusive(slave.as_fd()).unwrap());
        set_exclusive(slave.as_fd()).unwrap();
        assert!(is_exclusive(slave.as_fd()).unwrap());
    }
}
