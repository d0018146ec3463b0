//! The shim as containerd uses it: its task API over ttrpc, with rtc behind it, on this host. The tests are containerd.
//!
//! Left out: what needs controllers in cgroup version 2 (integration/).
#![forbid(unsafe_code)]

mod edges;
mod generations;
mod leaks;

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use containerd_shim::api::{
    CreateTaskRequest, DeleteRequest, DeleteResponse, Empty, ExecProcessRequest, KillRequest, Options, ShutdownRequest,
    StartRequest, WaitRequest,
};
use containerd_shim::protos::events::task::TaskExit;
use containerd_shim::protos::protobuf::well_known_types::any::Any;
use containerd_shim::protos::protobuf::{Message, MessageField};
use containerd_shim::protos::shim::events::ForwardRequest;
use containerd_shim::protos::shim_async::{Client, Events, TaskClient, create_events};
use containerd_shim::protos::ttrpc::asynchronous::Server;
use containerd_shim::protos::ttrpc::context::with_duration;
use containerd_shim::protos::ttrpc::{Code, Error};
use containerd_shim::util::JsonOptions;
use containerd_shim::{Context, TtrpcContext, TtrpcResult};
use rtc_tests::Bundle;
use rtc_tests::command::Runtime;
use rtc_tests::scratch::Scratch;
use rtc_tests::session::make_fifo;
use serde_json::json;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::spawn_blocking;

/// Passes on what it is told.
struct Containerd(UnboundedSender<(String, Vec<u8>)>);

#[async_trait]
impl Events for Containerd {
    async fn forward(&self, _: &TtrpcContext, request: ForwardRequest) -> TtrpcResult<Empty> {
        let envelope = request.envelope.unwrap_or_default();
        let _ = self.0.send((envelope.topic, envelope.event.unwrap_or_default().value));
        Ok(Empty::new())
    }
}

/// What a shim is started with: a containerd, and a bundle to make a container from.
struct Stage {
    events: UnboundedReceiver<(String, Vec<u8>)>,
    /// containerd's socket for events.
    containerd: PathBuf,
    bundle: PathBuf,
    runtime: Runtime,
    id: String,
    _server: Server,
    scratch: Scratch,
}

impl Stage {
    async fn new(name: &str, script: &str, change: impl FnOnce(Bundle) -> Bundle) -> Self {
        let id = format!("shim-{name}-{}", std::process::id());
        let scratch = Scratch::new(&id);
        let bundle = Bundle::empty(scratch.path().join("bundle")).file("/bin/busybox".as_ref(), "/bin/busybox");
        let bundle = change(bundle.args(&["/bin/busybox", "sh", "-c", script])).write();
        let runtime = Runtime::new(scratch.path().join("state"));
        let (told, events) = unbounded_channel();
        let containerd = scratch.path().join("containerd.sock.ttrpc");
        let server = Server::new().bind(&format!("unix://{}", containerd.display())).unwrap();
        let mut server = server.register_service(create_events(Arc::new(Containerd(told))));
        server.start().await.unwrap();
        Self { events, containerd, bundle, runtime, id, _server: server, scratch }
    }

    /// The runtime's options.
    fn options(&self) -> Any {
        self.options_with(&self.runtime.words()[0])
    }

    /// With another program in rtc's place.
    fn options_with(&self, program: &str) -> Any {
        let root = self.scratch.path().to_string_lossy().into_owned();
        let options = Options { binary_name: program.to_owned(), root, ..Options::default() };
        let type_url = "containerd.runc.v1.Options".to_owned();
        Any { type_url, value: options.write_to_bytes().unwrap(), ..Any::default() }
    }

    /// The topics of all events, those of ends with the process that has ended.
    fn topics(&mut self) -> Vec<String> {
        let mut topics = Vec::new();
        while let Ok((topic, body)) = self.events.try_recv() {
            let name = topic.trim_start_matches("/tasks/");
            topics.push(match name {
                "exit" => {
                    let id = TaskExit::parse_from_bytes(&body).unwrap().id;
                    format!("exit of {}", if id == self.id { "init" } else { &id })
                }
                _ => name.to_owned(),
            });
        }
        topics
    }
}

/// A shim that serves.
struct Shim {
    process: Option<Child>,
    api: TaskClient,
    stage: Stage,
}

