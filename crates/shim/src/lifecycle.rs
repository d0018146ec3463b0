//! Create, Exec, Start, Delete: how processes come and go.

use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rtc_sys::CallExt;

use crate::api::{Create, Exec, Target};
use crate::bundle::Config;
use crate::cgroup::Watched;
use crate::console::ConsoleSocket;
use crate::events::Event;
use crate::exits;
use crate::fault::{Code, Fault, Result};
use crate::moment::Moment;
use crate::mounts;
use crate::options::Options;
use crate::runtime::{Call, Runtime};
use crate::shim::Shim;
use crate::stdio::Opened;
use crate::task::{Caller, Phase, Process, Task};
use crate::wire::Message;

/// An answer; none if it comes later.
pub(crate) type Answer = Result<Option<Message>>;

/// The root file system in a bundle.
pub(crate) const ROOTFS: &str = "rootfs";
/// The first process's pid in a bundle.
pub(crate) const PID_FILE: &str = "init.pid";

/// Create: mounts the root file system and lets rtc make the container; one that is to be restored waits for Start.
pub(crate) fn create(shim: &mut Shim, caller: Caller, payload: &[u8]) -> Answer {
    let request = Create::parse(payload)?;
    let id = request.id.clone();
    if shim.tasks.contains_key(&id) {
        return Err(Fault::new(Code::AlreadyExists, format!("container {id} exists")));
    }
    let bundle = PathBuf::from(&request.bundle);
    let config = Config::load(&bundle)?;
    let mut options = Options::from_any(&request.options)?;
    options.save(&bundle)?;
    mounts::mount_all(&request.rootfs, &bundle.join(ROOTFS))?;
    let image = std::mem::take(&mut options.image_path);
    let checkpoint = if request.checkpoint.is_empty() { image } else { request.checkpoint.clone() };
    let restores = !checkpoint.is_empty();
    let phase = if restores { Phase::Created } else { Phase::Making };
    let task = Task {
        runtime: Runtime::new(&options, &shim.namespace, &bundle, &config),
        bundle,
        options,
        checkpoint,
        own_pids: config.has_own_pids(),
        init: Process::new(request.streams.clone(), Vec::new(), phase),
        execs: Default::default(),
        cgroup: None,
    };
    shim.tasks.insert(id.clone(), task);
    if restores {
        created(shim, request, 0);
        return Ok(Some(Message::new()));
    }
    let made = make(
        shim,
        &id,
        "create",
        |_| {},
        move |shim, outcome| match outcome {
            Ok(pid) => {
                let target = Target { id: request.id.clone(), exec_id: String::new() };
                created(shim, request, pid);
                shim.reply(caller, Ok(Message::new().number(1, pid.into())));
                exits::catch_up(shim, &target);
            }
            Err(fault) => {
                forget(shim, &request.id);
                shim.reply(caller, Err(fault));
            }
        },
    );
    made.inspect_err(|_| forget(shim, &id)).map(|()| None)
}

fn created(shim: &mut Shim, request: Create, pid: u32) {
    if let Ok(task) = shim.task(&request.id) {
        task.init.phase = Phase::Created;
    }
    let Create { id, bundle, rootfs, streams, checkpoint, .. } = request;
    shim.publish(&Event::Create { id, bundle, rootfs, streams, checkpoint, pid });
}

/// Takes back what Create did.
fn forget(shim: &mut Shim, id: &str) {
    let Some(task) = shim.tasks.remove(id) else { return };
    if let Err(fault) = mounts::unmount_all(&task.bundle.join(ROOTFS)) {
        shim.log.error(&fault.message);
    }
}

/// Calls rtc for a container's first process, by `create` or `restore`; `then` gets its pid.
fn make(
    shim: &mut Shim,
    id: &str,
    deed: &'static str,
    extend: impl FnOnce(&mut Call),
    then: impl FnOnce(&mut Shim, Result<u32>) + 'static,
) -> Result<()> {
    let target = Target { id: id.to_owned(), exec_id: String::new() };
    let mut call = shim.call(id, deed)?;
    let task = shim.task(id)?;
    let pid_file = task.bundle.join(PID_FILE);
    call.command.arg("--bundle").arg(&task.bundle).arg("--pid-file").arg(&pid_file);
    for (flag, given) in [("--no-pivot", task.options.no_pivot_root), ("--no-new-keyring", task.options.no_new_keyring)]
    {
        if given {
            call.command.arg(flag);
        }
    }
    extend(&mut call);
    let console = connect(shim, &target, &mut call)?;
    call.command.arg(id);
    shim.launch(call, move |shim, outcome| {
        let pid = outcome.and_then(|()| adopt(shim, &target, &pid_file, console.as_ref()));
        then(shim, pid);
    })
}

