//! Children that have ended: calls of rtc, and processes of containers, which become the shim's children when rtc ends.
//!
//! The crate has a reaper too.
//! Its waitpid(2), nix's, takes the end of a process by a real-time signal and returns an error that names none: nobody
//! would ever be told of it.

use containerd_shim::api::WaitResponse;
use containerd_shim::protos::events::task::TaskExit;
use containerd_shim::protos::protobuf::MessageField;
use containerd_shim::protos::protobuf::well_known_types::timestamp::Timestamp;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitOptions, kill_process, wait, waitid};

use crate::shim::Shim;
use crate::task::{Phase, Process, Target};

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
        // One that has ended may have had the number before.
        let lives = |process: &Process| process.pid == pid && process.phase != Phase::Stopped;
        let (exec_id, process) = task.processes().find(|(_, process)| lives(process))?;
        Some((Target { id: id.clone(), exec_id: exec_id.to_owned() }, process.phase))
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
    match shim.strays.remove(&pid) {
        Some(status) if !is_child(pid) => end(shim, target, status),
        // There is none, or an orphan had the number before.
        _ => {}
    }
}

/// Whether there is a child of this number that nobody has reaped.
fn is_child(pid: i32) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    Pid::from_raw(pid).is_some_and(|pid| waitid(WaitId::Pid(pid), options).is_ok())
}

/// Kills a child that a call of rtc has made and that can't be used, unless it has ended.
pub(crate) fn kill_child(pid: i32) {
    if let Some(child) = Pid::from_raw(pid).filter(|_| pid > 1 && is_child(pid)) {
        if let Err(error) = kill_process(child, Signal::KILL) {
            log::error!("kill {pid}: {error}");
        }
    }
}

/// A container's process has ended.
fn end(shim: &mut Shim, target: &Target, status: u32) {
    let Ok(task) = shim.task(&target.id) else { return };
    let leaves_others = target.exec_id.is_empty() && !task.own_pids;
    // Who hears of an end must know of its reason already.
    if let Some(cgroup) = &task.cgroup {
        cgroup.look_for_kills(task.init.pid);
    }
    if let Some(process) = task.process_mut(&target.exec_id) {
        process.end(status);
    }
    if !leaves_others {
        return announce(shim, target);
    }
    // Without a PID namespace of its own, nobody else ends the container's other processes.
    let Ok(mut call) = shim.call(&target.id, "kill") else { return };
    call.command.args(["--all", &target.id, "9"]);
    let target = target.clone();
    shim.launch(call, move |shim, outcome| {
        // There was nobody else, mostly.
        outcome.unwrap_or_else(|fault| log::debug!("{fault}"));
        announce(shim, &target);
    });
}

/// Tells of an end, or keeps that of a container's first process until its other processes have ended: after it,
/// containerd deletes the container, and nobody would hear of theirs.
fn announce(shim: &mut Shim, target: &Target) {
    let Ok(task) = shim.task(&target.id) else { return };
    let first = target.exec_id.is_empty();
    if first && task.execs.values().any(|exec| matches!(exec.phase, Phase::Starting | Phase::Running)) {
        task.end_is_held = true;
        return;
    }
    tell(shim, target);
    if !first {
        release(shim, &target.id);
    }
}

/// A process of Exec has ended, or could not be started: its container's end may have waited for that.
pub(crate) fn release(shim: &mut Shim, id: &str) {
    if shim.task(id).is_ok_and(|task| std::mem::take(&mut task.end_is_held)) {
        announce(shim, &Target { id: id.to_owned(), exec_id: String::new() });
    }
}

/// The container goes away: what was held is told now.
pub(crate) fn release_all(shim: &mut Shim, target: &Target) {
    if shim.task(&target.id).is_ok_and(|task| std::mem::take(&mut task.end_is_held)) {
        tell(shim, target);
    }
}

/// Tells of an end: those who wait for it, and containerd.
fn tell(shim: &mut Shim, target: &Target) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use std::sync::Arc;

    use containerd_shim::ExitSignal;
    use containerd_shim::api::Options;

    use crate::bundle::Config;
    use crate::publisher::Publisher;
    use crate::reply::{self, Answer};
    use crate::runtime::Runtime;
    use crate::stdio::Streams;
    use crate::task::Task;

    fn process(pid: i32, phase: Phase) -> Process {
        let mut process = Process::new(Streams::default(), Vec::new(), phase);
        process.pid = pid;
        process
    }

    /// A shim with a container "web" whose first process is 10.
    fn shim() -> Shim {
        let publisher = Publisher::new("/no-such", "default".into());
        let mut shim = Shim::new("default".into(), publisher, Arc::new(ExitSignal::default()));
        let (bundle, options) = (Path::new("/b"), Options::default());
        let task = Task {
            bundle: bundle.to_owned(),
            runtime: Runtime::new(&options, "default", bundle, &Config::default()),
            options,
            checkpoint: String::new(),
            own_pids: true,
            init: process(10, Phase::Running),
            execs: Default::default(),
            end_is_held: false,
            cgroup: None,
        };
        shim.tasks.insert("web".into(), task);
        shim
    }

    #[tokio::test]
    async fn a_number_that_had_an_ended_process_is_the_later_one_s() {
        let mut shim = shim();
        let execs = &mut shim.tasks.get_mut("web").unwrap().execs;
        execs.insert("earlier".into(), process(20, Phase::Stopped));
        execs.insert("later".into(), process(20, Phase::Running));
        on_end(&mut shim, 20, 7);
        let later = &shim.tasks["web"].execs["later"];
        assert_eq!((later.phase, later.status), (Phase::Stopped, 7));
        assert_eq!(shim.tasks["web"].execs["earlier"].status, 0);
    }

    #[tokio::test]
    async fn an_orphan_s_end_is_not_that_of_a_later_process() {
        let mut shim = shim();
        let mut command = std::process::Command::new("setpriv");
        let mut child = command.args(["--pdeathsig", "KILL", "sleep", "1000"]).spawn().unwrap();
        let pid = child.id() as i32;
        let target = Target { id: "web".into(), exec_id: "later".into() };
        shim.tasks.get_mut("web").unwrap().execs.insert("later".into(), process(pid, Phase::Running));
        shim.strays.insert(pid, 5);
        catch_up(&mut shim, &target);
        let phase = |shim: &Shim| shim.tasks["web"].execs["later"].phase;
        assert_eq!((phase(&shim), shim.strays.len()), (Phase::Running, 0));
        child.kill().unwrap();
        child.wait().unwrap();
        shim.strays.insert(pid, 137);
        catch_up(&mut shim, &target);
        assert_eq!(phase(&shim), Phase::Stopped);
    }

    #[tokio::test]
    async fn a_container_s_end_is_told_after_those_of_its_execs() {
        let mut shim = shim();
        let task = shim.tasks.get_mut("web").unwrap();
        task.execs.insert("one".into(), process(20, Phase::Running));
        let (reply, answer): (_, Answer<WaitResponse>) = reply::pair();
        task.init.waiters.push(reply);
        on_end(&mut shim, 10, 3);
        let task = &shim.tasks["web"];
        assert!(task.end_is_held && task.init.phase == Phase::Stopped && task.init.waiters.len() == 1);
        on_end(&mut shim, 20, 4);
        assert!(!shim.tasks["web"].end_is_held);
        assert_eq!(answer.get().await.unwrap().exit_status, 3);
    }
}
