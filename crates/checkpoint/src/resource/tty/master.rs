//! The master side: it carries the state of the pair.

use super::state::{Taken, Terminal, Way, put_output};
use crate::error::{Context as _, Result, bad_image};
use crate::files::dumping::{Dump, Object};
use crate::files::resource::Resource;
use crate::files::restoring::Restore;
use crate::files::{FileRef, Probe};
use crate::image::path::ImagePath;
use crate::{Error, Kind};
use rtc_sys::{CallExt as _, tty};
use rustix::event::{PollFd, PollFlags};
use rustix::pty::OpenptFlags;
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

/// Numbers up to the kernel's default limit (pty.max) for all of a machine.
const MAX_NUMBER: u32 = 4096;
const PTMX: (u32, u32) = (5, 2);

/// A description of a master.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PtyMaster {
    /// The path of the ptmx in the container.
    pub path: ImagePath,
    /// The number: the slave is /dev/pts/NUMBER.
    pub number: u32,
    /// The slave can't be opened (`TIOCSPTLCK`).
    pub locked: bool,
    /// Reads begin with a control byte (`TIOCPKT`).
    pub packet: bool,
    /// The slave has been opened and is closed: reads end.
    pub hung_up: bool,
    /// Modes and size.
    pub terminal: Terminal,
    /// What the slave's side wrote and nobody read.
    pub unread: ImagePath,
}

/// The names under which slaves look their master up: with the devpts it is in, where that is known, and without.
pub(super) fn objects(device: u64, number: u32) -> [Object; 2] {
    [device, 0].map(|major| Object { kind: "pty master", major, minor: number.into() })
}

impl Resource for PtyMaster {
    fn recognises(probe: &Probe<'_>, _cx: &Dump<'_>) -> bool {
        let rdev = probe.stat.st_rdev;
        probe.file_type() == libc::S_IFCHR && (libc::major(rdev), libc::minor(rdev)) == PTMX
    }

    fn dump(probe: &Probe<'_>, cx: &mut Dump<'_>) -> Result<Option<Self>> {
        let number = tty::pty_number(probe.fd)?;
        let Some(terminal) = Terminal::read(probe.fd)? else {
            cx.block(probe, "the terminal does not answer", "try again");
            return Ok(None);
        };
        if terminal.modes.line != 0 {
            cx.block(probe, format!("its line discipline is {}", terminal.modes.line), "set it to N_TTY");
            return Ok(None);
        }
        for object in objects(probe.stat.st_dev, number) {
            cx.holder(object, probe.id);
        }
        Ok(Some(Self {
            path: probe.raw_link.into(),
            number,
            locked: tty::is_locked(probe.fd)?,
            packet: tty::packet_mode(probe.fd)?,
            hung_up: events(probe.fd)?.contains(PollFlags::HUP),
            terminal,
            unread: ImagePath::default(),
        }))
    }

    const COMPLETES: bool = true;

    fn complete(&mut self, probe: &Probe<'_>, cx: &mut Dump<'_>) -> Result<()> {
        if cx.check_only() || !events(probe.fd)?.contains(PollFlags::IN) {
            return Ok(());
        }
        // Opened before anything is taken, so that it can be put back. That a slave is opened is seen by the master
        // only if none has been before; but then nobody can have written.
        let slave = open_slave(probe.fd)?;
        self.unread = take_output(probe.fd, self.packet)?.into();
        cx.hold(Box::new(Taken::new(slave, Way::Output, &self.unread)));
        Ok(())
    }

    const TOGETHER: bool = true;

    /// Numbers are given lowest first, so masters are made in their order, and gaps filled for the while.
    fn open_together(all: &[(FileRef, &Self)], cx: &mut Restore<'_>) -> Result<()> {
        let mut all = all.to_vec();
        all.sort_by_key(|(_, master)| master.number);
        let mut fillers = Vec::new();
        for (file, master) in all {
            let made = master.open_number(file.flags, &mut fillers, cx).context(|| format!("pty {}", master.number))?;
            master.terminal.set_size(made.as_fd())?;
            tty::set_termios(made.as_fd(), &master.terminal.modes.into())?;
            // Slaves are opened through it; it is locked at the end.
            tty::lock(made.as_fd(), false)?;
            cx.place(file.id, made)?;
        }
        Ok(())
    }

