//! The slave side.

use super::master::{objects, open_ptmx, open_slave};
use super::state::{Taken, Way, put_input, take_input};
use crate::error::{Context as _, Result, bad_image};
use crate::files::dumping::{Dump, Object};
use crate::files::resource::Resource;
use crate::files::restoring::Restore;
use crate::files::{External, FileId, FileRef, Probe};
use crate::image::path::ImagePath;
use rtc_sys::tty;
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

/// Unix98 slaves have these major numbers, 256 minor ones each.
const FIRST_MAJOR: u32 = 136;
const LAST_MAJOR: u32 = 143;
/// /dev/tty: the terminal of whoever opened it.
const DEV_TTY: (u32, u32) = (5, 0);

/// A description of a slave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PtySlave {
    /// The number: /dev/pts/NUMBER.
    pub number: u32,
    /// Where its master is.
    pub master: Side,
    /// Owner, group and permissions of the slave, with its first description.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<(u32, u32, u32)>,
    /// What was typed and nobody read, with the slave's first description.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub unread: ImagePath,
}

/// Where a slave's master is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// In the container.
    In(FileId),
    /// The terminal is the file from outside of this name.
    External(String),
    /// Closed, or not restored: the slave is hung up.
    Gone,
}

fn is_empty(unread: &ImagePath) -> bool {
    unread.as_bytes().is_empty()
}

/// The number of a pseudo terminal whose slave has the device number `device`.
pub(crate) fn number_of_slave(device: u64) -> Option<u32> {
    let major = libc::major(device);
    (FIRST_MAJOR..=LAST_MAJOR).contains(&major).then(|| (major - FIRST_MAJOR) * 256 + libc::minor(device))
}

/// The name under which a session's terminal is looked up by its device number.
pub(crate) fn terminal(device: u64) -> Object {
    Object { kind: "terminal", major: device, minor: 0 }
}

impl Resource for PtySlave {
    fn recognises(probe: &Probe<'_>, _cx: &Dump<'_>) -> bool {
        let rdev = probe.stat.st_rdev;
        let tty = (libc::major(rdev), libc::minor(rdev)) == DEV_TTY;
        probe.file_type() == libc::S_IFCHR && (tty || number_of_slave(rdev).is_some())
    }

    fn dump(probe: &Probe<'_>, cx: &mut Dump<'_>) -> Result<Option<Self>> {
        // After a hangup only the file's own number is left.
        let device = tty::device(probe.fd).unwrap_or(probe.stat.st_rdev);
        cx.holder(terminal(device), probe.id);
        let number = number_of_slave(device).unwrap_or(0);
        Ok(Some(Self { number, master: Side::Gone, access: None, unread: ImagePath::default() }))
    }

    const COMPLETES: bool = true;

    /// Masters are known now.
    fn complete(&mut self, probe: &Probe<'_>, cx: &mut Dump<'_>) -> Result<()> {
        let hung_up = tty::termios(probe.fd).is_err();
        let devpts = number_of_slave(probe.stat.st_rdev).map_or(0, |_| probe.stat.st_dev);
        let master = objects(devpts, self.number).into_iter().find_map(|object| cx.known_holder(object));
        self.master = match (hung_up, master, self.external(probe, cx)) {
            (true, ..) => return Ok(()),
            (_, Some(master), _) => Side::In(master),
            (_, None, Some(external)) => Side::External(external.name.clone()),
            (_, None, None) if cx.options().shell_job => return Ok(()),
            (_, None, None) => {
                let remedy = "end the exec session or shell that it belongs to, or give --shell-job";
                cx.block(probe, "the terminal's other end is outside the container", remedy);
                return Ok(());
            }
        };
        let own = Object { kind: "pty slave", major: 0, minor: self.number.into() };
        if cx.holder(own, probe.id) != probe.id {
            return Ok(());
        }
        let access = (probe.stat.st_uid, probe.stat.st_gid, probe.stat.st_mode & 0o7777);
        self.access = matches!(self.master, Side::In(_)).then_some(access);
        self.unread = unread(probe.fd, cx)?;
        Ok(())
    }

