//! Bad input: one clear line, status 1, nothing left.

use std::fs;

use crate::harness::{Bundle, Kind, Outcome, differs};
use serde_json::json;

/// `create` and `run` fail with a line that holds `text`, and leave nothing.
#[track_caller]
fn refused(bundle: &Bundle, text: &str) {
    for command in ["create", "run"] {
        bundle.call(command, &[]).fails(1, text);
        bundle.assert_gone();
    }
}

#[test]
fn no_bundle() {
    let bundle = Bundle::new(&["true"]);
    fs::remove_file(bundle.dir().join("config.json")).unwrap();
    refused(&bundle, "config.json");
    fs::remove_dir_all(bundle.dir()).unwrap();
    refused(&bundle, "bundle");
}

#[test]
fn a_broken_config() {
    let bundle = Bundle::new(&["true"]);
    for content in ["", "{", "{\"ociVersion\":", "[]", "{}"] {
        fs::write(bundle.dir().join("config.json"), content).unwrap();
        refused(&bundle, "");
    }
    fs::write(bundle.dir().join("config.json"), "null").unwrap();
    differs(&[(Kind::Runc, "this old one crashes")], || refused(&bundle, ""));
}

#[test]
fn values_that_make_no_sense() {
    let changes: [(&str, &str, serde_json::Value); 5] = [
        ("args", "/process/args", json!([])),
        ("cwd", "/process/cwd", json!("relative")),
        ("cwd", "/process/cwd", json!("")),
        ("rlimit", "/process/rlimits", json!([{ "type": "RLIMIT_BOGUS", "soft": 1, "hard": 1 }])),
        ("root", "/root", json!(null)),
    ];
    for (name, pointer, value) in changes {
        differs(&[(Kind::Crun, "takes some of it"), (Kind::Runc, "takes some of it")], || {
            let bundle = Bundle::new(&["true"]).with(|config| {
                let (parent, key) = pointer.rsplit_once('/').unwrap();
                config.pointer_mut(parent).unwrap()[key] = value.clone();
            });
            refused(&bundle, "");
            assert!(Kind::under_test() == Kind::Rtc, "the others refuse {name} too");
        });
    }
}

/// Legal (runtime-spec, "process"): only `start` needs one.
#[test]
fn no_process() {
    differs(&[(Kind::Runc, "refuses to create it"), (Kind::Crun, "refuses to create it")], || {
        let bundle = Bundle::new(&["true"]).with(|config| drop(config.as_object_mut().unwrap().remove("process")));
        bundle.call("run", &[]).fails(1, "process is missing");
        bundle.assert_gone();
        bundle.call("create", &[]).ok();
        bundle.call("start", &[]).fails(1, "cannot start a container without a process");
        assert_eq!(bundle.status(), "created");
    });
}

#[test]
fn no_root_file_system() {
    let bundle = Bundle::new(&["true"]);
    fs::remove_dir_all(bundle.dir().join("rootfs")).unwrap();
    refused(&bundle, "rootfs");
}

/// The words from which podman and docker make their exit statuses 127 and 126.
#[test]
fn a_program_that_is_not_there() {
    let bundle = Bundle::new(&["nosuch"]);
    refused(&bundle, "executable file");
    differs(&[(Kind::Crun, "has its own words")], || {
        refused(&bundle, "exec: \"nosuch\": executable file not found in $PATH");
    });
    differs(&[(Kind::Crun, "has its own words")], || {
        refused(&Bundle::new(&["/nosuch"]), "no such file or directory");
    });
    differs(&[(Kind::Crun, "has its own words")], || {
        let plain = Bundle::new(&["/tmp/plain"]).with_file("tmp/plain", "echo hello", 0o644);
        refused(&plain, "permission denied");
    });
}

/// The kernel finds this one only at the very end, when `start` has let the process go.
#[test]
fn a_script_without_its_interpreter() {
    let bundle = Bundle::new(&["/run.sh"]).with_file("run.sh", "#!/nosuch\n", 0o755);
    differs(&[(Kind::Crun, "says it with other words")], || {
        let outcome = bundle.call("run", &[]);
        assert_eq!(outcome.stderr, "exec /run.sh: no such file or directory\n");
        assert_eq!(outcome.status, 255);
    });
    bundle.assert_gone();
}

