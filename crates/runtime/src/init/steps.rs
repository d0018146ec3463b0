//! What the child does, as tables of named steps.
//!
//! The name is the context of a step's error. The comments say why each stands where it does.

use std::os::fd::AsFd;
use std::path::Path;

use rtc_sys::clone::{flags, unshare};
use rtc_sys::{CallExt, process};
use rustix::fs::Mode;
use rustix::process::Signal;

use super::child::{Arrival, Child, InitState};
use super::{attributes, user};
use crate::error::{Context, Result};
use crate::rootfs::mount::{MountPlan, Mounter};
use crate::rootfs::{device, inherited, mask, pivot, tree};
use crate::seal::Prepared;
use crate::{console, hooks, lsm, namespaces};

/// A step: the context for its error (empty: the error says it all), and what to do.
pub(crate) struct Step<T> {
    pub(crate) name: &'static str,
    pub(crate) run: fn(&mut T) -> Result<()>,
}

/// A step of a table.
pub(crate) const fn step<T>(name: &'static str, run: fn(&mut T) -> Result<()>) -> Step<T> {
    Step { name, run }
}

/// Runs a table of steps.
pub(crate) fn run<T>(steps: &[Step<T>], state: &mut T) -> Result<()> {
    for step in steps {
        (step.run)(state).map_err(|e| if step.name.is_empty() { e } else { e.context(step.name) })?;
    }
    Ok(())
}

/// From the clone to a container that stands: the container's first process only.
pub(super) const STAND: &[Step<InitState>] = &[
    // First: a signal of the caller's must not act here.
    step("signals", |_| Ok(process::reset_signals()?)),
    // Before anybody else is in the container, and while this program's file can still be found.
    step("sealed executable", |state| state.sealed.take().map_or(Ok(()), Prepared::enter)),
    // Ids before anything is made: it would belong to nobody. The death signal is lost by a change of ids.
    step("user namespace", become_root),
    step("death signal", |_| die_with_parent()),
    // Not by clone3: see namespaces.rs. Rooted where the process is, so it can't be had before the process is there.
    step("cgroup namespace", |state| if state.arrival == Arrival::Meanwhile { Ok(()) } else { enter_cgroup(state) }),
    step("session", |_| rustix::process::setsid().map(drop).call("setsid", "").map_err(Into::into)),
    step("session keyring", session_keyring),
    step("loopback interface", loopback),
    // What is made for the container has exactly the modes asked for.
    step("umask", |state| {
        state.umask = rustix::process::umask(Mode::empty());
        Ok(())
    }),
    step("", attach_root),
    step("", mounts),
    // In /dev as the mounts made it.
    step("", devices),
    // At the latest: hooks count in the cgroup, and so does what the container writes to.
    step("cgroup namespace", arrive),
    // The specification's point for them: all mounted, not pivoted.
    step("", runtime_hooks),
    step("", create_container_hooks),
    step("change of root", change_root),
    // The directory may be missing, and the user may have no right to make it.
    step("process.cwd", make_cwd),
    // In the container's devpts, and before the root becomes read-only: /dev/console is made.
    step("console", console),
    step("read-only mounts", readonly),
    step("rootfsPropagation", |state| pivot::propagate_root(&state.plan.root)),
    step("host name", names),
    // Before the paths they are written to are made read-only.
    step("sysctl", sysctl),
    // Last of the mounts: nothing of ours needs the hidden paths any more.
    step("", readonly_paths),
    step("", masked_paths),
];

/// From privilege to the program: every process of a container.
pub(super) const BECOME: &[Step<Child>] = &[
    step("", attributes),
    step("", |child| console::own_stdio(child.plan.user())),
    // The mode mask is inherited by the program; the specification's default is runc's.
    step("umask", |child| {
        rustix::process::umask(Mode::from_raw_mode(child.plan.user().umask().unwrap_or(0o022)));
        Ok(())
    }),
    step("process label", |child| {
        let process = &child.plan.process;
        lsm::set_exec_label(&child.proc, process.apparmor_profile().as_deref(), process.selinux_label().as_deref())
    }),
    // Root may enter where the user may not, and the other way round on network file systems: both are tried.
    step("", |child| child.enter_cwd(false)),
    // Needs CAP_SETPCAP of before.
    step("process.capabilities.bounding", |child| Ok(child.plan.capabilities.drop_bounding()?)),
    step("", |child| user::become_user(child.plan.user(), child.plan.keep_groups)),
    step("", |child| child.enter_cwd(true)),
    step("process.capabilities", capabilities),
    step("process.noNewPrivileges", no_new_privileges),
    // As the user, with its capabilities: what it may execute is found. Errors go to the caller of create.
    step("", |child| child.find_program()),
    step("descriptors", |child| child.close_descriptors()),
];

