//! The child's life: from the clone to the program, or to the point where it is held.
//!
//! The child is a copy of the parent and uses what the parent has prepared. It never returns: it executes the program,
//! is replaced while held, or says what went wrong and exits.

use std::convert::Infallible;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use rtc_sys::clone::{self, Clone3, Cloned, flags};
use rtc_sys::{CallExt, Errno, process};
use rustix::fs::OFlags;

use super::child::{Arrival, Child, InitState};
use super::sync::Channel;
use super::{program, steps};
use crate::error::{Error, Kind, Result};
use crate::state::{OciState, Status};
use crate::{console, hooks, namespaces};

/// The exit status of a child that couldn't execute its program, as runc's.
const FAILED: i32 = 255;

/// The whole life of a container's first process.
pub(crate) fn lead(state: &mut InitState) -> ! {
    state.child.is_a_users = state.plan.namespaces.in_user;
    let result = stand(state).and_then(|()| become_program(&mut state.child));
    if result.is_err() && state.arrival == Arrival::Meanwhile {
        // Around a process that has ended systemd makes no scope, and that would be the error then.
        let _ = state.child.channel().and_then(Channel::wait);
    }
    end(&state.child, result)
}

fn stand(state: &mut InitState) -> Result<()> {
    steps::run(steps::STAND, state)?;
    state.child.root = state.root.take();
    if !state.hold {
        return Ok(());
    }
    console::own_stdio(state.child.plan.user())?;
    // Nothing of ours in the way of what comes; the lock on the state must not live on in it either.
    let channel = state.child.channel()?.fd().as_raw_fd();
    process::close_all_but(3, &mut [channel])?;
    // No answer comes: the process is replaced while it waits, or the parent ends and it with it.
    state.child.channel()?.ready()?;
    Err(Error::new(Kind::System, "the parent has let go of a held process"))
}

/// Drops privilege and executes the program.
pub(crate) fn become_program(child: &mut Child) -> Result<Infallible> {
    child.prepare_environment()?;
    steps::run(steps::BECOME, child)?;
    child.channel()?.ready()?;
    // All is recorded: from here on the container outlives the caller.
    rustix::process::set_parent_process_death_signal(None).call("prctl", "SET_PDEATHSIG, 0")?;
    if child.is_a_users {
        // Or the user, who has no privilege over rtc's memory, couldn't join the namespaces of a process that waits.
        // Whoever looks from inside finds the FIFO and the container's own files, and not the user's environment.
        process::forget_environment();
        rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::Dumpable)
            .call("prctl", "SET_DUMPABLE, 1")?;
    }
    child.load_filter()?;
    wait_for_start(child)?;
    if let Err(error) = start_hooks(child) {
        let Some(fifo) = &child.fifo else { return Err(error) };
        // `start` reads it, and has failed.
        let _ = rustix::io::write(fifo, format!("{error}").as_bytes());
        clone::exit(FAILED);
    }
    program::execute(&child.program, child.plan.process.args().as_deref().unwrap_or_default(), &child.environment)
}

/// Tells whoever listens what went wrong, and exits.
pub(crate) fn end(child: &Child, result: Result<Infallible>) -> ! {
    let Err(error) = result;
    // After `start` nobody else is there to tell, and the filter may forbid to speak on sockets: the container's own
    // stderr then, as runc does.
    if !child.channel.as_ref().is_some_and(|channel| channel.fail(&error)) {
        let line = format!("{error}\n");
        let _ = rustix::io::write(rustix::stdio::stderr(), line.as_bytes());
    }
    clone::exit(FAILED)
}

/// Waits until `start` opens the FIFO. The end of the conversation tells the parent that the container is created.
fn wait_for_start(child: &mut Child) -> Result<()> {
    let Some(fifo) = child.fifo.take() else { return Ok(()) };
    // Who is told to end before it has begun does so, as with runc.
    process::end_on_signals()?;
    let link = format!("self/fd/{}", fifo.as_raw_fd());
    // Before: whoever looks at a created container finds nothing half done.
    child.proc.check_link(&link)?;
    child.channel = None;
    // Kept open: it closes when the program is executed, which is what `start` waits for.
    let opened = child.proc.follow_link(&link, OFlags::WRONLY)?;
    child.fifo = Some(opened);
    Ok(())
}

fn start_hooks(child: &mut Child) -> Result<()> {
    let Some(list) = child.plan.start_hooks.take() else { return Ok(()) };
    let state = OciState { pid: child.host_pid, status: Status::Created, ..child.state.clone() };
    hooks::run_with("startContainer", &list, &state, Some(&child.environment), &child.plan.hook_outputs)
}

/// Says what stands in the way of a process that is to have its old pid in a namespace that others are in, too.
pub(super) fn taken(error: rtc_sys::Error, saved: i32) -> Error {
    let taken = error.errno() == Errno::EEXIST;
    let error = Error::from(error);
    if taken { error.with_hint(format!("pid {saved}, which the image says, is another process's here")) } else { error }
}

/// The process between parent and init where a user namespace is joined: it joins, and makes init as its sibling, with
/// all new namespaces owned by the one it joined.
pub(super) fn intermediate(state: &mut InitState, path: &Path, kinds: u64, tid: &[i32]) -> ! {
    let made = namespaces::open_namespace(path).and_then(|namespace| {
        namespaces::join(namespace.as_fd(), flags::NEWUSER, path)?;
        let what = Clone3 { flags: kinds | flags::PARENT, set_tid: tid, ..Clone3::default() };
        clone::clone3(&what).map_err(|e| taken(e, tid.first().copied().unwrap_or(0)))
    });
    match made {
        Ok(Cloned::Child) => lead(state),
        Ok(Cloned::Parent { pidfd, .. }) => {
            let told = state.child.channel().and_then(|channel| channel.made(pidfd.as_fd()));
            clone::exit(i32::from(told.is_err()))
        }
        Err(error) => end(&state.child, Err(error)),
    }
}
