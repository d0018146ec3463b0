//! Children that have ended: calls of rtc, and processes of containers, which become the shim's children when rtc ends.

use rustix::process::{WaitOptions, wait};

use crate::api::Target;
use crate::events::Event;
use crate::shim::Shim;
use crate::task::Phase;
use crate::wire::Message;

/// Reaps everything that has ended.
pub(crate) fn reap(shim: &mut Shim) {
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        let signal = || status.terminating_signal().map(|signal| signal + 128);
        let status = status.exit_status().or_else(signal).unwrap_or_default().unsigned_abs();
        let pid = pid.as_raw_nonzero().get();
        if !shim.finish(pid, status) {
            on_end(shim, pid, status);
        }
    }
}

fn on_end(shim: &mut Shim, pid: i32, status: u32) {
    let owner = shim.tasks.iter().find_map(|(id, task)| {
        let (exec_id, process) = task.processes().find(|(_, process)| process.pid == pid)?;
        let target = Target { id: id.clone(), exec_id: exec_id.to_owned() };
        (process.phase != Phase::Stopped).then_some((target, process.phase))
    });
    match owner {
        // The event of its end must not overtake that of its start.
        Some((_, Phase::Starting)) => drop(shim.strays.insert(pid, status)),
        Some((target, _)) => end(shim, &target, status),
        None if shim.is_expecting() => drop(shim.strays.insert(pid, status)),
        // An orphan of a container.
        None => {}
    }
}

/// Makes up for an end that came before the process was known, or while it was being started.
pub(crate) fn catch_up(shim: &mut Shim, target: &Target) {
    let Ok(pid) = shim.process(target).map(|process| process.pid) else { return };
    if let Some(status) = shim.strays.remove(&pid) {
        end(shim, target, status);
    }
}

/// A container's process has ended.
fn end(shim: &mut Shim, target: &Target, status: u32) {
    let Ok(task) = shim.task(&target.id) else { return };
    let leaves_others = target.exec_id.is_empty() && !task.own_pids;
    if let Some(process) = task.process_mut(&target.exec_id) {
        process.end(status);
    }
    if !leaves_others {
        return announce(shim, target);
    }
    // Without a PID namespace of its own, nobody else ends the container's other processes.
    let called = shim.call(&target.id, "kill").and_then(|mut call| {
        call.command.args(["--all", &target.id, "9"]);
        let target = target.clone();
        shim.launch(call, move |shim, _| announce(shim, &target))
    });
    if let Err(fault) = called {
        shim.log.error(&fault.message);
        announce(shim, target);
    }
}

/// Tells of an end: those who wait for it, and containerd.
fn announce(shim: &mut Shim, target: &Target) {
    let Ok(process) = shim.process(target) else { return };
    let (pid, status) = (process.pid(), process.status);
    let Some(at) = process.exited_at else { return };
    for caller in std::mem::take(&mut process.waiters) {
        shim.reply(caller, Ok(waited(status, at)));
    }
    let Target { id, exec_id } = target.clone();
    let process = if exec_id.is_empty() { id.clone() } else { exec_id };
    shim.publish(&Event::Exit { id, process, pid, status, at });
}

/// The answer to Wait.
pub(crate) fn waited(status: u32, at: crate::moment::Moment) -> Message {
    Message::new().number(1, status.into()).message(2, at.message())
}
