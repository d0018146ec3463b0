//! A container that exists: its state, and what can be done to it.

use std::borrow::Borrow;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use oci_spec::runtime::{LinuxResources, Spec};
use rtc_sys::Errno;
use rustix::process::Signal;

use crate::cgroup::{self, Cgroup, Hierarchy, Watch};
use crate::error::{Error, Kind, Result};
use crate::notify_socket::{Listener, Readiness};
use crate::proc::Proc;
use crate::process::{self, Life, VANISH};
use crate::state::{OciState, Status, Stdio, check_id};
use crate::store::{Init, Record, Store};
use crate::{hooks, spec};

/// How long freezing or thawing may take.
const FREEZE: Duration = Duration::from_secs(10);

/// A container as it was found on disk.
#[derive(Debug)]
pub struct Container {
    pub(crate) store: Store,
    pub(crate) record: Record,
    /// After `create` or `run`: init, a child of this process.
    child: Option<OwnedFd>,
    console: Option<OwnedFd>,
    readiness: Option<Readiness>,
}

impl Container {
    /// The container `id` whose state is below `root`.
    pub(crate) fn load(root: &Path, id: &str) -> Result<Self> {
        check_id(id)?;
        let store = Store::at(root.join(id));
        match store.read() {
            Ok(record) => Ok(Self { store, record, child: None, console: None, readiness: None }),
            Err(e) => {
                if *e.kind() == Kind::NotFound {
                    store.remove_leftover().or_else(|e| if *e.kind() == Kind::NotFound { Ok(()) } else { Err(e) })?;
                }
                Err(e)
            }
        }
    }

    /// One that has just been made.
    pub(crate) fn made(
        store: Store,
        record: Record,
        child: Option<OwnedFd>,
        console: Option<OwnedFd>,
        readiness: Option<Readiness>,
    ) -> Self {
        Self { store, record, child, console, readiness }
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.record.id
    }

    /// Its status now.
    ///
    /// # Errors
    /// procfs or the cgroup can't be read.
    pub fn status(&self) -> Result<Status> {
        self.status_with(|| self.cgroup())
    }

    /// Its status now, for one who has its cgroup or may get it.
    pub(crate) fn status_with<C: Borrow<Cgroup>>(&self, cgroup: impl FnOnce() -> Result<Option<C>>) -> Result<Status> {
        let Some(init) = &self.record.init else {
            // Its maker holds the lock, or was killed.
            return Ok(if self.store.try_lock()?.is_none() { Status::Creating } else { Status::Stopped });
        };
        let Life::Alive { has_executed } = process::life(&Proc::open()?, init.pid, init.start_time)? else {
            return Ok(Status::Stopped);
        };
        match cgroup()? {
            Some(cgroup) if cgroup.borrow().is_frozen()? => Ok(Status::Paused),
            _ if self.waits_for_start(has_executed) => Ok(Status::Created),
            _ => Ok(Status::Running),
        }
    }

    /// A `start` that was killed may have let init go without removing the FIFO.
    fn waits_for_start(&self, has_executed: bool) -> bool {
        self.store.has_fifo() && !has_executed
    }

    /// Whether its program has been let go; one that hasn't may be paused too.
    ///
    /// # Errors
    /// procfs can't be read.
    pub fn has_started(&self) -> Result<bool> {
        let Some(init) = &self.record.init else { return Ok(false) };
        match process::life(&Proc::open()?, init.pid, init.start_time)? {
            Life::Alive { has_executed } => Ok(!self.waits_for_start(has_executed)),
            Life::Ended => Ok(true),
        }
    }

    /// The state object of the OCI specification, as of now; `owner` is filled.
    ///
    /// # Errors
    /// As [`Self::status`].
    pub fn state(&self) -> Result<OciState> {
        let status = self.status()?;
        let pid = match (&self.record.init, status) {
            (Some(init), Status::Created | Status::Running | Status::Paused) => init.pid,
            _ => 0,
        };
        let owner = process::user_name(self.record.owner);
        Ok(OciState { owner, ..oci_state(&self.record, status, pid) })
    }

    /// Init's pid as the host counts pids; `None` when the container is stopped.
    #[must_use]
    pub fn init_pid(&self) -> Option<i32> {
        let init = self.record.init.as_ref()?;
        let life = Proc::open().and_then(|proc| process::life(&proc, init.pid, init.start_time));
        matches!(life, Ok(Life::Alive { .. })).then_some(init.pid)
    }

