//! Terminals: over a console socket, and in the foreground.

use crate::harness::{Bundle, Kind, differs, finish};
use crate::pty::{ConsoleSocket, Pty};
use serde_json::json;

fn with_terminal(args: &[&str]) -> Bundle {
    Bundle::new(args).with(|config| config["process"]["terminal"] = json!(true))
}

#[test]
fn a_terminal_over_a_console_socket() {
    let bundle = with_terminal(&["sh", "-c", "tty; stty size; read line; echo got $line; exit 3"])
        .with(|config| config["process"]["consoleSize"] = json!({ "height": 11, "width": 111 }));
    let socket = ConsoleSocket::bind(&bundle.file("console"));
    bundle.call("create", &["--console-socket", bundle.file("console").to_str().unwrap()]).ok();
    let mut terminal = socket.terminal();
    bundle.call("start", &[]).ok();
    terminal.expect("/dev/");
    terminal.expect("11 111\r\n");
    terminal.write("hello\n");
    terminal.expect("got hello\r\n");
    bundle.stopped();
}

#[test]
fn the_terminal_is_the_consoles_and_the_users() {
    let bundle = with_terminal(&["sh", "-c", "ls -ln $(tty); ls -l /dev/console; readlink /proc/self/fd/0"])
        .with(|config| config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 }));
    let socket = ConsoleSocket::bind(&bundle.file("console"));
    bundle.call("run", &["-d", "--console-socket", bundle.file("console").to_str().unwrap()]).ok();
    let text = socket.terminal().rest();
    let owner: Vec<_> = text.lines().next().unwrap().split_whitespace().collect();
    assert_eq!((owner[2], owner[3]), ("1000", "5"), "{text}");
    assert!(text.contains("/dev/console"), "{text}");
}

#[test]
fn exec_with_a_terminal() {
    let bundle = Bundle::new(&["sleep", "1000"]).running();
    let socket = ConsoleSocket::bind(&bundle.file("console"));
    let process = json!({
        "args": ["sh", "-c", "stty size; read line; echo got $line"], "cwd": "/", "env": ["PATH=/bin"], "terminal": true,
        "consoleSize": { "height": 10, "width": 110 }, "user": { "uid": 0, "gid": 0 },
    });
    std::fs::write(bundle.file("process.json"), process.to_string()).unwrap();
    bundle.call("exec", &["--process", "process.json", "--detach", "--console-socket", "console"]).ok();
    let mut terminal = socket.terminal();
    if Kind::under_test() != Kind::Crun {
        terminal.expect("10 110\r\n");
    }
    terminal.write("hi\n");
    terminal.expect("got hi\r\n");
}

#[test]
fn a_terminal_needs_a_socket_when_detached() {
    let bundle = with_terminal(&["true"]);
    for command in ["create", "run"] {
        let args: &[&str] = if command == "run" { &["-d"] } else { &[] };
        differs(&[(Kind::Crun, "says: use --console-socket with create when a terminal is used")], || {
            bundle.call(command, args).fails(1, "will detach without setting console socket");
            assert_ne!(Kind::under_test(), Kind::Crun);
        });
        bundle.assert_gone();
    }
}

#[test]
fn in_the_foreground() {
    let bundle = with_terminal(&[
        "sh",
        "-c",
        "trap 'stty size' WINCH; stty size; echo ready; while read line; do echo got $line; done; exit 4",
    ]);
    let (mut pty, run) = Pty::start(&bundle.command("run", &[]), 30, 100);
    if Kind::under_test() != Kind::Crun {
        // crun sets the size only after the process has started, which finds none at times.
        pty.expect("30 100\r\n");
    }
    pty.expect("ready\r\n");
    assert!(!pty.edits_lines(), "the caller's terminal is raw");
    pty.write("hello\r");
    pty.expect("got hello\r\n");
    differs(&[(Kind::Crun, "this old one gives a size of zero")], || {
        pty.resize(31, 101);
        pty.write("\r");
        pty.expect("31 101\r\n");
    });
    // The container's terminal turns this into its end of input.
    pty.write("\u{4}");
    assert_eq!(finish(run).status, 4);
    assert!(pty.edits_lines(), "the caller's terminal has its modes back");
    bundle.assert_gone();
}

/// Control-C is a byte for the container's terminal, which makes it a signal for the container's process.
#[test]
fn control_c() {
    let bundle =
        with_terminal(&["sh", "-c", "trap 'echo interrupted; exit 9' INT; echo ready; while :; do usleep 1000; done"]);
    let (mut pty, run) = Pty::start(&bundle.command("run", &[]), 24, 80);
    pty.expect("ready\r\n");
    pty.write("\u{3}");
    pty.expect("interrupted\r\n");
    assert_eq!(finish(run).status, 9);
}

#[test]
fn exec_in_the_foreground() {
    let bundle = Bundle::new(&["sleep", "1000"]).running();
    let mut exec = bundle.command("exec", &["-t"]);
    exec.args(["sh", "-c", "stty size; read line; echo got $line; exit 8"]);
    let (mut pty, exec) = Pty::start(&exec, 20, 90);
    pty.expect("20 90\r\n");
    pty.write("x y\r");
    pty.expect("got x y\r\n");
    assert_eq!(finish(exec).status, 8);
    assert!(pty.edits_lines());
}

/// All that was written before the end comes out.
#[test]
fn much_output() {
    let bundle = with_terminal(&["sh", "-c", "dd if=/dev/zero bs=1000 count=300 2>/dev/null; echo; echo end"]);
    let (pty, run) = Pty::start(&bundle.command("run", &[]), 24, 80);
    let text = pty.rest();
    assert_eq!(finish(run).status, 0);
    assert_eq!(text.len(), 300_000 + "\r\nend\r\n".len());
    assert!(text.ends_with("\r\nend\r\n"));
}

/// Input that is no terminal: its end is passed on as the terminal's end-of-file character.
#[test]
fn the_end_of_input_reaches_a_terminal() {
    differs(&[(Kind::Runc, "waits for ever"), (Kind::Crun, "waits for ever")], || {
        let bundle = with_terminal(&["cat"]);
        let run = bundle.spawn("run", &[]);
        assert_eq!(finish(run).status, 0);
    });
}
