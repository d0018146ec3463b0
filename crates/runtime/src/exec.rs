//! A further process in a container: `exec`.
//!
//! The pid namespace is joined by the parent for the moment of the clone, so that one clone3, into the cgroup, is
//! enough; the child joins all others at once by init's pidfd, which can't have become another process's.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::Linux;
use rtc_sys::CallExt;
use rtc_sys::clone::{self, Clone3, Cloned, flags};

use crate::cgroup::{Cgroup, Hierarchy, Placement};
use crate::console;
use crate::container::{Container, oci_state};
use crate::error::{Context, Error, Kind, Result};
use crate::init::{self, Child, ProcessPlan, Side, Step, Talk, step};
use crate::namespaces::{Entered, Namespaces};
use crate::overrides::{ExecProcess, process_of};
use crate::proc::Proc;
use crate::process;
use crate::rootfs::inherited;
use crate::rootless;
use crate::spec;
use crate::state::Status;

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
        process::wait_status(&self.pidfd)
    }
}

impl Container {
    /// Runs a further process in it.
    ///
    /// # Errors
    /// [`Kind::WrongState`]: "cannot exec in a stopped container", "cannot exec in a paused container";
    /// [`Kind::Exec`]: `exec: "x": executable file not found in $PATH`.
    pub fn exec(&self, options: &ExecOptions) -> Result<Executed> {
        exec(self, options)
    }
}

fn exec(container: &Container, options: &ExecOptions) -> Result<Executed> {
    init::seal_descriptors(options.preserve_fds.saturating_add(init::listen_fds()))?;
    let cgroup = container.cgroup()?;
    check_status(container.status_with(|| Ok(cgroup.as_ref()))?, options.ignore_paused)?;
    let spec = container.spec()?;
    let (process, capabilities) = process_of(&spec, &options.process)?;
    spec::validate::validate_process(&process)?;
    let side = Side::connect(
        process.terminal().unwrap_or(false),
        options.console_socket.as_deref(),
        options.pidfd_socket.as_deref(),
        options.foreground,
    )?;
    let proc = Proc::open()?;
    // As for the container's first process; and here there are others in the container that might look.
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .call("prctl", "SET_DUMPABLE, 0")?;
    let init = container.open_init()?.ok_or_else(stopped)?;
    let in_user_namespace = gain_privilege(&init)?;
    let linux = spec.linux().as_ref();
    let mut plan = ProcessPlan::new(process, linux, options.preserve_fds, &proc)?;
    plan.heed(&spec)?;
    begin_affinity(&mut plan)?;
    for unknown in plan.capabilities.add(&capabilities) {
        log::warn!("ignoring unknown capability {unknown:?}");
    }
    let (ours, theirs) = init::channel()?;
    let state =
        oci_state(&container.record, Status::Running, container.record.init.as_ref().map_or(0, |init| init.pid));
    let mut joiner = Joiner {
        kinds: linux.map_or(0, kinds_to_join) & !in_user_namespace,
        keyring: container.record.keyring.clone(),
        root: container.inherited_root()?,
        init,
        placement: container.record.cgroup.clone(),
        child: Child::new(plan, proc, state, theirs),
    };
    let (pid, pidfd) = joiner.clone_child(home_of(container, cgroup)?, options)?;
    let guard = Guard(Some(pidfd));
    joiner.child.channel = None;
    if let Some(score) = joiner.child.plan.process.oom_score_adj() {
        init::set_oom_score(&joiner.child.proc, pid, score, rootless::detect())?;
    }
    if let Some(placed) = &container.record.rdt {
        placed.add(pid).context(|| "linux.intelRdt")?;
    }
    let mut talk = Talk::new(&ours, &side, &joiner.child.plan, pid);
    let console = talk.until_ready(&mut || Ok(()))?;
    log::debug!("setns_init: about to exec");
    if let (Some(socket), Some(pidfd)) = (&side.pidfd_socket, &guard.0) {
        console::send(socket.as_fd(), "pidfd", pidfd).context(|| "--pidfd-socket")?;
    }
    if let Some(path) = &options.pid_file {
        init::write_pid_file(path, pid)?;
    }
    ours.go()?;
    talk.until_closed(&joiner.child.state)?;
    Ok(Executed { pid, pidfd: guard.keep()?, console })
}

