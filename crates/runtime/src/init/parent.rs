//! The parent's side: from a bundle to a container that is recorded, or to nothing at all.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use oci_spec::runtime::{Hooks, Process, Spec};
use rtc_sys::clone::{self, Clone3, Cloned, flags};
use rtc_sys::{CallExt, Errno};

use super::child::{Arrival, Child, InitState};
use super::conversation::{self, Side};
use super::plan::{InitPlan, ProcessPlan, listen_fds};
use super::sync::{Channel, channel};
use super::{life, mounts, place};
use crate::bundle::Bundle;
use crate::cgroup::{Grace, Hierarchy, Made, Placement};
use crate::container::{self, Container};
use crate::error::{Context, Error, Kind, Result};
use crate::host::Host;
use crate::notify_socket::{self, Listener};
use crate::options::{CreateOptions, Held, Payload};
use crate::proc::Proc;
use crate::spec::annotations;
use crate::state::{OciState, Status, check_id};
use crate::store::{Init, Lock, Record, Store};
use crate::{console, hooks, namespaces, net_devices, process, rdt, rootless, seal};

/// What becomes of the child when the container stands.
pub(crate) enum Goal<'a> {
    /// Wait for `start`.
    Create,
    /// Execute the program at once.
    Run,
    /// Hold.
    Hold(&'a mut dyn FnMut(&Held) -> std::result::Result<(), crate::options::HoldError>),
}

impl<'a> From<Payload<'a>> for Goal<'a> {
    fn from(payload: Payload<'a>) -> Self {
        match payload {
            Payload::Exec => Self::Create,
            Payload::Hold(closure) => Self::Hold(closure),
        }
    }
}

/// A container in the making. Dropped before it is done, it takes everything back.
struct Making {
    store: Store,
    _lock: Lock,
    record: Record,
    cgroup: Option<Made>,
    /// The wait that systemd's move of a process costs, until that is done.
    grace: Option<Grace>,
    /// systemd makes the cgroup around init.
    goes_around: bool,
    init: Option<OwnedFd>,
    pid: i32,
    net_devices: Option<net_devices::Given>,
    /// Where a container that is run at once says that it is ready.
    listener: Option<Listener>,
    rootless: bool,
    done: bool,
}

/// Makes a container.
pub(crate) fn make(host: &Host, options: &CreateOptions, mut goal: Goal<'_>) -> Result<Container> {
    check_id(&options.id)?;
    conversation::seal_descriptors(options.preserve_fds.saturating_add(listen_fds()))?;
    let mut bundle = Bundle::read(&options.bundle, options.config.as_deref())?;
    if rootless::lacks_privilege() {
        // In the user namespace that is entered here, nothing of this program's file could be reached any more.
        seal::ensure()?;
        rootless::enter(&mut bundle)?;
    }
    let mut process = process_of(&bundle.spec, &goal)?;
    if matches!(goal, Goal::Hold(_)) && !plan_of(&bundle.spec).has(flags::NEWNS) {
        let message = "config.json: a container without a mount namespace of its own can't be restored";
        return Err(Error::new(Kind::Invalid, message).with_hint("add {\"type\": \"mount\"} to linux.namespaces"));
    }
    // Ahead of everything that is made: it may execute this program anew.
    let sealed = seal::prepare(will_be_alone(&bundle.spec, &goal))?;
    let receiver = annotations::value(bundle.spec.annotations().as_ref(), annotations::PIDFD_RECEIVER).map(Path::new);
    let side = Side::connect(
        process.terminal().unwrap_or(false),
        options.console_socket.as_deref(),
        options.pidfd_socket.as_deref().or(receiver),
        options.foreground,
    )?;
    let proc = Proc::open()?;
    // Nothing in the container may look into this process or its copy (CVE-2019-5736, CVE-2024-21626).
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .call("prctl", "SET_DUMPABLE, 0")?;
    let mut making = Making::begin(host, options, &bundle)?;
    // A held process becomes one of an image, which has its variables.
    if options.notify_mount || (matches!(goal, Goal::Create | Goal::Run) && notify_socket::is_wanted()) {
        notify_socket::offer(&mut bundle.spec, &mut process, &making.store)?;
    }
    if let (Goal::Hold(_), Some(mounts)) = (&goal, Rc::make_mut(&mut bundle.spec).mounts_mut()) {
        mounts::nest(mounts, &options.saved.mountpoints);
    }
    let (mut state, channel) = making.prepare(options, &bundle, process, proc, &goal)?;
    state.sealed = sealed;
    let channel = making.clone_child(&mut state, channel, options.saved.init)?;
    let console =
        making.converse(&mut state, &channel, &side, &mut goal, options).map_err(|error| channel.reason(error))?;
    making.finish(console)
}