    fn open(&self, _file: FileRef, _cx: &mut Restore<'_>) -> Result<OwnedFd> {
        Err(bad_image("a pty master that was not made with the others"))
    }

    const FINISHES: bool = true;

    fn finish(&self, file: FileRef, cx: &mut Restore<'_>) -> Result<()> {
        let master = cx.opened(file.id)?;
        if self.hung_up || !self.unread.as_bytes().is_empty() {
            let slave = open_slave(master)?;
            put_output(slave.as_fd(), self.unread.as_bytes()).context(|| format!("unread of pty {}", self.number))?;
        }
        tty::set_packet_mode(master, self.packet)?;
        if self.terminal.exclusive {
            tty::set_exclusive(master)?;
        }
        Ok(tty::lock(master, self.locked)?)
    }
}

impl PtyMaster {
    /// Opens masters until one has the number; the others go to `fillers`.
    fn open_number(&self, flags: i32, fillers: &mut Vec<OwnedFd>, cx: &Restore<'_>) -> Result<OwnedFd> {
        if self.number >= MAX_NUMBER {
            return Err(bad_image(format!("there are no pseudo terminals above {MAX_NUMBER}")));
        }
        loop {
            let made = open_ptmx(&self.path, flags, cx)?;
            let number = tty::pty_number(made.as_fd())?;
            if number == self.number {
                return Ok(made);
            }
            if number > self.number {
                return Err(Error::new(Kind::Incompatible, "the number is taken in the new container"));
            }
            fillers.push(made);
        }
    }
}

/// Opens a new pseudo terminal's master through the container's ptmx.
pub(super) fn open_ptmx(path: &ImagePath, flags: i32, cx: &Restore<'_>) -> Result<OwnedFd> {
    let node = cx.open_path(path, libc::O_PATH)?;
    let rdev = nix::sys::stat::fstat(&node).call("fstat", path)?.st_rdev;
    if (libc::major(rdev), libc::minor(rdev)) != PTMX {
        return Err(Error::new(Kind::Incompatible, format!("{path} is no ptmx here")));
    }
    cx.reopen(node.as_fd(), flags)
}

/// Opens a description of the slave that does not wait, and is not the opener's terminal.
pub(super) fn open_slave(master: BorrowedFd<'_>) -> Result<OwnedFd> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let flags = flags | OpenptFlags::from_bits_retain(libc::O_NONBLOCK as u32);
    Ok(rustix::pty::ioctl_tiocgptpeer(master, flags).call("ioctl", "TIOCGPTPEER")?)
}

/// What a master is ready for.
fn events(master: BorrowedFd<'_>) -> Result<PollFlags> {
    let mut polled = [PollFd::from_borrowed_fd(master, PollFlags::IN)];
    let none = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut polled, Some(&none)).call("poll", "master")?;
    Ok(polled[0].revents())
}

/// Takes out what the slave's side wrote. The description is the container's and may wait, so it is read only
/// while there is something.
fn take_output(master: BorrowedFd<'_>, packet: bool) -> Result<Vec<u8>> {
    // In packet mode each read would begin with a byte of its own.
    if packet {
        tty::set_packet_mode(master, false)?;
    }
    let mut output = Vec::new();
    let mut buffer = [0; 4096];
    let result = loop {
        match events(master) {
            Ok(ready) if ready.contains(PollFlags::IN) => match rustix::io::read(master, &mut buffer) {
                Ok(0) | Err(rustix::io::Errno::IO) => break Ok(()),
                Ok(read) => output.extend(&buffer[..read]),
                Err(e) => break Err(e).call("read", "master").map_err(Error::from),
            },
            Ok(_) => break Ok(()),
            Err(e) => break Err(e),
        }
    };
    if packet {
        tty::set_packet_mode(master, true)?;
    }
    result.map(|()| output)
}