/// Takes up `execCPUAffinity`: the first CPUs at once, the last ones noted for the program.
fn begin_affinity(plan: &mut ProcessPlan) -> Result<()> {
    if let Some(affinity) = plan.process.exec_cpu_affinity() {
        // The child inherits ours until it has what is final.
        if let Some(initial) = affinity.initial() {
            init::set_affinity(Some(initial))?;
        }
        plan.affinity = affinity.cpu_affinity_final().clone().or_else(|| affinity.initial().clone());
    }
    Ok(())
}

/// A user enters the container's user namespace first: what the child needn't join then.
fn gain_privilege(init: &OwnedFd) -> Result<u64> {
    if !rootless::lacks_privilege() {
        return Ok(0);
    }
    rootless::enter_of(init)?;
    Ok(flags::NEWUSER)
}

/// The cgroup that the container's processes live in: below its own, where an annotation said so.
fn home_of(container: &Container, cgroup: Option<Cgroup>) -> Result<Option<Cgroup>> {
    match &container.record.cgroup {
        Some(placement) if placement.has_home() => placement.open_home(&Hierarchy::find()?),
        _ => Ok(cgroup),
    }
}

fn stopped() -> Error {
    Error::new(Kind::WrongState, "cannot exec in a stopped container")
}

fn check_status(status: Status, ignore_paused: bool) -> Result<()> {
    match status {
        Status::Created | Status::Running => Ok(()),
        Status::Paused if ignore_paused => Ok(()),
        Status::Paused => Err(Error::new(Kind::WrongState, "cannot exec in a paused container")
            .with_hint("resume it first, or use --ignore-paused")),
        Status::Creating => Err(Error::new(Kind::WrongState, "cannot exec in a container that is being created")),
        Status::Stopped => Err(stopped()),
    }
}

/// The namespaces that the container has of its own or by path: all others are the host's.
pub(crate) fn kinds_to_join(linux: &Linux) -> u64 {
    let namespaces = Namespaces::plan(linux);
    let joined = namespaces.join.iter().fold(namespaces.new, |all, (kind, _)| all | kind);
    if namespaces.has_user() { joined | flags::NEWUSER } else { joined }
}

/// Into a container that stands.
const JOIN: &[Step<Joiner>] = &[
    step("signals", |_| Ok(rtc_sys::process::reset_signals()?)),
    // All at once: the user namespace's privilege is there for the others, and none is left half-way.
    step("join the container's namespaces", Joiner::enter_namespaces),
    step("user namespace", |joiner| {
        if joiner.kinds & flags::NEWUSER == 0 { Ok(()) } else { init::become_root(joiner.child.plan.keep_groups) }
    }),
    // Lost by the changes of ids before.
    step("death signal", |_| init::die_with_parent()),
    step("session", |_| rustix::process::setsid().map(drop).call("setsid", "").map_err(Into::into)),
    step("session keyring", |joiner| {
        let Joiner { keyring: Some(name), child, .. } = joiner else { return Ok(()) };
        init::join_keyring(&child.proc, name, child.plan.process.selinux_label().as_deref())
    }),
    step("console", Joiner::open_console),
];

/// A process on its way into a container.
#[derive(Debug)]
struct Joiner {
    kinds: u64,
    /// The name of the session keyring that it gets.
    keyring: Option<String>,
    init: OwnedFd,
    /// The container's root, where no mount namespace leads to it.
    root: Option<OwnedFd>,
    placement: Option<Placement>,
    child: Child,
}

impl Joiner {
    fn clone_child(&mut self, cgroup: Option<Cgroup>, options: &ExecOptions) -> Result<(i32, OwnedFd)> {
        let cgroup = match (cgroup, &options.cgroup) {
            (Some(cgroup), Some(path)) => Some(cgroup.sub(path).map_err(|e| missing_cgroup(path, e))?),
            (cgroup, _) => cgroup,
        };
        match self.clone_into(cgroup.as_ref()) {
            // The cgroup has children with controllers by now, or is gone: where init is, there is room.
            Err(e) if options.cgroup.is_none() && cgroup.is_some() && is_no_place(&e) => {
                let pid = process::pid_of(&self.child.proc, &self.init)?;
                self.clone_into(Some(&Hierarchy::find()?.open_of(pid)?))
            }
            // Told as whoever moves a process would tell it.
            Err(e) if options.cgroup.is_some() && is_no_place(&e) => self.add_after(cgroup.as_ref()),
            // From a session outside of what the user may change, the user's systemd can move a process. It does
            // nothing of the program's before it is let go.
            Err(e) if self.placement.as_ref().is_some_and(|placement| placement.can_move()) && is_denied(&e) => {
                let (pid, pidfd) = self.clone_into(None)?;
                self.placement.as_ref().map_or(Ok(()), |placement| placement.move_process(pid))?;
                Ok((pid, pidfd))
            }
            Err(e) => match options.cgroup.as_deref() {
                Some(path) => Err(busy_cgroup(path, e)),
                None => Err(e),
            },
            made => made,
        }
    }

