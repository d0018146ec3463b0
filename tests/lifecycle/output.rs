//! What the commands print: version, help, complaints, log, lists. No container's process runs here.

use std::fs;

use crate::harness::{Bundle, Kind, Outcome, differs, plain};
use serde_json::Value;

fn call(args: &[&str]) -> Outcome {
    Outcome::of(plain().args(args))
}

const COMMANDS: [&str; 16] = [
    "checkpoint",
    "create",
    "delete",
    "events",
    "exec",
    "kill",
    "list",
    "pause",
    "ps",
    "restore",
    "resume",
    "run",
    "spec",
    "start",
    "state",
    "update",
];

#[test]
fn version_has_the_lines_that_engines_parse() {
    for flag in ["--version", "-v"] {
        differs(&[(Kind::Crun, "has no -v")], || {
            let text = call(&[flag]).ok();
            let lines: Vec<_> = text.lines().collect();
            let version = lines[0].split(" version ").nth(1).unwrap();
            assert!(version.starts_with(|c: char| c.is_ascii_digit()), "{text}");
            assert!(lines[1].starts_with("commit: "), "{text}");
            let spec = lines[2].strip_prefix("spec: ").unwrap();
            assert_eq!(spec.split('.').count(), 3, "{text}");
            if flag == "--version" && Kind::under_test() == Kind::Crun {
                panic!("only -v differs");
            }
        });
    }
}

#[test]
fn help_is_laid_out_as_runc_does() {
    differs(&[(Kind::Crun, "lays help out as argp does")], || {
        let name = if Kind::under_test() == Kind::Runc { "runc" } else { "rtc" };
        for flag in ["-h", "--help"] {
            let text = call(&[flag]).ok();
            let second = text.lines().nth(1).unwrap();
            assert!(text.starts_with("NAME:\n") && second.contains("Open Container Initiative runtime"), "{text}");
            for command in COMMANDS {
                let text = call(&[command, flag]).ok();
                let second = text.lines().nth(1).unwrap();
                assert!(text.starts_with("NAME:\n") && second.contains(&format!("{name} {command}")), "{text}");
            }
        }
    });
}

#[test]
fn podman_probes_for_checkpoint_and_restore() {
    differs(&[(Kind::Crun, "Debian builds it without CRIU")], || {
        call(&["checkpoint", "--help"]).ok();
        let probe = call(&["restore", "--lsm-mount-context"]);
        let said = probe.stdout + &probe.stderr;
        assert!(said.contains("flag needs an argument") || said.contains("requires an argument"), "{said}");
    });
}

#[test]
fn bad_usage_fails() {
    for args in
        [&["foo"][..], &["foo", "-h"], &["create", "--nosuch", "a"], &["state"], &["start"], &["kill"], &["delete"]]
    {
        let outcome = call(args);
        assert_ne!(outcome.status, 0, "{args:?}: {outcome:?}");
    }
    differs(&[(Kind::Crun, "says: unknown command foo")], || {
        let outcome = call(&["foo", "-h"]);
        assert!((outcome.stdout + &outcome.stderr).contains("No help topic for 'foo'"));
    });
}

#[test]
fn commands_on_a_container_that_does_not_exist() {
    let bundle = Bundle::new(&["true"]);
    for command in ["state", "start", "kill", "delete", "pause", "resume", "ps", "update"] {
        let crun = [(Kind::Crun, "says: No such file or directory")];
        differs(&crun, || {
            let args: &[&str] = if command == "update" { &["--pids-limit", "9"] } else { &[] };
            bundle.call(command, args).fails(1, "does not exist");
        });
    }
    differs(&[(Kind::Crun, "gives 1")], || bundle.exec(&[], &["true"]).fails(255, "does not exist"));
    bundle.call("delete", &["--force"]).ok();
}