fn become_root(state: &mut InitState) -> Result<()> {
    if !state.plan.namespaces.has_user() {
        return Ok(());
    }
    if state.plan.namespaces.new & flags::NEWUSER != 0 {
        // The parent writes the mappings.
        state.child.channel()?.wait()?;
    }
    user::become_root(state.child.plan.keep_groups)?;
    match state.plan.namespaces.after_user() {
        0 => Ok(()),
        kinds => Ok(unshare(kinds)?),
    }
}

/// Until all is recorded, the death of the parent must not leave a half-made container.
pub(crate) fn die_with_parent() -> Result<()> {
    Ok(rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).call("prctl", "SET_PDEATHSIG, SIGKILL")?)
}

/// Waits until the process is in its cgroup, if it isn't yet, and makes or joins the namespace.
fn enter_cgroup(state: &mut InitState) -> Result<()> {
    if state.arrival != Arrival::Here {
        state.child.channel()?.wait()?;
        state.arrival = Arrival::Here;
    }
    if state.plan.namespaces.new & flags::NEWCGROUP != 0 {
        unshare(flags::NEWCGROUP)?;
    }
    if let Some((path, namespace)) = state.cgroup_namespace.take() {
        namespaces::join(namespace.as_fd(), flags::NEWCGROUP, &path)?;
    }
    Ok(())
}

/// The same for a process that has put it off, and nothing the second time.
fn arrive(state: &mut InitState) -> Result<()> {
    if state.arrival == Arrival::Meanwhile { enter_cgroup(state) } else { Ok(()) }
}

fn session_keyring(state: &mut InitState) -> Result<()> {
    let Some(name) = &state.plan.keyring else { return Ok(()) };
    let child = &state.child;
    super::keyring::join(&child.proc, name, child.plan.process.selinux_label().as_deref())
}

fn loopback(state: &mut InitState) -> Result<()> {
    if state.plan.namespaces.new & flags::NEWNET != 0 {
        rtc_sys::net::bring_up(c"lo")?;
    }
    Ok(())
}

fn attach_root(state: &mut InitState) -> Result<()> {
    if let Some(tree) = state.plan.tree.take() {
        state.root = Some(match &state.plan.root.anchor {
            Some(anchor) => inherited::attach_root(anchor, tree)?,
            None => pivot::attach_root(&mut state.plan.root, tree)?,
        });
    }
    Ok(())
}

fn mounts(state: &mut InitState) -> Result<()> {
    let mut mounts = std::mem::take(&mut state.plan.mounts);
    let early = mounts.iter().take_while(|mount| mount.may_precede_cgroup()).count();
    let (early, late) = mounts.split_at_mut(early);
    mount_all(state, early)?;
    if !late.is_empty() {
        arrive(state).context(|| "cgroup namespace")?;
    }
    mount_all(state, late)
}

fn mount_all(state: &mut InitState, mounts: &mut [MountPlan]) -> Result<()> {
    let private_cgroup = state.plan.namespaces.has(flags::NEWCGROUP);
    let mut mounter = Mounter::new(state.root()?, private_cgroup, state.plan.mount_label.as_deref());
    mounter.shares_namespace = state.plan.root.anchor.is_some();
    for mount in mounts {
        mounter.mount(mount)?;
    }
    let later = mounter.into_readonly_later();
    state.readonly_later.extend(later);
    Ok(())
}

fn devices(state: &mut InitState) -> Result<()> {
    if state.plan.foreign_dev {
        return Ok(());
    }
    let bind = state.plan.namespaces.has_user();
    device::create(state.root()?, &state.plan.devices, bind, state.plan.root.anchor.is_some())?;
    device::links(state.root()?).context(|| "/dev")
}

fn runtime_hooks(state: &mut InitState) -> Result<()> {
    if state.has_runtime_hooks() { state.child.channel()?.hooks() } else { Ok(()) }
}

fn create_container_hooks(state: &mut InitState) -> Result<()> {
    let Some(list) = state.plan.spec.hooks().as_ref().and_then(|hooks| hooks.create_container().as_ref()) else {
        return Ok(());
    };
    let mut oci = state.child.state.clone();
    oci.pid = state.child.proc.own_pid()?;
    // Or what they make would be everybody's to write.
    rustix::process::umask(state.umask);
    let done = hooks::run("createContainer", list, &oci);
    rustix::process::umask(Mode::empty());
    done
}

