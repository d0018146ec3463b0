//! Create, start, state, kill, delete, pause, resume, list, ps.

use std::fs;
use std::io::{BufRead, BufReader};

use crate::harness::{Bundle, Kind, Outcome, differs, finish, until, wait_for_end};
use serde_json::{Value, json};

const SLEEP: [&str; 2] = ["sleep", "1000"];

#[test]
fn a_whole_life() {
    let bundle = Bundle::new(&SLEEP);
    let created = bundle.call("create", &[]);
    assert_eq!((created.stdout.as_str(), created.stderr.as_str()), ("", ""), "create is silent");
    created.ok();
    assert_eq!(bundle.status(), "created");
    bundle.call("start", &[]).ok();
    assert_eq!(bundle.status(), "running");
    differs(&[(Kind::Crun, "says: cannot be started")], || {
        bundle.call("start", &[]).fails(1, "cannot start an already running container");
    });
    bundle.call("delete", &[]).fails(1, if Kind::under_test() == Kind::Crun { "" } else { "running" });
    assert_eq!(bundle.status(), "running", "a refused delete has no effect");
    Outcome::of(bundle.command("kill", &[]).arg("KILL")).ok();
    bundle.stopped();
    assert_eq!(bundle.state()["pid"], 0);
    differs(&[(Kind::Crun, "says: the container is not running")], || {
        bundle.call("kill", &[]).fails(1, "container not running");
    });
    bundle.call("start", &[]).fails(1, "");
    differs(&[(Kind::Crun, "says: No such process")], || {
        Outcome::of(bundle.command("kill", &[]).arg("0")).fails(1, "container not running");
    });
    Outcome::of(bundle.command("kill", &["-a"]).arg("0")).ok();
    differs(&[(Kind::Crun, "this old one crashes")], || drop(bundle.call("ps", &["--format", "json"]).ok()));
    bundle.call("delete", &[]).ok();
    bundle.assert_gone();
}

#[test]
fn the_state_object() {
    let bundle = Bundle::new(&["sh", "-c", "echo ready; sleep 1000; :"]);
    let bundle = bundle.with(|config| config["annotations"] = json!({ "who": "me" })).running();
    until(&bundle.file("stdout"), |text| text == "ready\n");
    let state = bundle.state();
    assert_eq!(state["ociVersion"].as_str().unwrap().split('.').count(), 3);
    assert_eq!(state["id"], bundle.id.as_str());
    assert_eq!(state["bundle"], bundle.dir().to_str().unwrap());
    assert_eq!(state["annotations"], json!({ "who": "me" }));
    differs(&[(Kind::Crun, "gives the root as config.json has it")], || {
        assert_eq!(state["rootfs"], bundle.dir().join("rootfs").to_str().unwrap());
    });
    let created = state["created"].as_str().unwrap();
    assert!(created.starts_with("20") && created.ends_with('Z'), "{created}");
    let pid = state["pid"].as_i64().unwrap();
    assert!(fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap().starts_with("sh\0"));
}

