//! Annotations that change what the runtime does: crun's `run.oci.*`.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::harness::{Bundle, Kind, Outcome, differs};
use crate::pty::ConsoleSocket;

fn annotated(args: &[&str], annotations: Value) -> Bundle {
    Bundle::new(args).with(|config| config["annotations"] = annotations)
}

#[test]
fn output_of_hooks_goes_to_files() {
    differs(&[(Kind::Runc, "knows no such annotation")], || {
        let bundle = Bundle::new(&["true"]);
        let (out, err) = (bundle.file("hooks.out"), bundle.file("hooks.err"));
        let hook = |path| json!([{ "path": path, "args": ["sh", "-c", "echo out; echo err >&2"] }]);
        let (host, inside) = (hook("/usr/bin/busybox"), hook("/bin/busybox"));
        let bundle = bundle.with(|config| {
            config["annotations"] = json!({ "run.oci.hooks.stdout": out, "run.oci.hooks.stderr": err });
            config["hooks"] = json!({ "createRuntime": host, "startContainer": inside, "poststop": host });
        });
        bundle.call("run", &[]).ok();
        assert_eq!(fs::read_to_string(&out).unwrap(), "out\n".repeat(3));
        assert_eq!(fs::read_to_string(&err).unwrap(), "err\n".repeat(3));
    });
}

/// What the container's cgroup namespace shows is the whole cgroup, of which its processes have only a part.
#[test]
fn a_cgroup_can_be_delegated() {
    differs(
        &[(Kind::Runc, "knows no such annotation"), (Kind::Crun, "has its own words for a path that leads out")],
        || {
            let bundle = annotated(&["sleep", "1000"], json!({ "run.oci.delegate-cgroup": "payload/main" }));
            let bundle = bundle.with(|config| {
                config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "cgroup" }));
            });
            let bundle = bundle.running();
            assert_eq!(cgroup_line(&bundle.exec(&[], &["cat", "/proc/self/cgroup"]).ok()), "0::/payload/main");
            let pid = bundle.state()["pid"].to_string();
            let seen = cgroup_line(&fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap());
            assert!(seen.ends_with(&format!("/{}/payload/main", bundle.id)), "{seen}");
            bundle.call("pause", &[]).ok();
            assert_eq!(bundle.status(), "paused");
            bundle.call("resume", &[]).ok();
            bundle.call("delete", &["--force"]).ok();
            bundle.assert_gone();
            let climbing = annotated(&["true"], json!({ "run.oci.delegate-cgroup": "../x" }));
            climbing.call("run", &[]).fails(1, "leads out of the container's cgroup");
        },
    );
}

fn cgroup_line(text: &str) -> String {
    text.lines().find(|line| line.starts_with("0::")).unwrap().to_owned()
}

#[test]
fn the_callers_groups_can_be_kept() {
    let groups = |annotations: Value| {
        let bundle = annotated(&["id", "-G"], annotations);
        let all = bundle.command("run", &[]);
        let mut caller = Command::new("setpriv");
        caller.args(["--groups", "7,9"]).arg(all.get_program()).args(all.get_args());
        Outcome::of(&mut caller).ok()
    };
    assert_eq!(groups(json!({})), "0\n");
    differs(&[(Kind::Runc, "knows no such annotation")], || {
        assert_eq!(groups(json!({ "run.oci.keep_original_groups": "1" })), "0 7 9\n");
    });
}