impl Shim {
    async fn start(name: &str, script: &str, change: impl FnOnce(Bundle) -> Bundle) -> Self {
        let stage = Stage::new(name, script, change).await;
        let socket = format!("unix://{}", stage.scratch.path().join("socket").display());
        // It ends with this process, however that ends.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(shim_beside(&stage.runtime));
        command.args(["-namespace", "state", "-id", &stage.id, "-address", "/no-such", "-socket", &socket]);
        command.env("TTRPC_ADDRESS", &stage.containerd).current_dir(&stage.bundle);
        let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        // It closes its output when it serves.
        process.stdout.take().unwrap().read_to_end(&mut Vec::new()).unwrap();
        let api = TaskClient::new(Client::connect(&socket).await.unwrap());
        Self { process: Some(process), api, stage }
    }

    fn fifo(&self, name: &str) -> PathBuf {
        let path = self.stage.scratch.path().join(name);
        make_fifo(&path);
        path
    }

    async fn create(&self, terminal: bool, stdout: &Path) -> TtrpcResult<u32> {
        let stdout = stdout.to_string_lossy().into_owned();
        self.create_with(|request| CreateTaskRequest { terminal, stdout, ..request }).await
    }

    async fn create_with(&self, change: impl FnOnce(CreateTaskRequest) -> CreateTaskRequest) -> TtrpcResult<u32> {
        let request = CreateTaskRequest {
            id: self.stage.id.clone(),
            bundle: self.stage.bundle.to_string_lossy().into_owned(),
            options: MessageField::some(self.stage.options()),
            ..CreateTaskRequest::default()
        };
        Ok(self.api.create(patience(), &change(request)).await?.pid)
    }

    async fn try_to_begin(&self, exec_id: &str) -> TtrpcResult<u32> {
        let request = StartRequest { id: self.stage.id.clone(), exec_id: exec_id.into(), ..StartRequest::default() };
        Ok(self.api.start(patience(), &request).await?.pid)
    }

    async fn begin(&self, exec_id: &str) -> u32 {
        self.try_to_begin(exec_id).await.unwrap()
    }

    async fn add(&self, exec_id: &str, terminal: bool, stdout: &Path, args: &[&str]) {
        let spec = json!({ "args": args, "cwd": "/", "user": { "uid": 0, "gid": 0 }, "terminal": terminal });
        let request = ExecProcessRequest {
            id: self.stage.id.clone(),
            exec_id: exec_id.into(),
            terminal,
            stdout: stdout.to_string_lossy().into_owned(),
            spec: MessageField::some(Any { value: spec.to_string().into(), ..Any::default() }),
            ..ExecProcessRequest::default()
        };
        self.api.exec(patience(), &request).await.unwrap();
    }

    async fn exec(&self, exec_id: &str, terminal: bool, stdout: &Path, args: &[&str]) {
        self.add(exec_id, terminal, stdout, args).await;
        self.begin(exec_id).await;
    }

    /// What grows with what is forgotten: the shim's descriptors and children, the bundle's files.
    fn holdings(&self) -> [Vec<String>; 3] {
        let pid = self.process.as_ref().unwrap().id();
        let read = |folder: &Path| -> Vec<_> { std::fs::read_dir(folder).unwrap().map(Result::unwrap).collect() };
        let fds = read(format!("/proc/{pid}/fd").as_ref()).len();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        let mut files: Vec<_> =
            read(&self.stage.bundle).iter().map(|file| file.file_name().to_string_lossy().into()).collect();
        files.sort();
        [vec![fds.to_string()], vec![children], files]
    }

    async fn wait(&self, exec_id: &str) -> u32 {
        let request = WaitRequest { id: self.stage.id.clone(), exec_id: exec_id.into(), ..WaitRequest::default() };
        self.api.wait(patience(), &request).await.unwrap().exit_status
    }

    async fn kill(&self, signal: u32) -> TtrpcResult<Empty> {
        let request = KillRequest { id: self.stage.id.clone(), signal, ..KillRequest::default() };
        self.api.kill(patience(), &request).await
    }

    async fn delete(&self, exec_id: &str) -> u32 {
        let request = DeleteRequest { id: self.stage.id.clone(), exec_id: exec_id.into(), ..DeleteRequest::default() };
        self.api.delete(patience(), &request).await.unwrap().exit_status
    }