/// Whether init will be the first in its pid namespace and has no other's namespace to enter on the way.
fn will_be_alone(spec: &Spec, goal: &Goal<'_>) -> bool {
    let plan = plan_of(spec);
    let joins = !plan.join.is_empty() || plan.join_user.is_some();
    plan.new & flags::NEWPID != 0 && !joins && !matches!(goal, Goal::Hold(_))
}

fn plan_of(spec: &Spec) -> namespaces::Namespaces {
    spec.linux().as_ref().map(namespaces::Namespaces::plan).unwrap_or_default()
}

/// `process` of config.json. It may be missing only where nothing is executed.
fn process_of(spec: &Spec, goal: &Goal<'_>) -> Result<Process> {
    match (spec.process(), goal) {
        (Some(process), _) => Ok(process.clone()),
        (None, Goal::Hold(_)) => Ok(Process::default()),
        // Legal (runtime-spec, config, "Process"): only start needs one.
        (None, Goal::Create) => {
            let mut process = Process::default();
            process.set_args(None).set_capabilities(None).set_rlimits(None);
            Ok(process)
        }
        (None, _) => Err(Error::new(Kind::Invalid, "config.json: process is missing")),
    }
}

impl Making {
    /// Makes the state directory and the cgroup.
    fn begin(host: &Host, options: &CreateOptions, bundle: &Bundle) -> Result<Self> {
        let rootless = host.rootless;
        let wanted = place::wanted(&options.id, &bundle.spec, rootless);
        let path = bundle.spec.linux().as_ref().and_then(|linux| linux.cgroups_path().as_deref());
        let placement = Placement::of_container(host.cgroup_manager, path, &wanted)?;
        // As early as can be: it ends sooner than what is prepared here and what systemd does before it needs that.
        let asks_systemd = placement.as_ref().is_some_and(|placement| placement.scope.is_some());
        let grace = asks_systemd.then(Grace::begin).transpose()?;
        let mut namespaces = plan_of(&bundle.spec);
        host.make_root()?;
        let (store, lock) = Store::create(host.dir(&options.id))?;
        let mut record = Record::new(&options.id, bundle, placement, &namespaces);
        record.keyring = (!options.no_new_keyring).then(|| super::keyring_name(&options.id));
        if bundle.entered_by.is_some() {
            namespaces.user_is_entered();
        }
        let goes_around =
            record.cgroup.as_ref().is_some_and(|cgroup| place::goes_around(cgroup, &bundle.spec, &namespaces));
        let mut making = Self {
            store,
            _lock: lock,
            record,
            cgroup: None,
            grace,
            goes_around,
            init: None,
            pid: 0,
            net_devices: None,
            listener: None,
            rootless,
            done: false,
        };
        making.store.write_config(&bundle.config)?;
        if goes_around {
            making.store.write(&making.record)?;
        } else {
            making.cgroup = place::make_before(&mut making.record, &making.store, &wanted)?;
            making.grace = None;
        }
        Ok(making)
    }

