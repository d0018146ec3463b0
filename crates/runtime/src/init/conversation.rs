//! What the parent does for a new process while it gets ready, the same for a container's first and for `exec`.

use std::fs;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rtc_sys::{CallExt, Errno, process};
use rustix::fs::{AtFlags, Mode, OFlags};

use super::attributes;
use super::plan::ProcessPlan;
use super::sync::{Channel, Word};
use crate::console;
use crate::error::{Context, Error, Kind, Result};
use crate::proc::Proc;
use crate::seccomp::Notify;
use crate::state::{OciState, Status};

/// Where the terminal and the pidfd go.
#[derive(Debug)]
pub(crate) struct Side {
    pub(crate) console_socket: Option<OwnedFd>,
    pub(crate) pidfd_socket: Option<OwnedFd>,
}

impl Side {
    /// Checks that a terminal, if there is one, goes somewhere, and connects to the sockets.
    pub(crate) fn connect(
        terminal: bool,
        console_socket: Option<&Path>,
        pidfd_socket: Option<&Path>,
        foreground: bool,
    ) -> Result<Self> {
        match (terminal, console_socket) {
            (true, None) if !foreground => {
                let message = "cannot allocate tty if rtc will detach without setting console socket";
                return Err(Error::new(Kind::Invalid, message)
                    .with_hint("give --console-socket, or set process.terminal to false"));
            }
            (false, Some(_)) => {
                let message = "cannot use console socket if rtc will not detach or allocate tty";
                return Err(Error::new(Kind::Invalid, message)
                    .with_hint("leave out --console-socket, or set process.terminal to true"));
            }
            _ => {}
        }
        let connect = |path: Option<&Path>, flag: &str| match path {
            Some(path) => console::connect(path).map(Some).map_err(|e| e.context(flag)),
            None => Ok(None),
        };
        Ok(Self {
            console_socket: connect(console_socket, "--console-socket")?,
            pidfd_socket: connect(pidfd_socket, "--pidfd-socket")?,
        })
    }
}

/// Checks the descriptors that are to be passed on, and marks all others close-on-exec, ahead of any hook or program.
///
/// One to be passed must be open and not close-on-exec: else it isn't the caller's, but one that this process has opened
/// since and that happens to have the number.
pub(crate) fn seal_descriptors(preserve: u32) -> Result<()> {
    let last = 3u32.checked_add(preserve).ok_or_else(|| Error::new(Kind::Invalid, "--preserve-fds is too large"))?;
    for number in 3..last {
        if !process::is_inherited(number) {
            return Err(Error::new(Kind::Invalid, format!("--preserve-fds {preserve}: fd {number} is not open")));
        }
    }
    Ok(process::cloexec_range(last, u32::MAX)?)
}

/// Waits for the intermediate process's word that init is made.
pub(crate) fn expect_made(channel: &Channel) -> Result<OwnedFd> {
    match channel.receive()? {
        Word::Made(pidfd) => Ok(pidfd),
        Word::Failed(error) => Err(error),
        other => Err(unexpected(&other)),
    }
}

/// The parent's part of the conversation.
pub(crate) struct Talk<'a> {
    channel: &'a Channel,
    side: &'a Side,
    plan: &'a ProcessPlan,
    pid: i32,
}

impl<'a> Talk<'a> {
    pub(crate) fn new(channel: &'a Channel, side: &'a Side, plan: &'a ProcessPlan, pid: i32) -> Self {
        Self { channel, side, plan, pid }
    }

    /// Until the child has all in place and waits for the last answer. Gives the terminal's master, if it is the
    /// caller's.
    pub(crate) fn until_ready(&mut self, hooks: &mut dyn FnMut() -> Result<()>) -> Result<Option<OwnedFd>> {
        let mut console = None;
        loop {
            match self.channel.receive()? {
                Word::Ready => return Ok(console),
                Word::Warning(text) => log::warn!("{text}"),
                Word::Limit(index) => self.set_limit(index)?,
                Word::Hooks => {
                    hooks()?;
                    self.channel.go()?;
                }
                Word::Console(master) => match &self.side.console_socket {
                    Some(socket) => {
                        console::send(socket.as_fd(), "/dev/ptmx", &master).context(|| "--console-socket")?
                    }
                    None => console = Some(master),
                },
                Word::Failed(error) => return Err(error),
                Word::Closed => return Err(self.died()),
                other @ (Word::Made(_) | Word::Listener(_) | Word::Given(_)) => return Err(unexpected(&other)),
            }
        }
    }

    /// Until the child has executed its program, or waits for `start`.
    pub(crate) fn until_closed(&mut self, state: &OciState) -> Result<()> {
        loop {
            match self.channel.receive()? {
                Word::Closed => return Ok(()),
                Word::Warning(text) => log::warn!("{text}"),
                Word::Failed(error) => return Err(error),
                Word::Listener(number) => self.fetch_listener(number, state)?,
                Word::Given(listener) => self.pass_listener(&listener, state)?,
                other => return Err(unexpected(&other)),
            }
        }
    }

