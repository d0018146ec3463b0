//! What a process on its way has with it, and what it can do. The order in which it does it stands in
//! [`steps`](super::steps) and [`life`](super::life).

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rtc_sys::{CallExt, Errno, process};
use rustix::fs::{Mode, OFlags};

use super::plan::{InitPlan, ProcessPlan};
use super::sync::Channel;
use super::{program, user};
use crate::error::{Context, Error, Kind, Result};
use crate::proc::Proc;
use crate::rootfs::path::RootDir;
use crate::seal::Prepared;
use crate::state::OciState;

/// A process on its way to its program.
#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) plan: ProcessPlan,
    pub(crate) proc: Proc,
    /// For hooks.
    pub(crate) state: OciState,
    /// The container's root.
    pub(crate) root: Option<RootDir>,
    /// The way to the parent, until all is said.
    pub(crate) channel: Option<Channel>,
    /// The FIFO whose opening waits for `start`; without one the program starts at once.
    pub(crate) fifo: Option<OwnedFd>,
    /// The process is the first of its pid namespace: `LISTEN_PID` is 1.
    pub(crate) first: bool,
    /// Its user namespace is an ordinary user's, who may join it while it waits.
    pub(super) is_a_users: bool,
    pub(super) environment: Vec<String>,
    pub(super) program: String,
    in_cwd: bool,
    /// Its pid as the host counts, once it stands.
    pub(super) host_pid: i32,
}

/// When the container's first process comes to its cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// It is there, or gets none.
    Here,
    /// It was born in another, and waits at once to be moved.
    First,
    /// It is moved while it makes what counts nowhere, and waits when it has come to the end of that.
    Meanwhile,
}

/// The container's first process on its way.
#[derive(Debug)]
pub(crate) struct InitState {
    pub(crate) plan: InitPlan,
    pub(crate) child: Child,
    pub(crate) root: Option<RootDir>,
    pub(crate) readonly_later: Vec<OwnedFd>,
    /// Where the process goes over to a sealed executable itself.
    pub(crate) sealed: Option<Prepared>,
    /// The caller's, for hooks.
    pub(crate) umask: Mode,
    /// Hold in place of executing the program.
    pub(crate) hold: bool,
    /// When it comes to its cgroup.
    pub(crate) arrival: Arrival,
    /// The cgroup namespace to join, with its path.
    pub(crate) cgroup_namespace: Option<(PathBuf, OwnedFd)>,
}

impl InitState {
    /// What is ready before the clone.
    pub(crate) fn new(plan: InitPlan, child: Child, hold: bool) -> Self {
        Self {
            plan,
            child,
            root: None,
            readonly_later: Vec::new(),
            sealed: None,
            umask: Mode::empty(),
            hold,
            arrival: Arrival::Here,
            cgroup_namespace: None,
        }
    }

    /// The container's root, once it is attached.
    pub(crate) fn root(&self) -> Result<&RootDir> {
        self.root.as_ref().ok_or_else(|| Error::new(Kind::System, "no root file system yet"))
    }

    /// Whether the parent has hooks to run before the change of root.
    pub(crate) fn has_runtime_hooks(&self) -> bool {
        self.plan.spec.hooks().as_ref().is_some_and(|hooks| {
            let any = |list: &Option<Vec<_>>| list.as_ref().is_some_and(|list| !list.is_empty());
            #[allow(deprecated)]
            let prestart = any(hooks.prestart());
            prestart || any(hooks.create_runtime())
        })
    }
}

impl Child {
    /// What is ready before the clone.
    pub(crate) fn new(plan: ProcessPlan, proc: Proc, state: OciState, channel: Channel) -> Self {
        Self {
            plan,
            proc,
            state,
            channel: Some(channel),
            root: None,
            fifo: None,
            first: false,
            is_a_users: false,
            environment: Vec::new(),
            program: String::new(),
            in_cwd: false,
            host_pid: 0,
        }
    }

    /// The way to the parent.
    pub(crate) fn channel(&self) -> Result<&Channel> {
        self.channel.as_ref().ok_or_else(|| Error::new(Kind::System, "the conversation with the parent is over"))
    }

    /// Fills in the environment, while everything can still be read.
    pub(super) fn prepare_environment(&mut self) -> Result<()> {
        let root = match self.root.take() {
            Some(root) => root,
            None => current_root()?,
        };
        let entries = self.plan.process.env().as_deref().unwrap_or_default();
        let uid = self.plan.user().uid();
        self.environment = user::environment(entries, || user::home(&root, uid));
        if self.plan.listen_fds > 0 {
            self.environment.push(format!("LISTEN_FDS={}", self.plan.listen_fds));
            if self.first {
                self.environment.push("LISTEN_PID=1".to_owned());
            }
            self.environment
                .extend(std::env::var("LISTEN_FDNAMES").ok().map(|names| format!("LISTEN_FDNAMES={names}")));
        }
        self.root = Some(root);
        Ok(())
    }

