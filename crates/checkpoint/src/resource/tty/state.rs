//! What a terminal holds whichever side it is looked at from: modes, size, unread input.

use crate::error::Result;
use crate::files::Held;
use crate::image::path::ImagePath;
use rtc_sys::tty::{self, Termios};
use rtc_sys::{CallExt as _, Errno};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::Winsize;
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

/// `struct termios2`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Modes {
    /// Input, output, control and local modes.
    pub flags: [u32; 4],
    /// Line discipline; only 0 (N_TTY) is saved.
    pub line: u8,
    /// Control characters.
    pub cc: [u8; 19],
    /// Input and output speed.
    pub speed: [u32; 2],
}

impl From<Termios> for Modes {
    fn from(t: Termios) -> Self {
        Self { flags: [t.iflag, t.oflag, t.cflag, t.lflag], line: t.line, cc: t.cc, speed: [t.ispeed, t.ospeed] }
    }
}

impl From<Modes> for Termios {
    fn from(m: Modes) -> Self {
        let [iflag, oflag, cflag, lflag] = m.flags;
        let [ispeed, ospeed] = m.speed;
        Self { iflag, oflag, cflag, lflag, line: m.line, cc: m.cc, ispeed, ospeed }
    }
}

/// The state of a terminal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terminal {
    /// Its modes.
    pub modes: Modes,
    /// Rows, columns, and the pixels of both.
    pub size: [u16; 4],
    /// Only one opening is allowed (`TIOCEXCL`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub exclusive: bool,
}

impl Terminal {
    /// Reads the state through either side; None for what is no terminal, or has been hung up.
    ///
    /// # Errors
    /// When a call fails otherwise.
    pub fn read(fd: BorrowedFd<'_>) -> Result<Option<Self>> {
        let modes = match tty::termios(fd) {
            Err(e) if matches!(e.errno(), Errno::ENOTTY | Errno::EIO) => return Ok(None),
            modes => modes?.into(),
        };
        let size = rustix::termios::tcgetwinsize(fd).call("ioctl", "TIOCGWINSZ")?;
        let size = [size.ws_row, size.ws_col, size.ws_xpixel, size.ws_ypixel];
        Ok(Some(Self { modes, size, exclusive: tty::is_exclusive(fd)? }))
    }

    /// Sets the size. Done before there is a foreground group, which a change of size would send a signal to.
    pub(super) fn set_size(&self, fd: BorrowedFd<'_>) -> Result<()> {
        let [ws_row, ws_col, ws_xpixel, ws_ypixel] = self.size;
        let size = Winsize { ws_row, ws_col, ws_xpixel, ws_ypixel };
        Ok(rustix::termios::tcsetwinsize(fd, size).call("ioctl", "TIOCSWINSZ")?)
    }

    /// Sets the modes of a terminal that somebody else made, and its size if that has none yet:
    /// whoever sits before it knows better.
    ///
    /// # Errors
    /// When a call fails.
    pub fn apply_to_given(&self, fd: BorrowedFd<'_>) -> Result<()> {
        tty::set_termios(fd, &self.modes.into())?;
        let size = rustix::termios::tcgetwinsize(fd).call("ioctl", "TIOCGWINSZ")?;
        if (size.ws_row, size.ws_col) == (0, 0) { self.set_size(fd) } else { Ok(()) }
    }
}

/// Modes in which what is put in comes out the same: no echo, no signals, no editing, nothing translated.
/// Lines stay lines if they were: changing that would mix up what is there already.
fn quiet(modes: Termios) -> Termios {
    let mut cc = modes.cc;
    cc = cc.map(|_| 0);
    // VMIN: a read wants one byte.
    cc[6] = 1;
    let lflag = modes.lflag & libc::ICANON;
    Termios { iflag: 0, oflag: 0, lflag, cc, ..modes }
}

/// A terminal's modes as they were, put back when dropped.
pub(super) struct ModesKept<'a> {
    fd: BorrowedFd<'a>,
    modes: Termios,
}

impl<'a> ModesKept<'a> {
    /// Changes the modes for a while.
    pub(super) fn change(fd: BorrowedFd<'a>, change: impl FnOnce(Termios) -> Termios) -> Result<Self> {
        let modes = tty::termios(fd)?;
        let kept = Self { fd, modes };
        tty::set_termios(fd, &change(modes))?;
        Ok(kept)
    }