    /// Sets a limit that the child may not: in a user namespace of its own it has no privilege over the host's limits.
    fn set_limit(&self, index: usize) -> Result<()> {
        let limits = self.plan.process.rlimits().as_deref().unwrap_or_default();
        match limits.get(index) {
            Some(limit) if attributes::set_rlimit_of(self.pid, limit)? => self.channel.go(),
            _ => self.channel.refuse(),
        }
    }

    /// Fetches the filter's listener from the child, or has the child give it.
    ///
    /// A user who was in another user namespace when this program was executed may not look into the child, which
    /// nobody in the container may look into either (ptrace(2), "Ptrace access mode checking").
    fn fetch_listener(&self, number: i32, state: &OciState) -> Result<()> {
        let pidfd = rtc_sys::pidfd::open(self.pid)?;
        match rtc_sys::pidfd::get_fd(pidfd.as_fd(), number) {
            Err(e) if e.errno() == Errno::EPERM => {
                if self.notify()?.reports_sendmsg {
                    let message = "SCMP_ACT_NOTIFY cannot be used for the sendmsg syscall by a user without privilege";
                    return Err(Error::new(Kind::Invalid, message));
                }
                self.channel.refuse()
            }
            listener => self.pass_listener(&listener?, state),
        }
    }

    fn notify(&self) -> Result<&Notify> {
        let notify = self.plan.filter.as_ref().and_then(|filter| filter.notify());
        notify.ok_or_else(|| Error::new(Kind::System, "a listener without anybody to tell"))
    }

    /// Hands the filter's listener to the agent. Unlike for hooks, a container is `creating` then, as in the
    /// specification's example of the document (config-linux, "The Container Process State").
    fn pass_listener(&self, listener: &OwnedFd, state: &OciState) -> Result<()> {
        let mut state = state.clone();
        if state.status == Status::Created {
            state.status = Status::Creating;
        }
        let text = serde_json::to_value(&state).map_err(|e| Error::new(Kind::System, e.to_string()))?;
        let state = serde_json::from_value(text).map_err(|e| Error::new(Kind::System, e.to_string()))?;
        crate::seccomp::notify::send(self.notify()?, listener.as_fd(), self.pid, state)?;
        self.channel.go()
    }

    fn died(&self) -> Error {
        Error::new(Kind::System, format!("the container's process {} ended before it was ready", self.pid)).with_hint(
            "it may have been killed for want of memory: see the kernel's log; or the caller is in a cgroup that \
                 was once killed by cgroup.kill: call from another",
        )
    }
}

fn unexpected(word: &Word) -> Error {
    Error::new(Kind::System, format!("the new process said {word:?} at the wrong time"))
}

/// Sets the score by which a process is chosen when memory runs out (proc_pid_oom_score_adj(5)).
///
/// Lowering it needs CAP_SYS_RESOURCE; without it the score stays.
pub(crate) fn set_oom_score(proc: &Proc, pid: i32, score: i32, rootless: bool) -> Result<()> {
    match proc.write(format!("{pid}/oom_score_adj"), score.to_string().as_bytes()) {
        Err(e) if e.errno() == Errno::EACCES => {
            // For a user it was raised before the clone, if it could be.
            let level = if rootless { log::Level::Debug } else { log::Level::Warn };
            log::log!(level, "process.oomScoreAdj is not set to {score}: no CAP_SYS_RESOURCE");
            Ok(())
        }
        other => other.context(|| "process.oomScoreAdj"),
    }
}

/// Writes a pid as engines read it: digits, no newline, whole or not at all.
///
/// A file without a name gets one when it is written, so that nothing is left of one that is cut off.
pub(crate) fn write_pid_file(path: &Path, pid: i32) -> Result<()> {
    if link_new(path, pid.to_string().as_bytes()).is_ok() {
        return Ok(());
    }
    // The file system has no files without a name, or there is a directory in the way.
    let write = || -> rtc_sys::Result<()> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let new = path.with_file_name(format!(".{name}.{}", std::process::id()));
        // Never through a link that somebody has put there.
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o644).open(&new).call("open", new.display())?;
        let put = file
            .write_all(pid.to_string().as_bytes())
            .call("write", new.display())
            .and_then(|()| fs::rename(&new, path).call("rename", path.display()));
        put.inspect_err(|_| drop(fs::remove_file(&new)))
    };
    write().context(|| "--pid-file")
}

fn link_new(path: &Path, bytes: &[u8]) -> rustix::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::open(folder, flags, Mode::from_raw_mode(0o644))?;
    if rustix::io::write(&file, bytes)? != bytes.len() {
        return Err(rustix::io::Errno::NOSPC);
    }
    let link = || rustix::fs::linkat(&file, "", rustix::fs::CWD, path, AtFlags::EMPTY_PATH);
    match link() {
        Err(rustix::io::Errno::EXIST) => {
            rustix::fs::unlink(path)?;
            link()
        }
        other => other,
    }
}