fn change_root(state: &mut InitState) -> Result<()> {
    if state.plan.root.anchor.is_some() {
        inherited::change_root(state.root()?.fd())?;
    } else if state.plan.no_pivot {
        let table = pivot::own_mountinfo(&state.child.proc)?;
        pivot::move_root(state.root()?, &state.plan.root, &table)?;
    } else {
        pivot::pivot(state.root()?, &state.plan.root)?;
    }
    Ok(())
}

fn make_cwd(state: &mut InitState) -> Result<()> {
    let cwd = state.child.plan.process.cwd().clone();
    if cwd != Path::new("/") {
        state.root()?.directory(&cwd)?;
    }
    Ok(())
}

fn console(state: &mut InitState) -> Result<()> {
    if !state.child.plan.process.terminal().unwrap_or(false) {
        return Ok(());
    }
    let terminal = console::open(state.root()?, &state.child.plan.process, &state.child.proc)?;
    console::bind(state.root()?, &terminal.slave)?;
    state.child.channel()?.console(terminal.master.as_fd())?;
    console::take(terminal.slave)
}

fn readonly(state: &mut InitState) -> Result<()> {
    for mount in std::mem::take(&mut state.readonly_later) {
        tree::set_readonly(mount.as_fd())?;
    }
    if state.plan.spec.root().as_ref().and_then(oci_spec::runtime::Root::readonly).unwrap_or(false) {
        tree::set_readonly(state.root()?.fd())?;
    }
    Ok(())
}

fn names(state: &mut InitState) -> Result<()> {
    if let Some(name) = state.plan.spec.hostname().as_ref().filter(|name| !name.is_empty()) {
        rustix::system::sethostname(name.as_bytes()).call("sethostname", name)?;
    }
    if let Some(name) = state.plan.spec.domainname().as_ref().filter(|name| !name.is_empty()) {
        rustix::system::setdomainname(name.as_bytes()).call("setdomainname", name)?;
    }
    Ok(())
}

fn sysctl(state: &mut InitState) -> Result<()> {
    let Some(settings) = state.plan.linux().and_then(|linux| linux.sysctl().as_ref()) else { return Ok(()) };
    for (key, value) in settings {
        // Dots separate, but for a key that has slashes: there they belong to names (net/ipv4/conf/eth0.1/forwarding).
        let path = if key.contains('/') { key.clone() } else { key.replace('.', "/") };
        state.child.proc.write(format!("sys/{path}"), value.as_bytes()).context(|| key.as_str())?;
    }
    Ok(())
}

fn readonly_paths(state: &mut InitState) -> Result<()> {
    match state.plan.linux().and_then(|linux| linux.readonly_paths().as_ref()) {
        Some(paths) => mask::make_readonly(state.root()?, paths),
        None => Ok(()),
    }
}

fn masked_paths(state: &mut InitState) -> Result<()> {
    match state.plan.linux().and_then(|linux| linux.masked_paths().as_ref()) {
        Some(paths) => mask::mask(state.root()?, paths),
        None => Ok(()),
    }
}

fn attributes(child: &mut Child) -> Result<()> {
    let process = &child.plan.process;
    attributes::set_scheduling(process)?;
    if let Some(policy) = &child.plan.memory_policy {
        attributes::set_memory_policy(policy)?;
    }
    if let Some(personality) = &child.plan.personality {
        attributes::set_personality(personality)?;
    }
    for (index, limit) in process.rlimits().iter().flatten().enumerate() {
        if !attributes::set_rlimit(limit)? && !child.channel()?.limit(index)? {
            child.channel()?.warn(&attributes::clamp_rlimit(limit)?);
        }
    }
    // `initial` and `final` are for `exec` alone; init runs where its cgroup lets it.
    let affinity = child.plan.affinity.as_deref();
    match attributes::set_affinity(affinity) {
        Err(_) if affinity.is_none() => {}
        other => other?,
    }
    Ok(())
}

fn capabilities(child: &mut Child) -> Result<()> {
    if child.keeps_privilege_for_filter() {
        // Loading the filter needs CAP_SYS_ADMIN, so the sets follow it.
        crate::capabilities::raise_effective()?;
        return Ok(());
    }
    child.set_capabilities()
}

fn no_new_privileges(child: &mut Child) -> Result<()> {
    if child.plan.process.no_new_privileges().unwrap_or(false) {
        rustix::thread::set_no_new_privs(true).call("prctl", "SET_NO_NEW_PRIVS, 1")?;
    }
    Ok(())
}
