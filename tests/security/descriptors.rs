//! Descriptors, directories and executables of the host that a container could get hold of.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use rtc_tests::bundle::copy_program;
use rustix::process::Pid;
use serde_json::json;

use crate::harness::{Bundle, Outcome, runtime, until, wait_for_end};

/// A bundle with the attacker in its image, in a container that runs it by `exec`.
fn attacked(attack: &str, capabilities: &[&str]) -> Bundle {
    let bundle = Bundle::new(&["sleep", "1000"]);
    let inside = bundle.dir().join("rootfs/bin/attacker");
    copy_program(env!("CARGO_BIN_EXE_rtc-attacker").as_ref(), &inside);
    rustix::fs::mknodat(rustix::fs::CWD, bundle.dir().join("rootfs/fifo"), rustix::fs::FileType::Fifo, 0o666.into(), 0)
        .unwrap();
    let bundle = bundle
        .with(|config| {
            let own = &mut config["process"]["capabilities"];
            *own = json!({ "bounding": capabilities, "effective": capabilities, "permitted": capabilities });
        })
        .running();
    let outcome = exec_detached(&bundle, &["attacker", attack]);
    assert_eq!(outcome.status, 0, "{outcome:?}");
    until(&bundle.dir().join("rootfs/ready"), |_| bundle.dir().join("rootfs/ready").exists());
    bundle
}

/// `exec -d`: the process is left behind, so it gets files for its output.
fn exec_detached(bundle: &Bundle, program: &[&str]) -> Outcome {
    let (out, err) = (bundle.file("stdout"), bundle.file("stderr"));
    let mut exec = bundle.command("exec", &["-d"]);
    exec.args(program).stdout(fs::File::create(&out).unwrap()).stderr(fs::File::create(&err).unwrap());
    let status = exec.status().unwrap().code().unwrap();
    Outcome { status, stdout: fs::read_to_string(out).unwrap(), stderr: fs::read_to_string(err).unwrap() }
}

/// Ends the attack: its report.
fn report(bundle: &Bundle) -> String {
    fs::write(bundle.dir().join("rootfs/stop"), "").unwrap();
    until(&bundle.dir().join("rootfs/report"), |text| !text.is_empty())
}

fn number(report: &str, name: &str) -> u64 {
    let line = report.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().parse().unwrap()
}