/// What `checkpoint` has saved comes back only where config.json lets the groups stay.
#[test]
fn groups_that_were_kept_are_restored_with_the_annotation_alone() {
    differs(&[(Kind::Runc, "needs criu"), (Kind::Crun, "Debian builds it without criu")], || {
        let keep = |word: &str| json!({ "run.oci.keep_original_groups": word });
        let run = |word: &str| {
            // A process that could become of any group may be so in an image, too.
            let bundle = annotated(&["sleep", "1000"], keep(word)).with(|config| {
                config["process"]["noNewPrivileges"] = json!(true);
                config["process"]["capabilities"] = json!({ "bounding": ["CAP_KILL"] });
            });
            let all = bundle.command("run", &["-d"]);
            let mut caller = Command::new("setpriv");
            caller.args(["--groups", "7,9"]).arg(all.get_program()).args(all.get_args());
            assert!(caller.stdout(Stdio::null()).status().unwrap().success());
            bundle
        };
        for (word, expected) in [("1", "Groups:\t7 9 \n"), ("0", "Groups:\t \n")] {
            let bundle = run(word);
            let groups = || {
                let status = fs::read_to_string(format!("/proc/{}/status", bundle.state()["pid"])).unwrap();
                assert!(status.contains(expected), "{word}: {status}");
            };
            groups();
            bundle.call("checkpoint", &[]).ok();
            bundle.call("restore", &["-d"]).ok();
            groups();
        }
        let bundle = run("1");
        bundle.call("checkpoint", &[]).ok();
        let bundle = bundle.with(|config| config["annotations"] = keep("0"));
        bundle.call("restore", &["-d"]).fails(1, "is of groups that config.json doesn't name");
        bundle.assert_gone();
    });
}

#[test]
fn a_pidfd_goes_to_its_receiver() {
    differs(&[(Kind::Runc, "knows no such annotation")], || {
        let bundle = Bundle::new(&["sleep", "1000"]);
        let path = bundle.file("receiver");
        let bundle = bundle.with(|config| config["annotations"] = json!({ "run.oci.pidfd_receiver": path }));
        let socket = ConsoleSocket::bind(&path);
        bundle.call("create", &[]).ok();
        let pidfd = socket.receive();
        let number = std::os::fd::AsRawFd::as_raw_fd(&pidfd);
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{number}")).unwrap();
        assert!(info.contains(&format!("Pid:\t{}\n", bundle.state()["pid"])), "{info}");
    });
}

/// A filter under which mkdir and mkdirat fail with EPERM, for exec too.
#[test]
fn a_filter_can_be_given_as_a_program() {
    differs(&[(Kind::Runc, "knows no such annotation")], || {
        let program = "IAAAAAAAAAAVAAEAUwAAABUAAAECAQAABgAAAAEABQAGAAAAAAD/fw==";
        let bundle = annotated(&["sleep", "1000"], json!({ "run.oci.seccomp_bpf_data": program })).running();
        let made = bundle.exec(&[], &["mkdir", "/x"]);
        assert!(made.stderr.contains("Operation not permitted"), "{made:?}");
        bundle.exec(&[], &["touch", "/x"]).ok();
    });
}

#[test]
fn what_rtc_has_not_is_refused() {
    differs(&[(Kind::Runc, "knows no such annotation"), (Kind::Crun, "has its own words")], || {
        for (annotations, text) in [
            (json!({ "run.oci.handler": "krun" }), "there is no handler \"krun\""),
            (json!({ "run.oci.seccomp_bpf_data": "AAAA" }), "3 bytes are no program of 1 to 4096 instructions"),
            (json!({ "run.oci.mount_context_type": "x" }), "\"x\" is not one of context, fscontext"),
        ] {
            let bundle = annotated(&["true"], annotations);
            bundle.call("run", &[]).fails(1, text);
            bundle.assert_gone();
        }
        let unknown = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{ "names": ["frobnicate"], "action": "SCMP_ACT_ERRNO" }] });
        let strict = annotated(&["true"], json!({ "run.oci.seccomp_fail_unknown_syscall": "1" }));
        let strict = strict.with(|config| config["linux"]["seccomp"] = unknown);
        strict.call("run", &[]).fails(1, "unknown system call \"frobnicate\"");
        strict.with(|config| config["annotations"] = json!({})).call("run", &[]).ok();
    });
}
