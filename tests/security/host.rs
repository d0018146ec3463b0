//! What rtc does on the host, for a container that means ill or beside a user who does: removing, writing, running hooks.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use rustix::fs::{Mode, OFlags};
use serde_json::json;

use crate::harness::{Bundle, Outcome, cgroup2, runtime};

/// Makes cgroups in each other.
fn nest(top: &Path, depth: u32) {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut here: OwnedFd = rustix::fs::open(top, flags, Mode::empty()).unwrap();
    for _ in 0..depth {
        rustix::fs::mkdirat(&here, "n", Mode::from(0o755)).unwrap();
        here = rustix::fs::openat(&here, "n", flags, Mode::empty()).unwrap();
    }
}

/// A container that may make cgroups can choose their names and how many lie in each other: that must not keep it from
/// being listed, killed and deleted, however few descriptors and however little stack there is.
#[test]
fn cgroups_of_any_name_and_depth() {
    let bundle = Bundle::new(&["sleep", "1000"]).running();
    let top = cgroup2().join(&bundle.id);
    for name in [&b"\xff\xfe"[..], b"a b\\x", b"...", b"-rf"] {
        fs::create_dir(top.join(OsStr::from_bytes(name))).unwrap();
        fs::create_dir(top.join(OsStr::from_bytes(name)).join(OsStr::from_bytes(b"\x80"))).unwrap();
    }
    nest(&top, 400);
    let limited = |words: &[&str]| {
        let mut all = Command::new("sh");
        all.args(["-c", "ulimit -n 40; ulimit -s 512; exec \"$@\"", "sh"]).args(runtime());
        Outcome::of(all.arg("--root").arg(bundle.root()).args(words))
    };
    limited(&["ps", "--format", "json", &bundle.id]).ok();
    limited(&["kill", "--all", &bundle.id, "URG"]).ok();
    limited(&["delete", "--force", &bundle.id]).ok();
    bundle.assert_gone();
}

/// The pid is never written through a link, whatever is in the file's directory.
#[test]
fn pid_files_and_links() {
    let bundle = Bundle::new(&["sleep", "1000"]);
    let (victim, folder) = (bundle.file("victim"), bundle.file("pids"));
    fs::write(&victim, "kept").unwrap();
    fs::create_dir(&folder).unwrap();
    let pid_file = folder.join("pid");
    // A directory in the file's place, so that no new file can be linked there.
    fs::create_dir(&pid_file).unwrap();
    symlink(&victim, folder.join(".pid")).unwrap();
    bundle.call("create", &["--pid-file", pid_file.to_str().unwrap()]).fails(1, "--pid-file");
    bundle.assert_gone();
    assert_eq!(fs::read(&victim).unwrap(), b"kept");
    let mut left: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, [".pid", "pid"]);
    fs::remove_dir(&pid_file).unwrap();
    symlink(&victim, &pid_file).unwrap();
    bundle.call("create", &["--pid-file", pid_file.to_str().unwrap()]).ok();
    assert_eq!(fs::read(&victim).unwrap(), b"kept");
    assert!(!fs::symlink_metadata(&pid_file).unwrap().is_symlink());
}

/// Hooks that run on the host's files have the caller's mask, and not the empty one that mounts are made with.
#[test]
fn files_that_hooks_make() {
    let bundle = Bundle::new(&["true"]);
    let folder = bundle.file("made");
    fs::create_dir(&folder).unwrap();
    let hook = |name: &str| {
        let script = format!(": > {}", folder.join(name).display());
        json!([{ "path": "/bin/sh", "args": ["sh", "-c", script] }])
    };
    let hooks = json!({ "createRuntime": hook("createRuntime"), "createContainer": hook("createContainer") });
    let bundle = bundle.with(|config| config["hooks"] = hooks);
    bundle.call("run", &[]).ok();
    for name in ["createRuntime", "createContainer"] {
        let mode = fs::metadata(folder.join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o022, 0, "{name}: {mode:o}");
    }
}
