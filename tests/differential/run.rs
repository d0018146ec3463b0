//! Runs a case with a runtime.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rtc_tests::bundle::copy_program;
use rtc_tests::watch;

use crate::case::{Case, Peer};

/// How long a call may take; far more than any needs.
const PATIENCE: Duration = Duration::from_secs(10);

/// How a call ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Its exit status; 256 for one that hung.
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

const APPLETS: &str = "sh awk cat chmod cut dd echo env false find grep head hostname id ifconfig ionice ip ls mkdir mkfifo \
    mount mountpoint pwd readlink rm sleep sort stat tail test touch tr true umount uname wc";

/// Runs the steps of a case in a new bundle, one after the other.
pub(crate) fn run(directory: &Path, peer: Peer, case: &Case) -> Vec<Outcome> {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let id = format!("diff-{}-{peer:?}-{}", std::process::id(), case.name.chars().map(plain).collect::<String>());
    let home = directory.join(&id);
    let bundle = home.join("bundle");
    root_file_system(&bundle.join("rootfs"));
    let prepared = Command::new("sh").args(["-ec", case.prepare]).current_dir(bundle.join("rootfs")).status();
    assert!(prepared.expect("sh starts").success(), "{}: prepare", case.name);
    let config = case.config(&id, bundle.to_str().expect("plain names"));
    fs::write(bundle.join("config.json"), config.to_string()).expect("config.json");
    let call = |line: &str| {
        let word = |word: &str| match word {
            "BUNDLE" => bundle.to_string_lossy().into_owned(),
            "ID" => id.clone(),
            _ => word.replace("HERE", &home.to_string_lossy()),
        };
        let program = if peer == Peer::Rtc { directory.join("rtc") } else { PathBuf::from(peer.program()) };
        let mut command = Command::new(program);
        command.arg("--root").arg(home.join("state")).args(line.split(' ').map(word)).current_dir(&home);
        finish(&mut command, &home)
    };
    let outcomes = case.steps.iter().map(|step| call(&step.call)).collect();
    call("delete --force ID");
    let cgroup = Path::new("/sys/fs/cgroup").join(&id);
    match peer {
        Peer::Rtc => assert!(!cgroup.exists(), "{}: a cgroup is left", case.name),
        // crun leaves that of a container that it couldn't make, with what may still be ending in it.
        _ => drop(fs::write(cgroup.join("cgroup.kill"), "1")),
    }
    let end = Instant::now() + PATIENCE;
    while cgroup.exists() && fs::remove_dir(&cgroup).is_err() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(1));
    }
    // What a mount has left would be followed.
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    if !table.contains(home.to_str().unwrap_or("/")) {
        let _ = fs::remove_dir_all(&home);
    }
    outcomes
}

impl Peer {
    pub(crate) fn program(self) -> &'static str {
        match self {
            Self::Rtc => "rtc",
            Self::Runc => "runc",
            Self::Crun => "crun",
        }
    }
}

fn root_file_system(root: &Path) {
    for name in ["bin", "dev", "etc", "proc", "sys", "tmp"] {
        fs::create_dir_all(root.join(name)).expect("a folder of ours");
    }
    copy_program("/bin/busybox".as_ref(), &root.join("bin/busybox"));
    for name in APPLETS.split_whitespace() {
        symlink("busybox", root.join("bin").join(name)).expect("a folder of ours");
    }
    let passwd = "root:x:0:0:root:/root:/bin/sh\nu:x:1000:1000::/home/u:/bin/sh\n";
    fs::write(root.join("etc/passwd"), passwd).expect("a folder of ours");
}

/// Waits for a command; files take its output, as a container that is detached would hold a pipe open.
fn finish(command: &mut Command, home: &Path) -> Outcome {
    let (out, err) = (home.join("stdout"), home.join("stderr"));
    let make = |path: &Path| File::create(path).expect("a folder of ours");
    let spawned = command.stdin(Stdio::null()).stdout(make(&out)).stderr(make(&err)).spawn();
    let mut child = spawned.expect("the runtime starts");
    let ended = watch::pidfd(child.id()).is_none_or(|pidfd| watch::ended(&pidfd, PATIENCE));
    if !ended {
        let _ = child.kill();
    }
    let status = child.wait().expect("our own child");
    let read = |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
    let status = if ended { status.code().unwrap_or(255) } else { 256 };
    Outcome { status, stdout: read(&out), stderr: read(&err) }
}
