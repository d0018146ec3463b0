//! Checkpoints while there are processes that came by exec: they are waited for, left out, or in the way.

use std::fs;
use std::process::{Child, Stdio};

use crate::harness::{Bundle, Kind, differs, finish, until};
use rustix::process::{Pid, Signal, kill_process};

fn with_rtc(body: impl FnOnce()) {
    differs(&[(Kind::Runc, "needs criu"), (Kind::Crun, "Debian builds it without criu")], body);
}

/// A container that counts, and in it a process that came by exec, does something, and ends by [`end`].
fn with_an_exec(deed: &str) -> (Bundle, Child) {
    let count = "mkfifo /tmp/end; n=0; while :; do n=$((n+1)); echo $n >> /tmp/n; usleep 10000; done";
    let bundle = Bundle::new(&["sh", "-c", count]).running();
    counts_on(&bundle);
    let mut exec = bundle.command("exec", &[]);
    exec.args(["sh", "-c", &format!("{deed}\necho in > /tmp/in; read line < /tmp/end; exit 7")]);
    let exec = exec.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until(&bundle.dir().join("rootfs/tmp/in"), |text| text.ends_with('\n'));
    (bundle, exec)
}

#[track_caller]
fn counts_on(bundle: &Bundle) {
    let file = bundle.dir().join("rootfs/tmp/n");
    let before = fs::read_to_string(&file).unwrap_or_default().len();
    until(&file, |text| text.len() > before);
}

#[track_caller]
fn end(bundle: &Bundle, exec: Child) {
    fs::write(bundle.dir().join("rootfs/tmp/end"), "\n").unwrap();
    assert_eq!(finish(exec).status, 7);
}

/// A checkpoint that has begun to wait.
fn waiting(bundle: &Bundle, flags: &[&str]) -> Child {
    let log = bundle.file("log");
    let mut command = bundle.runtime();
    command.arg("--debug").arg("--log").arg(&log).args(["checkpoint", "--exec-timeout", "1000"]).args(flags);
    let child = command.arg(&bundle.id).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    until(&log, |text| text.contains("wait for their ends"));
    child
}

#[test]
fn they_are_waited_for_and_the_container_runs() {
    with_rtc(|| {
        let (bundle, exec) = with_an_exec("");
        let checkpoint = waiting(&bundle, &[]);
        counts_on(&bundle);
        counts_on(&bundle);
        end(&bundle, exec);
        assert_eq!(finish(checkpoint).status, 0);
        bundle.assert_gone();
        bundle.call("restore", &["-d"]).ok();
        counts_on(&bundle);
    });
}

/// As containerd asks for checkpoints: what came by exec runs alone, and what it leaves behind becomes the
/// container's, and is saved with the rest.
#[test]
fn those_of_a_paused_container_run_while_it_does_not() {
    with_rtc(|| {
        let (bundle, exec) = with_an_exec("sleep 1000 < /dev/null > /tmp/out 2>&1 &");
        bundle.call("pause", &[]).ok();
        let before = fs::read_to_string(bundle.dir().join("rootfs/tmp/n")).unwrap();
        let checkpoint = waiting(&bundle, &[]);
        end(&bundle, exec);
        assert_eq!(finish(checkpoint).status, 0);
        assert_eq!(fs::read_to_string(bundle.dir().join("rootfs/tmp/n")).unwrap(), before);
        bundle.call("restore", &["-d"]).ok();
        counts_on(&bundle);
        assert!(bundle.exec(&[], &["ps"]).ok().contains("sleep 1000"));
    });
}

#[test]
fn those_that_go_on_are_refused_or_left_out() {
    with_rtc(|| {
        let (bundle, mut exec) = with_an_exec("");
        // Each at once.
        let check = bundle.call("checkpoint", &["--check", "--exec-timeout", "1000"]);
        assert_eq!(check.status, 1);
        assert!(check.stdout.contains("process sh: it came by exec"), "{}", check.stdout);
        bundle.call("checkpoint", &["--exec-timeout", "0"]).fails(1, check.stdout.trim_end());
        bundle
            .call("checkpoint", &["--exec-timeout", "1"])
            .fails(1, "it goes on after 1s (end it before the checkpoint, ");
        assert_eq!(bundle.status(), "running");
        assert!(!bundle.file("checkpoint/manifest.json").exists());

        let skip = ["--skip-exec", "--exec-timeout", "0"];
        bundle.call("checkpoint", &[&skip[..], &["--leave-running"]].concat()).ok();
        assert_eq!(exec.try_wait().unwrap(), None);
        counts_on(&bundle);
        bundle.call("checkpoint", &skip).ok();
        assert_eq!(finish(exec).status, 137);
        bundle.assert_gone();
        bundle.call("restore", &["-d"]).ok();
        counts_on(&bundle);
        assert!(!bundle.exec(&[], &["ps"]).ok().contains("read line"));
    });
}

#[test]
fn a_checkpoint_that_waits_may_be_ended() {
    with_rtc(|| {
        for paused in [false, true] {
            let (bundle, exec) = with_an_exec("");
            if paused {
                bundle.call("pause", &[]).ok();
            }
            let checkpoint = waiting(&bundle, &[]);
            kill_process(Pid::from_child(&checkpoint), Signal::TERM).unwrap();
            finish(checkpoint).fails(1, "interrupted");
            if paused {
                assert_eq!(bundle.status(), "paused");
                bundle.call("resume", &[]).ok();
            }
            counts_on(&bundle);
            end(&bundle, exec);
        }
    });
}

#[test]
fn a_container_that_ends_meanwhile_is_no_more() {
    with_rtc(|| {
        let (bundle, exec) = with_an_exec("");
        let checkpoint = waiting(&bundle, &[]);
        bundle.runtime().args(["kill", &bundle.id, "KILL"]).status().unwrap();
        assert_eq!(finish(exec).status, 137);
        finish(checkpoint).fails(1, "container not running");
        assert_eq!(bundle.status(), "stopped");
    });
}
