//! Calls at odd moments, programs that fail or don't end.

use super::*;
use containerd_shim::api::{CloseIORequest, PauseRequest, PidsRequest, ResizePtyRequest, StateRequest, StatsRequest};
use std::os::unix::fs::PermissionsExt;

const FOREVER: &str = "while :; do sleep 1000; done";

impl Shim {
    /// Writes a program into the test's folder.
    fn program(&self, name: &str, text: &str) -> PathBuf {
        let path = self.stage.scratch.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    async fn pids(&self) -> Vec<u32> {
        let request = PidsRequest { id: self.stage.id.clone(), ..PidsRequest::default() };
        self.api.pids(patience(), &request).await.unwrap().processes.iter().map(|process| process.pid).collect()
    }

    async fn finish(self) -> Vec<String> {
        self.kill(9).await.unwrap();
        self.wait("").await;
        self.delete("").await;
        self.end().await
    }
}

fn code_of<T>(answer: TtrpcResult<T>) -> Code {
    match answer {
        Err(Error::RpcStatus(status)) => status.code(),
        _ => Code::OK,
    }
}

/// Whether there is such a process, other than one that waits to be reaped.
fn lives(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

#[tokio::test]
async fn a_logger_that_never_ends_is_ended_by_delete() {
    let shim = Shim::start("logger", "echo line", |bundle| bundle).await;
    let [log, pid] = ["log", "logger.pid"].map(|name| shim.stage.scratch.path().join(name));
    let text = format!("head -n 1 <&3 > {}\necho $$ > {}\nexec sleep infinity\n", log.display(), pid.display());
    let program = shim.program("logger", &format!("#!/bin/sh\nexec 5>&-\n{text}"));
    shim.create(false, format!("binary://{}", program.display()).as_ref()).await.unwrap();
    shim.begin("").await;
    shim.wait("").await;
    shim.delete("").await;
    let pid = std::fs::read_to_string(pid).unwrap().trim().parse().unwrap();
    assert!(!lives(pid));
    assert_eq!(std::fs::read_to_string(log).unwrap(), "line\n");
    shim.end().await;
}

/// A logger that reads to the end has all of it when Delete is answered.
#[tokio::test]
async fn a_logger_has_written_when_delete_is_answered() {
    let shim = Shim::start("slow", "echo line", |bundle| bundle).await;
    let log = shim.stage.scratch.path().join("log");
    let text = format!("#!/bin/sh\nexec 5>&-\ncat <&3 > {0}\nsleep 0.3\necho end >> {0}\n", log.display());
    let program = shim.program("logger", &text);
    shim.create(false, format!("binary://{}", program.display()).as_ref()).await.unwrap();
    shim.begin("").await;
    shim.wait("").await;
    shim.delete("").await;
    assert_eq!(std::fs::read_to_string(log).unwrap(), "line\nend\n");
    shim.end().await;
}

#[tokio::test]
async fn loggers_leave_no_descriptors() {
    let shim = Shim::start("loggers", FOREVER, |bundle| bundle).await;
    shim.create(false, none()).await.unwrap();
    shim.begin("").await;
    let program = shim.program("logger", "#!/bin/sh\nexec 5>&-\nexec cat <&3 > /dev/null\n");
    let uri = format!("binary://{}", program.display());
    let before = shim.holdings();
    for name in ["plain", "terminal"] {
        shim.exec(name, name == "terminal", uri.as_ref(), &["/bin/busybox", "echo", "hello"]).await;
        assert_eq!(shim.wait(name).await, 0);
        assert_eq!(shim.delete(name).await, 0);
    }
    // And of one that the container's process is never made for.
    shim.add("none", false, uri.as_ref(), &["/no/such/program"]).await;
    assert!(shim.try_to_begin("none").await.is_err());
    assert_eq!(shim.delete("none").await, 255);
    assert_eq!(shim.holdings()[0], before[0]);
    shim.finish().await;
}

#[tokio::test]
async fn a_runtime_that_can_not_be_called_leaves_nothing() {
    let shim = Shim::start("nortc", FOREVER, |bundle| bundle).await;
    let options = MessageField::some(shim.stage.options_with("/no/such/rtc"));
    let Err(Error::RpcStatus(status)) = shim.create_with(|request| CreateTaskRequest { options, ..request }).await
    else {
        panic!("created by nothing")
    };
    assert!(status.message.contains("/no/such/rtc"), "{status:?}");
    // And it can be made after that.
    shim.create(false, none()).await.unwrap();
    shim.begin("").await;
    shim.finish().await;
}

/// rtc has made the container, which can't be used, and rtc is gone when it is to be removed: the call is answered, and
/// the shim has no container that nobody can delete.
#[tokio::test]
async fn a_runtime_that_vanishes_does_not_leave_a_call_without_answer() {
    let terminal = |bundle: Bundle| bundle.with(|config| config["process"]["terminal"] = json!(true));
    let shim = Shim::start("vanishes", "true", terminal).await;
    let program = shim.stage.scratch.path().join("once");
    let rtc = shim.stage.runtime.words()[0].clone();
    let program = shim.program("once", &format!("#!/bin/sh\nrm {}\nexec {rtc} \"$@\"\n", program.display()));
    let options = MessageField::some(shim.stage.options_with(&program.to_string_lossy()));
    let stdout = "/no/such/fifo".to_owned();
    let change = |request| CreateTaskRequest { options, terminal: true, stdout, ..request };
    let Err(Error::RpcStatus(status)) = shim.create_with(change).await else { panic!("created") };
    assert!(status.message.contains("/no/such/fifo"), "{status:?}");
    let request = DeleteRequest { id: shim.stage.id.clone(), ..DeleteRequest::default() };
    assert_eq!(code_of(shim.api.delete(patience(), &request).await), Code::NOT_FOUND);
    shim.stage.runtime.run(["delete", "--force", &shim.stage.id]);
    assert_eq!(shim.end().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_restore_that_fails_may_be_tried_again_and_leaves_nothing_open() {
    let shim = Shim::start("again", "true", |bundle| bundle).await;
    let out = shim.fifo("out");
    let stdout = out.to_string_lossy().into_owned();
    let checkpoint = "/no/such/image".to_owned();
    shim.create_with(|request| CreateTaskRequest { checkpoint, stdout, ..request }).await.unwrap();
    assert!(shim.try_to_begin("").await.is_err());
    let before = shim.holdings();
    for _ in 0..3 {
        let Err(Error::RpcStatus(status)) = shim.try_to_begin("").await else { panic!("restored from nothing") };
        assert!(status.message.contains("/no/such/image"), "{status:?}");
    }
    assert_eq!(shim.holdings(), before);
    shim.delete("").await;
    assert_eq!(shim.end().await, ["create", "delete"]);
}

#[tokio::test]
async fn input_that_is_closed_before_the_start_is_at_its_end() {
    let shim = Shim::start("input", FOREVER, |bundle| bundle).await;
    shim.create(false, none()).await.unwrap();
    shim.begin("").await;
    let stdin = shim.fifo("in").to_string_lossy().into_owned();
    let spec = json!({ "args": ["/bin/busybox", "cat"], "cwd": "/", "user": { "uid": 0, "gid": 0 } });
    let request = ExecProcessRequest {
        id: shim.stage.id.clone(),
        exec_id: "cat".into(),
        stdin,
        spec: MessageField::some(Any { value: spec.to_string().into(), ..Any::default() }),
        ..ExecProcessRequest::default()
    };
    shim.api.exec(patience(), &request).await.unwrap();
    let close = CloseIORequest { id: shim.stage.id.clone(), exec_id: "cat".into(), stdin: true, ..Default::default() };
    shim.api.close_io(patience(), &close).await.unwrap();
    shim.begin("cat").await;
    assert_eq!(shim.wait("cat").await, 0);
    shim.delete("cat").await;
    shim.finish().await;
}

/// What a client may ask of a container that has ended, and what it is answered.
#[tokio::test]
async fn one_that_has_ended_is_asked_in_vain() {
    let shim = Shim::start("ended", "exit 4", |bundle| bundle).await;
    shim.create(false, none()).await.unwrap();
    let id = || shim.stage.id.clone();
    let start = StartRequest { id: id(), ..StartRequest::default() };
    assert!(!shim.pids().await.is_empty());
    shim.begin("").await;
    shim.wait("").await;
    assert_eq!(shim.pids().await, [0; 0]);
    assert_eq!(code_of(shim.api.start(patience(), &start).await), Code::FAILED_PRECONDITION);
    assert_eq!(code_of(shim.kill(15).await), Code::NOT_FOUND);
    let all = KillRequest { id: id(), signal: 9, all: true, ..KillRequest::default() };
    assert_eq!(code_of(shim.api.kill(patience(), &all).await), Code::NOT_FOUND);
    let unknown = KillRequest { id: id(), exec_id: "none".into(), signal: 9, ..KillRequest::default() };
    assert_eq!(code_of(shim.api.kill(patience(), &unknown).await), Code::NOT_FOUND);
    let pause = PauseRequest { id: id(), ..PauseRequest::default() };
    assert_ne!(code_of(shim.api.pause(patience(), &pause).await), Code::OK);
    let resize = ResizePtyRequest { id: id(), width: 80, height: 25, ..ResizePtyRequest::default() };
    assert_eq!(code_of(shim.api.resize_pty(patience(), &resize).await), Code::OK);
    let stats = StatsRequest { id: id(), ..StatsRequest::default() };
    assert_eq!(code_of(shim.api.stats(patience(), &stats).await), Code::OK);
    let state = shim.api.state(patience(), &StateRequest { id: id(), ..StateRequest::default() }).await.unwrap();
    assert_eq!((state.status.value(), state.exit_status), (3, 4), "{state:?}");
    shim.add("late", false, none(), &["/bin/busybox", "true"]).await;
    assert!(shim.try_to_begin("late").await.is_err());
    assert_eq!(shim.delete("late").await, 255);
    shim.delete("").await;
    assert_eq!(shim.end().await, ["create", "start", "exit of init", "exec-added", "delete"]);
}

/// containerd says Shutdown after each Delete of a pod's container.
#[tokio::test]
async fn a_shim_with_a_container_stays() {
    let shim = Shim::start("stays", FOREVER, |bundle| bundle).await;
    shim.create(false, none()).await.unwrap();
    shim.begin("").await;
    shim.api.shutdown(patience(), &ShutdownRequest::default()).await.unwrap();
    assert!(!shim.pids().await.is_empty());
    assert_eq!(shim.finish().await, ["create", "start", "exit of init", "delete"]);
}

/// A process that ends before rtc has said that it has begun: its end is told after its beginning.
#[tokio::test]
async fn what_ends_at_once_has_begun_before() {
    let shim = Shim::start("atonce", "exit 1", |bundle| bundle).await;
    let rtc = shim.stage.runtime.words()[0].clone();
    let slow = format!("#!/bin/sh\n{rtc} \"$@\"; status=$?\nsleep 0.2\nexit $status\n");
    let slow = shim.program("slow", &slow).to_string_lossy().into_owned();
    let options = MessageField::some(shim.stage.options_with(&slow));
    shim.create_with(|request| CreateTaskRequest { options, ..request }).await.unwrap();
    shim.begin("").await;
    assert_eq!(shim.wait("").await, 1);
    shim.delete("").await;
    assert_eq!(shim.end().await, ["create", "start", "exit of init", "delete"]);
}
