//! rtc killed at its every system call: `delete --force` then removes all that is left.
//!
//! The steps of init are a table in rtc; here they are cut finer, at each call that rtc or a child of it makes, by
//! ptrace from outside. By default some forty calls of each command, evenly spread, are tried;
//! `RTC_EVERY_CALL=1` tries every one, which takes some minutes.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use rtc_tests::scratch::mounts_below;
use rustix::process::Pid;
use serde_json::json;

use crate::harness::{Bundle, wait_for_end};
use crate::trace::{self, Trace, Victim};

/// How many calls of a command are tried by default.
const SAMPLE: usize = 40;

/// A container that goes through most steps.
fn bundle() -> Bundle {
    Bundle::new(&["sleep", "1000"]).with(|config| {
        let linux = &mut config["linux"];
        linux["namespaces"].as_array_mut().unwrap().extend(["network", "cgroup"].map(|kind| json!({ "type": kind })));
        linux["maskedPaths"] = json!(["/proc/kcore", "/proc/bus"]);
        linux["readonlyPaths"] = json!(["/proc/sys", "/proc/irq"]);
        linux["resources"] = json!({ "devices": [{ "allow": false, "access": "rwm" }] });
        linux["seccomp"] = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            { "names": ["acct"], "action": "SCMP_ACT_ERRNO" }] });
        config["process"]["noNewPrivileges"] = json!(true);
        let hook = json!([{ "path": "/usr/bin/busybox", "args": ["true"] }]);
        config["hooks"] = json!({ "createRuntime": hook, "poststart": hook });
    })
}

/// The files beside the bundle.
fn files(bundle: &Bundle) -> BTreeSet<String> {
    let names = |folder: &Path| -> Vec<String> {
        fs::read_dir(folder).into_iter().flatten().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    };
    let mut all: BTreeSet<String> = names(&bundle.file("")).into_iter().collect();
    // What the runtime was told to write, and what the commands of the test print.
    for ours in ["pid", "stdout", "stderr", "output", "state"] {
        all.remove(ours);
    }
    all.extend(names(&bundle.root()).into_iter().map(|name| format!("state/{name}")));
    all
}

#[track_caller]
fn nothing_is_left(bundle: &Bundle, before: &BTreeSet<String>, trace: &Trace) {
    bundle.call("delete", &["--force"]).ok();
    bundle.assert_gone();
    for pid in &trace.pids {
        wait_for_end(Pid::from_raw(*pid).unwrap());
    }
    assert_eq!(&files(bundle), before);
    let mounts = mounts_below(&bundle.file(""));
    assert!(mounts.is_empty(), "{mounts:?}");
}

/// Kills `command` at its calls, each time after `prepare`.
fn killed_everywhere(command: &str, args: &[&str], program: &[&str], prepare: impl Fn(&Bundle)) {
    in_bundle(&bundle(), command, args, program, prepare);
}

fn in_bundle(bundle: &Bundle, command: &str, args: &[&str], program: &[&str], prepare: impl Fn(&Bundle)) {
    let before = files(bundle);
    let mut line = bundle.command(command, args);
    line.args(program);
    let output = bundle.file("output");
    let attack = |at: usize, victim: Victim| {
        prepare(bundle);
        let trace = trace::run(&line, &output, at, victim);
        if !trace.killed {
            let said = fs::read_to_string(&output).unwrap();
            assert_eq!(trace.status, Some(0), "{command}, call {at} of {}: {said}", trace.calls);
        }
        eprintln!("{command}: {victim:?} killed at call {at}: {trace:?}");
        nothing_is_left(bundle, &before, &trace);
        trace
    };
    let all = attack(usize::MAX, Victim::All).calls;
    assert!(all > 20, "{command} makes {all} calls");
    let stride = stride(all);
    let mut killed = 0;
    for at in (1..=all).step_by(stride) {
        // Not all runs make the same number of calls.
        killed += usize::from(attack(at, Victim::Caller).killed);
        killed += usize::from(attack(at, Victim::All).killed);
    }
    assert!(killed >= 2 * (all / stride) * 9 / 10, "{command}: killed {killed} times on {all} calls");
}

