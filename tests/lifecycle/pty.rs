//! Terminals: one for a command to run on, and the one that a runtime sends over a console socket.

use std::fs::File;
use std::io::{IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use crate::harness::PATIENCE;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

/// The master end of a terminal, and all that was read from it.
#[derive(Debug)]
pub(crate) struct Pty {
    master: File,
    seen: String,
}

impl Pty {
    /// Opens a new terminal of the given size and starts `command` on it, as the leader of a session.
    pub(crate) fn start(command: &Command, rows: u16, columns: u16) -> (Self, Child) {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).unwrap();
        unlockpt(&master).unwrap();
        let peer = ioctl_tiocgptpeer(&master, flags).unwrap();
        let pty = Self { master: master.into(), seen: String::new() };
        pty.resize(rows, columns);
        let end = || Stdio::from(peer.try_clone().unwrap());
        let mut leader = Command::new("setsid");
        leader.args(["--ctty", "--wait"]).arg(command.get_program()).args(command.get_args());
        if let Some(dir) = command.get_current_dir() {
            leader.current_dir(dir);
        }
        let child = leader.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        (pty, child)
    }

    /// Sets the size, of which the kernel tells the processes on the terminal.
    pub(crate) fn resize(&self, rows: u16, columns: u16) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.master, size).unwrap();
    }

    /// Whether the terminal edits lines, which one in raw mode doesn't.
    pub(crate) fn edits_lines(&self) -> bool {
        tcgetattr(&self.master).unwrap().local_modes.contains(LocalModes::ICANON)
    }

    /// Types text.
    pub(crate) fn write(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).unwrap();
    }

    /// Reads until `text` has come, and forgets what was read up to it.
    #[track_caller]
    pub(crate) fn expect(&mut self, text: &str) {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.seen.find(text) {
                self.seen.drain(..at + text.len());
                return;
            }
            assert!(self.read(), "{text:?} doesn't come before the terminal's end: {:?}", self.seen);
            assert!(Instant::now() < end, "{text:?} doesn't come: {:?}", self.seen);
        }
    }

    /// Reads until the last process has closed the terminal: all that hasn't been expected.
    #[track_caller]
    pub(crate) fn rest(mut self) -> String {
        let end = Instant::now() + PATIENCE;
        while self.read() {
            assert!(Instant::now() < end, "the terminal stays open: {:?}", self.seen);
        }
        self.seen
    }

    /// Reads what comes next. False if nothing comes any more.
    fn read(&mut self) -> bool {
        let wait = Timespec::try_from(PATIENCE).unwrap();
        if poll(&mut [PollFd::new(&self.master, PollFlags::IN)], Some(&wait)).unwrap() == 0 {
            return false;
        }
        let mut buffer = [0; 4096];
        match self.master.read(&mut buffer) {
            Ok(n) if n > 0 => {
                self.seen.push_str(&String::from_utf8_lossy(&buffer[..n]));
                true
            }
            // EIO: the other end is closed.
            _ => false,
        }
    }
}

/// A socket for `--console-socket` or `--pidfd-socket`.
#[derive(Debug)]
pub(crate) struct ConsoleSocket(UnixListener);

impl ConsoleSocket {
    /// Listens at a path.
    pub(crate) fn bind(path: &Path) -> Self {
        Self(UnixListener::bind(path).unwrap())
    }

    /// The descriptor that a runtime sends.
    #[track_caller]
    pub(crate) fn receive(&self) -> OwnedFd {
        let wait = Timespec::try_from(PATIENCE).unwrap();
        assert_eq!(poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&wait)).unwrap(), 1, "nobody connects");
        let (stream, _) = self.0.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut name = [0; 64];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        recvmsg(&stream, &mut [IoSliceMut::new(&mut name)], &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
        let sent = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        sent.expect("the message holds a descriptor")
    }

    /// The terminal that a runtime sends.
    #[track_caller]
    pub(crate) fn terminal(&self) -> Pty {
        Pty { master: self.receive().into(), seen: String::new() }
    }
}