/// Gives a call the process's input and output, or a socket for its terminal.
fn connect(shim: &mut Shim, target: &Target, call: &mut Call) -> Result<Option<ConsoleSocket>> {
    let namespace = shim.namespace.clone();
    let task = shim.task(&target.id)?;
    let options = task.options.clone();
    let process = task.process_mut(&target.exec_id).ok_or_else(|| Fault::not_found("process", &target.exec_id))?;
    if process.streams.terminal {
        let console = ConsoleSocket::new()?;
        call.command.arg("--console-socket").arg(console.path());
        return Ok(Some(console));
    }
    let mut opened = Opened::plain(&process.streams, &options, [&target.id, &namespace])?;
    let [stdin, stdout, stderr] = std::mem::take(&mut opened.given);
    if let Some(fd) = stdin {
        call.command.stdin(fd);
    }
    if let Some(fd) = stdout {
        call.command.stdout(fd);
    }
    if let Some(fd) = stderr {
        call.command.stderr(fd);
    }
    process.keep(opened);
    Ok(None)
}

/// Takes over the process that rtc has made.
fn adopt(shim: &mut Shim, target: &Target, pid_file: &Path, console: Option<&ConsoleSocket>) -> Result<u32> {
    let text = fs::read_to_string(pid_file).call("read", pid_file.display())?;
    let pid: i32 = text.trim().parse()?;
    let namespace = shim.namespace.clone();
    let task = shim.task(&target.id)?;
    if target.exec_id.is_empty() {
        // It may have ended, and then there is nothing to watch.
        task.cgroup = Watched::of(pid).ok();
    }
    let process = shim.process(target)?;
    process.pid = pid;
    if let Some(console) = console {
        let master = console.receive()?;
        let opened = Opened::terminal(&process.streams, &master, [&target.id, &namespace])?;
        process.keep(opened);
        process.console = Some(master);
    }
    Ok(process.pid())
}

/// Exec: takes note of a process that Start will make.
pub(crate) fn exec(shim: &mut Shim, _: Caller, payload: &[u8]) -> Answer {
    let Exec { target: Target { id, exec_id }, streams, spec } = Exec::parse(payload)?;
    // It becomes part of a file's name.
    if exec_id.is_empty() || exec_id.starts_with('.') || exec_id.contains('/') {
        return Err(Fault::new(Code::InvalidArgument, format!("{exec_id:?} is no name for a process")));
    }
    let task = shim.task(&id)?;
    if task.execs.contains_key(&exec_id) {
        return Err(Fault::new(Code::AlreadyExists, format!("process {exec_id} exists")));
    }
    task.execs.insert(exec_id.clone(), Process::new(streams, spec, Phase::Created));
    shim.publish(&Event::ExecAdded { id, exec_id });
    Ok(Some(Message::new()))
}

/// Start.
pub(crate) fn start(shim: &mut Shim, caller: Caller, payload: &[u8]) -> Answer {
    let target = Target::parse(payload)?;
    let process = shim.process(&target)?;
    if process.phase != Phase::Created {
        return Err(Fault::new(
            Code::FailedPrecondition,
            format!("cannot start a process that is {:?}", process.phase),
        ));
    }
    process.phase = Phase::Starting;
    let launched = if !target.exec_id.is_empty() {
        start_exec(shim, caller, &target)
    } else if shim.task(&target.id)?.checkpoint.is_empty() {
        start_init(shim, caller, &target)
    } else {
        restore(shim, caller, &target)
    };
    launched.inspect_err(|_| not_started(shim, &target)).map(|()| None)
}

fn start_init(shim: &mut Shim, caller: Caller, target: &Target) -> Result<()> {
    let mut call = shim.call(&target.id, "start")?;
    call.command.arg(&target.id);
    let target = target.clone();
    shim.launch(call, move |shim, outcome| {
        let pid = outcome.and_then(|()| Ok(shim.process(&target)?.pid()));
        started(shim, caller, &target, pid);
    })
}