#[test]
fn container_names() {
    let bundle = Bundle::new(&["true"]);
    for name in ["", ".", "..", "a/b", "a b", "ä"] {
        let crun = [(Kind::Crun, "takes any name that a directory may have")];
        differs(if matches!(name, "a b" | "ä") { &crun } else { &[] }, || {
            let run = Outcome::of(bundle.runtime().arg("run").arg("-b").arg(bundle.dir()).arg(name));
            assert_eq!(run.status, 1, "{name:?}: {run:?}");
            assert!(bundle.root().read_dir().map_or(0, Iterator::count) == 0, "{name:?} left something");
            let state = Outcome::of(bundle.runtime().args(["state", name]));
            assert_eq!(state.status, 1, "{name:?}: {state:?}");
        });
    }
}

/// One line in the log file, the bare message on stderr; both formats.
#[test]
fn failures_go_to_the_log() {
    let bundle = Bundle::new(&["true"]);
    let log = bundle.file("log");
    let state = |format: &str| {
        let mut command = bundle.runtime();
        command.args(["--log-format", format, "--log"]).arg(&log).args(["state", "nosuch"]);
        Outcome::of(&mut command)
    };
    differs(&[(Kind::Crun, "writes its own texts and formats")], || {
        let json = state("json");
        assert_eq!(json.status, 1);
        assert!(json.stderr.trim_end().ends_with("container does not exist"), "{json:?}");
        assert!(!json.stderr.contains("level="), "{json:?}");
        let object: Value = serde_json::from_str(&fs::read_to_string(&log).unwrap()).unwrap();
        assert_eq!(object["level"], "error");
        assert!(object["msg"].as_str().unwrap().ends_with("container does not exist"), "{object}");
        assert!(object["time"].as_str().unwrap().starts_with("20"), "{object}");

        fs::remove_file(&log).unwrap();
        state("text");
        state("text");
        let text = fs::read_to_string(&log).unwrap();
        assert_eq!(text.lines().count(), 2, "it is appended to: {text}");
        assert!(text.starts_with("time=\"20") && text.contains(" level=error msg=\""), "{text}");
    });
}

#[test]
fn without_a_log_failures_go_to_stderr() {
    let bundle = Bundle::new(&["true"]);
    differs(&[(Kind::Crun, "writes its own format")], || {
        let outcome = bundle.call("state", &[]);
        assert!(outcome.stderr.starts_with("time=\"20"), "{outcome:?}");
        outcome.fails(1, "level=error msg=\"");
    });
}

/// On stderr without a log, and nothing there with one.
#[test]
fn debug_messages() {
    let bundle = Bundle::new(&["true"]);
    fs::create_dir(bundle.root()).unwrap();
    differs(&[(Kind::Crun, "writes its own format"), (Kind::Runc, "list says nothing there")], || {
        let list = |args: &[&str]| Outcome::of(plain().args(args).arg("--root").arg(bundle.root()).arg("list"));
        assert!(list(&["--debug"]).stderr.contains("level=debug"));
        let log = bundle.file("log");
        let quiet = list(&["--debug", "--log", log.to_str().unwrap(), "--log-format=json"]);
        assert_eq!((quiet.status, quiet.stderr.as_str()), (0, ""));
        assert!(fs::read_to_string(log).unwrap().contains("\"level\":\"debug\""));
    });
}

/// Links of a drop-in replacement.
/// crun's flags for the log.
#[test]
fn levels_and_places_of_the_log() {
    differs(&[(Kind::Runc, "has no such flags"), (Kind::Crun, "says less")], || {
        let bundle = Bundle::new(&["true"]);
        let lines =
            |args: &[&str]| Outcome::of(bundle.runtime().args(args).args(["state", "none"])).stderr.lines().count();
        assert_eq!((lines(&["--log-level=error"]), lines(&["--log-level", "debug"])), (1, 2));
        let named = format!("file:{}", bundle.file("log").display());
        Outcome::of(bundle.runtime().args(["--log", &named, "state", "none"])).fails(1, "does not exist");
        assert!(fs::read_to_string(bundle.file("log")).unwrap().contains("level=error"));
        Outcome::of(bundle.runtime().args(["--log-level", "loud", "list"])).fails(1, "use one of error, warning");
    });
}