#[test]
fn failing_hooks() {
    for hook in ["prestart", "createRuntime", "createContainer", "startContainer", "poststart"] {
        // createContainer and startContainer hooks are executed in the container's file system.
        let program = if hook.ends_with("Container") { "/bin/sh" } else { "/usr/bin/busybox" };
        let entry = |status: &str| json!({ "path": program, "args": ["sh", "-c", format!("exit {status}")] });
        let bundle =
            Bundle::new(&["sleep", "1000"]).with(|config| config["hooks"] = json!({ hook: [entry("0"), entry("1")] }));
        differs(
            &[(Kind::Crun, "has its own words"), (Kind::Runc, "this old one counts on after a failing poststart")],
            || {
                let run = bundle.call("run", &["-d"]);
                assert_eq!(run.status, 1, "{hook}: {run:?}");
                assert!(run.stderr.contains(&format!("error running {hook} hook #1:")), "{run:?}");
                bundle.assert_gone();
                assert!(Kind::under_test() == Kind::Rtc, "only poststart differs");
            },
        );
        bundle.call("delete", &["--force"]).ok();
    }
}

/// The specification, runtime.md: an error, the container is stopped, and its poststop hooks follow.
#[test]
fn start_tells_of_a_failing_hook() {
    differs(&[(Kind::Crun, "start succeeds"), (Kind::Runc, "start succeeds")], || {
        let bundle = Bundle::new(&["sleep", "1000"]).with(|config| {
            let failing = json!({ "path": "/bin/sh", "args": ["sh", "-c", "echo why >&2; exit 3"] });
            config["hooks"] = json!({ "startContainer": [failing] });
        });
        bundle.call("create", &[]).ok();
        bundle
            .call("start", &[])
            .fails(1, "error running startContainer hook #0: exit status 3, stdout: , stderr: why");
        bundle.stopped();
        bundle.call("delete", &[]).ok();
    });
}

#[test]
fn hooks_get_the_state() {
    let bundle = Bundle::new(&["true"]);
    let file = bundle.file("hook");
    let save = |name: &str| {
        let line = format!("cat > {}.{name}", file.display());
        json!([{ "path": "/usr/bin/busybox", "args": ["sh", "-c", line] }])
    };
    let bundle = bundle.with(|config| {
        config["hooks"] = json!({ "createRuntime": save("createRuntime"), "poststart": save("poststart"), "poststop": save("poststop") });
        config["annotations"] = json!({ "a": "b" });
        config["process"]["args"] = json!(["sleep", "1000"]);
    });
    bundle.call("run", &["-d"]).ok();
    let pid = bundle.state()["pid"].clone();
    bundle.call("delete", &["--force"]).ok();
    for (name, status) in [("createRuntime", "created"), ("poststart", "running"), ("poststop", "stopped")] {
        let text = fs::read_to_string(bundle.file(&format!("hook.{name}"))).unwrap();
        let state: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(state["id"], bundle.id.as_str(), "{name}");
        assert_eq!(state["annotations"]["a"], "b", "{name}");
        assert_eq!(state["bundle"], bundle.dir().to_str().unwrap(), "{name}");
        if name != "poststop" {
            assert_eq!(state["pid"], pid, "{name}");
        }
        differs(if name == "poststop" { &[] } else { &[(Kind::Runc, "this old one is a step behind")] }, || {
            assert_eq!(state["status"], status, "{name}")
        });
    }
}

/// A container whose hook fails is stopped and deleted, and so its poststop hooks run.
#[test]
fn a_failing_hook_is_followed_by_poststop() {
    let bundle = Bundle::new(&["true"]);
    let file = bundle.file("poststop");
    let hook = |script: String| json!([{ "path": "/usr/bin/busybox", "args": ["sh", "-c", script] }]);
    let bundle = bundle.with(|config| {
        config["hooks"] = json!({ "createRuntime": hook("exit 1".into()), "poststop": hook(format!("cat > {}", file.display())) });
    });
    bundle.call("run", &[]);
    let text = fs::read_to_string(bundle.file("poststop")).unwrap_or_default();
    differs(&[(Kind::Crun, "runs none")], || {
        assert!(text.contains("\"status\":\"stopped\"") && text.contains(&bundle.id), "{text:?}");
    });
    bundle.call("create", &[]);
    bundle.assert_gone();
}

