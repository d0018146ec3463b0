//! A seccomp agent, and containers whose system calls it answers (config-linux, "The Container Process State").

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rtc_sys::Errno;
use rtc_sys::clone::{Clone3, Cloned, clone3, exit};
use rtc_sys::message::{Control, receive};
use rtc_sys::seccomp;
use rustix::event::{PollFd, PollFlags};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::bundle::{Bundle, exec_options, exec_output, overrides};
use crate::harness::Test;

pub(crate) const TESTS: &[Test] = &[
    ("agent::it_answers_for_init_and_exec", answers),
    ("agent::calls_that_rtc_makes_itself_may_be_reported", own_calls),
    ("agent::nothing_runs_without_it", missing),
    ("agent::one_that_is_killed_leaves_calls_that_fail", killed),
    ("agent::a_path_without_a_rule_is_ignored", unused),
    ("agent::start_hooks_run_under_the_filter", hooks),
];

/// An agent in a process of its own, killed with this.
struct Agent {
    pidfd: OwnedFd,
    socket: PathBuf,
    documents: PathBuf,
}

impl Agent {
    fn start(dir: &Path) -> Self {
        let (socket, documents) = (dir.join("agent"), dir.join("documents"));
        let _ = fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).unwrap();
        let file = File::create(&documents).unwrap();
        match clone3(&Clone3::default()).unwrap() {
            Cloned::Child => {
                rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).unwrap();
                let done = std::panic::catch_unwind(move || serve(&listener, file));
                exit(i32::from(done.is_err()))
            }
            Cloned::Parent { pidfd, .. } => Self { pidfd, socket, documents },
        }
    }

    fn kill(&self) {
        // A second time it is gone.
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
        let options = rustix::process::WaitIdOptions::EXITED;
        rustix::process::waitid(rustix::process::WaitId::PidFd(self.pidfd.as_fd()), options).ok();
    }

    /// What it was sent.
    fn documents(&self) -> Vec<Value> {
        let text = fs::read_to_string(&self.documents).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Takes in listeners, and answers: mkdir fails with EXDEV, all else is left to the kernel.
fn serve(socket: &UnixListener, mut documents: File) {
    let mut listeners: Vec<OwnedFd> = Vec::new();
    loop {
        let mut polled = vec![PollFd::new(socket, PollFlags::IN)];
        polled.extend(listeners.iter().map(|listener| PollFd::new(listener, PollFlags::IN)));
        rustix::event::poll(&mut polled, None).unwrap();
        let ready: Vec<PollFlags> = polled.iter().map(PollFd::revents).collect();
        for (listener, _) in listeners.iter().zip(&ready[1..]).filter(|(_, ready)| ready.contains(PollFlags::IN)) {
            // Whoever made the call may have been killed meanwhile.
            let Ok(call) = seccomp::receive(listener) else { continue };
            let is_mkdir = matches!(i64::from(call.nr), nix::libc::SYS_mkdir | nix::libc::SYS_mkdirat);
            let _ = match is_mkdir {
                true => seccomp::answer(listener, call.id, Err(Errno::EXDEV)),
                false => seccomp::proceed(listener, call.id),
            };
        }
        let mut gone = ready[1..].iter().map(|ready| ready.contains(PollFlags::HUP));
        listeners.retain(|_| !gone.next().unwrap());
        if ready[0].contains(PollFlags::IN) {
            let (connection, _) = socket.accept().unwrap();
            let mut buffer = vec![0; 8192];
            let received = receive(connection.as_fd(), &mut buffer, 0).unwrap();
            documents.write_all(&[&buffer[..received.len], b"\n"].concat()).unwrap();
            for piece in received.control {
                if let Control::Rights(fds) = piece {
                    listeners.extend(fds);
                }
            }
        }
    }
}

fn profile(agent: &Agent, names: &[&str]) -> Value {
    json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": agent.socket, "listenerMetadata": "meta",
        "syscalls": [{"names": names, "action": "SCMP_ACT_NOTIFY"}]})
}

const CROSS_DEVICE: &str = "mkdir: can't create directory '/x': Invalid cross-device link\n";

