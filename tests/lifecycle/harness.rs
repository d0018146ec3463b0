//! A container's directory with busybox as its root file system, and commands on it.
//!
//! `RUNTIME_UNDER_TEST` names the runtime: `rtc` (the default), `runc` or `crun`. Where another one is known to behave
//! differently, the test says so ([`differs`]) and fails when that is no longer true.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rtc_tests::bundle::copy_program;
use rtc_tests::command::Runtime;
use rtc_tests::scratch::Scratch;
use rtc_tests::watch;
use rustix::process::Pid;
use serde_json::{Value, json};

/// A runtime that the tests know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The one of this repository.
    Rtc,
    /// The reference implementation.
    Runc,
    /// The one in C.
    Crun,
}

impl Kind {
    /// The runtime under test.
    pub(crate) fn under_test() -> Self {
        match runtime()[0].rsplit('/').next() {
            Some("runc") => Self::Runc,
            Some("crun") => Self::Crun,
            _ => Self::Rtc,
        }
    }
}

/// The runtime's executable and its first arguments.
pub(crate) fn runtime() -> Vec<String> {
    let mut words = Runtime::new(PathBuf::new()).words();
    // Without the root of state.
    words.truncate(words.len() - 2);
    words
}

/// The runtime, without a root of its own.
pub(crate) fn plain() -> Command {
    let words = runtime();
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).stdin(Stdio::null());
    command
}

/// Runs a test's body. For a runtime that is known to differ, the body must fail.
pub(crate) fn differs(differences: &[(Kind, &str)], body: impl FnOnce()) {
    let kind = Kind::under_test();
    let Some((_, how)) = differences.iter().find(|(differing, _)| *differing == kind) else {
        return body();
    };
    let same = catch_unwind(AssertUnwindSafe(body)).is_ok();
    assert!(!same, "{kind:?} is said to differ, but doesn't any more: {how}");
    eprintln!("{kind:?} differs, as known: {how}");
}

/// How long anything may take; far more than it needs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// What a command gave.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// Exit status; 128 + signal if one ended it.
    pub(crate) status: i32,
    /// Standard output.
    pub(crate) stdout: String,
    /// Standard error.
    pub(crate) stderr: String,
}

impl Outcome {
    /// Waits for a command.
    pub(crate) fn of(command: &mut Command) -> Self {
        Self::from(command.output().unwrap())
    }

    /// The output of a command that must succeed.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.status, 0, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self.stdout
    }

    /// Checks that it failed with `status` and one line on stderr that holds `text`.
    #[track_caller]
    pub(crate) fn fails(self, status: i32, text: &str) {
        assert_eq!(self.status, status, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        let said = self.stderr.replace("\\\"", "\"");
        assert!(said.contains(text), "{text:?} is not in: {said}");
        if Kind::under_test() == Kind::Rtc {
            assert_eq!(self.stderr.lines().count(), 1, "one line was wanted: {}", self.stderr);
        }
    }
}

impl From<Output> for Outcome {
    fn from(output: Output) -> Self {
        use std::os::unix::process::ExitStatusExt;
        let status = output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap());
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        Self { status, stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }
}

/// A container's directory, a root of state of its own, and a name for the container, which goes with this.
#[derive(Debug)]
pub(crate) struct Bundle {
    scratch: Scratch,
    /// The container's name, used in its cgroup's too.
    pub(crate) id: String,
    /// What is written to config.json.
    pub(crate) config: Value,
}

impl Bundle {
    /// A bundle that runs `args`, without a terminal, in new namespaces.
    pub(crate) fn new(args: &[&str]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let id = format!("cli-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let scratch = Scratch::new(&id);
        // Scratch makes this process the parent of detached ones. Here nobody would take them in when they end, and the
        // init of their pid namespace waits for that.
        rustix::process::set_child_subreaper(None).unwrap();
        let bin = scratch.path().join("bundle/rootfs/bin");
        fs::create_dir_all(&bin).unwrap();
        copy_program("/bin/busybox".as_ref(), &bin.join("busybox"));
        for name in APPLETS {
            symlink("busybox", bin.join(name)).unwrap();
        }
        for dir in ["proc", "dev", "sys", "tmp", "etc"] {
            fs::create_dir(scratch.path().join("bundle/rootfs").join(dir)).unwrap();
        }
        let config = config(&id, args);
        let bundle = Self { scratch, id, config };
        bundle.write();
        bundle
    }

    /// Changes config.json.
    #[must_use]
    pub(crate) fn with(mut self, change: impl FnOnce(&mut Value)) -> Self {
        change(&mut self.config);
        self.write();
        self
    }

    fn write(&self) {
        fs::write(self.dir().join("config.json"), self.config.to_string()).unwrap();
    }

    /// The directory with config.json and rootfs.
    pub(crate) fn dir(&self) -> PathBuf {
        self.scratch.path().join("bundle")
    }

    /// A file beside the bundle.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// The directory that holds the runtime's state.
    pub(crate) fn root(&self) -> PathBuf {
        self.scratch.path().join("state")
    }

    /// The runtime with this bundle's root of state, and a working directory outside of the bundle.
    pub(crate) fn runtime(&self) -> Command {
        let mut command = Runtime::new(self.root()).command([""; 0]);
        command.current_dir(self.scratch.path());
        command
    }

    /// `RUNTIME COMMAND ARGS… ID`, with output to pipes and without input.
    pub(crate) fn command(&self, command: &str, args: &[&str]) -> Command {
        let mut all = self.runtime();
        all.arg(command).args(args);
        if matches!(command, "create" | "run" | "restore") {
            all.arg("--bundle").arg(self.dir());
        }
        all.arg(&self.id);
        all
    }

    /// The outcome of `RUNTIME COMMAND ARGS… ID`. A container's process doesn't get the pipes: a detached one would
    /// hold them open.
    pub(crate) fn call(&self, command: &str, args: &[&str]) -> Outcome {
        let mut all = self.command(command, args);
        let detached = args.iter().any(|arg| matches!(*arg, "-d" | "--detach"));
        if command != "create" && !detached {
            return Outcome::of(&mut all);
        }
        let (out, err) = (self.file("stdout"), self.file("stderr"));
        let status = all.stdout(fs::File::create(&out).unwrap()).stderr(fs::File::create(&err).unwrap()).status();
        Outcome {
            status: status.unwrap().code().unwrap(),
            stdout: fs::read_to_string(out).unwrap(),
            stderr: fs::read_to_string(err).unwrap(),
        }
    }

    /// `exec ID ARGS…`.
    pub(crate) fn exec(&self, options: &[&str], args: &[&str]) -> Outcome {
        Outcome::of(self.command("exec", options).args(args))
    }

    /// Starts a command and leaves it to the caller.
    pub(crate) fn spawn(&self, command: &str, args: &[&str]) -> Child {
        self.command(command, args).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).spawn().unwrap()
    }

