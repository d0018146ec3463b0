//! A bundle with busybox, and the calls on it that tests make again and again.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rtc_runtime::{
    CgroupManager, Container, CreateOptions, ExecOptions, ExecProcess, Host, Overrides, Payload, Result, create, run,
};
use serde_json::{Value, json};

use crate::harness::{DIR, capture, cgroup};

const APPLETS: &[&str] = &[
    "cat", "chmod", "chown", "df", "echo", "env", "false", "find", "grep", "hostname", "id", "ifconfig", "kill", "ls",
    "mkdir", "mknod", "mount", "nproc", "ps", "pwd", "readlink", "rm", "sh", "sleep", "stat", "stty", "test", "touch",
    "true", "tty", "umount", "uname", "wc",
];

/// A bundle in the test's own directory.
pub(crate) struct Bundle {
    pub(crate) dir: PathBuf,
    pub(crate) config: Value,
    pub(crate) host: Host,
    pub(crate) options: CreateOptions,
}

impl Bundle {
    /// A bundle whose container runs `script` by sh as root with all capabilities of a default container.
    pub(crate) fn new(name: &str, script: &str) -> Self {
        let dir = Path::new(DIR).join(name);
        fs::create_dir_all(dir.join("rootfs/bin")).unwrap();
        for sub in ["etc", "proc", "sys", "dev", "tmp"] {
            fs::create_dir_all(dir.join("rootfs").join(sub)).unwrap();
        }
        fs::copy("/bin/busybox", dir.join("rootfs/bin/busybox")).unwrap();
        for applet in APPLETS {
            symlink("busybox", dir.join("rootfs/bin").join(applet)).unwrap();
        }
        let options = CreateOptions { id: name.to_owned(), bundle: dir.clone(), ..CreateOptions::default() };
        let host =
            Host { root: Path::new(DIR).join("state"), cgroup_manager: CgroupManager::Cgroupfs, rootless: false };
        Self { dir, config: config(name, script), host, options }
    }

    /// The root file system.
    pub(crate) fn rootfs(&self) -> PathBuf {
        self.dir.join("rootfs")
    }

    /// Changes the configuration at a JSON pointer's place.
    pub(crate) fn set(&mut self, pointer: &str, value: Value) -> &mut Self {
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        let parent = self.config.pointer_mut(parent).unwrap_or_else(|| panic!("no {parent}"));
        match parent {
            Value::Object(map) => drop(map.insert(name.to_owned(), value)),
            Value::Array(list) if name == "-" => list.push(value),
            Value::Array(list) => list[name.parse::<usize>().unwrap()] = value,
            other => panic!("{other} has no member"),
        }
        self
    }

    /// Adds a mount.
    pub(crate) fn mount(&mut self, destination: &str, typ: &str, source: &str, options: &[&str]) -> &mut Self {
        let mount = json!({"destination": destination, "type": typ, "source": source, "options": options});
        self.set("/mounts/-", mount)
    }

    /// Writes config.json.
    pub(crate) fn save(&self) {
        fs::write(self.dir.join("config.json"), serde_json::to_vec_pretty(&self.config).unwrap()).unwrap();
    }

    /// Creates the container.
    pub(crate) fn create(&self) -> Result<Container> {
        self.save();
        create(&self.host, &self.options, Payload::Exec)
    }

    /// Runs it to its end: exit status and output.
    pub(crate) fn output(&self) -> (i32, String) {
        let (result, output) = capture(|| {
            self.save();
            let container = run(&self.host, &self.options)?;
            let status = container.wait()?;
            container.delete(false)?;
            Ok(status)
        });
        match result {
            Ok(status) => (status, output),
            Err(e) => {
                let e: rtc_runtime::Error = e;
                panic!("run: {e}\n{output}")
            }
        }
    }

    /// Runs it to its end, which must be a good one: its output.
    pub(crate) fn good(&self) -> String {
        let (status, output) = self.output();
        assert_eq!(status, 0, "{output}");
        output
    }

    /// Tries to run it, which must fail: the error's text. Nothing may be left.
    pub(crate) fn refused(&self) -> String {
        self.save();
        let (result, output) = capture(|| run(&self.host, &self.options).map(drop));
        let error = result.map(|()| panic!("the container runs\n{output}")).unwrap_err().to_string();
        self.nothing_left();
        assert!(!error.contains('\n'), "{error:?}");
        error
    }

    /// Creates and starts it.
    pub(crate) fn start(&self) -> Container {
        let mut container = self.create().unwrap();
        container.start().unwrap();
        container
    }

    /// Neither state nor cgroup of it exists.
    pub(crate) fn nothing_left(&self) {
        assert!(!self.host.root.join(&self.options.id).exists(), "state is left");
        let mountpoint = rtc_runtime::cgroup::Hierarchy::find().unwrap().mountpoint().to_owned();
        let cgroup = mountpoint.join(&cgroup()[1..]).join(&self.options.id);
        assert!(!cgroup.exists(), "{} is left", cgroup.display());
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(self.rootfs().to_str().unwrap()), "a mount is left: {mounts}");
    }
}

/// Runs a script in a container: exit status and output.
pub(crate) fn exec_output(container: &Container, script: &str) -> (i32, String) {
    exec_with(container, overrides(script))
}

/// The flags of `exec` for a script.
pub(crate) fn overrides(script: &str) -> Overrides {
    Overrides { args: ["sh", "-c", script].map(str::to_owned).to_vec(), ..Overrides::default() }
}

/// Runs a process in a container: exit status and output.
pub(crate) fn exec_with(container: &Container, overrides: Overrides) -> (i32, String) {
    capture(|| container.exec(&exec_options(overrides)).unwrap().wait().unwrap())
}

/// Options of `exec` with nothing special.
pub(crate) fn exec_options(overrides: Overrides) -> ExecOptions {
    ExecOptions {
        process: ExecProcess::Overrides(overrides),
        pid_file: None,
        console_socket: None,
        pidfd_socket: None,
        foreground: false,
        preserve_fds: 0,
        cgroup: None,
        ignore_paused: false,
    }
}

fn config(name: &str, script: &str) -> Value {
    let caps =
        json!(["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_KILL", "CAP_MKNOD", "CAP_SETUID", "CAP_SETGID"]);
    json!({
        "ociVersion": "1.2.0",
        "root": {"path": "rootfs", "readonly": false},
        "hostname": "box",
        "process": {
            "terminal": false,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh", "-c", script],
            "env": ["PATH=/bin:/usr/bin"],
            "cwd": "/",
            "capabilities": {"bounding": caps, "effective": caps, "permitted": caps},
        },
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
        ],
        "linux": {
            "cgroupsPath": format!("{}/{name}", cgroup()),
            "namespaces": [{"type": "mount"}, {"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"},
                           {"type": "cgroup"}],
        },
    })
}