    fn open(&self, file: FileRef, cx: &mut Restore<'_>) -> Result<OwnedFd> {
        match &self.master {
            Side::In(master) => {
                let slave = open_slave(cx.opened(*master)?)?;
                if let Some((uid, gid, mode)) = self.access {
                    give(slave.as_fd(), uid, gid, mode)?;
                }
                cx.reopen(slave.as_fd(), file.flags | libc::O_NONBLOCK)
            }
            Side::External(name) => {
                let Some(given) = cx.env().externals.get(name) else {
                    return Err(bad_image(format!("the image wants the file \"{name}\", which was not given")));
                };
                if tty::termios(given.as_fd()).is_err() {
                    let message = format!("\"{name}\" was a terminal and is none here");
                    return Err(crate::Error::new(crate::Kind::Incompatible, message));
                }
                cx.reopen_given(given.as_fd(), file.flags | libc::O_NONBLOCK)
            }
            Side::Gone => {
                // The master is closed when it goes out of scope, which hangs the slave up.
                let master = open_ptmx(&"/dev/ptmx".into(), libc::O_RDWR, cx)?;
                tty::lock(master.as_fd(), false)?;
                cx.reopen(open_slave(master.as_fd())?.as_fd(), file.flags | libc::O_NONBLOCK)
            }
        }
    }

    const FINISHES: bool = true;

    fn finish(&self, file: FileRef, cx: &mut Restore<'_>) -> Result<()> {
        let slave = cx.opened(file.id)?;
        if matches!(self.master, Side::External(_)) && !is_own(slave, cx)? {
            return Ok(());
        }
        put_input(slave, self.unread.as_bytes()).context(|| "unread input of a terminal")
    }
}

/// Whether a terminal that was given is one of the container's own devpts, as the runtime makes it, and not the caller's:
/// what an image "types" there, the caller's shell would read.
pub(crate) fn is_own(terminal: BorrowedFd<'_>, cx: &Restore<'_>) -> Result<bool> {
    use rtc_sys::CallExt as _;
    let Ok(directory) = cx.open_path(&"/dev/pts".into(), libc::O_PATH | libc::O_DIRECTORY) else { return Ok(false) };
    let device = |fd| nix::sys::stat::fstat(fd).call("fstat", "terminal").map(|stat| stat.st_dev);
    Ok(device(terminal)? == device(directory.as_fd())?)
}

impl PtySlave {
    /// The external file that is the same terminal.
    fn external<'a>(&self, probe: &Probe<'_>, cx: &Dump<'a>) -> Option<&'a External> {
        let own_device = number_of_slave(probe.stat.st_rdev).is_some();
        cx.externals().iter().find(|external| {
            let number = external.link.rsplit('/').next().and_then(|name| name.parse().ok());
            // /dev/tty has the device of the directory it is in.
            number == Some(self.number) && (!own_device || external.dev == probe.stat.st_dev)
        })
    }
}

/// Takes unread input out, to be put back if the tasks live on.
pub(crate) fn unread(slave: BorrowedFd<'_>, cx: &mut Dump<'_>) -> Result<ImagePath> {
    if cx.check_only() {
        return Ok(ImagePath::default());
    }
    // Our own description: the container's may wait, and its flags are not ours to change.
    let own = cx.reopen(slave, OFlags::RDWR | OFlags::NONBLOCK)?;
    let input: ImagePath = take_input(&own)?.into();
    cx.hold(Box::new(Taken::new(own, Way::Input, &input)));
    Ok(input)
}

fn give(slave: BorrowedFd<'_>, uid: u32, gid: u32, mode: u32) -> Result<()> {
    use rtc_sys::CallExt as _;
    let (owner, group) = (nix::unistd::Uid::from_raw(uid), nix::unistd::Gid::from_raw(gid));
    nix::unistd::fchown(slave, Some(owner), Some(group)).call("fchown", format_args!("{uid}, {gid}"))?;
    let mode = rustix::fs::Mode::from_raw_mode(mode & 0o7777);
    Ok(rustix::fs::fchmod(slave, mode).call("fchmod", format_args!("{mode:?}"))?)
}
