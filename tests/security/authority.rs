//! What a container or a caller may and may not ask for: capabilities, users, cgroups, settings, hostile configurations.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Bundle, Outcome, cgroup2, until};

const CAPABILITIES: &str = "grep ^Cap /proc/self/status";

fn sets(output: &str) -> Vec<(&str, u64)> {
    output
        .lines()
        .map(|line| {
            let (name, value) = line.split_once(":\t").unwrap();
            (name, u64::from_str_radix(value, 16).unwrap())
        })
        .collect()
}

/// CVE-2022-29162, CVE-2022-27650, CVE-2022-27649, CVE-2025-27612: nothing is inheritable or ambient unasked.
#[test]
fn inheritable_capabilities() {
    let bundle = Bundle::new(&["sh", "-c", &format!("{CAPABILITIES}; exec sleep 1000")]).running();
    let process = json!({ "args": ["sh", "-c", CAPABILITIES], "cwd": "/", "user": { "uid": 0, "gid": 0 },
        "env": ["PATH=/bin"] });
    fs::write(bundle.file("process.json"), process.to_string()).unwrap();
    let file = bundle.file("process.json");
    let first = until(&bundle.file("stdout"), |text| text.lines().count() == 5);
    let plain = bundle.exec(&[], &["sh", "-c", CAPABILITIES]).ok();
    let more = bundle.exec(&["--cap", "CAP_NET_RAW", "--cap", "CAP_SYS_ADMIN"], &["sh", "-c", CAPABILITIES]).ok();
    let json = Outcome::of(&mut bundle.command("exec", &["--process", file.to_str().unwrap()])).ok();
    // CAP_CHOWN, CAP_KILL, CAP_SETGID, CAP_SETUID of the bundle; then also CAP_NET_RAW and CAP_SYS_ADMIN.
    let own = 1 | 1 << 5 | 1 << 6 | 1 << 7;
    for (output, expected) in [(first, own), (plain, own), (json, own), (more, own | 1 << 13 | 1 << 21)] {
        let sets = sets(&output);
        let wanted = [("CapInh", 0), ("CapPrm", expected), ("CapEff", expected), ("CapBnd", expected), ("CapAmb", 0)];
        assert_eq!(sets, wanted);
    }
}

/// CVE-2026-30892: a user is a number, or two, and nothing else.
#[test]
fn users() {
    let bundle = Bundle::new(&["sleep", "1000"]).running();
    for user in ["1000x", "0:0:0", "+0", " 0", "0 ", ":", "0x0", "4294967296", "1000:"] {
        bundle.exec(&["--user", user], &["id", "-u"]).fails(255, "user");
    }
    assert_eq!(bundle.exec(&["--user", "1000"], &["id", "-u"]).ok(), "1000\n");
    // As runc has it: none named, so the container's own.
    assert_eq!(bundle.exec(&["--user", ""], &["id", "-u"]).ok(), "0\n");
}

/// No path of a cgroup climbs out of the hierarchy or of the container's own.
#[test]
fn cgroups() {
    let bundle = Bundle::new(&["sleep", "1000"]);
    let id = bundle.id.clone();
    let bundle = bundle.with(|config| config["linux"]["cgroupsPath"] = json!(format!("/../../../../{id}"))).running();
    assert!(cgroup2().join(&id).is_dir());
    for path in ["..", "/..", "a/../..", "../../x"] {
        bundle.exec(&["--cgroup", path], &["true"]).fails(255, "bad sub cgroup path");
    }
    bundle.call("delete", &["--force"]).ok();
    bundle.assert_gone();
    let bundle = bundle.with(|config| config["linux"]["cgroupsPath"] = json!("/.."));
    bundle.call("run", &[]).fails(1, "names the root cgroup");
    let bundle = bundle.with(|config| config["linux"]["cgroupsPath"] = json!("/"));
    bundle.call("run", &[]).fails(1, "names the root cgroup");
}

