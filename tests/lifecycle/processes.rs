//! `run` and `exec`: exit status, standard input and output, signals, descriptors.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::Stdio;

use crate::harness::{Bundle, Kind, Outcome, differs, finish, until};
use crate::pty::ConsoleSocket;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

const SLEEP: [&str; 2] = ["sleep", "1000"];

#[test]
fn run_gives_the_status_of_its_process() {
    for (script, status) in
        [("exit 0", 0), ("exit 7", 7), ("exit 255", 255), ("kill -KILL $$", 137), ("exec sh -c 'kill -TERM $$'; :", 0)]
    {
        // Init of a pid namespace doesn't die of its own signals: use the caller's namespace.
        let bundle = Bundle::new(&["sh", "-c", script]).with(|config| {
            config["linux"]["namespaces"].as_array_mut().unwrap().retain(|namespace| namespace["type"] != "pid");
        });
        let status = if script.contains("TERM") { 143 } else { status };
        let outcome = bundle.call("run", &[]);
        assert_eq!((outcome.status, outcome.stderr.as_str()), (status, ""), "{script}");
        bundle.assert_gone();
    }
}

/// A process that ends at once must be noticed each time.
#[test]
fn short_lives_are_not_missed() {
    let bundle = Bundle::new(&["true"]);
    for _ in 0..30 {
        let outcome = finish(bundle.spawn("run", &[]));
        assert_eq!(outcome.status, 0, "{outcome:?}");
    }
    let bundle = Bundle::new(&SLEEP).running();
    for _ in 0..30 {
        let exec = bundle.command("exec", &[]).arg("true").process_group(0).spawn().unwrap();
        assert_eq!(finish(exec).status, 0);
    }
}

