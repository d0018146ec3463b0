//! A container that exists: its state, and what can be done to it.

use std::os::fd::{AsFd, OwnedFd};

use oci_spec::runtime::{LinuxResources, Spec};

use crate::error::{Error, Kind, Result};
use crate::exec::{ExecOptions, Executed};
use crate::host::Host;
use crate::state::{OciState, Status, Stdio};

/// A container as it was found on disk.
#[derive(Debug)]
pub struct Container {
    id: String,
    console: Option<OwnedFd>,
}

impl Container {
    pub(crate) fn load(_host: &Host, _id: &str) -> Result<Self> {
        Err(Error::new(Kind::NotFound, "container does not exist"))
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its status now.
    ///
    /// # Errors
    /// procfs or the cgroup can't be read.
    pub fn status(&self) -> Result<Status> {
        Err(later())
    }

    /// The state object of the OCI specification, as of now; `owner` is filled.
    ///
    /// # Errors
    /// As [`Self::status`].
    pub fn state(&self) -> Result<OciState> {
        Err(later())
    }

    /// Init's pid as the host counts pids; `None` when the container is stopped.
    #[must_use]
    pub fn init_pid(&self) -> Option<i32> {
        None
    }

    /// The configuration the container was created with.
    ///
    /// # Errors
    /// The copy in the state directory can't be read.
    pub fn spec(&self) -> Result<Spec> {
        Err(later())
    }

    /// Init's descriptors 0 to 2 at create time.
    ///
    /// # Errors
    /// The container is still being created.
    pub fn stdio(&self) -> Result<&[Stdio; 3]> {
        Err(later())
    }

    /// The terminal's master, once, after a foreground `create` or `run` of a container with a terminal.
    pub fn take_console(&mut self) -> Option<OwnedFd> {
        self.console.take()
    }

    /// Lets init execute its program, then runs the poststart hooks.
    ///
    /// # Errors
    /// [`Kind::WrongState`]: "cannot start an already running container", "cannot start a container that has stopped".
    pub fn start(&mut self) -> Result<()> {
        Err(later())
    }

    /// Waits for init's end: the exit status, or 128 + the signal that ended it.
    ///
    /// # Errors
    /// Init isn't a child of this process.
    pub fn wait(&self) -> Result<i32> {
        Err(later())
    }

    /// Sends a signal to init, or to every process of the container.
    ///
    /// # Errors
    /// [`Kind::WrongState`] with "container not running" for a stopped container, unless `all`.
    pub fn kill(&self, _signal: i32, _all: bool) -> Result<()> {
        Err(later())
    }

    /// Removes all that is left of the container and runs the poststop hooks; `force` kills it first.
    ///
    /// # Errors
    /// [`Kind::WrongState`]: "cannot delete container ID that is not stopped: running".
    pub fn delete(self, _force: bool) -> Result<()> {
        Err(later())
    }

    /// Freezes all its processes.
    ///
    /// # Errors
    /// [`Kind::WrongState`] with "container not running".
    pub fn pause(&self) -> Result<()> {
        Err(later())
    }

    /// Thaws them.
    ///
    /// # Errors
    /// [`Kind::WrongState`] with "container not paused".
    pub fn resume(&self) -> Result<()> {
        Err(later())
    }

    /// The pids of all its processes, as the host counts, ascending; empty when it is stopped.
    ///
    /// # Errors
    /// The cgroup can't be read.
    pub fn processes(&self) -> Result<Vec<i32>> {
        Err(later())
    }

    /// Runs a further process in it.
    ///
    /// # Errors
    /// [`Kind::WrongState`]: "cannot exec in a stopped container", "cannot exec in a paused container";
    /// [`Kind::Exec`]: `exec: "x": executable file not found in $PATH`.
    pub fn exec(&self, _options: &ExecOptions) -> Result<Executed> {
        Err(later())
    }

    /// Sets new resource limits; device rules among them are ignored, as runc does.
    ///
    /// # Errors
    /// A limit whose controller is missing; the message names it.
    pub fn update(&self, _resources: &LinuxResources) -> Result<()> {
        Err(later())
    }

    /// What the container uses: the `data` object of `events --stats`.
    ///
    /// # Errors
    /// [`Kind::WrongState`] with "container not running".
    pub fn stats(&self) -> Result<serde_json::Value> {
        Err(later())
    }
}

fn later() -> Error {
    Error::new(Kind::Invalid, "this is on its way")
}

/// Waits for the end of the child behind `pidfd`: the exit status, or 128 + the signal that ended it.
pub(crate) fn wait_status(_pidfd: &impl AsFd) -> Result<i32> {
    Err(later())
}

/// The number of a signal given as name (`TERM`, `SIGTERM`, `sigterm`) or number.
///
/// # Errors
/// [`Kind::Invalid`] with `unknown signal "BOGUS"`.
pub fn parse_signal(_text: &str) -> Result<i32> {
    Err(later())
}
