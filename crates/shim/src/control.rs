//! What is done to a container that runs: signals, pause, limits, checkpoint, its terminal's size, the end of its input.

use std::fs;

use containerd_shim::api::{
    CheckpointTaskRequest, CloseIORequest, Empty, KillRequest, PauseRequest, ResizePtyRequest, ResumeRequest,
    UpdateTaskRequest,
};
use containerd_shim::event::Event;
use containerd_shim::protos::events::task::{TaskCheckpointed, TaskPaused, TaskResumed};
use containerd_shim::protos::protobuf::Message;
use containerd_shim::protos::shim::oci::CheckpointOptions;
use rtc_sys::CallExt;
use rustix::process::{Pid, Signal, kill_process};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::any::decode;
use crate::fault::{Code, Fault, Result};
use crate::options;
use crate::reply::Reply;
use crate::shim::Shim;
use crate::task::{Phase, Target};

/// Kill.
///
/// One process gets its signal from the shim itself: it is the shim's child and can't have been replaced by another.
pub(crate) fn kill(shim: &mut Shim, request: KillRequest, reply: Reply<Empty>) -> Result<()> {
    let KillRequest { id, exec_id, signal, all, .. } = request;
    let target = Target { id, exec_id };
    let process = shim.process(&target)?;
    let pid = match process.phase {
        Phase::Stopped => return Err(Fault::new(Code::NOT_FOUND, "process already finished")),
        _ if process.pid == 0 => return Err(Fault::new(Code::FAILED_PRECONDITION, "process not created")),
        _ => process.pid,
    };
    if !all || !target.exec_id.is_empty() {
        send(pid, signal)?;
        reply.send(Ok(Empty::new()));
        return Ok(());
    }
    let mut call = shim.call(&target.id, "kill")?;
    call.command.args(["--all", &target.id, &signal.to_string()]);
    shim.launch(call, move |_, outcome| reply.send(outcome.map(|()| Empty::new())));
    Ok(())
}

fn send(pid: i32, signal: u32) -> Result<()> {
    if signal == 0 {
        return Ok(());
    }
    let invalid = || Fault::new(Code::INVALID_ARGUMENT, format!("there is no signal {signal}"));
    let signal = i32::try_from(signal).map_err(|_| invalid())?;
    // Real-time signals have no names, and rustix takes them only unchecked.
    let sent = match (Pid::from_raw(pid), Signal::from_named_raw(signal)) {
        (Some(pid), Some(signal)) => kill_process(pid, signal).call("kill", format_args!("{pid:?}, {signal:?}")),
        (Some(_), None) => {
            let pidfd = rtc_sys::pidfd::open(pid)?;
            rtc_sys::process::send_signal(std::os::fd::AsFd::as_fd(&pidfd), signal)
        }
        (None, _) => return Err(invalid()),
    };
    sent.map_err(|error| match error.errno() {
        rtc_sys::Errno::ESRCH => Fault::new(Code::NOT_FOUND, "process already finished"),
        rtc_sys::Errno::EINVAL => invalid(),
        _ => error.into(),
    })
}

/// Pause.
pub(crate) fn pause(shim: &mut Shim, request: PauseRequest, reply: Reply<Empty>) -> Result<()> {
    let event = TaskPaused { container_id: request.id.clone(), ..TaskPaused::default() };
    plain(shim, request.id, "pause", event, reply)
}

/// Resume.
pub(crate) fn resume(shim: &mut Shim, request: ResumeRequest, reply: Reply<Empty>) -> Result<()> {
    let event = TaskResumed { container_id: request.id.clone(), ..TaskResumed::default() };
    plain(shim, request.id, "resume", event, reply)
}

/// A command with no arguments but the container, and its event.
fn plain<E: Event + Message>(
    shim: &mut Shim,
    id: String,
    deed: &'static str,
    event: E,
    reply: Reply<Empty>,
) -> Result<()> {
    let mut call = shim.call(&id, deed)?;
    call.command.arg(&id);
    shim.launch(call, move |shim, outcome| {
        if outcome.is_ok() {
            shim.publish(&event);
        }
        reply.send(outcome.map(|()| Empty::new()));
    });
    Ok(())
}

/// Update: resources as the specification's JSON.
pub(crate) fn update(shim: &mut Shim, request: &UpdateTaskRequest, reply: Reply<Empty>) -> Result<()> {
    let mut call = shim.call(&request.id, "update")?;
    call.command.args(["--resources=-", &request.id]);
    let resources = request.resources.value.as_slice();
    shim.launch_with_input(call, Some(resources), move |_, outcome| reply.send(outcome.map(|()| Empty::new())));
    Ok(())
}

/// Checkpoint: into the directory that containerd has made.
pub(crate) fn checkpoint(shim: &mut Shim, request: CheckpointTaskRequest, reply: Reply<Empty>) -> Result<()> {
    let CheckpointTaskRequest { id, path, options, .. } = request;
    let options: CheckpointOptions = decode(&options)?;
    let mut call = shim.call(&id, "checkpoint")?;
    let bundle = shim.task(&id)?.bundle.clone();
    let own_work = options.work_path.is_empty();
    let work = if own_work { bundle.join("work") } else { options.work_path.clone().into() };
    call.command.arg("--image-path").arg(&path).arg("--work-path").arg(&work);
    call.command.args(options::checkpoint_flags(&options)).arg(&id);
    shim.launch(call, move |shim, outcome| {
        let log = bundle.join("criu-dump.log");
        let outcome = outcome.map_err(|mut fault| {
            // Where users of runc's shim look.
            if fs::copy(work.join("dump.log"), &log).is_ok() {
                fault.message += &format!(" (log: {})", log.display());
            }
            fault
        });
        if own_work {
            let _ = fs::remove_dir_all(&work);
        }
        if outcome.is_ok() {
            shim.publish(&TaskCheckpointed { container_id: id, checkpoint: path, ..TaskCheckpointed::default() });
        }
        reply.send(outcome.map(|()| Empty::new()));
    });
    Ok(())
}

/// ResizePty.
pub(crate) fn resize(shim: &mut Shim, request: ResizePtyRequest) -> Result<Empty> {
    let ResizePtyRequest { id, exec_id, width, height, .. } = request;
    if let Some(console) = &shim.process(&Target { id, exec_id })?.console {
        let cells = |number| u16::try_from(number).unwrap_or(u16::MAX);
        let size = Winsize { ws_row: cells(height), ws_col: cells(width), ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(console, size).call("ioctl", format_args!("TIOCSWINSZ, {width}x{height}"))?;
    }
    Ok(Empty::new())
}

/// CloseIO: nothing more comes for a process to read. To a terminal that means nothing.
pub(crate) fn close_io(shim: &mut Shim, request: CloseIORequest) -> Result<Empty> {
    let CloseIORequest { id, exec_id, .. } = request;
    shim.process(&Target { id, exec_id })?.close_input();
    Ok(Empty::new())
}