fn answers() {
    let mut bundle = Bundle::new("answers", "mkdir /x; sleep 1000");
    let agent = Agent::start(&bundle.dir);
    bundle.set("/linux/seccomp", profile(&agent, &["mkdir", "mkdirat"]));
    for (round, no_new_privileges) in [false, true].into_iter().enumerate() {
        bundle.set("/process/noNewPrivileges", no_new_privileges.into());
        let container = bundle.start();
        let (status, output) = exec_output(&container, "mkdir /x 2>&1; exit 7");
        assert_eq!((status, output.as_str()), (7, CROSS_DEVICE));
        let documents = agent.documents();
        let [first, second] = &documents[2 * round..] else { panic!("{documents:?}") };
        for document in [first, second] {
            assert_eq!(document["ociVersion"], "1.2.0");
            assert_eq!(document["fds"], json!(["seccompFd"]));
            assert_eq!(document["metadata"], "meta");
            assert_eq!(document["state"]["id"], "answers");
            assert_eq!(document["state"]["bundle"], bundle.dir.to_str().unwrap());
        }
        assert_eq!(first["pid"], json!(container.init_pid().unwrap()));
        assert_ne!(first["pid"], second["pid"]);
        assert_eq!((&first["state"]["status"], &second["state"]["status"]), (&json!("creating"), &json!("running")));
        assert_eq!(second["state"]["pid"], first["pid"]);
        container.delete(true).unwrap();
    }
}

/// From the load of the filter to the program, rtc makes calls itself.
fn own_calls() {
    let calls = [
        "openat", "open", "read", "readv", "close", "poll", "execve", "prctl", "capget", "capset", "mkdir", "recvmsg",
        "getpid", "sendmsg", "openat2", "fcntl", "mmap", "munmap",
    ];
    let mut bundle = Bundle::new("owncalls", "mkdir /x 2>&1; exit 5");
    let agent = Agent::start(&bundle.dir);
    for no_new_privileges in [false, true] {
        bundle.set("/process/noNewPrivileges", no_new_privileges.into());
        bundle.set("/linux/seccomp", profile(&agent, &calls));
        let mut container = bundle.create().unwrap();
        container.start().unwrap();
        assert_eq!(container.wait().unwrap(), 5);
        container.delete(false).unwrap();
    }
}

fn missing() {
    let mut bundle = Bundle::new("missing", "true");
    let profile = |path: Value| {
        let mut profile = json!({"defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]});
        if !path.is_null() {
            profile["listenerPath"] = path;
        }
        profile
    };
    for path in [Value::Null, json!("")] {
        bundle.set("/linux/seccomp", profile(path));
        let error = bundle.refused();
        assert!(error.contains("listenerPath is not set"), "{error}");
    }
    for path in ["/no/such/agent", "/dev/null"] {
        bundle.set("/linux/seccomp", profile(json!(path)));
        let error = bundle.refused();
        assert!(error.contains("failed to connect with seccomp agent"), "{error}");
    }
    let mut write = profile(json!("/agent"));
    write["syscalls"][0]["names"] = json!(["write"]);
    bundle.set("/linux/seccomp", write);
    let error = bundle.refused();
    assert!(error.contains("SCMP_ACT_NOTIFY cannot be used for the write syscall"), "{error}");
    // One that was there for the first process and isn't for the next.
    let mut bundle = Bundle::new("gone", "sleep 1000");
    let agent = Agent::start(&bundle.dir);
    bundle.set("/linux/seccomp", self::profile(&agent, &["mkdir"]));
    let container = bundle.start();
    drop(agent);
    let error = container.exec(&exec_options(overrides("true"))).unwrap_err().to_string();
    assert!(error.contains("failed to connect with seccomp agent"), "{error}");
    container.delete(true).unwrap();
}

fn killed() {
    let mut bundle = Bundle::new("killed", "until test -e /go; do sleep 0.01; done; mkdir /x 2>&1; exit 3");
    let agent = Agent::start(&bundle.dir);
    bundle.set("/linux/seccomp", profile(&agent, &["mkdir"]));
    let container = bundle.start();
    agent.kill();
    fs::write(bundle.rootfs().join("go"), "").unwrap();
    assert_eq!(container.wait().unwrap(), 3, "the call failed and did not wait");
    container.delete(false).unwrap();
}

fn unused() {
    let mut bundle = Bundle::new("unused", "mkdir /x && echo made");
    bundle.set("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/no/such/agent"}));
    assert_eq!(bundle.good(), "made\n");
}

fn hooks() {
    let mut bundle = Bundle::new("hookfilter", "true");
    let rule = |action: &str| {
        json!({"defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": action}]})
    };
    bundle.set("/hooks", json!({"startContainer": [{"path": "/bin/mkdir", "args": ["mkdir", "/hook"]}]}));
    bundle.set("/linux/seccomp", rule("SCMP_ACT_KILL_PROCESS"));
    let error = bundle.refused();
    assert!(error.contains("error running startContainer hook #0:") && error.contains("bad system call"), "{error}");
    let agent = Agent::start(&bundle.dir);
    bundle.set("/linux/seccomp", profile(&agent, &["mkdir", "mkdirat"]));
    let error = bundle.refused();
    assert!(error.contains("error running startContainer hook #0:") && error.contains("cross-device"), "{error}");
}