#[test]
fn input_and_output_pass_through() {
    let bundle = Bundle::new(&["sh", "-c", "cat; echo err >&2"]);
    let mut run =
        bundle.command("run", &[]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    run.stdin.take().unwrap().write_all(b"one\ntwo\n").unwrap();
    // The end of input ends cat.
    let outcome = finish(run);
    assert_eq!((outcome.status, outcome.stdout.as_str(), outcome.stderr.as_str()), (0, "one\ntwo\n", "err\n"));
}

#[test]
fn output_to_a_file() {
    let bundle = Bundle::new(&["echo", "hello"]);
    let file = bundle.file("out");
    let status = bundle.command("run", &[]).stdout(File::create(&file).unwrap()).status().unwrap();
    assert!(status.success());
    assert_eq!(fs::read_to_string(file).unwrap(), "hello\n");
}

#[test]
fn signals_are_passed_on() {
    let script = "trap 'echo usr1' USR1; trap 'echo pipe' PIPE; trap 'exit 6' WINCH; trap 'exit 5' TERM; echo ready; \
                  while :; do usleep 1000; done";
    let bundle = Bundle::new(&["sh", "-c", script]);
    let mut run = bundle.spawn("run", &[]);
    let mut out = run.stdout.take().unwrap();
    let mut expect = |wanted: &str| {
        let mut line = vec![0; wanted.len()];
        out.read_exact(&mut line).unwrap();
        assert_eq!(String::from_utf8(line).unwrap(), wanted);
    };
    expect("ready\n");
    let pid = Pid::from_child(&run);
    kill_process(pid, Signal::USR1).unwrap();
    expect("usr1\n");
    // Of a window that the container has no part in.
    kill_process(pid, Signal::WINCH).unwrap();
    kill_process(pid, Signal::PIPE).unwrap();
    expect("pipe\n");
    kill_process(pid, Signal::TERM).unwrap();
    assert_eq!(finish(run).status, 5);
    bundle.assert_gone();
}

#[test]
fn exec_gives_the_status_of_its_process() {
    let bundle = Bundle::new(&SLEEP).running();
    for (script, status) in [("exit 0", 0), ("exit 1", 1), ("exit 42", 42), ("kill -KILL $$", 137)] {
        assert_eq!(bundle.exec(&[], &["sh", "-c", script]).status, status, "{script}");
    }
    let echo = bundle.exec(
        &["-e", "PATH=/bin", "-e", "A=b c", "-e", "D=e", "--cwd", "/tmp"],
        &["sh", "-c", "echo $A $D; pwd; echo err >&2"],
    );
    assert_eq!((echo.stdout.as_str(), echo.stderr.as_str()), ("b c e\n/tmp\n", "err\n"));
}

#[test]
fn exec_fails_with_255() {
    let bundle = Bundle::new(&SLEEP).with_file("tmp/plain", "echo hello", 0o644).running();
    differs(&[(Kind::Crun, "gives 1")], || {
        bundle.exec(&[], &["nosuch"]).fails(255, "exec: \"nosuch\": executable file not found in $PATH");
        bundle.exec(&["--pid-file", "/nosuch/pid"], &["true"]).fails(255, "/nosuch/");
        bundle.exec(&[], &["/tmp/plain"]).fails(255, "permission denied");
    });
    assert_eq!(bundle.status(), "running");
    Outcome::of(bundle.command("kill", &[]).arg("KILL")).ok();
    bundle.stopped();
    differs(&[(Kind::Crun, "gives 1")], || {
        bundle.exec(&[], &["true"]).fails(255, "cannot exec in a stopped container");
    });
}

#[test]
fn exec_user() {
    let bundle = Bundle::new(&SLEEP).running();
    assert_eq!(bundle.exec(&["-u", "1000:1001"], &["id", "-u"]).ok(), "1000\n");
    assert_eq!(bundle.exec(&["--user", "1000:1001"], &["id", "-g"]).ok(), "1001\n");
    differs(&[(Kind::Crun, "has no -g")], || {
        let groups = bundle.exec(&["-u", "1000:1001", "-g", "100", "-g", "65534"], &["id", "-G"]).ok();
        assert_eq!(groups, "1001 100 65534\n");
    });
    differs(&[(Kind::Crun, "takes what it can't parse")], || {
        let outcome = bundle.exec(&["-u", "10x:1"], &["true"]);
        assert_ne!(outcome.status, 0, "{outcome:?}");
        assert_ne!(Kind::under_test(), Kind::Crun);
    });
}

/// podman's exec: a process object from a file, detached, with a pid file.
#[test]
fn exec_of_a_process_object() {
    let bundle = Bundle::new(&SLEEP).running();
    let process = json!({ "args": ["sh", "-c", "echo $X > /tmp/out; sleep 1000"], "cwd": "/", "env": ["PATH=/bin", "X=y"], "user": { "uid": 0, "gid": 0 } });
    fs::write(bundle.file("process.json"), process.to_string()).unwrap();
    bundle.call("exec", &["--process", "process.json", "--detach", "--pid-file", "pid"]).ok();
    until(&bundle.dir().join("rootfs/tmp/out"), |text| text == "y\n");
    let pid: i64 = fs::read_to_string(bundle.file("pid")).unwrap().parse().unwrap();
    let pids: Vec<i64> = serde_json::from_str(&bundle.call("ps", &["-f", "json"]).ok()).unwrap();
    assert!(pids.contains(&pid), "{pid} is not among {pids:?}");
}

/// `exec -p <(…)`: the file may be a pipe.
/// What a process object leaves out is the container's.
#[test]
fn exec_of_a_process_object_inherits() {
    differs(&[(Kind::Crun, "takes a process object as it is"), (Kind::Runc, "this old one takes no umask")], || {
        let bundle = Bundle::new(&SLEEP).with(|config| {
            config["process"]["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 64, "hard": 128 }]);
            config["process"]["user"]["umask"] = json!(0o27);
            config["process"]["noNewPrivileges"] = json!(true);
        });
        let bundle = bundle.running();
        let script = "umask; ulimit -n; grep NoNewPrivs /proc/self/status";
        let own = json!({ "cwd": "/", "user": { "uid": 0, "gid": 0 }, "args": ["/bin/sh", "-c", script], "env": ["PATH=/bin"] });
        let mut other = own.clone();
        // Engines leave it out where it is false.
        other["noNewPrivileges"] = json!(true);
        other["user"]["umask"] = json!(0);
        other["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 32, "hard": 32 }]);
        for (process, expected) in [(own, "0027\n64\nNoNewPrivs:\t0\n"), (other, "0000\n32\nNoNewPrivs:\t1\n")] {
            fs::write(bundle.file("process.json"), process.to_string()).unwrap();
            assert_eq!(bundle.call("exec", &["--process", "process.json"]).ok(), expected);
        }
    });
}

#[test]
fn exec_of_a_process_object_from_a_pipe() {
    let bundle = Bundle::new(&SLEEP).running();
    let process = json!({ "args": ["/bin/echo", "piped"], "cwd": "/" });
    let mut exec =
        bundle.command("exec", &["-p", "/dev/stdin"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    write!(exec.stdin.take().unwrap(), "{process}").unwrap();
    assert_eq!(finish(exec).stdout, "piped\n");
}

#[test]
fn exec_into_a_created_container() {
    let bundle = Bundle::new(&SLEEP);
    bundle.call("create", &[]).ok();
    assert_eq!(bundle.exec(&[], &["echo", "early"]).ok(), "early\n");
    assert_eq!(bundle.status(), "created");
}

#[test]
fn exec_passes_signals_on() {
    let bundle = Bundle::new(&SLEEP).running();
    let mut exec = bundle.command("exec", &[]);
    exec.args(["sh", "-c", "trap 'exit 6' TERM; echo ready; while :; do usleep 1000; done"]);
    let mut exec = exec.stdout(Stdio::piped()).process_group(0).spawn().unwrap();
    let mut ready = [0; 6];
    exec.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
    kill_process(Pid::from_child(&exec), Signal::TERM).unwrap();
    assert_eq!(finish(exec).status, 6);
}

/// What the caller ignores or blocks, or Rust's start ignores for rtc, is none of the container's business.
#[test]
fn signal_state_is_clean() {
    let bundle = Bundle::new(&["grep", "-E", "^Sig(Blk|Ign):", "/proc/self/status"]);
    let clean = "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n";
    differs(&[(Kind::Runc, "passes on what its caller ignores"), (Kind::Crun, "does too")], || {
        assert_eq!(bundle.call("run", &[]).ok(), clean);
        let bundle = Bundle::new(&SLEEP).running();
        assert_eq!(bundle.exec(&[], &["grep", "-E", "^Sig(Blk|Ign):", "/proc/self/status"]).ok(), clean);
    });
}

/// Descriptors that leak out of an engine don't get into the container; those asked for do.
#[test]
fn descriptors() {
    let list = "#!/bin/sh\nfor fd in 3 4 5 6 7 8 9; do [ -e /proc/$$/fd/$fd ] && echo $fd; done; true\n";
    // A shell opens 3, 4 and 7 without close-on-exec, as engines do.
    let leaking = |bundle: &Bundle, command: &str, option: &str| {
        let all = bundle.command(command, &[option]);
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", "exec \"$@\" 3</dev/null 4</dev/null 7</dev/null", "sh"]);
        shell.arg(all.get_program()).args(all.get_args());
        if command == "exec" {
            shell.arg("/list.sh");
        }
        Outcome::of(shell.stdin(Stdio::null())).ok()
    };
    let bundle = Bundle::new(&["/list.sh"]).with_file("list.sh", list, 0o755);
    assert_eq!(leaking(&bundle, "run", "--preserve-fds=0"), "");
    assert_eq!(leaking(&bundle, "run", "--preserve-fds=2"), "3\n4\n");
    let bundle = Bundle::new(&SLEEP).with_file("list.sh", list, 0o755).running();
    assert_eq!(leaking(&bundle, "exec", "--preserve-fds=2"), "3\n4\n");
}

#[test]
fn a_pidfd_is_sent() {
    differs(&[(Kind::Runc, "this old one has no --pidfd-socket"), (Kind::Crun, "has no --pidfd-socket")], || {
        let bundle = Bundle::new(&SLEEP);
        let socket = ConsoleSocket::bind(&bundle.file("socket"));
        bundle.call("create", &["--pidfd-socket", "socket"]).ok();
        let pidfd = socket.receive();
        let info =
            fs::read_to_string(format!("/proc/self/fdinfo/{}", std::os::fd::AsRawFd::as_raw_fd(&pidfd))).unwrap();
        let pid = bundle.state()["pid"].to_string();
        assert!(info.lines().any(|line| line == format!("Pid:\t{pid}")), "{info}");
    });
}