    /// Enters the working directory, at the first of two tries that succeeds.
    pub(crate) fn enter_cwd(&mut self, last: bool) -> Result<()> {
        let cwd = self.plan.process.cwd();
        if !self.in_cwd {
            match rustix::process::chdir(cwd).call("chdir", cwd.display()) {
                Ok(()) => self.in_cwd = true,
                Err(e) if !last && matches!(e.errno(), Errno::EACCES | Errno::EPERM) => return Ok(()),
                Err(e) => {
                    let reason = program::text(e.errno());
                    let message = format!("chdir to cwd ({cwd:?}) set in config.json failed: {reason}");
                    return Err(Error::new(Kind::Invalid, message));
                }
            }
        }
        // A directory outside of the root, by a leaked descriptor for instance, has no path (CVE-2024-21626).
        let real = rustix::process::getcwd(Vec::new()).call("getcwd", "")?;
        if real.to_bytes().starts_with(b"/") {
            Ok(())
        } else {
            Err(Error::new(Kind::Invalid, "current working directory is outside of container mount namespace root"))
        }
    }

    /// Whether the filter can be loaded only with a privilege that the program doesn't get.
    pub(crate) fn keeps_privilege_for_filter(&self) -> bool {
        self.plan.filter.is_some() && !self.plan.process.no_new_privileges().unwrap_or(false)
    }

    /// Gives the process its capability sets.
    pub(crate) fn set_capabilities(&mut self) -> Result<()> {
        let refused = self.plan.capabilities.apply()?;
        for warning in refused.into_iter().chain(self.plan.capabilities.raise_ambient()?) {
            self.channel()?.warn(&warning);
        }
        Ok(())
    }

    /// Finds the program while the parent still listens to errors.
    pub(crate) fn find_program(&mut self) -> Result<()> {
        // None at all: nothing is executed before there is one, as `start` sees to.
        if let Some(args) = self.plan.process.args() {
            self.program = program::find(args.first().map_or("", String::as_str), &self.environment)?;
        }
        Ok(())
    }

    /// Closes everything the program isn't to have, but for what is still needed, which goes at execve.
    ///
    /// Closed, and not just marked: a process that waits for `start` may be looked at from the container.
    pub(crate) fn close_descriptors(&mut self) -> Result<()> {
        self.host_pid = self.proc.own_pid()?;
        if self.fifo.is_some() {
            self.narrow_proc();
        }
        let first = 3 + self.plan.preserve_fds + self.plan.listen_fds;
        let mut keep = vec![self.proc.fd().as_raw_fd(), self.channel()?.fd().as_raw_fd()];
        keep.extend(self.fifo.iter().map(AsRawFd::as_raw_fd));
        keep.extend(self.plan.hook_outputs.descriptors());
        // The numbers are closed behind the back of `root`: it is forgotten, not closed again.
        std::mem::forget(self.root.take());
        Ok(process::close_all_but(first, &mut keep)?)
    }

    /// Goes over to the container's own procfs, where it has one: a process that waits for `start` can be looked at by
    /// others in the container, if they have CAP_SYS_PTRACE, and shouldn't hold what shows the host.
    fn narrow_proc(&mut self) {
        let own = self.root.as_ref().and_then(|root| root.resolve_plain(Path::new("/proc")).ok());
        let own = own.and_then(|own| Proc::verified(own).ok());
        if let Some(own) = own.filter(|own| own.read("self/stat").is_ok()) {
            self.proc = own;
        }
    }

    /// Loads the seccomp filter, as late as possible: what comes after it, it may forbid.
    pub(super) fn load_filter(&mut self) -> Result<()> {
        let Some(filter) = &self.plan.filter else { return Ok(()) };
        let listener = filter.load().context(|| "load the seccomp filter")?;
        if let Some(listener) = listener {
            self.channel()?.listener(listener.as_fd())?;
        }
        if self.keeps_privilege_for_filter() {
            self.set_capabilities()?;
        }
        Ok(())
    }
}

/// The root of the process as it is now.
pub(crate) fn current_root() -> Result<RootDir> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(RootDir::new(rustix::fs::open("/", flags, Mode::empty()).call("open", "/")?))
}
