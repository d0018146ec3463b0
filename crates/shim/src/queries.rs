//! What containerd asks: State, Pids, Stats, Wait, Connect, Shutdown.

use crate::api::Target;
use crate::exits;
use crate::fault::{Code, Fault};
use crate::lifecycle::Answer;
use crate::metrics;
use crate::shim::Shim;
use crate::task::{Caller, Phase};
use crate::wire::Message;

/// State.
pub(crate) fn state(shim: &mut Shim, _: Caller, payload: &[u8]) -> Answer {
    let target = Target::parse(payload)?;
    let Target { id, exec_id } = &target;
    let task = shim.task(id)?;
    let process = task.process(exec_id).ok_or_else(|| Fault::not_found("process", exec_id))?;
    // containerd.v1.types.Status
    let status = match process.phase {
        Phase::Making | Phase::Created | Phase::Starting => 1,
        Phase::Running if exec_id.is_empty() && task.cgroup.as_ref().is_some_and(|cgroup| cgroup.is_frozen()) => 4,
        Phase::Running => 2,
        Phase::Stopped => 3,
    };
    let streams = &process.streams;
    let answer = Message::new()
        .text(1, id)
        .text(2, &task.bundle.to_string_lossy())
        .number(3, process.pid().into())
        .number(4, status)
        .text(5, &streams.stdin)
        .text(6, &streams.stdout)
        .text(7, &streams.stderr)
        .flag(8, streams.terminal)
        .number(9, process.status.into());
    let answer = process.exited_at.map_or(answer.clone(), |at| answer.message(10, at.message()));
    Ok(Some(answer.text(11, exec_id)))
}

/// Pids: all processes of the container, those of Exec with their names.
pub(crate) fn pids(shim: &mut Shim, _: Caller, payload: &[u8]) -> Answer {
    let task = shim.task(&Target::parse(payload)?.id)?;
    let pids = task.cgroup.as_ref().map(|cgroup| cgroup.processes()).transpose()?.unwrap_or_default();
    let mut answer = Message::new();
    for pid in pids {
        let mut entry = Message::new().number(1, pid.unsigned_abs().into());
        if let Some((name, _)) = task.execs.iter().find(|(_, exec)| exec.pid == pid && exec.phase == Phase::Running) {
            let details = Message::new().text(1, name).into_bytes();
            entry = entry.message(2, Message::new().text(1, "containerd.runc.v1.ProcessDetails").bytes(2, &details));
        }
        answer = answer.message(1, entry);
    }
    Ok(Some(answer))
}

/// Stats.
pub(crate) fn stats(shim: &mut Shim, _: Caller, payload: &[u8]) -> Answer {
    let id = Target::parse(payload)?.id;
    let no_cgroup = || Fault::new(Code::NotFound, format!("container {id} has no cgroup"));
    let metrics = metrics::read(shim.task(&id)?.cgroup.as_ref().ok_or_else(no_cgroup)?);
    let any = Message::new().text(1, metrics::TYPE).bytes(2, &metrics.into_bytes());
    Ok(Some(Message::new().message(1, any)))
}

/// Wait: answered when the process has ended.
pub(crate) fn wait(shim: &mut Shim, caller: Caller, payload: &[u8]) -> Answer {
    let process = shim.process(&Target::parse(payload)?)?;
    if let Some(at) = process.exited_at {
        return Ok(Some(exits::waited(process.status, at)));
    }
    process.waiters.push(caller);
    Ok(None)
}

/// Connect: containerd is back, and asks who is here.
pub(crate) fn connect(shim: &mut Shim, _: Caller, payload: &[u8]) -> Answer {
    let id = Target::parse(payload)?.id;
    // While a pod has no container yet, there is the shim alone.
    let pid = shim.task(&id).map(|task| task.init.pid()).unwrap_or_default();
    let answer = Message::new().number(1, std::process::id().into()).number(2, pid.into());
    Ok(Some(answer.text(3, env!("CARGO_PKG_VERSION"))))
}

/// Shutdown: ends the shim, unless it still has containers.
pub(crate) fn shutdown(shim: &mut Shim, _: Caller, _: &[u8]) -> Answer {
    shim.stopping = shim.tasks.is_empty();
    Ok(Some(Message::new()))
}
