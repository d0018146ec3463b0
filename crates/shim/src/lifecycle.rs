//! Create, Exec, Start, Delete: how processes come and go.

use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use containerd_shim::api::{
    CreateTaskRequest, CreateTaskResponse, DeleteRequest, DeleteResponse, Empty, ExecProcessRequest, StartRequest,
    StartResponse,
};
use containerd_shim::protos::events::task::{
    TaskCreate, TaskDelete, TaskExecAdded, TaskExecStarted, TaskIO, TaskOOM, TaskStart,
};
use containerd_shim::protos::protobuf::MessageField;
use containerd_shim::protos::protobuf::well_known_types::timestamp::Timestamp;
use rtc_sys::CallExt;

use crate::bundle::Config;
use crate::cgroup::Watched;
use crate::console::ConsoleSocket;
use crate::exits;
use crate::fault::{Code, Fault, Result};
use crate::logger::Logger;
use crate::mounts;
use crate::options;
use crate::pump::Pump;
use crate::reply::Reply;
use crate::runtime::{Call, Runtime};
use crate::shim::Shim;
use crate::stdio::{Opened, Streams};
use crate::task::{Phase, Process, Target, Task};

/// The root file system in a bundle.
pub(crate) const ROOTFS: &str = "rootfs";
/// The first process's pid in a bundle.
pub(crate) const PID_FILE: &str = "init.pid";

/// Create: mounts the root file system and lets rtc make the container; one that is to be restored waits for Start.
pub(crate) fn create(shim: &mut Shim, request: CreateTaskRequest, reply: Reply<CreateTaskResponse>) -> Result<()> {
    let id = request.id.clone();
    if shim.tasks.contains_key(&id) {
        return Err(Fault::new(Code::ALREADY_EXISTS, format!("container {id} exists")));
    }
    let task = prepare(shim, &request)?;
    let restores = !task.checkpoint.is_empty();
    shim.tasks.insert(id.clone(), task);
    if restores {
        created(shim, request, 0);
        reply.send(Ok(CreateTaskResponse::new()));
        return Ok(());
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
                reply.send(Ok(CreateTaskResponse { pid, ..CreateTaskResponse::default() }));
                exits::catch_up(shim, &target);
            }
            Err(fault) => {
                forget(shim, &request.id);
                reply.send(Err(fault));
            }
        },
    );
    made.inspect_err(|_| forget(shim, &id))
}

/// Reads the bundle and mounts the root file system.
fn prepare(shim: &Shim, request: &CreateTaskRequest) -> Result<Task> {
    let bundle = PathBuf::from(&request.bundle);
    let config = Config::load(&bundle)?;
    let options = options::from_any(&request.options)?;
    options::save(&options, &bundle)?;
    mounts::mount_all(&request.rootfs, &bundle.join(ROOTFS))?;
    let image = [&request.checkpoint, &options.criu_image_path].into_iter().find(|path| !path.is_empty());
    let checkpoint = image.cloned().unwrap_or_default();
    let phase = if checkpoint.is_empty() { Phase::Making } else { Phase::Created };
    let streams = Streams {
        terminal: request.terminal,
        stdin: request.stdin.clone(),
        stdout: request.stdout.clone(),
        stderr: request.stderr.clone(),
    };
    Ok(Task {
        runtime: Runtime::new(&options, &shim.namespace, &bundle, &config),
        bundle,
        options,
        checkpoint,
        own_pids: config.has_own_pids(),
        init: Process::new(streams, Vec::new(), phase),
        execs: Default::default(),
        end_is_held: false,
        cgroup: None,
    })
}

fn created(shim: &mut Shim, request: CreateTaskRequest, pid: u32) {
    if let Ok(task) = shim.task(&request.id) {
        task.init.phase = Phase::Created;
    }
    let CreateTaskRequest { id, bundle, rootfs, terminal, stdin, stdout, stderr, checkpoint, .. } = request;
    let io = MessageField::some(TaskIO { stdin, stdout, stderr, terminal, ..TaskIO::default() });
    shim.publish(&TaskCreate { container_id: id, bundle, rootfs, io, checkpoint, pid, ..TaskCreate::default() });
}