/// CVE-2019-5736: the container has rtc executed as its program and writes to the file behind it.
#[test]
fn the_runtimes_executable() {
    let all = ["CAP_DAC_OVERRIDE", "CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_FOWNER", "CAP_CHOWN", "CAP_KILL"];
    let bundle = attacked("overwrite", &all);
    // A copy, which nothing but this test executes: a file can't be written to while it is executed.
    let (rtc, own) = (fs::canonicalize(&runtime()[0]).unwrap(), bundle.file("rtc"));
    copy_program(&rtc, &own);
    let before = fs::read(&own).unwrap();
    let exec = |args: &[&str], program: &[&str]| {
        let words = bundle.command("exec", args);
        let mut exec = Command::new(&own);
        exec.args(words.get_args()).args(program).current_dir(bundle.file("")).stdin(Stdio::null());
        exec.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap()
    };
    let root = bundle.dir().join("rootfs");
    symlink("/proc/self/exe", root.join("bin/link")).unwrap();
    fs::write(root.join("bin/script"), "#!/proc/self/exe exec\n").unwrap();
    fs::set_permissions(root.join("bin/script"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    // Each waits for its process.json, as rtc, in the container.
    let mut pids = Vec::new();
    for program in ["/proc/self/exe", "/bin/link"] {
        assert!(exec(&["-d", "--pid-file", "pid"], &[program, "exec", "-p", "/fifo", "x"]).success());
        pids.push(Pid::from_raw(fs::read_to_string(bundle.file("pid")).unwrap().parse().unwrap()).unwrap());
    }
    for _ in 0..30 {
        exec(&[], &["/bin/script"]);
        assert!(exec(&[], &["true"]).success());
    }
    // With them the last goes that executes the copy.
    for pid in pids {
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
        wait_for_end(pid);
    }
    fs::write(root.join("again"), "").unwrap();
    until(&root.join("done"), |_| root.join("done").exists());
    let report = report(&bundle);
    assert!(number(&report, "held") > 0, "the attack had no chance: {report}");
    assert!(!report.contains("written") && report.contains("\"Os { code: 30"), "{report}");
    assert!(!report.contains("chmod Ok"), "{report}");
    assert!(fs::read(&own).unwrap() == before, "rtc was overwritten");
}

/// CVE-2016-9962, CVE-2024-21626: nothing of the host is to be seen in a process that enters the container, at any
/// moment of its way.
#[test]
fn processes_that_enter() {
    let bundle = attacked("peek", &["CAP_KILL", "CAP_CHOWN", "CAP_SETUID", "CAP_SETGID", "CAP_DAC_OVERRIDE"]);
    for _ in 0..60 {
        bundle.exec(&[], &["true"]).ok();
    }
    let report = report(&bundle);
    assert!(number(&report, "denied") > 0 && number(&report, "seen") > 0, "the attack had no chance: {report}");
    assert_eq!(number(&report, "foreign"), 0, "{report}");
}

/// The same for the first process of another container that is made in this one's pid namespace, as in a pod.
#[test]
fn first_processes_of_a_pod() {
    let pod = attacked("peek", &["CAP_KILL", "CAP_CHOWN", "CAP_DAC_OVERRIDE"]);
    let pid = pod.state()["pid"].as_i64().unwrap();
    let bundle = Bundle::new(&["true"]).with(|config| {
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "pid");
        namespaces.push(json!({ "type": "pid", "path": format!("/proc/{pid}/ns/pid") }));
    });
    for _ in 0..30 {
        bundle.call("run", &[]).ok();
    }
    let report = report(&pod);
    assert!(number(&report, "denied") > 0, "the attack had no chance: {report}");
    // The other container's root, once its program runs, is not this one's: that is what a shared namespace shows.
    let foreign: Vec<&str> =
        report.lines().last().unwrap().split("\", \"").filter(|one| one.contains("/fd/")).collect();
    assert!(foreign.is_empty(), "{foreign:?}");
}

/// CVE-2024-21626: a working directory that leads to a descriptor of the runtime's.
#[test]
fn working_directories() {
    let bundle = Bundle::new(&["sleep", "1000"]);
    symlink("/proc/self/fd/9", bundle.dir().join("rootfs/tmp/link")).unwrap();
    let bundle = bundle.running();
    let secret = bundle.file("secret");
    fs::write(&secret, "").unwrap();
    let show = ["sh", "-c", "ls -d ../../../../../../../../etc/hostname ../../../../../../../../work; pwd; ls"];
    let mut refused = 0;
    let places = (0..24).map(|number| format!("/proc/self/fd/{number}"));
    let places = places.chain(["/tmp/link".into(), "/proc/1/cwd/../../../..".into(), "/proc/self/cwd/../..".into()]);
    for place in places {
        let outcome = bundle.exec(&["--cwd", &place], &show);
        assert!(!outcome.stdout.contains("hostname") && !outcome.stdout.contains("work"), "{place}: {outcome:?}");
        refused += usize::from(outcome.status == 255);
        let create = Bundle::new(&show).with(|config| config["process"]["cwd"] = json!(place));
        // With a directory of the host on descriptor 9.
        let mut words = create.command("run", &[]);
        let mut shell = Command::new("sh");
        shell.args(["-c", "exec 9</; exec \"$0\" \"$@\""]).arg(words.get_program()).args(words.get_args());
        let outcome = Outcome::of(&mut shell);
        assert!(!outcome.stdout.contains("hostname") && !outcome.stdout.contains("work"), "{place}: {outcome:?}");
        words.env_clear();
    }
    assert!(refused > 10, "{refused} were refused");
}

/// What a program finds open: the three standard descriptors.
#[test]
fn descriptors_of_programs() {
    let list = ["sh", "-c", "ls /proc/self/fd | wc -l; ls -l /proc/self/fd; ls -l /proc/self/cwd /proc/self/root"];
    // Of `ls` itself a fourth.
    let check = |outcome: Outcome| {
        let output = outcome.ok();
        assert_eq!(output.lines().next().unwrap().trim(), "4", "{output}");
    };
    let bundle = Bundle::new(&list);
    let with_nine = |line: &mut Command| {
        let mut shell = Command::new("sh");
        shell.args(["-c", "exec 9</; exec 7</etc/passwd; exec \"$0\" \"$@\""]);
        Outcome::of(shell.arg(line.get_program()).args(line.get_args()))
    };
    check(with_nine(&mut bundle.command("run", &[])));
    let bundle = Bundle::new(&["sleep", "1000"]).running();
    check(with_nine(bundle.command("exec", &[]).args(list)));
}

/// A first process that waits for `start` holds its FIFO, and the container's own /proc.
#[test]
fn a_process_that_waits() {
    let bundle = Bundle::new(&["true"]);
    bundle.call("create", &[]).ok();
    let pid = bundle.state()["pid"].as_i64().unwrap();
    let mut others = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).unwrap() {
        let entry = entry.unwrap();
        let (number, link) = (entry.file_name(), fs::read_link(entry.path()).unwrap());
        let standard = ["0", "1", "2"].contains(&number.to_str().unwrap());
        let own_proc = link == Path::new("/proc")
            && fs::read_dir(entry.path()).unwrap().all(|entry| {
                let name = entry.unwrap().file_name().into_string().unwrap();
                name == "1" || name.parse::<u32>().is_err()
            });
        let fifo = link.ends_with("exec.fifo");
        if !(standard || own_proc || fifo) {
            others.push(link);
        }
    }
    assert!(others.is_empty(), "{others:?}");
}