    /// Init's pid when it is a child of this process, from the `create` or `run` of this call; it may have ended, and
    /// its number is its own until it is waited for.
    #[must_use]
    pub fn child_pid(&self) -> Option<i32> {
        self.child.as_ref().and(self.record.init.as_ref()).map(|init| init.pid)
    }

    /// The configuration the container was created with.
    ///
    /// # Errors
    /// The copy in the state directory can't be read.
    pub fn spec(&self) -> Result<Spec> {
        spec::parse(&self.store.read_config()?)
    }

    /// Whether the directory of its `NOTIFY_SOCKET` is mounted in it ([`crate::NOTIFY_MOUNT`]), besides the mounts of
    /// config.json.
    #[must_use]
    pub fn has_notify_mount(&self) -> bool {
        self.store.notify_directory().is_some()
    }

    /// Whether its mounts are in the runtime's mount namespace, for want of one of its own.
    #[must_use]
    pub fn inherits_mounts(&self) -> bool {
        self.record.inherits_mounts
    }

    /// The container's root, where no mount namespace leads to it: `None` for most.
    pub(crate) fn inherited_root(&self) -> Result<Option<OwnedFd>> {
        if self.record.inherits_mounts { self.store.open_anchor().map(Some) } else { Ok(None) }
    }

    /// Init's descriptors 0 to 2 at create time.
    ///
    /// # Errors
    /// The container is still being created.
    pub fn stdio(&self) -> Result<&[Stdio; 3]> {
        let init = self.record.init.as_ref();
        init.map(|init| &init.stdio).ok_or_else(|| wrong("container is being created"))
    }

    /// Its cgroup; `None` when it has none or it is gone.
    ///
    /// # Errors
    /// The cgroup2 file system can't be found or read.
    pub fn cgroup(&self) -> Result<Option<Cgroup>> {
        match &self.record.cgroup {
            Some(placement) => Hierarchy::find()?.open(placement),
            None => Ok(None),
        }
    }

    /// The terminal's master, once, after a foreground `create` or `run` of a container with a terminal.
    pub fn take_console(&mut self) -> Option<OwnedFd> {
        self.console.take()
    }

    /// After `run` with a service manager to tell ([`crate::Readiness`]): the container's word that it is ready, once.
    pub fn take_readiness(&mut self) -> Option<Readiness> {
        self.readiness.take()
    }

    /// Lets init execute its program, then runs the poststart hooks; with a service manager to tell, waits for the
    /// program's word that it is ready.
    ///
    /// # Errors
    /// [`Kind::WrongState`]: "cannot start an already running container", "cannot start a container that has stopped".
    pub fn start(&mut self) -> Result<()> {
        let lock = self.store.lock()?;
        match self.status()? {
            Status::Created => {}
            Status::Stopped => return Err(wrong("cannot start a container that has stopped")),
            Status::Creating => return Err(wrong("cannot start a container that is being created")),
            Status::Running => return Err(wrong("cannot start an already running container")),
            Status::Paused => {
                return Err(wrong("cannot start a container in the paused state").with_hint("resume it first"));
            }
        }
        if self.spec()?.process().is_none() {
            let hint = "create it anew with a process object";
            return Err(wrong("cannot start a container without a process: config.json has none").with_hint(hint));
        }
        let init = self.open_init()?.ok_or_else(|| wrong("cannot start a container that has stopped"))?;
        let listener = Listener::open(&self.store)?;
        let fifo = self.store.open_fifo()?;
        process::wait_for_hangup(&fifo, &init)?;
        let complaint = process::last_words(&fifo)?;
        drop((fifo, lock));
        if let Some(complaint) = complaint {
            return Err(Error::new(Kind::System, complaint));
        }
        self.run_poststart()?;
        let pid = self.record.init.as_ref().map_or(0, |init| init.pid);
        listener.map_or(Ok(()), |listener| listener.of(&init, pid)?.pass_on())
    }

    /// Runs the poststart hooks. When one fails, the container is killed, as the specification's 1.3 says.
    pub(crate) fn run_poststart(&self) -> Result<()> {
        let list = &self.record.poststart;
        if list.is_empty() {
            return Ok(());
        }
        let pid = self.record.init.as_ref().map_or(0, |init| init.pid);
        hooks::run("poststart", list, &oci_state(&self.record, Status::Running, pid)).inspect_err(|_| {
            if let Err(e) = self.kill(Signal::KILL.as_raw(), true) {
                log::warn!("kill the container: {e}");
            }
        })
    }