/// A setting that is not the container's own is refused, whatever its name looks like.
#[test]
fn settings_of_the_host() {
    let before = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    for key in [
        "kernel.core_pattern",
        "net/../kernel/core_pattern",
        "net/./../kernel/core_pattern",
        "net//../kernel/core_pattern",
        "fs/mqueue/../../kernel/core_pattern",
        "/net/core/somaxconn",
    ] {
        let bundle = Bundle::new(&["true"]).with(|config| {
            config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "network" }));
            config["linux"]["sysctl"] = json!({ key: "|/attack" });
        });
        bundle.call("run", &[]).fails(1, "sysctl");
        bundle.assert_gone();
    }
    assert_eq!(fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap(), before);
}

/// What is done to a configuration.
type Change<'a> = Box<dyn Fn(&mut Value) + 'a>;

/// CVE-2021-43784 and its like: lengths and depths that nobody expects are refused, or they work.
#[test]
fn configurations_beyond_measure() {
    let long = "x".repeat(100_000);
    let namespaces = |kind: &str| json!([{ "type": "mount" }, { "type": "pid" }, { "type": kind }]);
    let mappings: Vec<Value> =
        (0..66_000).map(|id| json!({ "containerID": id, "hostID": 100_000 + id, "size": 1 })).collect();
    let changes: Vec<(&str, Change)> = vec![
        (
            "mappings",
            Box::new(|config| {
                config["linux"]["namespaces"] = namespaces("user");
                config["hostname"] = Value::Null;
                config["linux"]["uidMappings"] = json!(mappings);
                config["linux"]["gidMappings"] = json!(mappings);
            }),
        ),
        ("path", Box::new(|config| config["process"]["cwd"] = json!(format!("/{long}")))),
        ("cgroup", Box::new(|config| config["linux"]["cgroupsPath"] = json!(format!("/{long}")))),
        ("host name", Box::new(|config| config["hostname"] = json!(long))),
        ("argument", Box::new(|config| config["process"]["args"] = json!(["echo", "x".repeat(3 << 20)]))),
        (
            "device",
            Box::new(|config| {
                config["linux"]["devices"] =
                    json!([{ "path": format!("/dev/{long}"), "type": "c", "major": 1, "minor": 3 }]);
            }),
        ),
    ];
    for (what, change) in changes {
        let bundle = Bundle::new(&["true"]).with(change);
        let begun = Instant::now();
        let outcome = bundle.call("run", &[]);
        assert!(outcome.status != 0, "{what}: {outcome:?}");
        assert!(outcome.stderr.lines().count() == 1, "{what}: {}", &outcome.stderr[..outcome.stderr.len().min(2000)]);
        assert!(!outcome.stderr.contains("panicked"), "{what}");
        assert!(begun.elapsed() < Duration::from_secs(30), "{what}");
        bundle.assert_gone();
    }
    let bundle = Bundle::new(&["true"]);
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    for config in [deep.clone(), format!(r#"{{"ociVersion":"1.0.2","process":{deep}}}"#), "{".repeat(1_000_000)] {
        fs::write(bundle.dir().join("config.json"), config).unwrap();
        bundle.call("run", &[]).fails(1, "config.json: ");
    }
}

/// config.json is a file of the bundle: not a FIFO that hangs, not a device without an end.
#[test]
fn configurations_that_are_no_files() {
    let bundle = Bundle::new(&["true"]);
    let config = bundle.dir().join("config.json");
    for target in ["/dev/zero", "/dev/null", "/proc/self/fd"] {
        fs::remove_file(&config).unwrap();
        symlink(target, &config).unwrap();
        bundle.call("run", &[]).fails(1, "is not a regular file");
    }
    fs::remove_file(&config).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, &config, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    bundle.call("run", &[]).fails(1, "is not a regular file");
    fs::remove_file(&config).unwrap();
    let file = fs::File::create(&config).unwrap();
    file.set_len(1 << 40).unwrap();
    bundle.call("run", &[]).fails(1, "is larger than 64 MiB");
    fs::write(&config, bundle.config.to_string()).unwrap();
    bundle.call("run", &[]).ok();
}

/// A name of a container is no path.
#[test]
fn names_of_containers() {
    let bundle = Bundle::new(&["true"]);
    let dir = bundle.dir();
    for name in ["..", ".", "../x", "a/b", "/x", "", "x\ny"] {
        let mut run = bundle.runtime();
        run.args(["run", "--bundle"]).arg(&dir).arg(name);
        assert_ne!(Outcome::of(&mut run).status, 0, "{name:?}");
    }
}