/// Takes back what Create did.
fn forget(shim: &mut Shim, id: &str) {
    let Some(task) = shim.tasks.remove(id) else { return };
    if let Err(fault) = mounts::unmount_all(&task.bundle.join(ROOTFS)) {
        log::error!("{fault}");
    }
}

/// Calls rtc for a container's first process, by `create` or `restore`; `then` gets its pid.
fn make(
    shim: &mut Shim,
    id: &str,
    deed: &'static str,
    extend: impl FnOnce(&mut Call),
    then: impl FnOnce(&mut Shim, Result<u32>) + Send + 'static,
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
    shim.launch(call, move |shim, outcome| match outcome {
        Ok(()) => match adopt(shim, &target, &pid_file, console.as_ref()) {
            Ok(pid) => then(shim, Ok(pid)),
            Err(fault) => take_back(shim, &target.id, fault, then),
        },
        Err(fault) => then(shim, Err(fault)),
    });
    Ok(())
}

/// Removes a container that rtc has made and that can't be used, before `then` is told of it.
fn take_back(shim: &mut Shim, id: &str, fault: Fault, then: impl FnOnce(&mut Shim, Result<u32>) + Send + 'static) {
    let mut call = match shim.call(id, "delete") {
        Ok(call) => call,
        Err(gone) => return then(shim, Err(gone)),
    };
    call.command.args(["--force", id]);
    shim.launch(call, move |shim, outcome| {
        if let Err(left) = outcome {
            log::error!("{left}");
        }
        then(shim, Err(fault));
    });
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
    let pid = read_pid(pid_file)?;
    let namespace = shim.namespace.clone();
    if target.exec_id.is_empty() {
        let (publisher, id) = (shim.publisher.clone(), target.id.clone());
        let tell = move || publisher.publish(&TaskOOM { container_id: id.clone(), ..TaskOOM::default() });
        // It may have ended, and then there is nothing to watch.
        let task = shim.task(&target.id)?;
        task.cgroup = Watched::of(pid, task.runtime.is_systemd(), tell).ok();
    }
    let process = shim.process(target)?;
    if let Some(console) = console {
        let master = console.receive()?;
        let opened = Opened::terminal(&process.streams, &master, [&target.id, &namespace])?;
        process.keep(opened);
        process.console = Some(master);
    }
    process.pid = pid;
    Ok(process.pid())
}

fn read_pid(pid_file: &Path) -> Result<i32> {
    let text = fs::read_to_string(pid_file).call("read", pid_file.display())?;
    Ok(text.trim().parse()?)
}

/// Exec: takes note of a process that Start will make.
pub(crate) fn exec(shim: &mut Shim, request: ExecProcessRequest) -> Result<Empty> {
    let ExecProcessRequest { id, exec_id, terminal, stdin, stdout, stderr, spec, .. } = request;
    // It becomes part of a file's name.
    if exec_id.is_empty() || exec_id.starts_with('.') || exec_id.contains('/') {
        return Err(Fault::new(Code::INVALID_ARGUMENT, format!("{exec_id:?} is no name for a process")));
    }
    let task = shim.task(&id)?;
    if task.execs.contains_key(&exec_id) {
        return Err(Fault::new(Code::ALREADY_EXISTS, format!("process {exec_id} exists")));
    }
    let spec = spec.into_option().unwrap_or_default().value;
    let streams = Streams { terminal, stdin, stdout, stderr };
    task.execs.insert(exec_id.clone(), Process::new(streams, spec, Phase::Created));
    shim.publish(&TaskExecAdded { container_id: id, exec_id, ..TaskExecAdded::default() });
    Ok(Empty::new())
}

