//! `start` and `-info`, called as each generation of containerd does.

use super::*;
use containerd_shim::api::ConnectRequest;
use containerd_shim::protos::types::introspection::RuntimeInfo;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{PidfdFlags, pidfd_open};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixStream;

/// How a version of containerd calls `start`. In `words` and `environment`, as in the message, NAMESPACE, ID, GRPC and
/// TTRPC stand for what they say.
struct Generation {
    words: &'static [&'static str],
    environment: &'static [(&'static str, &'static str)],
    /// Whether there is a message on stdin that says it all, and one is the answer (2.3); else there are the options.
    message: bool,
    /// What is in front of paths of sockets in a message.
    scheme: &'static str,
}

const FLAGS: &[&str] = &["-namespace", "NAMESPACE", "-address", "GRPC", "-publish-binary", "/usr/bin/containerd"];
const ENVIRONMENT: &[(&str, &str)] = &[
    ("GOMAXPROCS", "2"),
    ("MAX_SHIM_VERSION", "2"),
    ("TTRPC_ADDRESS", "TTRPC"),
    ("GRPC_ADDRESS", "GRPC"),
    ("NAMESPACE", "NAMESPACE"),
];

/// Starts a shim as containerd does, runs a container in it, and sees that it is told of its life, and that the shim ends.
async fn serves(name: &str, generation: Generation) {
    let stage = Stage::new(name, "exit 3", |bundle| bundle).await;
    let (process, answer) = call(&stage, &generation);
    let address = address_in(&answer, generation.message);
    let shim = connect(process, &address, stage).await;
    // Its pid here; that of its answers is another pid namespace's.
    let stream = UnixStream::connect(address.trim_start_matches("unix://")).unwrap();
    let pid = rustix::net::sockopt::socket_peercred(&stream).unwrap().pid;
    let own = pidfd_open(pid, PidfdFlags::empty()).unwrap();
    drop(stream);
    let request = ConnectRequest { id: shim.stage.id.clone(), ..ConnectRequest::default() };
    assert!(shim.api.connect(patience(), &request).await.unwrap().shim_pid > 0);
    shim.create(false, none()).await.unwrap();
    shim.begin("").await;
    assert_eq!((shim.wait("").await, shim.delete("").await), (3, 3));
    let _ = shim.api.shutdown(patience(), &ShutdownRequest::default()).await;
    // It ends when containerd has confirmed its events.
    spawn_blocking(move || poll(&mut [PollFd::new(&own, PollFlags::IN)], None)).await.unwrap().unwrap();
    let mut shim = shim;
    assert_eq!(shim.stage.topics(), ["create", "start", "exit of init", "delete"]);
    assert!(!Path::new(address.trim_start_matches("unix://")).exists());
}

/// Calls `start` in a pid namespace that ends with the process that is returned, and takes the shim along; and what the
/// call has printed.
fn call(stage: &Stage, generation: &Generation) -> (Child, Vec<u8>) {
    let of = |word: &str| match word {
        "NAMESPACE" => "state".to_owned(),
        "ID" => stage.id.clone(),
        "TTRPC" => stage.containerd.to_string_lossy().into_owned(),
        "GRPC" => stage.containerd.to_string_lossy().trim_end_matches(".ttrpc").to_owned(),
        word => word.to_owned(),
    };
    let options = stage.options().write_to_bytes().unwrap();
    let input = if generation.message { message(of, generation.scheme, &options) } else { options };
    let files = ["input", "answer"].map(|name| stage.scratch.path().join(name));
    std::fs::write(&files[0], input).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    let script = "i=$1 o=$2; shift 2; \"$@\" < \"$i\" > \"$o\" 2>&1; echo $?; exec sleep infinity";
    command.args(["sh", "-c", script, "sh"]).args(&files).arg(shim_beside(&stage.runtime));
    command.args(generation.words.iter().map(|word| of(word))).current_dir(&stage.bundle);
    for name in ["TTRPC_ADDRESS", "GRPC_ADDRESS", "NAMESPACE"] {
        command.env_remove(name);
    }
    command.envs(generation.environment.iter().map(|(name, value)| (name, of(value))));
    let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut status = String::new();
    // unshare has the other end as well, and stays.
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut status).unwrap();
    let answer = std::fs::read(&files[1]).unwrap();
    assert_eq!(status, "0\n", "{}", String::from_utf8_lossy(&answer));
    (process, answer)
}

/// BootstrapParams (containerd, api/runtime/bootstrap/v1/bootstrap.proto).
fn message(of: impl Fn(&str) -> String, scheme: &str, options: &[u8]) -> Vec<u8> {
    let mut extension = Empty::new();
    extension.special_fields.mut_unknown_fields().add_length_delimited(1, options.into());
    let mut message = Empty::new();
    let fields = message.special_fields.mut_unknown_fields();
    for (number, text) in [(1, "ID"), (2, "NAMESPACE"), (4, "v2.3.0"), (7, "/containerd")] {
        fields.add_length_delimited(number, of(text).into());
    }
    for (number, text) in [(5, "TTRPC"), (6, "GRPC")] {
        fields.add_length_delimited(number, format!("{scheme}{}", of(text)).into());
    }
    fields.add_length_delimited(8, extension.write_to_bytes().unwrap());
    message.write_to_bytes().unwrap()
}

