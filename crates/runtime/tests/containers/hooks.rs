use std::fs;

use rtc_runtime::Status;
use serde_json::{Value, json};

use crate::bundle::Bundle;
use crate::harness::Test;

pub(crate) const TESTS: &[Test] = &[
    ("hooks::all_six_kinds_run_at_their_place", all_kinds),
    ("hooks::a_failing_hook_undoes_the_container", failing),
    ("hooks::start_hooks_inherit_the_programs_environment_and_filter", start_hooks),
];

/// A hook that writes its name, what it sees, and its state's status to a file.
fn witness(name: &str, file: &str) -> Value {
    let script = format!("read -r state; echo {name} $(readlink /proc/self/ns/mnt) \"$state\" >> {file}");
    json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin"]}])
}

fn all_kinds() {
    let mut bundle = Bundle::new("kinds", "sleep 1000");
    let outside = bundle.dir.join("log");
    let outside = outside.to_str().unwrap();
    let mut hooks = json!({});
    for name in ["prestart", "createRuntime", "createContainer", "poststart", "poststop"] {
        hooks[name] = witness(name, outside);
    }
    hooks["startContainer"] = witness("startContainer", "/log");
    bundle.set("/hooks", hooks);
    bundle.set("/annotations", json!({"org.example": "value"}));
    let mut container = bundle.create().unwrap();
    let pid = container.init_pid().unwrap();
    let log = || fs::read_to_string(outside).unwrap();
    let names = |text: String| text.lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(names(log()), ["prestart", "createRuntime", "createContainer"]);
    let own = fs::read_link("/proc/self/ns/mnt").unwrap();
    let inner = fs::read_link(format!("/proc/{pid}/ns/mnt")).unwrap();
    for line in log().lines() {
        let mut parts = line.splitn(3, ' ');
        let (name, namespace, state) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
        let state: Value = serde_json::from_str(state).unwrap();
        assert_eq!((state["id"].as_str(), state["pid"].as_i64()), (Some("kinds"), Some(pid.into())), "{line}");
        assert_eq!(state["status"], "created");
        assert_eq!(state["annotations"]["org.example"], "value");
        let want = if name == "createContainer" { &inner } else { &own };
        assert_eq!(namespace, want.to_str().unwrap(), "{name}");
    }
    assert!(!bundle.rootfs().join("log").exists());
    container.start().unwrap();
    assert!(fs::read_to_string(bundle.rootfs().join("log")).unwrap().starts_with("startContainer "));
    assert_eq!(names(log()).last().unwrap(), "poststart");
    assert!(log().lines().last().unwrap().contains("\"status\":\"running\""));
    container.delete(true).unwrap();
    assert_eq!(names(log()).last().unwrap(), "poststop");
    assert!(log().lines().last().unwrap().contains("\"status\":\"stopped\""));
}

fn failing() {
    for kind in ["prestart", "createRuntime", "createContainer", "startContainer", "poststart"] {
        let mut bundle = Bundle::new(kind, "sleep 1000");
        let mut hooks = json!({});
        hooks[kind] = json!([{"path": "/bin/true"}, {"path": "/bin/sh", "args": ["sh", "-c", "echo why >&2; exit 5"]}]);
        bundle.set("/hooks", hooks);
        let want = format!("error running {kind} hook #1: exit status 5, stdout: , stderr: why");
        if kind == "poststart" {
            let mut container = bundle.create().unwrap();
            assert_eq!(container.start().unwrap_err().to_string(), want);
            assert_eq!(container.wait().unwrap(), 137);
            assert_eq!(container.status().unwrap(), Status::Stopped);
            container.delete(false).unwrap();
        } else {
            assert_eq!(bundle.refused(), want);
        }
        bundle.nothing_left();
    }
}

fn start_hooks() {
    let mut bundle = Bundle::new("starthooks", "cat /log");
    bundle.set("/process/env", json!(["PATH=/bin", "A=b"]));
    bundle.set(
        "/hooks",
        json!({"startContainer": [{"path": "/bin/busybox", "args": ["sh", "-c", "echo $A $HOME $0 > /log", "zero"]}]}),
    );
    assert_eq!(bundle.good(), "b / zero\n");
    bundle.set("/hooks/startContainer", json!([{"path": "/bin/busybox", "args": ["mkdir", "/x"]}]));
    bundle.set(
        "/linux/seccomp",
        json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_KILL"}]}),
    );
    let error = bundle.refused();
    assert!(error.contains("error running startContainer hook #0: signal: bad system call"), "{error}");
}