    /// Ends the shim; the topics of all events, those of ends with the process that has ended.
    async fn end(mut self) -> Vec<String> {
        // The answer may be lost with the shim.
        let _ = self.api.shutdown(patience(), &ShutdownRequest::default()).await;
        let mut process = self.process.take().unwrap();
        assert!(spawn_blocking(move || process.wait()).await.unwrap().unwrap().success());
        assert_eq!(self.stage.runtime.run(["list", "-q"]).stdout, "");
        self.stage.topics()
    }
}

impl Drop for Shim {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
            self.stage.runtime.run(["delete", "--force", &self.stage.id]);
        }
    }
}

/// The shim of the same build as rtc.
fn shim_beside(runtime: &Runtime) -> PathBuf {
    let path = Path::new(&runtime.words()[0]).with_file_name("containerd-shim-rtc-v2");
    assert!(path.is_file(), "{} is not built: cargo build -p rtc-shim", path.display());
    path
}

/// Only a hang meets it.
fn patience() -> Context {
    with_duration(Duration::from_secs(60))
}

fn none() -> &'static Path {
    Path::new("")
}

#[tokio::test]
async fn a_life_is_told_in_order() {
    let shim = Shim::start("life", "echo out; exit 7", |bundle| bundle).await;
    let out = shim.fifo("out");
    let fifo = out.clone();
    let reader = spawn_blocking(move || std::fs::read_to_string(fifo).unwrap());
    assert!(shim.create(false, &out).await.unwrap() > 0);
    shim.begin("").await;
    assert_eq!(shim.wait("").await, 7);
    assert_eq!(reader.await.unwrap(), "out\n");
    // Asked again, it is still known.
    assert_eq!(shim.wait("").await, 7);
    let Err(Error::RpcStatus(status)) = shim.kill(9).await else { panic!("it has ended") };
    assert_eq!(status.code(), Code::NOT_FOUND);
    assert_eq!(shim.delete("").await, 7);
    assert_eq!(shim.end().await, ["create", "start", "exit of init", "delete"]);
}

#[tokio::test]
async fn a_container_that_was_never_started_is_killed_by_its_deletion() {
    let shim = Shim::start("unstarted", "true", |bundle| bundle).await;
    shim.create(false, none()).await.unwrap();
    assert_eq!(shim.delete("").await, 137);
    assert_eq!(shim.end().await, ["create", "exit of init", "delete"]);
}

/// More than a fifo takes is still in the terminal when the process ends.
#[tokio::test]
async fn all_of_a_terminal_s_output_comes_before_the_answer_to_delete() {
    // 64 KiB in the fifo, 8 in the terminal (drivers/tty/pty.c).
    const LENGTH: usize = 72_000;
    let shim = Shim::start("terminal", "while :; do sleep 1000; done", |bundle| bundle).await;
    shim.create(false, none()).await.unwrap();
    shim.begin("").await;
    let out = shim.fifo("out");
    // Both ends, so that the shim's opening doesn't wait and nothing is read yet.
    let mut fifo = std::fs::File::options().read(true).write(true).open(&out).unwrap();
    let mut other = fifo.try_clone().unwrap();
    let script = format!("/bin/busybox yes | /bin/busybox tr -d '\\n' | /bin/busybox head -c {LENGTH}");
    shim.exec("long", true, &out, &["/bin/busybox", "sh", "-c", &script]).await;
    assert_eq!(shim.wait("long").await, 0);
    let reader = spawn_blocking(move || {
        let mut all = vec![0; LENGTH];
        fifo.read_exact(&mut all[..LENGTH]).unwrap();
        all
    });
    assert_eq!(shim.delete("long").await, 0);
    // Had it been lost, the reader would wait for ever: it is given something in its place, which the fifo takes as well.
    other.write_all(&[b'!'; LENGTH - 60_000]).unwrap();
    assert!(reader.await.unwrap().iter().all(|byte| *byte == b'y'));
    shim.kill(9).await.unwrap();
    shim.wait("").await;
    shim.delete("").await;
    shim.end().await;
}

