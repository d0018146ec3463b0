//! Children that have ended: calls of rtc, and processes of containers, which become the shim's children when rtc ends.
//!
//! The crate has a reaper too.
//! Its waitpid(2), nix's, takes the end of a process by a real-time signal and returns an error that names none: nobody
//! would ever be told of it.

use containerd_shim::api::WaitResponse;
use containerd_shim::protos::events::task::TaskExit;
use containerd_shim::protos::protobuf::MessageField;
use containerd_shim::protos::protobuf::well_known_types::timestamp::Timestamp;
use rustix::process::{WaitOptions, wait};

use crate::shim::Shim;
use crate::task::{Phase, Target};

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
        log::error!("{fault}");
        announce(shim, target);
    }
}

/// Tells of an end: those who wait for it, and containerd.
fn announce(shim: &mut Shim, target: &Target) {
    let Ok(process) = shim.process(target) else { return };
    let (pid, status) = (process.pid(), process.status);
    let Some(at) = process.exited_at.clone() else { return };
    for waiter in std::mem::take(&mut process.waiters) {
        waiter.send(Ok(waited(status, at.clone())));
    }
    let Target { id, exec_id } = target.clone();
    shim.publish(&TaskExit {
        id: if exec_id.is_empty() { id.clone() } else { exec_id },
        container_id: id,
        pid,
        exit_status: status,
        exited_at: MessageField::some(at),
        ..TaskExit::default()
    });
}

/// The answer to Wait.
pub(crate) fn waited(status: u32, at: Timestamp) -> WaitResponse {
    WaitResponse { exit_status: status, exited_at: MessageField::some(at), ..WaitResponse::default() }
}