/// Start.
pub(crate) fn start(shim: &mut Shim, request: StartRequest, reply: Reply<StartResponse>) -> Result<()> {
    let target = Target { id: request.id, exec_id: request.exec_id };
    let process = shim.process(&target)?;
    if process.phase != Phase::Created {
        return Err(Fault::new(
            Code::FAILED_PRECONDITION,
            format!("cannot start a process that is {:?}", process.phase),
        ));
    }
    process.phase = Phase::Starting;
    let launched = if !target.exec_id.is_empty() {
        start_exec(shim, reply, &target)
    } else if shim.task(&target.id)?.checkpoint.is_empty() {
        start_init(shim, reply, &target)
    } else {
        restore(shim, reply, &target)
    };
    launched.inspect_err(|_| not_started(shim, &target))
}

fn start_init(shim: &mut Shim, reply: Reply<StartResponse>, target: &Target) -> Result<()> {
    let mut call = shim.call(&target.id, "start")?;
    call.command.arg(&target.id);
    let target = target.clone();
    shim.launch(call, move |shim, outcome| {
        let pid = outcome.and_then(|()| Ok(shim.process(&target)?.pid()));
        started(shim, reply, &target, pid);
    });
    Ok(())
}

fn restore(shim: &mut Shim, reply: Reply<StartResponse>, target: &Target) -> Result<()> {
    let task = shim.task(&target.id)?;
    let own_work = task.options.criu_work_path.is_empty();
    let work = if own_work { task.bundle.join("work") } else { task.options.criu_work_path.clone().into() };
    let image = task.checkpoint.clone();
    let target = target.clone();
    let extend = |call: &mut Call| {
        call.command.arg("--image-path").arg(image).arg("--work-path").arg(work).args(["--detach", "--no-subreaper"]);
    };
    make(shim, &target.id.clone(), "restore", extend, move |shim, pid| started(shim, reply, &target, pid))
}

fn start_exec(shim: &mut Shim, reply: Reply<StartResponse>, target: &Target) -> Result<()> {
    let mut call = shim.call(&target.id, "exec")?;
    let files = ExecFiles::in_bundle(&shim.task(&target.id)?.bundle, &target.exec_id);
    let spec = std::mem::take(&mut shim.process(target)?.spec);
    // It may hold secrets, in its environment.
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&files.spec)?;
    std::io::Write::write_all(&mut file, &spec)?;
    call.command.arg("--process").arg(&files.spec).arg("--detach").arg("--pid-file").arg(&files.pid);
    let console = connect(shim, target, &mut call)?;
    call.command.arg(&target.id);
    let target = target.clone();
    shim.launch(call, move |shim, outcome| {
        let pid = outcome.and_then(|()| {
            let adopted = adopt(shim, &target, &files.pid, console.as_ref());
            adopted.inspect_err(|_| exits::kill_child(read_pid(&files.pid).unwrap_or_default()))
        });
        drop(files);
        started(shim, reply, &target, pid);
    });
    Ok(())
}

/// What a call of `exec` reads and writes; it goes away with this.
struct ExecFiles {
    spec: PathBuf,
    pid: PathBuf,
}

impl ExecFiles {
    fn in_bundle(bundle: &Path, exec_id: &str) -> Self {
        // Not `NAME.pid`: an exec may be called "init".
        Self { spec: bundle.join(format!("exec-{exec_id}.json")), pid: bundle.join(format!("exec-{exec_id}.pid")) }
    }
}

impl Drop for ExecFiles {
    fn drop(&mut self) {
        for file in [&self.spec, &self.pid] {
            let _ = fs::remove_file(file);
        }
    }
}