/// From one call that is tried to the next, of `all`.
fn stride(all: usize) -> usize {
    if std::env::var_os("RTC_EVERY_CALL").is_some() { 1 } else { all.div_ceil(SAMPLE) }
}

#[test]
fn create() {
    killed_everywhere("create", &["--pid-file", "pid"], &[], |_| {});
}

/// With a user namespace the parent writes the mappings while the child waits.
#[test]
fn create_in_a_user_namespace() {
    let bundle = bundle().with(|config| {
        let linux = &mut config["linux"];
        linux["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
        let map = json!([{ "containerID": 0, "hostID": 100_000, "size": 65_536 }]);
        linux["uidMappings"] = map.clone();
        linux["gidMappings"] = map;
    });
    in_bundle(&bundle, "create", &[], &[], |_| {});
}

/// A user namespace that is joined takes a process between parent and child.
#[test]
fn create_in_a_joined_user_namespace() {
    let owner = Bundle::new(&["sleep", "1000"]).with(|config| {
        let linux = &mut config["linux"];
        linux["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
        let map = json!([{ "containerID": 0, "hostID": 100_000, "size": 65_536 }]);
        linux["uidMappings"] = map.clone();
        linux["gidMappings"] = map;
    });
    let owner = owner.running();
    let path = format!("/proc/{}/ns/user", owner.state()["pid"]);
    let bundle = bundle().with(|config| {
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.push(json!({ "type": "user", "path": path }));
    });
    in_bundle(&bundle, "create", &[], &[], |_| {});
}

/// Without a mount namespace of its own the container's mounts are the host's, and don't go with its processes.
#[test]
fn create_without_a_mount_namespace() {
    let bundle = bundle().with(|config| {
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "mount");
    });
    in_bundle(&bundle, "create", &[], &[], |_| {});
}

/// A virtual device would be gone with its namespace: where no container comes of it, it is back on the host.
#[test]
fn create_with_a_network_device() {
    let (name, peer) = (format!("rtck{}", std::process::id()), format!("rtcp{}", std::process::id()));
    let ip = |args: &[&str]| {
        Command::new("ip").args(args).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
    };
    let bundle = bundle().with(|config| config["linux"]["netDevices"] = json!({ &name: { "name": "eth9" } }));
    let (line, output) = (bundle.command("create", &[]), bundle.file("output"));
    let (mut back, mut all) = (0, usize::MAX);
    let mut at = usize::MAX;
    loop {
        if !ip(&["link", "show", &name]) {
            // With the other end goes one that is still in a namespace on its way out.
            ip(&["link", "del", &peer]);
            assert!(ip(&["link", "add", &name, "type", "veth", "peer", "name", &peer]));
        }
        let trace = trace::run(&line, &output, at, Victim::Caller);
        let state = bundle.call("state", &[]);
        bundle.call("delete", &["--force"]).ok();
        let stands = state.status == 0 && state.stdout.contains("\"status\": \"created\"");
        if trace.status != Some(0) && !stands {
            assert!(ip(&["link", "show", &name]), "killed at call {at}: {trace:?}, {state:?}");
            back += 1;
        }
        if at == usize::MAX {
            (all, at) = (trace.calls, 0);
        }
        at += stride(all);
        if at > all {
            break;
        }
    }
    ip(&["link", "del", &peer]);
    assert!(back > SAMPLE / 3, "{back} of {SAMPLE}");
}

#[test]
fn run() {
    killed_everywhere("run", &["-d", "--pid-file", "pid"], &[], |_| {});
}

#[test]
fn start() {
    killed_everywhere("start", &[], &[], |bundle| drop(bundle.call("create", &[]).ok()));
}

#[test]
fn exec() {
    let prepare = |bundle: &Bundle| drop(bundle.call("run", &["-d"]).ok());
    killed_everywhere("exec", &["-d", "--pid-file", "pid"], &["sleep", "1000"], prepare);
}

#[test]
fn delete() {
    killed_everywhere("delete", &["--force"], &[], |bundle| drop(bundle.call("run", &["-d"]).ok()));
}