    /// Everything the child needs.
    fn prepare(
        &mut self,
        options: &CreateOptions,
        bundle: &Bundle,
        process: Process,
        proc: Proc,
        goal: &Goal<'_>,
    ) -> Result<(InitState, Channel)> {
        let (ours, theirs) = channel()?;
        let anchor = if self.record.inherits_mounts { Some(self.store.make_anchor()?) } else { None };
        let mut plan = InitPlan::new(bundle, options, self.cgroup.as_ref().map(Made::home), &proc, anchor)?;
        plan.keyring.clone_from(&self.record.keyring);
        self.delegate(&plan)?;
        let mut process_plan = ProcessPlan::new(process, bundle.spec.linux().as_ref(), options.preserve_fds, &proc)?;
        process_plan.heed(&bundle.spec)?;
        let start_hooks = bundle.spec.hooks().as_ref().and_then(|hooks| hooks.start_container().clone());
        process_plan.start_hooks = start_hooks.filter(|hooks| !hooks.is_empty());
        if process_plan.start_hooks.is_some() {
            process_plan.hook_outputs = hooks::Outputs::open(&self.record.annotations)?;
        }
        let state = container::oci_state(&self.record, Status::Created, 0);
        let mut child = Child::new(process_plan, proc, state, theirs);
        child.first = plan.namespaces.new & flags::NEWPID != 0;
        if matches!(goal, Goal::Create) {
            child.fifo = Some(self.store.make_fifo()?);
        }
        if matches!(goal, Goal::Run) {
            self.listener = Listener::open(&self.store)?;
        }
        Ok((InitState::new(plan, child, matches!(goal, Goal::Hold(_))), ours))
    }

    /// Gives the cgroup to the container's root, where that is a user of its own.
    fn delegate(&self, plan: &InitPlan) -> Result<()> {
        match (&self.cgroup, plan.owner_of_cgroup()) {
            (Some(made), Some((uid, gid))) => made.home().delegate(uid, gid),
            _ => Ok(()),
        }
    }

    /// The clone: in the child, this doesn't return. Where the pid namespace isn't its own, it gets the pid `saved`,
    /// unless that is 0.
    fn clone_child(&mut self, state: &mut InitState, channel: Channel, saved: i32) -> Result<Channel> {
        // The words are those that callers look for in runc's log.
        if log::log_enabled!(log::Level::Debug) && (state.sealed.is_some() || seal::is_sealed().unwrap_or(false)) {
            log::debug!("runc exeseal: using /proc/self/exe clone");
        }
        log::debug!("nsexec container setup: new namespaces {:#x}", state.plan.namespaces.new);
        let mut entered = state.plan.namespaces.enter(&state.child.proc)?;
        state.cgroup_namespace = entered.cgroup.take();
        let joins_user = state.plan.namespaces.join_user.clone();
        let kinds = state.plan.namespaces.clone_flags();
        let taken_over = joins_user.is_none() && self.cgroup.as_ref().is_some_and(|made| made.taken_over);
        state.arrival = match self.goes_around {
            true => Arrival::Meanwhile,
            false if taken_over => Arrival::First,
            false => Arrival::Here,
        };
        let birthplace = self.cgroup.as_ref().filter(|_| state.arrival == Arrival::Here);
        let tid = [saved];
        let tid = if saved == 0 || kinds & flags::NEWPID != 0 { &[][..] } else { &tid[..] };
        let what = Clone3 {
            flags: if joins_user.is_some() { 0 } else { kinds },
            cgroup: birthplace.map(|made| made.home().dirfd()),
            set_tid: if joins_user.is_some() { &[] } else { tid },
        };
        let cloned = match clone::clone3(&what) {
            // From a session outside of what the user may change, the user's systemd can move a process.
            Err(e) if e.errno() == Errno::EACCES && joins_user.is_none() && self.can_move() => {
                state.arrival = Arrival::First;
                clone::clone3(&Clone3 { cgroup: None, ..what })
            }
            other => other,
        };
        match cloned.map_err(|e| life::taken(e, saved)).context(|| "make the container's first process")? {
            Cloned::Parent { pid, pidfd } => {
                self.pid = pid;
                self.init = Some(pidfd);
                if state.arrival == Arrival::First {
                    self.move_init()?;
                }
                entered.finish()?;
                // The intermediate process lives on until init is born.
                if let Some(made) = &mut self.cgroup {
                    made.release();
                }
                Ok(channel)
            }
            Cloned::Child => {
                // Its copy of our end would keep the conversation alive beyond us, and it would wait for ever.
                drop(channel);
                match joins_user {
                    None => life::lead(state),
                    Some(path) => life::intermediate(state, &path, kinds, tid),
                }
            }
        }
    }

