use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;

use rtc_sys::message::{Control, receive};
use serde_json::json;

use crate::bundle::{Bundle, exec_options, overrides};
use crate::harness::Test;

pub(crate) const TESTS: &[Test] = &[
    ("console::a_terminal_goes_to_the_socket", socket),
    ("console::a_terminal_goes_to_the_caller", foreground),
    ("console::exec_has_a_terminal_of_its_own", exec),
    ("console::a_terminal_must_go_somewhere", nowhere),
    ("console::pidfds_go_to_their_socket", pidfd),
];

fn received(listener: &UnixListener) -> (OwnedFd, String) {
    let (connection, _) = listener.accept().unwrap();
    let mut name = [0; 64];
    let received = receive(connection.as_fd(), &mut name, 0).unwrap();
    let name = String::from_utf8_lossy(&name[..received.len]).into_owned();
    let fd = received.control.into_iter().find_map(|piece| match piece {
        Control::Rights(mut fds) => fds.pop(),
        _ => None,
    });
    (fd.unwrap(), name)
}

fn everything(master: OwnedFd) -> String {
    let mut bytes = Vec::new();
    // A terminal whose other side is closed fails with EIO.
    let _ = std::fs::File::from(master).read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).replace('\r', "")
}

fn terminal(name: &str, script: &str) -> Bundle {
    let mut bundle = Bundle::new(name, script);
    bundle.set("/process/terminal", true.into());
    bundle
}

fn socket() {
    let mut bundle = terminal(
        "consocket",
        "tty; stty size; ls -l /dev/console; echo x > /dev/console; ls /proc/self/fd | wc -l; read a; echo got $a",
    );
    bundle.set("/process/consoleSize", json!({"height": 11, "width": 120}));
    let path = bundle.dir.join("sock");
    let listener = UnixListener::bind(&path).unwrap();
    bundle.options.console_socket = Some(path);
    let mut container = bundle.create().unwrap();
    let (master, name) = received(&listener);
    assert!(!name.is_empty());
    assert!(container.take_console().is_none());
    assert!(container.stdio().unwrap()[1].link.contains("/pts/") || container.stdio().unwrap()[1].link == "/0");
    std::fs::File::from(master.try_clone().unwrap()).write_all(b"word\n").unwrap();
    container.start().unwrap();
    assert_eq!(container.wait().unwrap(), 0);
    let output = everything(master);
    let lines: Vec<&str> = output.lines().filter(|line| *line != "word").collect();
    assert_eq!(lines[..2], ["/dev/pts/0", "11 120"], "{output}");
    assert!(lines[2].contains("136,"), "{output}");
    assert_eq!(lines[3..], ["x", "4", "got word"], "{output}");
    container.delete(false).unwrap();
}

fn foreground() {
    let mut bundle = terminal("conforeground", "tty; id -u; stat -c '%u %g' $(tty); echo to-stderr >&2");
    bundle.set("/process/user", json!({"uid": 1000, "gid": 1000}));
    bundle.options.foreground = true;
    bundle.save();
    let mut container = rtc_runtime::run(&bundle.host, &bundle.options).unwrap();
    let master = container.take_console().unwrap();
    assert_eq!(container.wait().unwrap(), 0);
    assert_eq!(everything(master), "/dev/pts/0\n1000\n1000 5\nto-stderr\n");
    container.delete(false).unwrap();
}

fn exec() {
    let bundle = Bundle::new("conexec", "sleep 1000");
    let container = bundle.start();
    let mut changes = overrides("tty; exit 3");
    changes.tty = true;
    let mut options = exec_options(changes);
    options.foreground = true;
    let mut executed = container.exec(&options).unwrap();
    let master = executed.console.take().unwrap();
    assert_eq!(executed.wait().unwrap(), 3);
    assert_eq!(everything(master), "/dev/pts/0\n");
    container.delete(true).unwrap();
}

fn nowhere() {
    let mut bundle = terminal("connowhere", "true");
    assert!(bundle.refused().starts_with("cannot allocate tty"));
    bundle.set("/process/terminal", false.into());
    bundle.options.console_socket = Some(bundle.dir.join("none"));
    assert!(bundle.refused().starts_with("cannot use console socket"));
    bundle.set("/process/terminal", true.into());
    let error = bundle.refused();
    assert!(error.starts_with("--console-socket: connect(") && error.ends_with("= ENOENT"), "{error}");
    bundle.options.console_socket = None;
    bundle.options.foreground = true;
    bundle.config["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/dev/pts");
    assert!(bundle.refused().contains("needs a devpts"));
}

fn pidfd() {
    let mut bundle = Bundle::new("pidfd", "sleep 1000");
    let path = bundle.dir.join("sock");
    let listener = UnixListener::bind(&path).unwrap();
    bundle.options.pidfd_socket = Some(path.clone());
    let container = bundle.start();
    let pid_of = |fd: OwnedFd| {
        use std::os::fd::AsRawFd;
        let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).unwrap();
        text.lines().find_map(|line| line.strip_prefix("Pid:\t")).unwrap().parse::<i32>().unwrap()
    };
    assert_eq!(pid_of(received(&listener).0), container.init_pid().unwrap());
    let mut options = exec_options(overrides("sleep 1000"));
    options.pidfd_socket = Some(path);
    let executed = container.exec(&options).unwrap();
    assert_eq!(pid_of(received(&listener).0), executed.pid);
    container.kill(9, false).unwrap();
    // Init's end waits for that of its pid namespace's others, and they for their parents, us.
    assert_eq!(executed.wait().unwrap(), 137);
    container.delete(true).unwrap();
}