#[test]
fn annotations_come_in_order() {
    let all = json!({ "e": "1", "b": "2", "d": "3", "a": "4", "c": "5", "f": "6" });
    let bundle = Bundle::new(&SLEEP).with(|config| config["annotations"] = all);
    bundle.call("create", &[]).ok();
    let words: String = bundle.call("state", &[]).ok().split_whitespace().collect();
    differs(&[(Kind::Crun, "keeps config.json's order")], || {
        assert!(words.contains(r#"{"a":"4","b":"2","c":"5","d":"3","e":"1","f":"6"}"#), "{words}");
    });
}

#[test]
fn ids_are_unique() {
    let bundle = Bundle::new(&SLEEP).running();
    let pid = bundle.state()["pid"].clone();
    differs(&[(Kind::Crun, "says: already exists"), (Kind::Runc, "says: already exists")], || {
        bundle.call("create", &[]).fails(1, "container with given ID already exists");
        assert_ne!(Kind::under_test(), Kind::Runc);
    });
    bundle.call("run", &["-d"]).fails(1, "exist");
    assert_eq!(bundle.state()["pid"], pid, "the first one is unharmed");
    assert_eq!(bundle.status(), "running");
}

#[test]
fn options_after_the_id() {
    differs(&[(Kind::Crun, "takes options before the id only")], || {
        let bundle = Bundle::new(&SLEEP);
        let mut create = bundle.runtime();
        create.args(["create", &bundle.id, "--bundle"]).arg(bundle.dir()).arg("--pid-file").arg(bundle.file("pid"));
        create.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        assert!(create.status().unwrap().success());
        assert_eq!(fs::read_to_string(bundle.file("pid")).unwrap(), bundle.state()["pid"].to_string());
    });
}

#[test]
fn single_dash_and_repeated_options() {
    differs(&[(Kind::Crun, "takes neither")], || {
        let bundle = Bundle::new(&SLEEP);
        let pid_file = bundle.file("pid");
        let pid_file = pid_file.to_str().unwrap();
        bundle
            .call("run", &["-d", "-no-subreaper", "-pid-file", "/nosuch", "--no-pivot=false", "--pid-file", pid_file])
            .ok();
        assert_eq!(fs::read_to_string(pid_file).unwrap(), bundle.state()["pid"].to_string());
    });
}

/// Relative to the caller's directory, even with a bundle elsewhere; decimal, no newline.
#[test]
fn the_pid_file() {
    let bundle = Bundle::new(&SLEEP);
    bundle.call("create", &["--pid-file", "pid"]).ok();
    differs(&[(Kind::Crun, "this old one takes it relative to the bundle")], || {
        assert_eq!(fs::read_to_string(bundle.file("pid")).unwrap(), bundle.state()["pid"].to_string());
    });
}

#[test]
fn the_bundle_is_the_current_directory() {
    let bundle = Bundle::new(&["true"]);
    let mut run = bundle.runtime();
    run.args(["run", &bundle.id]).current_dir(bundle.dir());
    Outcome::of(&mut run).ok();
}

#[test]
fn later_changes_of_config_json_have_no_effect() {
    let bundle = Bundle::new(&["echo", "before"]);
    bundle.call("create", &[]).ok();
    let bundle = bundle.with(|config| config["process"]["args"] = json!(["echo", "after"]));
    bundle.call("start", &[]).ok();
    bundle.stopped();
    assert_eq!(fs::read_to_string(bundle.file("stdout")).unwrap(), "before\n");
}

#[test]
fn kill_in_all_its_spellings() {
    for signal in ["KILL", "SIGKILL", "9"] {
        let bundle = Bundle::new(&SLEEP).running();
        Outcome::of(bundle.command("kill", &[]).arg(signal)).ok();
        bundle.stopped();
    }
    differs(&[(Kind::Crun, "takes it for 0")], || {
        let bundle = Bundle::new(&SLEEP).running();
        Outcome::of(bundle.command("kill", &[]).arg("kill")).ok();
        bundle.stopped();
    });
    let bundle = Bundle::new(&SLEEP).running();
    Outcome::of(bundle.command("kill", &[]).arg("0")).ok();
    differs(&[(Kind::Crun, "says: unknown signal BOGUS")], || {
        Outcome::of(bundle.command("kill", &[]).arg("BOGUS")).fails(1, "unknown signal");
        assert_ne!(Kind::under_test(), Kind::Crun);
    });
    assert_eq!(bundle.status(), "running");
}

/// SIGTERM is the default.
#[test]
fn kill_without_a_signal() {
    let bundle = Bundle::new(&["sh", "-c", "trap 'exit 3' TERM; echo ready; while :; do usleep 10000; done"]).running();
    until(&bundle.file("stdout"), |text| text == "ready\n");
    bundle.call("kill", &[]).ok();
    bundle.stopped();
}

/// Before its program there is one of the runtime's, which ends when it is told to.
#[test]
fn a_created_container_ends_when_told() {
    differs(&[(Kind::Crun, "ignores it, as init of a pid namespace")], || {
        for signal in ["TERM", "INT", "HUP"] {
            let bundle = Bundle::new(&SLEEP);
            bundle.call("create", &[]).ok();
            Outcome::of(bundle.command("kill", &[]).arg(signal)).ok();
            bundle.stopped();
            bundle.call("start", &[]).fails(1, "cannot start a container that has stopped");
            bundle.call("delete", &[]).ok();
        }
    });
}

/// crun's way to name several.
#[test]
fn by_regular_expression() {
    differs(&[(Kind::Runc, "has no such flag")], || {
        let bundle = Bundle::new(&["sleep", "1000"]).running();
        let ids = ["re-1", "re-2"].map(|name| format!("{}-{name}", bundle.id));
        for id in &ids {
            // Each with a cgroup of its own.
            let config = bundle.dir().join("config.json");
            let mut value: serde_json::Value = serde_json::from_str(&fs::read_to_string(&config).unwrap()).unwrap();
            value["linux"]["cgroupsPath"] = format!("/{id}").into();
            fs::write(&config, value.to_string()).unwrap();
            let (out, err) = (fs::File::create(bundle.file("o")).unwrap(), fs::File::create(bundle.file("e")).unwrap());
            let mut run = bundle.runtime();
            run.args(["run", "-d", "-b"]).arg(bundle.dir()).arg(id).stdout(out).stderr(err);
            assert!(run.status().unwrap().success());
        }
        let both = format!("^{}-re-[0-9]$", bundle.id);
        Outcome::of(bundle.runtime().args(["kill", "--regex", &both, "KILL"])).ok();
        Outcome::of(bundle.runtime().args(["delete", "--force", "--regex", &both])).ok();
        assert_eq!(Outcome::of(bundle.runtime().args(["list", "-q"])).ok(), format!("{}\n", bundle.id));
        Outcome::of(bundle.runtime().args(["kill", "--regex", "(", "KILL"])).fails(1, "regcomp");
        assert_eq!(bundle.status(), "running");
    });
}

#[test]
fn another_name_for_the_configuration() {
    differs(&[(Kind::Runc, "has no such flag")], || {
        let bundle = Bundle::new(&["echo", "hi"]);
        fs::rename(bundle.dir().join("config.json"), bundle.dir().join("other.json")).unwrap();
        assert_eq!(bundle.call("run", &["--config", "other.json"]).ok(), "hi\n");
        bundle.call("run", &["-f", "none.json"]).fails(1, "none.json");
    });
}

#[test]
fn kill_all() {
    differs(&[(Kind::Crun, "this old one can't without a cgroup of its own on this host")], || {
        let bundle = Bundle::new(&["sh", "-c", "sleep 1000 & sleep 1000 & wait"]).running();
        Outcome::of(bundle.command("kill", &["-a"]).arg("KILL")).ok();
        bundle.stopped();
        Outcome::of(bundle.command("kill", &["-a"]).arg("0")).ok();
        assert_ne!(Kind::under_test(), Kind::Crun);
    });
}

#[test]
fn delete_by_force() {
    let bundle = Bundle::new(&SLEEP).running();
    bundle.call("delete", &["--force"]).ok();
    bundle.assert_gone();
    bundle.call("delete", &["-f"]).ok();
}

/// Several at once: whoever comes too late finds it done.
#[test]
fn delete_by_force_at_once() {
    differs(&[(Kind::Crun, "those who come too late fail"), (Kind::Runc, "this one may, too")], || {
        let bundle = Bundle::new(&SLEEP).running();
        let all: Vec<_> = (0..4).map(|_| bundle.spawn("delete", &["--force"])).collect();
        let statuses: Vec<i32> = all.into_iter().map(|one| finish(one).status).collect();
        assert_eq!(statuses, [0; 4]);
        bundle.assert_gone();
    });
}

#[test]
fn delete_of_a_created_container() {
    let bundle = Bundle::new(&SLEEP);
    bundle.call("create", &[]).ok();
    bundle.call("delete", &["--force"]).ok();
    bundle.assert_gone();
}

#[test]
fn run_leaves_nothing() {
    let bundle = Bundle::new(&["echo", "hello"]);
    assert_eq!(bundle.call("run", &[]).ok(), "hello\n");
    bundle.assert_gone();
}

#[test]
fn run_keep() {
    differs(&[(Kind::Crun, "this old one keeps the status running")], || {
        let bundle = Bundle::new(&["true"]);
        bundle.call("run", &["--keep"]).ok();
        assert_eq!(bundle.status(), "stopped");
        bundle.call("delete", &[]).ok();
        bundle.assert_gone();
        assert_ne!(Kind::under_test(), Kind::Crun);
    });
}

#[test]
fn pause_and_resume() {
    let bundle = Bundle::new(&["sh", "-c", "while :; do echo; usleep 1000; done"]).running();
    differs(&[(Kind::Crun, "takes it")], || bundle.call("resume", &[]).fails(1, "container not paused"));
    bundle.call("pause", &[]).ok();
    assert_eq!(bundle.status(), "paused");
    let before = fs::metadata(bundle.file("stdout")).unwrap().len();
    differs(&[(Kind::Crun, "gives 1 and other words")], || {
        bundle.exec(&[], &["true"]).fails(255, "cannot exec in a paused container");
    });
    assert_eq!(fs::metadata(bundle.file("stdout")).unwrap().len(), before, "it wrote while it was paused");
    bundle.call("resume", &[]).ok();
    assert_eq!(bundle.status(), "running");
    until(&bundle.file("stdout"), |text| text.len() as u64 > before);
    bundle.call("pause", &[]).ok();
    bundle.call("delete", &["--force"]).ok();
    bundle.assert_gone();
}

#[test]
fn lists() {
    let bundle = Bundle::new(&SLEEP).running();
    let state = bundle.state();
    let list = |args: &[&str]| Outcome::of(bundle.runtime().arg("list").args(args)).ok();
    assert_eq!(list(&["-q"]), format!("{}\n", bundle.id));
    let json = list(&["--format=json"]);
    let listed: Value = serde_json::from_str(&json).unwrap();
    for key in ["id", "pid", "status", "bundle", "created"] {
        assert_eq!(listed[0][key], state[key], "{key}");
    }
    differs(&[(Kind::Crun, "prints on several lines")], || {
        assert_eq!(json.lines().count(), 1);
        assert_eq!(listed[0]["owner"], "root");
        let keys = ["\"ociVersion\"", "\"id\"", "\"pid\"", "\"status\"", "\"bundle\"", "\"rootfs\"", "\"created\""];
        let at: Vec<_> = keys.iter().map(|key| json.find(key).unwrap()).collect();
        assert!(at.is_sorted(), "the order of keys: {json}");
    });
    let table = list(&[]);
    let row: Vec<_> = table.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(row[0], bundle.id);
    assert_eq!(row[1], state["pid"].to_string());
    assert_eq!(row[2], "running");
    // One that is damaged hides no other.
    differs(&[(Kind::Crun, "fails")], || {
        fs::create_dir(bundle.root().join("damaged")).unwrap();
        fs::write(bundle.root().join("damaged/state.json"), "{").unwrap();
        let listed = Outcome::of(bundle.runtime().args(["list", "-q"]));
        assert_eq!((listed.status, listed.stdout), (0, format!("{}\n", bundle.id)));
        assert!(listed.stderr.contains("damaged"), "{}", listed.stderr);
    });
}

#[test]
fn processes() {
    let bundle = Bundle::new(&["sh", "-c", "sleep 1000 & echo ready; wait"]).running();
    until(&bundle.file("stdout"), |text| text == "ready\n");
    let json = bundle.call("ps", &["--format", "json"]).ok();
    let pids: Vec<i64> = serde_json::from_str(&json).unwrap();
    assert_eq!(pids.len(), 2, "{json}");
    assert!(pids.contains(&bundle.state()["pid"].as_i64().unwrap()));
    let table = bundle.call("ps", &[]).ok();
    let header: Vec<_> = table.lines().next().unwrap().split_whitespace().collect();
    differs(&[(Kind::Crun, "lists pids only")], || {
        assert_eq!(header, ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]);
        assert_eq!(table.lines().count(), 3, "{table}");
        let init = table.lines().find(|line| line.contains("sh -c")).unwrap();
        assert!(init.starts_with("root "), "{init}");
        let with_options = Outcome::of(bundle.command("ps", &[]).args(["-e", "-x"])).ok();
        assert_eq!(with_options.lines().count(), 3, "{with_options}");
    });
}

#[test]
fn statistics() {
    differs(&[(Kind::Crun, "has no events"), (Kind::Runc, "this one wants a controller for memory")], || {
        let bundle = Bundle::new(&SLEEP).running();
        let line = bundle.call("events", &["--stats"]).ok();
        assert_eq!(line.lines().count(), 1);
        let head = format!("{{\"type\":\"stats\",\"id\":\"{}\",\"data\":{{", bundle.id);
        assert!(line.starts_with(&head), "{line}");
        let stats: Value = serde_json::from_str(&line).unwrap();
        assert!(stats.pointer("/data/cpu/usage/total").unwrap().is_u64(), "{line}");
        // Again and again, until the container's end.
        let mut events = bundle.spawn("events", &["--interval", "50ms"]);
        let mut lines = BufReader::new(events.stdout.take().unwrap()).lines();
        for _ in 0..2 {
            assert!(lines.next().unwrap().unwrap().starts_with(&head));
        }
        Outcome::of(bundle.command("kill", &[]).arg("KILL")).ok();
        assert_eq!(finish(events).status, 0);
        bundle.call("events", &["--stats"]).fails(1, "container not running");
    });
}

/// Without a pid namespace of its own the container's other processes go with it.
#[test]
fn without_a_pid_namespace_kill_reaches_all() {
    let bundle = Bundle::new(&["sh", "-c", "sleep 1000 & echo $!; wait"]).with(|config| {
        config["linux"]["namespaces"].as_array_mut().unwrap().retain(|namespace| namespace["type"] != "pid");
    });
    let bundle = bundle.running();
    let child = until(&bundle.file("stdout"), |text| text.ends_with('\n'));
    let child = rustix::process::Pid::from_raw(child.trim().parse().unwrap()).unwrap();
    differs(&[(Kind::Crun, "signals init alone"), (Kind::Runc, "this old one signals init alone")], || {
        Outcome::of(bundle.command("kill", &[]).arg("KILL")).ok();
        wait_for_end(child);
    });
    bundle.call("delete", &["--force"]).ok();
    wait_for_end(child);
    bundle.assert_gone();
}