fn restore(shim: &mut Shim, caller: Caller, target: &Target) -> Result<()> {
    let task = shim.task(&target.id)?;
    let (image, work) = (task.checkpoint.clone(), task.bundle.join("work"));
    let target = target.clone();
    let extend = |call: &mut Call| {
        call.command.arg("--image-path").arg(image).arg("--work-path").arg(work).args(["--detach", "--no-subreaper"]);
    };
    make(shim, &target.id.clone(), "restore", extend, move |shim, pid| started(shim, caller, &target, pid))
}

fn start_exec(shim: &mut Shim, caller: Caller, target: &Target) -> Result<()> {
    let mut call = shim.call(&target.id, "exec")?;
    let bundle = shim.task(&target.id)?.bundle.clone();
    let pid_file = bundle.join(format!("{}.pid", target.exec_id));
    let spec_file = bundle.join(format!("{}-process.json", target.exec_id));
    let spec = std::mem::take(&mut shim.process(target)?.spec);
    // It may hold secrets, in its environment.
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&spec_file)?;
    std::io::Write::write_all(&mut file, &spec)?;
    call.command.arg("--process").arg(&spec_file).arg("--detach").arg("--pid-file").arg(&pid_file);
    let console = connect(shim, target, &mut call)?;
    call.command.arg(&target.id);
    let target = target.clone();
    shim.launch(call, move |shim, outcome| {
        let pid = outcome.and_then(|()| adopt(shim, &target, &pid_file, console.as_ref()));
        for file in [&spec_file, &pid_file] {
            let _ = fs::remove_file(file);
        }
        started(shim, caller, &target, pid);
    })
}

/// rtc has started a process, or has not.
fn started(shim: &mut Shim, caller: Caller, target: &Target, pid: Result<u32>) {
    if let Ok(pid) = pid {
        if let Ok(process) = shim.process(target) {
            process.phase = Phase::Running;
        }
        let Target { id, exec_id } = target.clone();
        let event = match exec_id.is_empty() {
            true => Event::Start { id, pid },
            false => Event::ExecStarted { id, exec_id, pid },
        };
        shim.publish(&event);
    } else {
        not_started(shim, target);
    }
    shim.reply(caller, pid.map(|pid| Message::new().number(1, pid.into())));
    exits::catch_up(shim, target);
}

/// A container can be started again or deleted; a process that could not be made has ended.
fn not_started(shim: &mut Shim, target: &Target) {
    let Ok(process) = shim.process(target) else { return };
    if target.exec_id.is_empty() {
        process.phase = Phase::Created;
        return;
    }
    process.end(255);
    let status = process.status;
    for waiter in std::mem::take(&mut process.waiters) {
        shim.reply(waiter, Ok(exits::waited(status, Moment::now())));
    }
}

/// Delete: of what has ended, or was never started.
pub(crate) fn delete(shim: &mut Shim, caller: Caller, payload: &[u8]) -> Answer {
    let target = Target::parse(payload)?;
    let process = shim.process(&target)?;
    if !matches!(process.phase, Phase::Created | Phase::Stopped) {
        return Err(Fault::new(Code::FailedPrecondition, "cannot delete a running process"));
    }
    let (pid, status) = (process.pid(), process.status);
    let at = process.exited_at.unwrap_or_else(Moment::now);
    let answer = Message::new().number(1, pid.into()).number(2, status.into()).message(3, at.message());
    if !target.exec_id.is_empty() {
        shim.task(&target.id)?.execs.remove(&target.exec_id);
        return Ok(Some(answer));
    }
    let mut call = shim.call(&target.id, "delete")?;
    // What was created and never started still has a process; what was to be restored never was one.
    call.command.args(["--force", &target.id]);
    shim.launch(call, move |shim, outcome| {
        let gone = |fault: &Fault| fault.code == Code::NotFound;
        let outcome = outcome.or_else(|fault| if gone(&fault) { Ok(()) } else { Err(fault) });
        let outcome = outcome.and_then(|()| mounts::unmount_all(&shim.task(&target.id)?.bundle.join(ROOTFS)));
        if outcome.is_ok() {
            shim.tasks.remove(&target.id);
            shim.publish(&Event::Delete { id: target.id, pid, status, at });
        }
        shim.reply(caller, outcome.map(|()| answer));
    })?;
    Ok(None)
}
