//! `checkpoint` and `restore` that end too early: killed at any moment, they do no harm.
//!
//! Left out: SIGKILL of all processes of rtc at once, which can meet a task while it runs code of ours.

use std::fs;
use std::time::{Duration, Instant};

use crate::harness::{Bundle, Kind, Outcome, differs, finish, until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

/// Counts what comes out of a connection to itself, through two pipes.
const COUNT: [&str; 3] = [
    "sh",
    "-c",
    "busybox ip link set lo up; \
     sleep 100000 | busybox nc -l -p 5000 | while read x; do n=$((n+1)); echo $n > /tmp/n; done & \
     while :; do echo x; usleep 5000; done | while ! busybox nc 127.0.0.1 5000; do :; done",
];

fn counting() -> Bundle {
    let bundle = Bundle::new(&COUNT).with(|config| {
        let some = json!(["CAP_KILL", "CAP_NET_ADMIN"]);
        config["process"]["capabilities"] = json!({ "bounding": some, "effective": some, "permitted": some });
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "network" }));
    });
    let bundle = bundle.running();
    until(&bundle.dir().join("rootfs/tmp/n"), |text| text.ends_with('\n'));
    bundle
}

#[track_caller]
fn counts_on(bundle: &Bundle) {
    let file = bundle.dir().join("rootfs/tmp/n");
    let number = |text: &str| text.strip_suffix('\n').and_then(|text| text.parse::<u64>().ok());
    let before = number(&until(&file, |text| number(text).is_some())).unwrap();
    until(&file, |text| number(text) > Some(before));
}

/// Numbers from 0 to 999 that look random and are the same every time.
fn moments(count: u32) -> impl Iterator<Item = u32> {
    (1..=count).scan(12345_u32, |state, _| {
        *state = state.wrapping_mul(1_103_515_245).wrapping_add(12345);
        Some((*state >> 16) % 1000)
    })
}

/// `start` opens the FIFO that init waits with, and removes it: one that is killed between the two leaves it.
#[test]
fn a_start_that_is_killed_halfway_has_started() {
    differs(&[(Kind::Runc, "its FIFO is elsewhere"), (Kind::Crun, "its FIFO is elsewhere")], || {
        let bundle = Bundle::new(&["sleep", "1000"]);
        bundle.call("create", &[]).ok();
        assert_eq!(bundle.status(), "created");
        let fifo = bundle.root().join(bundle.state()["id"].as_str().unwrap()).join("exec.fifo");
        // As far as such a `start` comes; the end of the file is the execution of the program.
        assert_eq!(fs::read(&fifo).unwrap(), b"");
        assert!(fifo.exists());
        assert_eq!(bundle.status(), "running");
        bundle.call("start", &[]).fails(1, "already running");
        bundle.exec(&[], &["true"]).ok();
        bundle.call("delete", &[]).fails(1, "not stopped: running");
        assert!(bundle.command("kill", &[]).arg("KILL").status().unwrap().success());
        bundle.stopped();
        bundle.call("delete", &[]).ok();
        bundle.assert_gone();
    });
}

/// Starts a command and sends it a signal after a while. Returns when it and all its processes have ended.
fn cut_off(bundle: &Bundle, command: &str, args: &[&str], after: Duration, signal: Signal) -> Outcome {
    let child = bundle.spawn(command, args);
    // Not to wait for something, but to hit any moment.
    std::thread::sleep(after);
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    // It may have ended: then it is a zombie still, and nothing happens.
    kill_process(pid, signal).unwrap();
    finish(child)
}

fn with_rtc(body: impl FnOnce()) {
    differs(&[(Kind::Runc, "needs criu"), (Kind::Crun, "Debian builds it without criu")], body);
}

const SIGNALS: [Signal; 3] = [Signal::KILL, Signal::TERM, Signal::INT];

/// The container runs on, or is saved; nothing else. What is paused stays so.
fn checkpoints_that_are_cut_off(paused: bool) {
    let bundle = counting();
    let started = Instant::now();
    bundle.call("checkpoint", &["--image-path", "first", "--leave-running", "--tcp-established"]).ok();
    let mut whole = started.elapsed();
    let (mut cut, mut saved) = (0, 0);
    for (run, moment) in moments(30).enumerate() {
        if paused {
            bundle.call("pause", &[]).ok();
        }
        let image = format!("image-{run}");
        let args = ["--image-path", &image, "--tcp-established"];
        let outcome = cut_off(&bundle, "checkpoint", &args, whole * moment / 900, SIGNALS[run % 3]);
        let lines = outcome.stderr.lines().count();
        assert!(lines <= 1, "{outcome:?}");
        if bundle.call("state", &[]).status == 0 {
            assert_ne!(outcome.status, 0, "the container is there");
            assert_eq!(bundle.status(), if paused { "paused" } else { "running" }, "{outcome:?}");
            let left = fs::read_dir(bundle.file(&image)).into_iter().flatten().map(|e| e.unwrap().file_name());
            let left: Vec<_> = left.filter(|name| name.to_string_lossy() != "dump.log").collect();
            assert!(left.is_empty(), "{left:?}");
            cut += 1;
            // The machine may have become slower since, or faster: the moments follow.
            whole = whole * 10 / 9;
            if paused {
                bundle.call("resume", &[]).ok();
            }
        } else {
            bundle.assert_gone();
            bundle.call("restore", &["-d", "--image-path", &image, "--tcp-established"]).ok();
            saved += 1;
            whole = whole * 9 / 10;
        }
        counts_on(&bundle);
    }
    assert!(cut > 0 && saved > 0, "{cut} checkpoints were cut off, {saved} complete");
}

#[test]
fn checkpoints() {
    with_rtc(|| checkpoints_that_are_cut_off(false));
}

#[test]
fn checkpoints_of_a_paused_container() {
    with_rtc(|| checkpoints_that_are_cut_off(true));
}

/// `delete --force` leaves nothing of a container that is half restored, and the image can be used again.
#[test]
fn restores() {
    with_rtc(|| {
        let bundle = counting();
        bundle.call("checkpoint", &["--tcp-established"]).ok();
        let args = ["-d", "--tcp-established"];
        let started = Instant::now();
        bundle.call("restore", &args).ok();
        let whole = started.elapsed();
        bundle.call("delete", &["--force"]).ok();
        for (run, moment) in moments(30).enumerate() {
            let mut restore = bundle.command("restore", &args);
            // Not to pipes: the restored container would hold them open.
            let child =
                restore.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
            std::thread::sleep(whole * moment / 900);
            let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
            kill_process(pid, SIGNALS[run % 3]).unwrap();
            finish(child);
            bundle.call("delete", &["--force"]).ok();
            bundle.assert_gone();
            let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
            assert!(!mounts.contains(bundle.dir().to_str().unwrap()), "a mount is left: {mounts}");
        }
        bundle.call("restore", &args).ok();
        counts_on(&bundle);
    });
}
