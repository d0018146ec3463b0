//! A further process in a container: `exec`.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use crate::error::{Error, Kind, Result};

/// How to run a further process: the flags of `exec`.
#[derive(Debug)]
pub struct ExecOptions {
    /// What to run.
    pub process: ExecProcess,
    /// A file that gets the pid as decimal digits, no newline.
    pub pid_file: Option<PathBuf>,
    /// A listening unix socket that gets the terminal's master descriptor.
    pub console_socket: Option<PathBuf>,
    /// A listening unix socket that gets the process's pidfd.
    pub pidfd_socket: Option<PathBuf>,
    /// The caller takes the terminal itself ([`Executed::console`]).
    pub foreground: bool,
    /// How many descriptors from 3 up the process keeps, besides those of `LISTEN_FDS`.
    pub preserve_fds: u32,
    /// A cgroup below the container's own, relative to it.
    pub cgroup: Option<PathBuf>,
    /// Don't refuse a paused container: the process waits for its resume.
    pub ignore_paused: bool,
}

/// What `exec` runs.
#[derive(Debug)]
pub enum ExecProcess {
    /// The bytes of a process.json: the specification's `process` object.
    Json(Vec<u8>),
    /// The container's own process with changes.
    Overrides(Overrides),
}

/// Changes to the container's own process.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// Program and arguments; not empty.
    pub args: Vec<String>,
    /// Added to the environment.
    pub env: Vec<String>,
    /// The working directory.
    pub cwd: Option<PathBuf>,
    /// The process gets a terminal.
    pub tty: bool,
    /// Another user.
    pub user: Option<User>,
    /// Added to the additional groups.
    pub additional_gids: Vec<u32>,
    /// Capabilities to add (`CAP_CHOWN`).
    pub capabilities: Vec<String>,
    /// Sets no_new_privs; `None` leaves the container's own setting.
    pub no_new_privs: Option<bool>,
    /// Another AppArmor profile.
    pub apparmor: Option<String>,
    /// Another SELinux label.
    pub process_label: Option<String>,
}

/// A user for `exec`, as `--user UID[:GID]` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    /// The user id.
    pub uid: u32,
    /// The group id; without it 0 when the uid is changed, as runc does.
    pub gid: Option<u32>,
}

impl std::str::FromStr for User {
    type Err = Error;

    /// Parses `UID` or `UID:GID`, decimal digits and nothing else.
    fn from_str(text: &str) -> Result<Self> {
        let number = |part: &str, what: &str| {
            let digits = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
            part.parse().ok().filter(|_| digits).ok_or_else(|| {
                Error::new(Kind::Invalid, format!("{what} {part:?} of user {text:?} is not a number: give UID[:GID]"))
            })
        };
        match text.split_once(':') {
            None => Ok(Self { uid: number(text, "uid")?, gid: None }),
            Some((uid, gid)) => Ok(Self { uid: number(uid, "uid")?, gid: Some(number(gid, "gid")?) }),
        }
    }
}

/// A process that runs.
#[derive(Debug)]
pub struct Executed {
    /// Its pid, as the caller counts pids.
    pub pid: i32,
    /// Its pidfd.
    pub pidfd: OwnedFd,
    /// The terminal's master, when the caller takes it ([`ExecOptions::foreground`]).
    pub console: Option<OwnedFd>,
}

impl Executed {
    /// Waits for its end: the exit status, or 128 + the signal that ended it.
    ///
    /// # Errors
    /// It isn't a child of this process.
    pub fn wait(&self) -> Result<i32> {
        crate::container::wait_status(&self.pidfd)
    }
}