/// rtc has started a process, or has not.
fn started(shim: &mut Shim, reply: Reply<StartResponse>, target: &Target, pid: Result<u32>) {
    if let Ok(pid) = pid {
        if let Ok(process) = shim.process(target) {
            process.phase = Phase::Running;
        }
        // Its container has ended in the meantime, and whoever ended the other processes then has not seen this one.
        if !target.exec_id.is_empty() && shim.task(&target.id).is_ok_and(|task| task.init.phase == Phase::Stopped) {
            exits::kill_child(pid as i32);
        }
        let Target { id: container_id, exec_id } = target.clone();
        match exec_id.is_empty() {
            true => shim.publish(&TaskStart { container_id, pid, ..TaskStart::default() }),
            false => shim.publish(&TaskExecStarted { container_id, exec_id, pid, ..TaskExecStarted::default() }),
        }
    } else {
        not_started(shim, target);
    }
    reply.send(pid.map(|pid| StartResponse { pid, ..StartResponse::default() }));
    exits::catch_up(shim, target);
}

/// A container can be started again or deleted; a process that could not be made has ended.
fn not_started(shim: &mut Shim, target: &Target) {
    let Ok(process) = shim.process(target) else { return };
    if target.exec_id.is_empty() {
        process.phase = Phase::Created;
        // Another start of one that is to be restored opens them anew; one that is there has them.
        if process.pid == 0 {
            process.release();
        }
        return;
    }
    process.end(255);
    let status = process.status;
    for waiter in std::mem::take(&mut process.waiters) {
        waiter.send(Ok(exits::waited(status, Timestamp::now())));
    }
    exits::release(shim, &target.id);
}

/// The pumps that may still carry output of a process that is to be deleted.
pub(crate) fn outputs(shim: &mut Shim, request: &DeleteRequest) -> Result<Vec<Pump>> {
    let target = Target { id: request.id.clone(), exec_id: request.exec_id.clone() };
    Ok(shim.process(&target)?.take_outputs())
}

/// What Delete answers, and the process's logging program, which is to end before that.
pub(crate) type Deleted = (DeleteResponse, Option<Logger>);

/// Delete: of what has ended, or was never started.
pub(crate) fn delete(shim: &mut Shim, request: DeleteRequest, reply: Reply<Deleted>) -> Result<()> {
    let target = Target { id: request.id, exec_id: request.exec_id };
    let process = shim.process(&target)?;
    if !matches!(process.phase, Phase::Created | Phase::Stopped) {
        return Err(Fault::new(Code::FAILED_PRECONDITION, "cannot delete a running process"));
    }
    let answer = deleted(process);
    if !target.exec_id.is_empty() {
        let exec = shim.task(&target.id)?.execs.remove(&target.exec_id);
        reply.send(Ok((answer, exec.and_then(|mut exec| exec.logger.take()))));
        return Ok(());
    }
    let mut call = shim.call(&target.id, "delete")?;
    // What was created and never started still has a process; what was to be restored never was one.
    call.command.args(["--force", &target.id]);
    shim.launch(call, move |shim, outcome| {
        let gone = |fault: &Fault| fault.code == Code::NOT_FOUND;
        let outcome = outcome.or_else(|fault| if gone(&fault) { Ok(()) } else { Err(fault) });
        let outcome = outcome.and_then(|()| mounts::unmount_all(&shim.task(&target.id)?.bundle.join(ROOTFS)));
        // One that was never started has ended only now.
        let answer = shim.process(&target).map(|process| deleted(process)).unwrap_or(answer);
        let mut logger = None;
        if outcome.is_ok() {
            exits::release_all(shim, &target);
            logger = shim.tasks.remove(&target.id).and_then(|mut task| task.init.logger.take());
            let (container_id, id) = (target.id.clone(), target.id);
            let DeleteResponse { pid, exit_status, exited_at, .. } = answer.clone();
            shim.publish(&TaskDelete { container_id, id, pid, exit_status, exited_at, ..TaskDelete::default() });
        }
        reply.send(outcome.map(|()| (answer, logger)));
    });
    Ok(())
}

fn deleted(process: &Process) -> DeleteResponse {
    let exited_at = MessageField::some(process.exited_at.clone().unwrap_or_else(Timestamp::now));
    DeleteResponse { pid: process.pid(), exit_status: process.status, exited_at, ..DeleteResponse::default() }
}
