//! The caller's terminal in front of a container's: raw mode, window size, bytes both ways.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rtc_sys::{CallExt, Result};
use rustix::event::PollFlags;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize,
};

/// Bytes moved at once. A pipe that poll calls writable takes this many without blocking (PIPE_BUF).
const CHUNK: usize = 4096;

/// A container's terminal, by its master end, tied to the caller's stdin and stdout.
///
/// Dropped, it gives the caller's terminal its modes back.
pub(crate) struct Terminal {
    master: OwnedFd,
    /// The modes of the caller's terminal before it was made raw, if stdin is one.
    saved: Option<Termios>,
    input: Vec<u8>,
    output: Vec<u8>,
    stdin_open: bool,
    master_open: bool,
}

impl Terminal {
    /// Ties `master` to stdin and stdout: raw mode on stdin, its window size on the container's terminal.
    ///
    /// # Errors
    /// The modes of stdin, a terminal, can't be set.
    pub(crate) fn attach(master: OwnedFd) -> Result<Self> {
        let flags = fcntl_getfl(&master).call("fcntl", "master, F_GETFL")?;
        fcntl_setfl(&master, flags | OFlags::NONBLOCK).call("fcntl", "master, F_SETFL, O_NONBLOCK")?;
        let stdin = io::stdin();
        let mut saved = None;
        if isatty(&stdin) {
            let modes = tcgetattr(&stdin).call("tcgetattr", 0)?;
            let mut raw = modes.clone();
            raw.make_raw();
            tcsetattr(&stdin, OptionalActions::Now, &raw).call("tcsetattr", 0)?;
            saved = Some(modes);
        }
        let terminal =
            Self { master, saved, input: Vec::new(), output: Vec::new(), stdin_open: true, master_open: true };
        terminal.resize();
        Ok(terminal)
    }

    /// Gives the container's terminal the size of the caller's. Without one it keeps the size of config.json.
    pub(crate) fn resize(&self) {
        if let Ok(size) = tcgetwinsize(io::stdin()) {
            // A terminal that has just been hung up has no size any more.
            let _ = tcsetwinsize(&self.master, size);
        }
    }

    /// What to wait for, to be followed by [`Self::transfer`].
    pub(crate) fn interests(&self) -> Interests {
        let mut master = PollFlags::empty();
        master.set(PollFlags::IN, self.master_open && self.output.is_empty());
        master.set(PollFlags::OUT, self.master_open && !self.input.is_empty());
        Interests {
            stdin: if self.stdin_open && self.input.is_empty() { PollFlags::IN } else { PollFlags::empty() },
            stdout: if self.output.is_empty() { PollFlags::empty() } else { PollFlags::OUT },
            master,
        }
    }

    /// The master end.
    pub(crate) fn master(&self) -> BorrowedFd<'_> {
        self.master.as_fd()
    }

    /// Moves what can be moved without waiting, as poll has told.
    pub(crate) fn transfer(&mut self, ready: &Interests) {
        // An error or hang-up is found by reading.
        let ended = PollFlags::IN | PollFlags::HUP | PollFlags::ERR;
        if ready.stdin.intersects(ended) {
            self.read_stdin();
        }
        if ready.master.intersects(ended) {
            self.read_master();
        }
        if !self.input.is_empty() {
            self.write_master();
        }
        if ready.stdout.intersects(PollFlags::OUT | PollFlags::HUP | PollFlags::ERR) {
            self.write_stdout();
        }
    }

    /// Brings out what the container has written before its end.
    pub(crate) fn drain(&mut self) {
        while !self.output.is_empty() || (self.master_open && self.read_master()) {
            self.write_stdout();
        }
    }

    fn read_stdin(&mut self) {
        let mut buffer = [0; CHUNK];
        match rustix::io::read(io::stdin(), &mut buffer) {
            Ok(0) => self.end_input(),
            Ok(n) => self.input.extend_from_slice(&buffer[..n]),
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(_) => self.end_input(),
        }
    }

    /// stdin has ended: a program that reads lines is told so by the terminal's end-of-file character. One in raw mode
    /// could take the character for data.
    fn end_input(&mut self) {
        self.stdin_open = false;
        if let Ok(modes) = tcgetattr(&self.master) {
            if modes.local_modes.contains(LocalModes::ICANON) {
                self.input.push(modes.special_codes[SpecialCodeIndex::VEOF]);
            }
        }
    }

    /// True if there is something to write.
    fn read_master(&mut self) -> bool {
        let mut buffer = [0; CHUNK];
        match rustix::io::read(&self.master, &mut buffer) {
            Ok(n) if n > 0 => self.output.extend_from_slice(&buffer[..n]),
            Err(Errno::INTR | Errno::AGAIN) => {}
            // EIO: the last process has closed the other end.
            Ok(_) | Err(_) => self.master_open = false,
        }
        !self.output.is_empty()
    }

    fn write_master(&mut self) {
        match rustix::io::write(&self.master, &self.input) {
            Ok(n) => drop(self.input.drain(..n)),
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(_) => self.input.clear(),
        }
    }

    fn write_stdout(&mut self) {
        match rustix::io::write(io::stdout(), &self.output) {
            Ok(n) => drop(self.output.drain(..n)),
            Err(Errno::INTR | Errno::AGAIN) => {}
            // Nobody reads any more: the container must not block on that.
            Err(_) => self.output.clear(),
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(saved) = &self.saved {
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, saved);
        }
    }
}

/// Events of the three descriptors of a [`Terminal`]: those to wait for, or those that came.
#[derive(Clone, Copy)]
pub(crate) struct Interests {
    pub(crate) stdin: PollFlags,
    pub(crate) stdout: PollFlags,
    pub(crate) master: PollFlags,
}