#[test]
fn rtc_called_runc() {
    if Kind::under_test() != Kind::Rtc {
        return;
    }
    let bundle = Bundle::new(&["true"]);
    let link = bundle.file("runc");
    std::os::unix::fs::symlink(fs::canonicalize(plain().get_program()).unwrap(), &link).unwrap();
    let call = |args: &[&str]| Outcome::of(std::process::Command::new(&link).args(args)).ok();
    assert!(call(&["-v"]).starts_with("runc version "));
    assert!(call(&["create", "-h"]).lines().nth(1).unwrap().contains("runc create"));
}

#[test]
fn a_log_that_cannot_be_opened_is_an_error() {
    let bundle = Bundle::new(&["true"]);
    Outcome::of(bundle.runtime().args(["--log", "/nosuch/log", "list"])).fails(1, "/nosuch/log");
}

#[test]
fn empty_lists() {
    let bundle = Bundle::new(&["true"]);
    fs::create_dir(bundle.root()).unwrap();
    let list = |args: &[&str]| Outcome::of(bundle.runtime().arg("list").args(args)).ok();
    differs(&[(Kind::Crun, "calls the first column NAME")], || {
        let words: Vec<String> = list(&[]).split_whitespace().map(str::to_owned).collect();
        assert_eq!(words, ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]);
    });
    assert_eq!(list(&["-q"]), "");
    differs(&[(Kind::Runc, "prints null")], || {
        assert_eq!(serde_json::from_str::<Value>(&list(&["--format", "json"])).unwrap(), serde_json::json!([]));
    });
    differs(&[(Kind::Crun, "takes a missing root for an empty one"), (Kind::Runc, "this old one does too")], || {
        let missing = Outcome::of(plain().arg("--root").arg(bundle.file("nosuch")).arg("list"));
        missing.fails(1, "nosuch");
    });
}

#[test]
fn features_tell_what_engines_ask_for() {
    differs(&[(Kind::Crun, "this old one has no such command")], || {
        let features: Value = serde_json::from_str(&call(&["features"]).ok()).unwrap();
        let holds = |list: &str, wanted: &[&str]| {
            let list = features.pointer(list).unwrap().as_array().unwrap();
            for name in wanted {
                assert!(list.iter().any(|item| item == name), "{name}: {features}");
            }
        };
        holds("/linux/namespaces", &["pid", "network", "ipc", "uts", "mount", "user", "cgroup"]);
        holds("/linux/capabilities", &["CAP_CHOWN", "CAP_SYS_ADMIN", "CAP_CHECKPOINT_RESTORE"]);
        holds("/hooks", &["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"]);
        holds("/mountOptions", &["ro", "rro", "rbind", "rprivate"]);
        assert_eq!(features.pointer("/linux/cgroup/v2"), Some(&true.into()));
        assert_eq!(features.pointer("/linux/seccomp/enabled"), Some(&true.into()));
        assert!(features["ociVersionMin"].is_string() && features["ociVersionMax"].is_string());
    });
}

#[test]
fn spec_writes_a_config_once() {
    let bundle = Bundle::new(&["true"]);
    let config = bundle.dir().join("config.json");
    fs::remove_file(&config).unwrap();
    let spec = |args: &[&str]| Outcome::of(plain().arg("spec").args(args).current_dir(bundle.dir()));
    spec(&[]).ok();
    let written: Value = serde_json::from_str(&fs::read_to_string(&config).unwrap()).unwrap();
    assert_eq!(written["process"]["terminal"], true);
    assert_eq!(written["process"]["args"], serde_json::json!(["sh"]));
    spec(&[]).fails(1, "exist");
    fs::remove_file(&config).unwrap();
    spec(&["--rootless"]).ok();
    let written: Value = serde_json::from_str(&fs::read_to_string(&config).unwrap()).unwrap();
    assert!(written["linux"]["namespaces"].to_string().contains("user"), "{written}");
}

/// The environment that podman gives `delete` and `kill`: no PATH, no HOME, an empty XDG_RUNTIME_DIR.
#[test]
fn an_empty_environment_is_enough() {
    let bundle = Bundle::new(&["true"]);
    let mut command = bundle.runtime();
    command.args(["delete", "--force", &bundle.id]).env_clear().env("XDG_RUNTIME_DIR", "");
    Outcome::of(&mut command).ok();
}