/// Without an answer containerd would tell nobody that the container has ended.
#[test]
fn a_dead_shim_is_answered_for_where_rtc_can_t_be_called() {
    let scratch = Scratch::new(&format!("shim-dead-{}", std::process::id()));
    let bundle = Bundle::empty(scratch.path().join("bundle")).write();
    let options = Options { binary_name: "/no/such/rtc".into(), ..Options::default() };
    std::fs::write(bundle.join("options.json"), serde_json::to_vec(&JsonOptions::from(options)).unwrap()).unwrap();
    std::fs::write(bundle.join("init.pid"), "77").unwrap();
    let mut command = Command::new(shim_beside(&Runtime::new(scratch.path().join("state"))));
    command.args(["-namespace", "state", "-id", "web", "-address", "/no-such", "-bundle"]).arg(&bundle).arg("delete");
    let output = command.env("TTRPC_ADDRESS", "/no-such").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.contains("/no/such/rtc"), "{output:?}");
    let answer = DeleteResponse::parse_from_bytes(&output.stdout).unwrap();
    assert_eq!((answer.pid, answer.exit_status), (77, 137));
}

#[tokio::test]
async fn execs_leave_nothing_behind() {
    let shim = Shim::start("execs", "while :; do sleep 1000; done", |bundle| bundle).await;
    shim.create(false, none()).await.unwrap();
    shim.begin("").await;
    let out = shim.fifo("out");
    // Nothing is read: it must not be more than the fifo takes.
    let _fifo = std::fs::File::options().read(true).write(true).open(&out).unwrap();
    let before = shim.holdings();
    for round in 0..10 {
        // Named as the first process's file is, too.
        let name = if round == 0 { "init".to_owned() } else { format!("exec{round}") };
        shim.exec(&name, round % 2 == 0, &out, &["/bin/busybox", "echo", "hello"]).await;
        assert_eq!(shim.wait(&name).await, 0);
        assert_eq!(shim.delete(&name).await, 0);
        shim.add("none", round % 2 == 0, &out, &["/no/such/program"]).await;
        assert!(shim.try_to_begin("none").await.is_err());
        assert_eq!(shim.delete("none").await, 255);
        shim.add("nowhere", round % 2 == 0, Path::new("/no/such/fifo"), &["/bin/busybox", "sleep", "1000"]).await;
        assert!(shim.try_to_begin("nowhere").await.is_err());
        assert_eq!(shim.delete("nowhere").await, 255);
    }
    assert_eq!(shim.holdings(), before);
    shim.kill(9).await.unwrap();
    shim.wait("").await;
    shim.delete("").await;
    shim.end().await;
}

/// Without a pid namespace of its own, the kernel doesn't end a container's other processes before the first is reaped.
#[tokio::test]
async fn a_container_s_end_comes_after_those_of_its_execs() {
    let shim = Shim::start("order", "while :; do sleep 1000; done", |bundle| {
        bundle.with(|config| config["linux"]["namespaces"].as_array_mut().unwrap().retain(|kind| kind["type"] != "pid"))
    });
    let shim = shim.await;
    shim.create(false, none()).await.unwrap();
    shim.begin("").await;
    for name in ["one", "two", "three"] {
        shim.exec(name, false, none(), &["/bin/busybox", "sleep", "1000"]).await;
    }
    shim.kill(9).await.unwrap();
    assert_eq!(shim.wait("").await, 137);
    assert_eq!(shim.wait("two").await, 137);
    shim.delete("").await;
    let topics = shim.end().await;
    let ends: Vec<_> = topics.iter().filter(|topic| topic.starts_with("exit")).collect();
    assert_eq!((ends.len(), ends[3].as_str()), (4, "exit of init"), "{topics:?}");
}

/// rtc has made the container, and then its terminal leads nowhere.
#[tokio::test]
async fn what_can_not_be_taken_over_is_removed() {
    let terminal = |bundle: Bundle| bundle.with(|config| config["process"]["terminal"] = json!(true));
    let shim = Shim::start("nowhere", "true", terminal).await;
    let Err(Error::RpcStatus(status)) = shim.create(true, Path::new("/no/such/fifo")).await else { panic!("created") };
    assert!(status.message.contains("/no/such/fifo"), "{status:?}");
    assert_eq!(shim.end().await, Vec::<String>::new());
}