    /// Creates and starts the container, detached.
    #[track_caller]
    pub(crate) fn running(self) -> Self {
        self.call("run", &["-d"]).ok();
        self
    }

    /// The state object.
    #[track_caller]
    pub(crate) fn state(&self) -> Value {
        serde_json::from_str(&self.call("state", &[]).ok()).unwrap()
    }

    /// The container's status.
    #[track_caller]
    pub(crate) fn status(&self) -> String {
        self.state()["status"].as_str().unwrap().to_owned()
    }

    /// Waits until the container has stopped.
    #[track_caller]
    pub(crate) fn stopped(&self) {
        let pid = self.state()["pid"].as_i64().unwrap();
        if let Some(pid) = Pid::from_raw(pid.try_into().unwrap()) {
            wait_for_end(pid);
        }
        assert_eq!(self.status(), "stopped");
    }

    /// Writes a file of the root file system.
    #[must_use]
    pub(crate) fn with_file(self, name: &str, content: &str, mode: u32) -> Self {
        use std::os::unix::fs::PermissionsExt;
        let beside = self.scratch.path().join("file");
        fs::write(&beside, content).unwrap();
        fs::set_permissions(&beside, fs::Permissions::from_mode(mode)).unwrap();
        // It may be a script.
        copy_program(&beside, &self.dir().join("rootfs").join(name));
        self
    }

    /// Checks that nothing is left of the container: no state, no cgroup.
    #[track_caller]
    pub(crate) fn assert_gone(&self) {
        let crun = Kind::under_test() == Kind::Crun;
        self.call("state", &[]).fails(1, if crun { "No such file" } else { "does not exist" });
        if let Ok(entries) = fs::read_dir(self.root()) {
            let left: Vec<_> =
                entries.map(|e| e.unwrap().file_name()).filter(|name| name.to_string_lossy() == self.id).collect();
            assert!(left.is_empty(), "left in the root of state: {left:?}");
        }
        let cgroup = cgroup2().join(&self.id);
        assert!(!cgroup.exists(), "{} is left", cgroup.display());
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let deleted = self.call("delete", &["--force"]);
        assert!(deleted.status == 0 || std::thread::panicking(), "delete --force {}: {}", self.id, deleted.stderr);
    }
}

const APPLETS: &[&str] = &[
    "sh", "cat", "echo", "env", "false", "grep", "head", "id", "ip", "kill", "ls", "mkdir", "mount", "umount", "stat",
    "mkfifo", "printf", "ps", "pwd", "readlink", "sleep", "stty", "tail", "test", "touch", "true", "tty", "usleep",
    "wc", "dd",
];

fn config(id: &str, args: &[&str]) -> Value {
    let capabilities = ["CAP_KILL", "CAP_CHOWN", "CAP_SETUID", "CAP_SETGID"];
    let namespaces = ["pid", "mount", "ipc", "uts"].map(|kind| json!({ "type": kind }));
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": { "uid": 0, "gid": 0 },
            "args": args,
            "env": ["PATH=/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": { "bounding": capabilities, "effective": capabilities, "permitted": capabilities },
        },
        "root": { "path": "rootfs" },
        "hostname": "cli",
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

/// Where cgroup v2 is mounted.
pub(crate) fn cgroup2() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let mount = mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((fields.next()?, fields.next()?)).filter(|(_, kind)| *kind == "cgroup2")
    });
    PathBuf::from(mount.expect("cgroup2 is mounted").0)
}

/// Waits for a process's end.
#[track_caller]
pub(crate) fn wait_for_end(pid: Pid) {
    let pidfd = u32::try_from(pid.as_raw_nonzero().get()).ok().and_then(watch::pidfd);
    assert!(pidfd.is_none_or(|pidfd| watch::ended(&pidfd, PATIENCE)), "process {pid:?} runs on");
}

/// Waits for a child, ten seconds at most.
#[track_caller]
pub(crate) fn finish(mut child: Child) -> Outcome {
    let ended = watch::pidfd(child.id()).is_none_or(|pidfd| watch::ended(&pidfd, PATIENCE));
    if !ended {
        child.kill().unwrap();
    }
    let outcome = Outcome::from(child.wait_with_output().unwrap());
    assert!(ended, "it hung: {outcome:?}");
    outcome
}

/// Waits until a file's content satisfies `wanted`: the content.
#[track_caller]
pub(crate) fn until(path: &Path, wanted: impl Fn(&str) -> bool) -> String {
    let found = watch::until(path, None, PATIENCE, |text| wanted(text).then(|| text.to_owned()));
    found.unwrap_or_else(|text| panic!("{} stays {text:?}", path.display()))
}