    /// Changes them to those in which everything comes out as it is put in.
    pub(super) fn quiet(fd: BorrowedFd<'a>) -> Result<Self> {
        Self::change(fd, quiet)
    }
}

impl Drop for ModesKept<'_> {
    fn drop(&mut self) {
        if let Err(e) = tty::set_termios(self.fd, &self.modes) {
            log::warn!("the modes of a terminal could not be put back: {e}");
        }
    }
}

/// Takes out what was typed and not yet read, of a line that isn't finished as well.
/// `slave` must be a description of our own that does not wait.
pub(super) fn take_input(slave: &OwnedFd) -> Result<Vec<u8>> {
    let mut input = take_settled(slave)?;
    let _kept = ModesKept::change(slave.as_fd(), |modes| {
        // Without lines, all of the buffer can be read.
        Termios { lflag: modes.lflag & !libc::ICANON, ..quiet(modes) }
    })?;
    let mut buffer = [0; 4096];
    loop {
        match rustix::io::read(slave, &mut buffer) {
            Ok(0) | Err(rustix::io::Errno::AGAIN | rustix::io::Errno::IO) => return Ok(input),
            Ok(read) => input.extend(&buffer[..read]),
            Err(e) => return Err(e).call("read", "terminal")?,
        }
    }
}

/// Takes out what can be read in the terminal's own modes, until all that was typed has gone through them.
///
/// What is written to a terminal's other side is worked on when the kernel gets round to it. Until then a change of modes
/// would change what becomes of it; a poll that finds nothing to read does that work at once (n_tty_poll).
fn take_settled(slave: &OwnedFd) -> Result<Vec<u8>> {
    /// More than a terminal holds: whoever goes on typing that fast is not waited for.
    const ENOUGH: usize = 64 * 1024;
    let mut input = Vec::new();
    let mut buffer = [0; 4096];
    while input.len() < ENOUGH {
        let mut ready = [PollFd::new(slave, PollFlags::IN)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        rustix::io::retry_on_intr(|| poll(&mut ready, Some(&now))).call("poll", "terminal")?;
        if !ready[0].revents().contains(PollFlags::IN) {
            break;
        }
        match rustix::io::read(slave, &mut buffer) {
            Ok(0) | Err(rustix::io::Errno::AGAIN | rustix::io::Errno::IO) => break,
            Ok(read) => input.extend(&buffer[..read]),
            Err(e) => return Err(e).call("read", "terminal")?,
        }
    }
    Ok(input)
}

/// Puts input in as if it had been typed, without any effect of it but to be read.
pub(in super::super) fn put_input(slave: BorrowedFd<'_>, input: &[u8]) -> Result<()> {
    if input.is_empty() {
        return Ok(());
    }
    let _kept = ModesKept::quiet(slave)?;
    input.iter().try_for_each(|byte| Ok(tty::push_input(slave, *byte)?))
}

/// Puts output in for the master to read. `slave` must not wait.
pub(super) fn put_output(slave: BorrowedFd<'_>, output: &[u8]) -> Result<()> {
    if output.is_empty() {
        return Ok(());
    }
    let _kept = ModesKept::quiet(slave)?;
    let mut rest = output;
    while !rest.is_empty() {
        let written = rustix::io::write(slave, rest).call("write", format_args!("terminal, {} bytes", rest.len()))?;
        rest = &rest[written..];
    }
    Ok(())
}

/// Which way unread bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// To readers of the slave.
    Input,
    /// To readers of the master.
    Output,
}

/// Bytes that dump had to take out of a terminal to see them; put back when the tasks live on.
pub(super) struct Taken {
    /// A description of our own.
    slave: OwnedFd,
    way: Way,
    bytes: Vec<u8>,
}

impl Taken {
    pub(super) fn new(slave: OwnedFd, way: Way, bytes: &ImagePath) -> Self {
        Self { slave, way, bytes: bytes.as_bytes().to_vec() }
    }
}

impl Held for Taken {
    fn before_kill(&mut self) -> Result<()> {
        self.bytes.clear();
        Ok(())
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let put = match self.way {
            Way::Input => put_input(self.slave.as_fd(), &self.bytes),
            Way::Output => put_output(self.slave.as_fd(), &self.bytes),
        };
        if let Err(e) = put {
            log::warn!("{} unread bytes of a terminal are lost: {e}", self.bytes.len());
        }
    }
}
