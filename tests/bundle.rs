//! OCI bundles for tests: an own root folder, with the host's programs bound into it read-only.
//!
//! No program is copied: whatever Debian package is installed on the host runs in the container.
//! Each bundle has its own `/etc/passwd`, `/var`, `/run` and `/tmp`, and the folder `/ctl`, shared with the test.

use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A bundle that is being described; [`Bundle::write`] makes it a folder.
#[derive(Debug)]
pub struct Bundle {
    config: Value,
    folder: PathBuf,
    host_programs: bool,
}

const CAPABILITIES: [&str; 15] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_AUDIT_WRITE",
    // For `ip link set lo up`: runtimes leave the loopback device of a new network namespace down.
    "CAP_NET_ADMIN",
];

/// Parts of the host's /etc that programs need: how the linker finds libraries, what alternatives point to.
const FROM_ETC: [&str; 8] =
    ["ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives", "ssl", "nsswitch.conf", "protocols", "services"];

impl Bundle {
    /// A bundle with nothing in its root folder but mount points.
    pub fn empty(folder: PathBuf) -> Self {
        Self { config: config(), folder, host_programs: false }
    }

    /// A bundle in which the host's programs run.
    pub fn host(folder: PathBuf) -> Self {
        Self { config: config(), folder, host_programs: true }
    }

    /// The program and its arguments.
    #[must_use]
    pub fn args(mut self, args: &[&str]) -> Self {
        self.config["process"]["args"] = json!(args);
        self
    }

    /// Binds a folder or file of the host.
    #[must_use]
    pub fn bind(mut self, source: &Path, destination: &str, options: &[&str]) -> Self {
        let options: Vec<&str> = ["rbind"].iter().chain(options).copied().collect();
        self.mount(json!({ "destination": destination, "type": "bind", "source": source, "options": options }));
        self
    }

    /// Copies a program into the root folder.
    ///
    /// # Panics
    /// Where it can't be copied.
    #[must_use]
    pub fn file(self, source: &Path, destination: &str) -> Self {
        let inside = self.rootfs().join(destination.trim_start_matches('/'));
        make_folder(inside.parent().expect("a file in a folder"));
        copy_program(source, &inside);
        self
    }

    /// Puts a symbolic link into the root folder.
    ///
    /// # Panics
    /// Where it can't be made.
    #[must_use]
    pub fn link(self, target: &str, name: &str) -> Self {
        let inside = self.rootfs().join(name.trim_start_matches('/'));
        symlink(target, &inside).unwrap_or_else(|e| panic!("link {}: {e}", inside.display()));
        self
    }

    /// Changes the configuration at will.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Value)) -> Self {
        change(&mut self.config);
        self
    }

    fn mount(&mut self, mount: Value) {
        self.config["mounts"].as_array_mut().expect("mounts is an array").push(mount);
    }

    /// Where the root folder will be.
    pub fn rootfs(&self) -> PathBuf {
        self.folder.join("rootfs")
    }

    /// Makes the folder: `config.json` and `rootfs`.
    ///
    /// # Panics
    /// Where something can't be written.
    pub fn write(mut self) -> PathBuf {
        let root = self.rootfs();
        for name in ["proc", "sys", "dev", "etc", "var", "run", "tmp", "root", "ctl"] {
            make_folder(&root.join(name));
        }
        write(&root.join("etc/passwd"), &accounts("/etc/passwd"));
        write(&root.join("etc/group"), &accounts("/etc/group"));
        write(&root.join("etc/hosts"), "127.0.0.1 localhost\n");
        if self.host_programs {
            self.bind_host_programs(&root);
        }
        let text = serde_json::to_string_pretty(&self.config).expect("a JSON value has a text");
        write(&self.folder.join("config.json"), &text);
        self.folder
    }

    /// Binds /usr, and what else Debian's programs need, as the host has it: links stay links.
    fn bind_host_programs(&mut self, root: &Path) {
        for name in ["usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32"] {
            let host = Path::new("/").join(name);
            if let Ok(link) = fs::read_link(&host) {
                symlink(link, root.join(name)).expect("a link in an empty root folder");
            } else if host.is_dir() {
                make_folder(&root.join(name));
                self.bind_readonly(&host);
            }
        }
        let java = fs::read_dir("/etc").into_iter().flatten().flatten().map(|entry| entry.file_name());
        let java = java.filter_map(|name| name.into_string().ok()).filter(|name| name.starts_with("java-"));
        for name in FROM_ETC.iter().map(|name| (*name).to_owned()).chain(java) {
            let host = Path::new("/etc").join(&name);
            let inside = root.join("etc").join(&name);
            if host.is_dir() {
                make_folder(&inside);
            } else if host.is_file() {
                write(&inside, "");
            } else {
                continue;
            }
            self.bind_readonly(&host);
        }
    }

    fn bind_readonly(&mut self, path: &Path) {
        let options = json!(["bind", "ro", "nosuid", "nodev"]);
        self.mount(json!({ "destination": path, "type": "bind", "source": path, "options": options }));
    }
}

/// Copies a program that is to be executed, by a process of its own.
///
/// A descriptor of ours would be inherited by whatever other threads start just then, and until that has got to its
/// own execve(2), this program's fails with ETXTBSY.
///
/// # Panics
/// Where it can't be copied.
pub fn copy_program(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-p").arg(from).arg(to).status().expect("cp starts");
    assert!(status.success(), "cp -p {} {}: {status}", from.display(), to.display());
}

fn make_folder(path: &Path) {
    fs::create_dir_all(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}

/// The host's system accounts: daemons run under the ids that their packages made.
fn accounts(file: &str) -> String {
    let text = fs::read_to_string(file).unwrap_or_default();
    // Nobody (65534) is one of them.
    let is_system = |line: &&str| {
        let id = line.split(':').nth(2).and_then(|id| id.parse().ok()).unwrap_or(0);
        id < 1000 || id == 65534
    };
    text.split_inclusive('\n').filter(is_system).collect()
}

/// The configuration that podman and docker would write for a plain container, near enough.
fn config() -> Value {
    let tmpfs = |destination: &str, options: &[&str]| json!({ "destination": destination, "type": "tmpfs", "source": "tmpfs", "options": options });
    let kernel = |destination: &str, kind: &str, options: &[&str]| json!({ "destination": destination, "type": kind, "source": kind, "options": options });
    json!({
        "ociVersion": "1.0.2",
        "hostname": "rtc-test",
        "root": { "path": "rootfs", "readonly": false },
        "process": {
            "terminal": false,
            "user": { "uid": 0, "gid": 0 },
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "HOME=/root"],
            "cwd": "/",
            "noNewPrivileges": true,
            "capabilities": {
                "bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES
            },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "soft": 1024, "hard": 4096 }],
        },
        "mounts": [
            kernel("/proc", "proc", &["nosuid", "noexec", "nodev"]),
            tmpfs("/dev", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            kernel("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]),
            tmpfs("/dev/shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=256m"]),
            kernel("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
            kernel("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
            kernel("/sys/fs/cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
            tmpfs("/tmp", &["nosuid", "nodev", "mode=1777"]),
            tmpfs("/run", &["nosuid", "nodev", "mode=755"]),
        ],
        "linux": {
            "namespaces": [
                { "type": "pid" }, { "type": "network" }, { "type": "ipc" },
                { "type": "uts" }, { "type": "mount" }, { "type": "cgroup" }
            ],
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
        },
    })
}