    /// Waits for init's end: the exit status, or 128 + the signal that ended it.
    ///
    /// # Errors
    /// Init isn't a child of this process.
    pub fn wait(&self) -> Result<i32> {
        match &self.child {
            Some(pidfd) => process::wait_status(pidfd),
            None => Err(wrong("the container's first process is not a child of this process")),
        }
    }

    /// Sends a signal to init, or to every process of the container.
    ///
    /// Without a pid namespace of its own, KILL goes to every process in any case: init's end doesn't end them.
    ///
    /// # Errors
    /// [`Kind::WrongState`] with "container not running" for a stopped container, unless `all`.
    pub fn kill(&self, signal: i32, all: bool) -> Result<()> {
        let number = signal;
        let everyone = all || (number == Signal::KILL.as_raw() && !self.record.own_pid_namespace);
        let cgroup = if everyone && number == Signal::KILL.as_raw() { self.cgroup()? } else { None };
        if let Some(cgroup) = cgroup {
            let populated = cgroup.is_populated()?;
            cgroup.kill()?;
            if populated || all {
                return Ok(());
            }
        }
        if all {
            return process::signal_members(|| self.processes(), number);
        }
        match self.open_init()? {
            Some(init) => process::signal(&init, number),
            None => Err(wrong("container not running")),
        }
    }

    /// Removes all that is left of the container and runs the poststop hooks; `force` kills it first.
    ///
    /// # Errors
    /// [`Kind::WrongState`]: "cannot delete container ID that is not stopped: running".
    pub fn delete(mut self, force: bool) -> Result<()> {
        if force {
            self.kill_for_delete()?;
        }
        let lock = self.store.lock()?;
        // Whoever had the lock may have finished creating.
        self.record = self.store.read()?;
        match self.status_locked()? {
            Status::Stopped => {}
            Status::Created => self.kill_for_delete()?,
            _ if force => self.kill_for_delete()?,
            status => {
                let message = format!("cannot delete container {} that is not stopped: {status}", self.record.id);
                return Err(wrong(&message).with_hint("kill it first, or delete it with --force"));
            }
        }
        let cgroup = self.cgroup()?;
        if let (Some(placement), true) = (&self.record.cgroup, self.record.cgroup_made) {
            placement.remove(cgroup, VANISH)?;
        } else if let Some(placement) = self.record.cgroup.as_ref().filter(|placement| placement.scope.is_some()) {
            placement.remove_leftover()?;
        } else if let Some(cgroup) = cgroup {
            // Made by the call that was killed, if it is empty; else another's, and it stays.
            let path = Hierarchy::find()?.mountpoint().join(cgroup.path().strip_prefix("/").unwrap_or(cgroup.path()));
            let delegated = self.record.cgroup.as_ref().and_then(|placement| placement.delegated.as_deref());
            for below in delegated.unwrap_or(Path::new("")).ancestors() {
                let _ = std::fs::remove_dir(path.join(below));
            }
        }
        if let Some(placed) = &self.record.rdt {
            placed.remove()?;
        }
        if self.record.inherits_mounts {
            self.store.remove_anchor()?;
        }
        self.store.remove()?;
        drop(lock);
        // A container that was never completely created has no hooks to run; one that fails can't bring it back.
        if self.record.init.is_some() {
            hooks::run_poststop(&self.record.poststop, &oci_state(&self.record, Status::Stopped, 0));
        }
        Ok(())
    }

    /// The status for one who holds the lock: nobody is creating.
    fn status_locked(&self) -> Result<Status> {
        if self.record.init.is_none() { Ok(Status::Stopped) } else { self.status() }
    }

    /// Kills every process and waits for init's end.
    fn kill_for_delete(&self) -> Result<()> {
        let init = self.open_init()?;
        if init.is_none() && self.record.init.is_some() {
            // It has ended. Who may be left is killed when the cgroup is removed.
            return Ok(());
        }
        let cgroup = if self.record.cgroup_made { self.cgroup()? } else { None };
        if let Some(cgroup) = cgroup {
            cgroup.kill()?;
        }
        if let Some(init) = init {
            process::signal(&init, Signal::KILL.as_raw())?;
            process::wait_for_end(&init, VANISH)?;
            if self.child.is_some() {
                process::wait_status(&init)?;
            }
        }
        Ok(())
    }