    /// Makes the process where the caller is, and moves it: the kernel may have changed its mind.
    fn add_after(&mut self, cgroup: Option<&Cgroup>) -> Result<(i32, OwnedFd)> {
        let (pid, pidfd) = self.clone_into(None)?;
        let guard = Guard(Some(pidfd));
        cgroup.map_or(Ok(()), |cgroup| cgroup.add_named(pid))?;
        Ok((pid, guard.keep()?))
    }

    fn clone_into(&mut self, cgroup: Option<&Cgroup>) -> Result<(i32, OwnedFd)> {
        let entered = if self.kinds & flags::NEWPID == 0 {
            None
        } else {
            Some(Entered::pid_namespace_of(&self.child.proc, &self.init)?)
        };
        let what = Clone3 { flags: 0, cgroup: cgroup.map(Cgroup::dirfd), set_tid: &[] };
        let cloned = clone::clone3(&what).context(|| match cgroup {
            Some(cgroup) => format!("make a process in cgroup {}", cgroup.path().display()),
            None => "make a process".to_owned(),
        })?;
        match cloned {
            Cloned::Child => self.main(),
            Cloned::Parent { pid, pidfd } => {
                // The words are those that callers look for in runc's log.
                log::debug!("nsexec container setup: joined namespaces {:#x}", self.kinds);
                log::debug!("child process in init(): pid {pid}");
                entered.map_or(Ok(()), Entered::finish)?;
                Ok((pid, pidfd))
            }
        }
    }

    /// The whole life of the child.
    fn main(&mut self) -> ! {
        let result = init::run_steps(JOIN, self).and_then(|()| init::become_program(&mut self.child));
        init::end(&self.child, result)
    }

    /// All namespaces but that of pids, which the parent has chosen.
    fn enter_namespaces(&mut self) -> Result<()> {
        let kinds = self.kinds & !flags::NEWPID;
        if kinds != 0 {
            clone::setns(self.init.as_fd(), kinds)?;
        }
        self.root.as_ref().map_or(Ok(()), inherited::change_root)
    }

    fn open_console(&mut self) -> Result<()> {
        if !self.child.plan.process.terminal().unwrap_or(false) {
            return Ok(());
        }
        let terminal = console::open(&init::current_root()?, &self.child.plan.process, &self.child.proc)?;
        self.child.channel()?.console(terminal.master.as_fd())?;
        console::take(terminal.slave)
    }
}

fn is_denied(error: &Error) -> bool {
    error.sys().is_some_and(|e| e.call() == "clone3" && e.errno() == rtc_sys::Errno::EACCES)
}

/// In the words that callers of runc look for.
fn missing_cgroup(path: &Path, error: Error) -> Error {
    if error.sys().is_none_or(|e| e.errno() != rtc_sys::Errno::ENOENT) {
        return error;
    }
    let message = format!("open sub cgroup {}: no such file or directory", path.display());
    Error::new(Kind::Invalid, message).with_hint("make it in the container's cgroup first")
}

/// The same for a cgroup that has been asked for and takes no processes.
fn busy_cgroup(path: &Path, error: Error) -> Error {
    if !is_no_place(&error) {
        return error;
    }
    let message = format!("adding pid {} to cgroups: {}: device or resource busy", std::process::id(), path.display());
    Error::new(Kind::WrongState, message).with_hint("it has cgroups below it that have controllers: name one of them")
}

fn is_no_place(error: &Error) -> bool {
    use rtc_sys::Errno;
    error
        .sys()
        .is_some_and(|e| e.call() == "clone3" && matches!(e.errno(), Errno::EBUSY | Errno::ENODEV | Errno::EOPNOTSUPP))
}

/// A process that is killed unless it is kept.
struct Guard(Option<OwnedFd>);

impl Guard {
    fn keep(mut self) -> Result<OwnedFd> {
        self.0.take().ok_or_else(|| Error::new(Kind::System, "the process is gone"))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(Err(e)) = self.0.as_ref().map(process::kill_and_reap) {
            log::warn!("kill the new process: {e}");
        }
    }
}