    /// Moves init to where it couldn't be born.
    fn move_init(&self) -> Result<()> {
        match (&self.record.cgroup, &self.cgroup) {
            (Some(placement), _) if placement.can_move() => placement.move_process(self.pid),
            (_, Some(made)) => made.home().add(self.pid),
            _ => Ok(()),
        }
    }

    /// Has systemd make the cgroup around init.
    fn go_around(&mut self, state: &InitState) -> Result<()> {
        let Some(mut placement) = self.record.cgroup.clone() else { return Ok(()) };
        let wanted = place::wanted(&self.record.id, &state.plan.spec, self.rootless);
        let made = place::make_around(&mut placement, &wanted, (self.pid, &mut self.init));
        self.grace = None;
        self.cgroup = Some(made?);
        self.record.cgroup = Some(placement);
        self.record.cgroup_made = true;
        self.store.write(&self.record)?;
        self.delegate(&state.plan)
    }

    fn can_move(&self) -> bool {
        self.record.cgroup.as_ref().is_some_and(Placement::can_move)
    }

    /// Takes init from the intermediate process, and the end of that.
    fn adopt(&mut self, proc: &Proc, channel: &Channel) -> Result<()> {
        let intermediate = self.init.take();
        let made = conversation::expect_made(channel)?;
        self.pid = process::pid_of(proc, &made)?;
        self.init = Some(made);
        match intermediate {
            Some(intermediate) => process::wait_status(&intermediate).map(drop),
            None => Ok(()),
        }
    }

    /// Writes what only the parent can, and follows the child to the end of the conversation.
    fn converse(
        &mut self,
        state: &mut InitState,
        channel: &Channel,
        side: &Side,
        goal: &mut Goal<'_>,
        options: &CreateOptions,
    ) -> Result<Option<OwnedFd>> {
        // Our copy of the child's end would keep the conversation alive beyond the child.
        state.child.channel = None;
        if state.plan.namespaces.join_user.is_some() {
            self.adopt(&state.child.proc, channel)?;
        }
        let proc = &state.child.proc;
        if let Some(score) = state.child.plan.process.oom_score_adj() {
            conversation::set_oom_score(proc, self.pid, score, self.rootless)?;
        }
        if state.plan.namespaces.new & flags::NEWUSER != 0 {
            state.plan.id_maps.write(proc, self.pid)?;
            channel.go()?;
        }
        if state.arrival == Arrival::Meanwhile {
            self.go_around(state)?;
        }
        if state.arrival != Arrival::Here {
            channel.go()?;
        }
        self.give(state)?;
        let mut talk = conversation::Talk::new(channel, side, &state.child.plan, self.pid);
        let pid = self.pid;
        log::debug!("child process in init(): pid {pid}");
        // Hooks come after the second step of the specification's lifecycle, and so see "created".
        let oci = container::oci_state(&self.record, Status::Created, pid);
        // While the child still mounts: when it is ready, it waits for us. A terminal is its own doing, and shows last.
        let terminal = state.child.plan.process.terminal().unwrap_or(false);
        if !terminal {
            self.note_init(proc, terminal)?;
        }
        // Who closes the mount last waits for RCU in the kernel: we, as long as the child still mounts.
        state.sealed = None;
        let console = talk.until_ready(&mut || run_runtime_hooks(state.plan.spec.hooks().as_ref(), &oci))?;
        // It has its cgroup namespace by now.
        self.cgroup.as_ref().map_or(Ok(()), |made| made.settle(pid, state.plan.owner_of_cgroup()))?;
        if terminal {
            self.note_init(proc, terminal)?;
        }
        // From here on, who finds the state directory finds init.
        self.store.commit()?;
        self.announce(side, options)?;
        if let Goal::Hold(closure) = goal {
            self.hold(closure)?;
        } else {
            channel.go()?;
            talk.until_closed(&container::oci_state(&self.record, Status::Created, pid))?;
            log::debug!("init: closing the pipe to signal completion");
        }
        Ok(console)
    }

