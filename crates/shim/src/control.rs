//! What is done to a container that runs: signals, pause, limits, checkpoint, its terminal's size, the end of its input.

use std::fs;

use rtc_sys::CallExt;
use rustix::process::{Pid, Signal, kill_process};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::api::{Checkpoint, Kill, Resize, Target, update as parse_update};
use crate::events::Event;
use crate::fault::{Code, Fault, Result};
use crate::lifecycle::Answer;
use crate::options::CheckpointOptions;
use crate::shim::Shim;
use crate::task::{Caller, Phase};
use crate::wire::Message;

/// Kill.
///
/// One process gets its signal from the shim itself: it is the shim's child and can't have been replaced by another.
pub(crate) fn kill(shim: &mut Shim, caller: Caller, payload: &[u8]) -> Answer {
    let Kill { target, signal, all } = Kill::parse(payload)?;
    let process = shim.process(&target)?;
    let pid = match process.phase {
        Phase::Stopped => return Err(Fault::new(Code::NotFound, "process already finished")),
        _ if process.pid == 0 => return Err(Fault::new(Code::FailedPrecondition, "process not created")),
        _ => process.pid,
    };
    if !all || !target.exec_id.is_empty() {
        send(pid, signal)?;
        return Ok(Some(Message::new()));
    }
    let mut call = shim.call(&target.id, "kill")?;
    call.command.args(["--all", &target.id, &signal.to_string()]);
    shim.launch(call, move |shim, outcome| shim.reply(caller, outcome.map(|()| Message::new())))?;
    Ok(None)
}

fn send(pid: i32, signal: i32) -> Result<()> {
    if signal == 0 {
        return Ok(());
    }
    let invalid = || Fault::new(Code::InvalidArgument, format!("there is no signal {signal}"));
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
        rtc_sys::Errno::ESRCH => Fault::new(Code::NotFound, "process already finished"),
        rtc_sys::Errno::EINVAL => invalid(),
        _ => error.into(),
    })
}

/// Pause.
pub(crate) fn pause(shim: &mut Shim, caller: Caller, payload: &[u8]) -> Answer {
    plain(shim, caller, payload, "pause", |id| Event::Paused { id })
}

/// Resume.
pub(crate) fn resume(shim: &mut Shim, caller: Caller, payload: &[u8]) -> Answer {
    plain(shim, caller, payload, "resume", |id| Event::Resumed { id })
}

/// A command with no arguments but the container, and its event.
fn plain(
    shim: &mut Shim,
    caller: Caller,
    payload: &[u8],
    deed: &'static str,
    event: impl FnOnce(String) -> Event + 'static,
) -> Answer {
    let id = Target::parse(payload)?.id;
    let mut call = shim.call(&id, deed)?;
    call.command.arg(&id);
    shim.launch(call, move |shim, outcome| {
        if outcome.is_ok() {
            shim.publish(&event(id));
        }
        shim.reply(caller, outcome.map(|()| Message::new()));
    })?;
    Ok(None)
}

/// Update: resources as the specification's JSON.
pub(crate) fn update(shim: &mut Shim, caller: Caller, payload: &[u8]) -> Answer {
    let (id, resources) = parse_update(payload)?;
    let mut call = shim.call(&id, "update")?;
    call.command.args(["--resources=-", &id]);
    shim.launch_with_input(call, Some(&resources), move |shim, outcome| {
        shim.reply(caller, outcome.map(|()| Message::new()));
    })?;
    Ok(None)
}

/// Checkpoint: into the directory that containerd has made.
pub(crate) fn checkpoint(shim: &mut Shim, caller: Caller, payload: &[u8]) -> Answer {
    let Checkpoint { id, path, options } = Checkpoint::parse(payload)?;
    let options = CheckpointOptions::from_any(&options)?;
    let mut call = shim.call(&id, "checkpoint")?;
    let bundle = shim.task(&id)?.bundle.clone();
    let own_work = options.work_path.is_empty();
    let work = if own_work { bundle.join("work") } else { options.work_path.into() };
    call.command.arg("--image-path").arg(&path).arg("--work-path").arg(&work).args(&options.flags);
    if !options.exit {
        call.command.arg("--leave-running");
    }
    call.command.arg(&id);
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
            shim.publish(&Event::Checkpointed { id, path });
        }
        shim.reply(caller, outcome.map(|()| Message::new()));
    })?;
    Ok(None)
}

/// ResizePty.
pub(crate) fn resize(shim: &mut Shim, _: Caller, payload: &[u8]) -> Answer {
    let Resize { target, width, height } = Resize::parse(payload)?;
    if let Some(console) = &shim.process(&target)?.console {
        let size = Winsize { ws_row: height, ws_col: width, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(console, size).call("ioctl", format_args!("TIOCSWINSZ, {width}x{height}"))?;
    }
    Ok(Some(Message::new()))
}

/// CloseIO: nothing more comes for a process to read. To a terminal that means nothing.
pub(crate) fn close_io(shim: &mut Shim, _: Caller, payload: &[u8]) -> Answer {
    shim.process(&Target::parse(payload)?)?.stdin = None;
    Ok(Some(Message::new()))
}
