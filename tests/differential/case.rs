//! What a case is.

use serde_json::Value;

/// A runtime that takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// The one of this repository.
    Rtc,
    /// The reference implementation.
    Runc,
    /// The one in C.
    Crun,
}

/// One case: a container, what is called, and what must come out of it.
pub(crate) struct Case {
    /// Its name, unique.
    pub(crate) name: &'static str,
    /// Shell commands of the host, run in the root file system before config.json is written.
    pub(crate) prepare: &'static str,
    /// Changes to the configuration: a JSON pointer and a value in JSON; `ROOT` and `DIR` in it stand for the root file
    /// system and the bundle. A pointer that ends in `/-` adds to a list; the value `null` takes away.
    pub(crate) changes: Vec<(&'static str, String)>,
    /// The calls, one after the other.
    pub(crate) steps: Vec<Step>,
}

/// One call.
#[derive(Clone)]
pub(crate) struct Step {
    /// The runtime's arguments, separated by spaces; `ID` stands for the container, `BUNDLE` for its bundle, `HERE` for
    /// the folder above it, which is the working directory.
    pub(crate) call: String,
    /// The exit status.
    pub(crate) status: i32,
    /// For other runtimes than rtc any failure will do.
    pub(crate) fails: bool,
    /// All of the standard output, where it matters.
    pub(crate) stdout: Option<String>,
    /// Part of the standard error, in rtc's words.
    pub(crate) stderr: &'static str,
}

const RUN: &str = "run --bundle BUNDLE ID";

fn case(name: &'static str, changes: &[(&'static str, &str)], steps: Vec<Step>) -> Case {
    let changes = changes.iter().map(|(pointer, value)| (*pointer, (*value).to_owned())).collect();
    Case { name, prepare: "", changes, steps }
}

fn step(call: &str, status: i32, stdout: Option<&str>, stderr: &'static str) -> Step {
    Step { call: call.to_owned(), status, fails: false, stdout: stdout.map(str::to_owned), stderr }
}

/// A container that runs a script of the shell, succeeds, and prints something.
pub(crate) fn prints(name: &'static str, changes: &[(&'static str, &str)], script: &str, stdout: &str) -> Case {
    let mut made = case(name, changes, vec![step(RUN, 0, Some(stdout), "")]);
    made.changes.insert(0, ("/process/args", serde_json::json!(["sh", "-c", script]).to_string()));
    made
}

/// A container that can't be made; rtc says why.
pub(crate) fn refused(name: &'static str, changes: &[(&'static str, &str)], why: &'static str) -> Case {
    let steps = vec![
        Step { fails: true, ..step(RUN, 1, None, why) },
        // Nothing is left.
        Step { fails: true, ..step("state ID", 1, None, "does not exist") },
    ];
    case(name, changes, steps)
}

/// A container that sleeps, and calls on it: arguments, exit status, output, part of the error.
pub(crate) fn calls(
    name: &'static str,
    changes: &[(&'static str, &str)],
    list: &[(&str, i32, Option<&str>, &'static str)],
) -> Case {
    let steps = list.iter().map(|(call, status, stdout, stderr)| step(call, *status, *stdout, stderr)).collect();
    let mut made = case(name, changes, steps);
    made.changes.insert(0, ("/process/args", r#"["sleep","1000"]"#.to_owned()));
    made
}

impl Case {
    /// With something in the root file system.
    pub(crate) fn prepared(mut self, script: &'static str) -> Self {
        self.prepare = script;
        self
    }

    /// The configuration for a bundle.
    pub(crate) fn config(&self, id: &str, bundle: &str) -> Value {
        let mut config = base(id);
        for (pointer, text) in &self.changes {
            let text = text.replace("ROOT", &format!("{bundle}/rootfs")).replace("DIR", bundle);
            let value: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {text}: {e}", self.name));
            set(&mut config, pointer, value);
        }
        config
    }
}

/// Sets a value, making the objects and lists on the way.
fn set(config: &mut Value, pointer: &str, value: Value) {
    let mut at = config;
    let parts: Vec<&str> = pointer.split('/').skip(1).collect();
    let (last, way) = parts.split_last().expect("a pointer has parts");
    for (index, part) in way.iter().enumerate() {
        if at.get(part).is_none() {
            let next = parts[index + 1];
            at[*part] = if next == "-" { Value::Array(Vec::new()) } else { serde_json::json!({}) };
        }
        at = &mut at[*part];
    }
    match (*last, value) {
        ("-", value) => at.as_array_mut().expect("a list").push(value),
        (key, Value::Null) => drop(at.as_object_mut().expect("an object").remove(key)),
        (key, value) => at[key] = value,
    }
}

/// A plain container: its own namespaces but the user's and the cgroup's, few capabilities, busybox.
fn base(id: &str) -> Value {
    let capabilities = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_KILL", "CAP_MKNOD", "CAP_SETGID", "CAP_SETUID"];
    let namespaces = ["pid", "mount", "ipc", "uts", "network"].map(|kind| serde_json::json!({ "type": kind }));
    serde_json::json!({
        "ociVersion": "1.2.0",
        "process": {
            "user": { "uid": 0, "gid": 0 }, "args": ["true"], "env": ["PATH=/bin"], "cwd": "/",
            "capabilities": { "bounding": capabilities, "effective": capabilities, "permitted": capabilities },
        },
        "root": { "path": "rootfs" },
        "hostname": "case",
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"] },
            {
                "destination": "/dev/pts", "type": "devpts", "source": "devpts",
                "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
            },
        ],
        "linux": { "cgroupsPath": format!("/{id}"), "namespaces": namespaces },
    })
}
