//! Service managers and activation: `NOTIFY_SOCKET` and `LISTEN_FDS`.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};

use crate::harness::{Bundle, Kind, Outcome, PATIENCE, differs, finish, until};

/// A service manager's socket.
fn manager(bundle: &Bundle) -> UnixDatagram {
    let socket = UnixDatagram::bind(bundle.file("manager")).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn with_manager(bundle: &Bundle, command: &str, args: &[&str]) -> Command {
    let mut all = bundle.command(command, args);
    all.env("NOTIFY_SOCKET", bundle.file("manager"));
    all
}

/// The container's word goes to the manager, with the pid that the manager knows; nothing else does.
#[test]
fn readiness_is_passed_on() {
    differs(&[(Kind::Runc, "sends two messages"), (Kind::Crun, "has another path")], || {
        let script = "test -S $NOTIFY_SOCKET && echo $NOTIFY_SOCKET > /asked; exec sleep 1000";
        let bundle = Bundle::new(&["sh", "-c", script]);
        let manager = manager(&bundle);
        assert!(with_manager(&bundle, "create", &[]).status().unwrap().success());
        let start = with_manager(&bundle, "start", &[]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let asked = until(&bundle.dir().join("rootfs/asked"), |text| text.ends_with('\n'));
        assert_eq!(asked, "/run/notify/notify.sock\n");
        let inside = bundle.root().join(&bundle.id).join("notify/notify.sock");
        let program = UnixDatagram::unbound().unwrap();
        program.send_to(b"STATUS=almost", &inside).unwrap();
        program.send_to(b"READY=1\nERRNO=7\n", &inside).unwrap();
        finish(start).ok();
        let mut buffer = [0; 256];
        let length = manager.recv(&mut buffer).unwrap();
        let told = String::from_utf8_lossy(&buffer[..length]).into_owned();
        assert_eq!(told, format!("READY=1\nMAINPID={}", bundle.state()["pid"]));
    });
}

/// The socket's directory is a mount that config.json doesn't have, from a place that goes with the container. It is made
/// anew by a restore, whether there is a manager or not; on a machine where nothing else of rtc's is left, too.
#[test]
fn a_container_with_a_manager_is_saved_and_comes_back() {
    differs(&[(Kind::Runc, "CRIU saves no such mount"), (Kind::Crun, "CRIU saves no such mount")], || {
        let bundle = Bundle::new(&["sh", "-c", "i=0; while :; do i=$((i + 1)); echo $i > /n; usleep 10000; done"]);
        let _manager = manager(&bundle);
        let (out, err) = (bundle.file("out"), bundle.file("err"));
        let mut create = with_manager(&bundle, "create", &[]);
        create.stdout(fs::File::create(out).unwrap()).stderr(fs::File::create(&err).unwrap());
        assert_eq!(Outcome::of(&mut create).status, 0, "{}", fs::read_to_string(err).unwrap());
        bundle.call("start", &[]).ok();
        let count = bundle.dir().join("rootfs/n");
        let counts = |above: u64| {
            let number = |text: &str| text.trim().parse().unwrap_or(0);
            number(&until(&count, |text| number(text) > above))
        };
        let mut seen = counts(0);
        for _ in 0..2 {
            bundle.call("checkpoint", &["--image-path", "image"]).ok();
            // As after a boot.
            fs::remove_dir_all(bundle.root()).unwrap();
            bundle.call("restore", &["--detach", "--image-path", "image"]).ok();
            seen = counts(seen);
            assert_eq!(bundle.exec(&[], &["ls", "-A", "/run/notify"]).ok(), "");
            let line = bundle.exec(&[], &["grep", " /run/notify ", "/proc/self/mountinfo"]).ok();
            assert!(line.contains(" ro,nosuid,nodev,noexec"), "{line}");
        }
    });
}

/// Who starts a container that ends without a word isn't kept waiting.
#[test]
fn the_end_ends_the_wait() {
    for args in [&["-d"][..], &[]] {
        let bundle = Bundle::new(&["true"]);
        let _manager = manager(&bundle);
        let (out, err) = (bundle.file("out"), bundle.file("err"));
        let mut run = with_manager(&bundle, "run", args);
        run.stdout(fs::File::create(out).unwrap()).stderr(fs::File::create(&err).unwrap());
        finish(run.spawn().unwrap()).ok();
        assert_eq!(fs::read_to_string(err).unwrap(), "");
    }
}

/// A shell opens descriptor 3 and says in `LISTEN_FDS` that it is meant for the container.
#[test]
fn sockets_are_passed_on() {
    let script = "cat <&3; env | grep ^LISTEN_; ls /proc/self/fd | wc -l";
    let bundle = Bundle::new(&["sh", "-c", script]);
    fs::write(bundle.file("passed"), "passed\n").unwrap();
    let activate = |pid: &str| {
        let all = bundle.command("run", &[]);
        let mut shell = Command::new("sh");
        let line = format!("export LISTEN_FDS=1 LISTEN_FDNAMES=web {pid}; exec \"$@\" 3<\"$0\"");
        shell.args(["-c", &line]).arg(bundle.file("passed")).arg(all.get_program()).args(all.get_args());
        Outcome::of(shell.stdin(Stdio::null()))
    };
    differs(&[(Kind::Runc, "passes no names on"), (Kind::Crun, "says so in another order")], || {
        let said = activate("LISTEN_PID=$$").ok();
        for line in ["passed", "LISTEN_FDS=1", "LISTEN_PID=1", "LISTEN_FDNAMES=web"] {
            assert!(said.lines().any(|said| said == line), "{line:?} is not in: {said}");
        }
    });
    // Meant for another process.
    differs(&[(Kind::Crun, "takes them all the same")], || {
        assert!(!activate("LISTEN_PID=1").stdout.contains("passed"));
    });
}