    /// Freezes all its processes.
    ///
    /// # Errors
    /// [`Kind::WrongState`] with "container not running".
    pub fn pause(&self) -> Result<()> {
        match self.status()? {
            Status::Running | Status::Created => {}
            Status::Paused => return Err(wrong("container already paused")),
            _ => return Err(wrong("container not running")),
        }
        self.need_cgroup()?.freeze(FREEZE)
    }

    /// Thaws them.
    ///
    /// # Errors
    /// [`Kind::WrongState`] with "container not paused".
    pub fn resume(&self) -> Result<()> {
        if self.status()? != Status::Paused {
            return Err(wrong("container not paused"));
        }
        self.need_cgroup()?.thaw(FREEZE)
    }

    /// The pids of all its processes, as the host counts, ascending; empty when it is stopped.
    ///
    /// # Errors
    /// The cgroup can't be read.
    pub fn processes(&self) -> Result<Vec<i32>> {
        match self.cgroup()? {
            Some(cgroup) => cgroup.procs(),
            None => Ok(self.init_pid().into_iter().collect()),
        }
    }

    /// Sets new resource limits; device rules among them are ignored, as runc does.
    ///
    /// # Errors
    /// A limit whose controller is missing; the message names it.
    pub fn update(&self, resources: &LinuxResources) -> Result<()> {
        if matches!(self.status()?, Status::Stopped | Status::Creating) {
            return Err(wrong("container not running"));
        }
        let mut resources = resources.clone();
        resources.set_devices(None);
        let memory_swap = cgroup::keep_memory_and_swap(&mut resources, self.record.memory_swap);
        let cgroup = self.need_cgroup()?;
        match &self.record.cgroup {
            Some(placement) => placement.update(&cgroup, &resources)?,
            None => cgroup.apply(&resources)?,
        }
        if memory_swap == self.record.memory_swap {
            return Ok(());
        }
        let _lock = self.store.lock()?;
        let mut record = self.store.read()?;
        record.memory_swap = memory_swap;
        self.store.write(&record)
    }

    /// Sets limits of the cache and of memory bandwidth: lines of resctrl's `schemata`.
    ///
    /// # Errors
    /// The container was created without `linux.intelRdt`, or the kernel refuses the limits.
    pub fn update_rdt(&self, lines: &[String]) -> Result<()> {
        match &self.record.rdt {
            Some(placed) => placed.limit(lines).map_err(|e| e.context("intelRdt")),
            None => Err(wrong("the container has no class of intelRdt").with_hint("create it with linux.intelRdt")),
        }
    }

    /// What the container uses: the `data` object of `events --stats`.
    ///
    /// # Errors
    /// [`Kind::WrongState`] with "container not running".
    pub fn stats(&self) -> Result<serde_json::Value> {
        if matches!(self.status()?, Status::Stopped | Status::Creating) {
            return Err(wrong("container not running"));
        }
        let stats = self.need_cgroup()?.stats()?;
        serde_json::to_value(stats).map_err(|e| Error::new(Kind::System, e.to_string()))
    }

    /// Watches for kills for want of memory, and for the end of the last process.
    ///
    /// # Errors
    /// The container has no cgroup.
    pub fn watch(&self) -> Result<Watch> {
        self.need_cgroup()?.watch()
    }

    fn need_cgroup(&self) -> Result<Cgroup> {
        self.cgroup()?.ok_or_else(|| {
            wrong("container has no cgroup")
                .with_hint("it was created with --cgroup-manager disabled, or its cgroup was removed")
        })
    }

    /// Init's pidfd; `None` when it has ended. A process that has its number now is not mistaken for it.
    pub(crate) fn open_init(&self) -> Result<Option<OwnedFd>> {
        let Some(Init { pid, start_time, .. }) = self.record.init else { return Ok(None) };
        let pidfd = match rtc_sys::pidfd::open(pid) {
            Ok(pidfd) => pidfd,
            Err(e) if e.errno() == Errno::ESRCH => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        let life = process::life(&Proc::open()?, pid, start_time)?;
        Ok(matches!(life, Life::Alive { .. }).then_some(pidfd))
    }
}

fn wrong(message: &str) -> Error {
    Error::new(Kind::WrongState, message)
}

/// The state object with an empty owner, as hooks get it.
pub(crate) fn oci_state(record: &Record, status: Status, pid: i32) -> OciState {
    OciState {
        oci_version: record.oci_version.clone(),
        id: record.id.clone(),
        pid,
        status,
        bundle: record.bundle.clone(),
        rootfs: record.rootfs.clone(),
        created: record.created.clone(),
        annotations: record.annotations.clone(),
        owner: String::new(),
    }
}
