//! What containerd asks: State, Pids, Stats, Wait, Connect, Shutdown.

use containerd_shim::api::{
    ConnectRequest, ConnectResponse, Empty, PidsRequest, PidsResponse, StateRequest, StateResponse, StatsRequest,
    StatsResponse, Status, WaitRequest, WaitResponse,
};
use containerd_shim::protos::api::ProcessInfo;
use containerd_shim::protos::protobuf::MessageField;
use containerd_shim::protos::shim::oci::ProcessDetails;

use crate::any::encode;
use crate::exits;
use crate::fault::{Code, Fault, Result};
use crate::metrics;
use crate::reply::Reply;
use crate::shim::Shim;
use crate::task::{Phase, Target};

/// State.
pub(crate) fn state(shim: &mut Shim, request: StateRequest) -> Result<StateResponse> {
    let StateRequest { id, exec_id, .. } = request;
    let task = shim.task(&id)?;
    let process = task.process(&exec_id).ok_or_else(|| Fault::not_found("process", &exec_id))?;
    let status = match process.phase {
        Phase::Making | Phase::Created | Phase::Starting => Status::CREATED,
        Phase::Running if exec_id.is_empty() && task.cgroup.as_ref().is_some_and(|cgroup| cgroup.is_frozen()) => {
            Status::PAUSED
        }
        Phase::Running => Status::RUNNING,
        Phase::Stopped => Status::STOPPED,
    };
    let streams = process.streams.clone();
    Ok(StateResponse {
        id,
        bundle: task.bundle.to_string_lossy().into_owned(),
        pid: process.pid(),
        status: status.into(),
        stdin: streams.stdin,
        stdout: streams.stdout,
        stderr: streams.stderr,
        terminal: streams.terminal,
        exit_status: process.status,
        exited_at: process.exited_at.clone().into(),
        exec_id,
        ..StateResponse::default()
    })
}

/// Pids: all processes of the container, those of Exec with their names.
pub(crate) fn pids(shim: &mut Shim, request: &PidsRequest) -> Result<PidsResponse> {
    let task = shim.task(&request.id)?;
    // One that has ended may have lost its cgroup, to systemd.
    let lives = task.processes().any(|(_, process)| process.phase != Phase::Stopped);
    let cgroup = task.cgroup.as_ref().filter(|_| lives);
    let pids = cgroup.map(|cgroup| cgroup.processes()).transpose()?.unwrap_or_default();
    let info = |pid: i32| {
        let exec = task.execs.iter().find(|(_, exec)| exec.pid == pid && exec.phase == Phase::Running);
        let details = exec.map(|(name, _)| ProcessDetails { exec_id: name.clone(), ..ProcessDetails::default() });
        let info = details.map(|details| encode("containerd.runc.v1", &details));
        ProcessInfo { pid: pid.unsigned_abs(), info: info.into(), ..ProcessInfo::default() }
    };
    Ok(PidsResponse { processes: pids.into_iter().map(info).collect(), ..PidsResponse::default() })
}

/// Stats.
pub(crate) fn stats(shim: &mut Shim, request: &StatsRequest) -> Result<StatsResponse> {
    let no_cgroup = || Fault::new(Code::NOT_FOUND, format!("container {} has no cgroup", request.id));
    let metrics = metrics::read(shim.task(&request.id)?.cgroup.as_ref().ok_or_else(no_cgroup)?);
    let stats = MessageField::some(encode(metrics::PACKAGE, &metrics));
    Ok(StatsResponse { stats, ..StatsResponse::default() })
}

/// Wait: answered when the process has ended.
pub(crate) fn wait(shim: &mut Shim, request: WaitRequest, reply: Reply<WaitResponse>) -> Result<()> {
    let WaitRequest { id, exec_id, .. } = request;
    let process = shim.process(&Target { id, exec_id })?;
    match process.exited_at.clone() {
        Some(at) => reply.send(Ok(exits::waited(process.status, at))),
        None => process.waiters.push(reply),
    }
    Ok(())
}

/// Connect: containerd is back, and asks who is here.
pub(crate) fn connect(shim: &mut Shim, request: &ConnectRequest) -> ConnectResponse {
    // While a pod has no container yet, there is the shim alone.
    let task_pid = shim.task(&request.id).map(|task| task.init.pid()).unwrap_or_default();
    let version = env!("CARGO_PKG_VERSION").into();
    ConnectResponse { shim_pid: std::process::id(), task_pid, version, ..ConnectResponse::default() }
}

/// Shutdown: ends the shim, unless it still has containers.
pub(crate) fn shutdown(shim: &mut Shim) -> Empty {
    if shim.tasks.is_empty() {
        shim.exit.signal();
    }
    Empty::new()
}