    /// What is given to a process that is there already: network devices, a class of intelRdt, limits.
    fn give(&mut self, state: &InitState) -> Result<()> {
        let Some(linux) = state.plan.linux() else { return Ok(()) };
        if let (Some(devices), Some(init)) = (linux.net_devices(), &self.init) {
            self.net_devices = net_devices::give(devices, &state.child.proc, init, self.pid)?;
        }
        if let Some(rdt) = linux.intel_rdt() {
            let (record, store) = (&mut self.record, &self.store);
            let id = record.id.clone();
            let note = |placed: &rdt::Placed| {
                record.rdt = Some(placed.clone());
                store.write(record)
            };
            rdt::place(rdt, &id, note).and_then(|placed| placed.add(self.pid)).context(|| "linux.intelRdt")?;
        }
        place::limit(&self.record, self.cgroup.as_ref(), &state.plan.spec, self.rootless)
    }

    fn hold(&self, closure: &mut dyn FnMut(&Held) -> std::result::Result<(), crate::options::HoldError>) -> Result<()> {
        let cgroup = match &self.cgroup {
            Some(Made { cgroup, .. }) => {
                Some(Hierarchy::find()?.mountpoint().join(cgroup.path().strip_prefix("/").unwrap_or(cgroup.path())))
            }
            None => None,
        };
        let held = Held { pid: self.pid, rootfs: self.record.rootfs.clone(), cgroup };
        closure(&held).map_err(|e| Error::wrap(Kind::System, e))
    }

    /// Completes the record, to be put into its place when the container stands.
    fn note_init(&mut self, proc: &Proc, terminal: bool) -> Result<()> {
        let init = Init {
            pid: self.pid,
            start_time: process::start_time(proc, self.pid)?,
            stdio: process::stdio(proc, self.pid, terminal)?,
        };
        self.record.init = Some(init);
        self.store.prepare(&self.record)
    }

    /// Tells those who asked for init's pid.
    fn announce(&self, side: &Side, options: &CreateOptions) -> Result<()> {
        if let (Some(socket), Some(pidfd)) = (&side.pidfd_socket, &self.init) {
            console::send(socket.as_fd(), "pidfd", pidfd).context(|| "--pidfd-socket")?;
        }
        match &options.pid_file {
            Some(path) => conversation::write_pid_file(path, self.pid),
            None => Ok(()),
        }
    }

    fn finish(mut self, console: Option<OwnedFd>) -> Result<Container> {
        let readiness = match (self.listener.take(), &self.init) {
            (Some(listener), Some(init)) => Some(listener.of(init, self.pid)?),
            _ => None,
        };
        self.done = true;
        let store = std::mem::replace(&mut self.store, Store::at(Path::new("").into()));
        Ok(Container::made(store, self.record.clone(), self.init.take(), console, readiness))
    }

    /// Takes everything back. What fails is logged: the error to tell is the one that led here.
    fn undo(&mut self) {
        let log = |what: &str, result: Result<()>| {
            if let Err(e) = result {
                log::warn!("{what}{}{e}", if what.is_empty() { "" } else { ": " });
            }
        };
        // As long as init's network namespace is there.
        if let Some(given) = self.net_devices.take() {
            given.take_back();
        }
        if let Some(pidfd) = &self.init {
            log("kill init", process::kill_and_reap(pidfd));
        }
        if let (Some(mut made), Some(placement)) = (self.cgroup.take(), &self.record.cgroup) {
            made.release();
            log("remove the cgroup", placement.remove(Some(made.cgroup), process::VANISH));
        }
        if let Some(placed) = &self.record.rdt {
            log("remove the class of intelRdt", placed.remove());
        }
        if self.record.inherits_mounts {
            log("", self.store.remove_anchor());
        }
        log("remove the state", self.store.remove());
        // A hook that failed ends the container as if it had been deleted (runtime-spec, runtime, "Lifecycle").
        if self.init.is_some() {
            let state = container::oci_state(&self.record, Status::Stopped, 0);
            hooks::run_poststop(&self.record.poststop, &state);
        }
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        if !self.done {
            self.undo();
        }
    }
}

fn run_runtime_hooks(list: Option<&Hooks>, state: &OciState) -> Result<()> {
    let Some(list) = list else { return Ok(()) };
    #[allow(deprecated)]
    let prestart = list.prestart().as_deref().unwrap_or_default();
    hooks::run("prestart", prestart, state)?;
    hooks::run("createRuntime", list.create_runtime().as_deref().unwrap_or_default(), state)
}