/// The address in an answer: alone, or in a BootstrapResult of version 2 and ttrpc.
fn address_in(answer: &[u8], message: bool) -> String {
    let Some(rest) = answer.strip_prefix(b"\x08\x02\x12").filter(|_| message) else {
        assert!(!message, "{answer:?}");
        return String::from_utf8(answer.into()).unwrap();
    };
    let (address, rest) = rest[1..].split_at(rest[0].into());
    assert_eq!(rest, b"\x1a\x05ttrpc");
    String::from_utf8(address.into()).unwrap()
}

async fn connect(process: Child, address: &str, stage: Stage) -> Shim {
    let api = TaskClient::new(Client::connect(address).await.unwrap());
    Shim { process: Some(process), api, stage }
}

#[tokio::test]
async fn containerd_1_6() {
    let words = [FLAGS, &["-id", "ID", "start"]].concat().leak();
    let environment = &[("GOMAXPROCS", "2"), ("TTRPC_ADDRESS", "TTRPC")];
    serves("g16", Generation { words, environment, message: false, scheme: "" }).await;
}

/// 2.0 and 2.1 call it in the same way.
#[tokio::test]
async fn containerd_1_7() {
    let words = [FLAGS, &["-id", "ID", "start"]].concat().leak();
    serves("g17", Generation { words, environment: ENVIRONMENT, message: false, scheme: "" }).await;
}

#[tokio::test]
async fn containerd_2_3() {
    let words = [FLAGS, &["-id", "ID", "-bundle", ".", "start"]].concat().leak();
    serves("g23", Generation { words, environment: ENVIRONMENT, message: true, scheme: "" }).await;
}

/// What 2.3 says is going to be left out is left out, and addresses are as the message's description has them.
#[tokio::test]
async fn containerd_to_come() {
    serves("g24", Generation { words: &["start"], environment: &[], message: true, scheme: "unix://" }).await;
}

#[tokio::test]
async fn without_an_address_for_events() {
    let words = [FLAGS, &["-id", "ID", "start"]].concat().leak();
    serves("gnone", Generation { words, environment: &[], message: false, scheme: "" }).await;
}

/// The shim must not be there when its caller has been told that there is none.
#[tokio::test]
async fn what_is_not_a_containerd_is_told_so() {
    let stage = Stage::new("gwrong", "true", |bundle| bundle).await;
    let run = |words: &[&str]| {
        let mut command = Command::new(shim_beside(&stage.runtime));
        let command = command.args(words).env_remove("TTRPC_ADDRESS").env_remove("GRPC_ADDRESS").stdin(Stdio::null());
        let output = command.current_dir(&stage.bundle).output().unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(run(&["start"]).contains("-namespace and -id are needed"));
    assert!(run(&["-namespace", "x", "-id", "y", "start"]).contains("-address or TTRPC_ADDRESS is needed"));
    let said = run(&["-namespace", "x", "-id", &stage.id, "-address", "/no/such", "start"]);
    assert!(said.contains("the shim doesn't serve at unix:///run/containerd/s/"), "{said}");
    assert!(run(&["-namespace", "x", "-id", "y", "stop"]).contains("unknown action stop"));
}

/// What containerd 2 learns about user namespaces, recursive read-only mounts and the like for the CRI.
#[tokio::test]
async fn it_says_what_the_runtime_can_do() {
    let stage = Stage::new("info", "true", |bundle| bundle).await;
    let ask = |input: &[u8]| {
        let mut command = Command::new(shim_beside(&stage.runtime));
        let mut child = command.arg("-info").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        RuntimeInfo::parse_from_bytes(&output.stdout).unwrap()
    };
    let info = ask(&stage.options().write_to_bytes().unwrap());
    assert_eq!(info.name, "io.containerd.rtc.v2");
    assert_eq!(info.version.version, env!("CARGO_PKG_VERSION"));
    assert_eq!(*info.options, stage.options());
    assert_eq!(info.features.type_url, "types.containerd.io/opencontainers/runtime-spec/1/features/Features");
    let features: Value = serde_json::from_slice(&info.features.value).unwrap();
    let own: Value = serde_json::from_str(&stage.runtime.run(["features"]).stdout).unwrap();
    assert_eq!(features, own);
    // What the CRI plugin looks at (containerd, internal/cri/server/service.go and podsandbox).
    let has = |list: &Value, word: &str| list.as_array().unwrap().iter().any(|entry| entry == word);
    assert!(has(&features["mountOptions"], "rro"));
    assert!(has(&features["linux"]["namespaces"], "user"));
    assert_eq!(features["linux"]["mountExtensions"]["idmap"]["enabled"], true);
    // With no options, rtc beside it is asked.
    let info = ask(&[]);
    assert_eq!((info.options.is_none(), &info.features.value[..1]), (true, &b"{"[..]));
    // Where there is no runtime, the rest is said.
    assert!(ask(&stage.options_with("/no/such/rtc").write_to_bytes().unwrap()).features.is_none());
}