/// Nothing can be taken back any more: those that come after one that fails run all the same (runtime-spec, runtime,
/// "Lifecycle", 14).
#[test]
fn a_failing_poststop_hook_stops_nothing() {
    let bundle = Bundle::new(&["true"]);
    let file = bundle.file("poststop");
    let hook = |script: String| json!({ "path": "/usr/bin/busybox", "args": ["sh", "-c", script] });
    let line = |name: &str| hook(format!("echo {name} >> {}", file.display()));
    let bundle = bundle.with(|config| {
        config["hooks"] = json!({ "poststop": [line("first"), hook("exit 3".into()), line("last")] });
    });
    let outcome = bundle.call("run", &[]);
    differs(&[(Kind::Runc, "ends with the one that fails")], || {
        assert_eq!(fs::read_to_string(bundle.file("poststop")).unwrap_or_default(), "first\nlast\n");
        assert_eq!(outcome.status, 0, "{}", outcome.stderr);
    });
    differs(&[(Kind::Runc, "ends with the one that fails"), (Kind::Crun, "keeps it to itself")], || {
        assert!(outcome.stderr.contains("error running poststop hook #1: exit status 3"), "{}", outcome.stderr);
    });
}

/// The signals that rtc holds back for itself are not held back in hooks.
#[test]
fn hooks_have_a_clean_signal_mask() {
    let bundle = Bundle::new(&["true"]).with(|config| {
        let check = "grep -q '^SigBlk:.0000000000000000' /proc/self/status";
        let hook = json!([{ "path": "/usr/bin/busybox", "args": ["sh", "-c", check] }]);
        config["hooks"] = json!({ "createRuntime": hook, "poststart": hook });
    });
    differs(&[(Kind::Crun, "holds back those that it waits for")], || {
        bundle.call("run", &[]).ok();
    });
}

/// A hook that never ends is ended after its timeout.
#[test]
fn hooks_have_a_timeout() {
    let bundle = Bundle::new(&["true"]).with(|config| {
        config["hooks"] =
            json!({ "createRuntime": [{ "path": "/usr/bin/busybox", "args": ["sleep", "1000"], "timeout": 1 }] });
    });
    differs(&[(Kind::Crun, "has its own words"), (Kind::Runc, "this old one doesn't name the hook")], || {
        bundle.call("run", &[]).fails(1, "error running createRuntime hook #0:");
    });
    bundle.assert_gone();
}

/// What is to be confined by a security module that the kernel lacks is not run unconfined.
#[test]
fn labels_need_their_module() {
    let selinux = fs::read_to_string("/proc/filesystems").unwrap().contains("selinuxfs");
    let apparmor = fs::exists("/proc/self/attr/apparmor").unwrap();
    let cases = [("selinuxLabel", "SELinux", selinux), ("apparmorProfile", "AppArmor", apparmor)];
    for (property, module, _) in cases.into_iter().filter(|(.., there)| !there) {
        let bundle = Bundle::new(&["true"]).with(|config| config["process"][property] = json!("a:b:c:d"));
        differs(&[(Kind::Crun, "runs without AppArmor")], || {
            bundle.call("run", &[]).fails(1, &format!("the kernel runs without {module}"));
        });
        bundle.assert_gone();
    }
    let bundle = Bundle::new(&["true"]).with(|config| config["process"]["apparmorProfile"] = json!("unconfined"));
    differs(&[(Kind::Runc, "wants AppArmor for that")], || {
        bundle.call("run", &[]).ok();
    });
}

#[test]
fn files_that_cannot_be_written() {
    let bundle = Bundle::new(&["sleep", "1000"]);
    bundle.call("create", &["--pid-file", "/nosuch/pid"]).fails(1, "/nosuch/");
    bundle.assert_gone();
    bundle.call("create", &["--console-socket", "/nosuch/socket"]).fails(1, "");
    bundle.assert_gone();
}

#[test]
fn updates_that_make_no_sense() {
    let bundle = Bundle::new(&["sleep", "1000"]).running();
    bundle.call("update", &["--memory", "lots"]).fails(1, "lots");
    bundle.call("update", &["--resources", "/nosuch"]).fails(1, "/nosuch");
    let mut update = bundle.command("update", &["--resources=-"]);
    Outcome::of(&mut update).fails(1, "");
    assert_eq!(bundle.status(), "running");
}
