//! `checkpoint` and `restore` as commands: where things go, what is refused. What can be saved is tested elsewhere.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::harness::{Bundle, Kind, differs, finish, plain, until};
use crate::pty::ConsoleSocket;
use serde_json::json;

/// Counts in a file of its root file system; whenever it is stopped, the last line is whole.
const COUNT: [&str; 3] = ["sh", "-c", "n=0; while :; do n=$((n+1)); echo $n >> /tmp/n; usleep 10000; done"];

/// Runs the body with rtc alone.
fn with_rtc(body: impl FnOnce()) {
    differs(&[(Kind::Runc, "needs criu"), (Kind::Crun, "Debian builds it without criu")], body);
}

fn counter(bundle: &Bundle) -> u64 {
    let file = bundle.dir().join("rootfs/tmp/n");
    last(&until(&file, |text| last(text).is_some())).unwrap()
}

fn last(text: &str) -> Option<u64> {
    text.lines().next_back()?.parse().ok()
}

/// Waits for a higher number than `before`.
#[track_caller]
fn counts_on(bundle: &Bundle, before: u64) {
    let file = bundle.dir().join("rootfs/tmp/n");
    until(&file, |text| last(text) > Some(before));
}

#[test]
fn gone_and_back() {
    with_rtc(|| {
        let bundle = Bundle::new(&COUNT).running();
        counter(&bundle);
        let saved = bundle.call("checkpoint", &[]);
        assert_eq!((saved.stdout.as_str(), saved.stderr.as_str()), ("", ""));
        saved.ok();
        bundle.assert_gone();
        let image = bundle.file("checkpoint");
        for name in ["inventory.img", "descriptors.json", "stats-dump", "dump.log"] {
            assert!(image.join(name).is_file(), "{name}");
        }
        for entry in fs::read_dir(&image).unwrap() {
            // containerd streams the directory as plain files.
            assert!(entry.unwrap().file_type().unwrap().is_file());
        }
        let before = counter(&bundle);
        bundle.call("restore", &["--detach", "-no-subreaper", "--pid-file", "pid"]).ok();
        assert_eq!(bundle.status(), "running");
        assert_eq!(fs::read_to_string(bundle.file("pid")).unwrap(), bundle.state()["pid"].to_string());
        assert!(image.join("stats-restore").is_file() && image.join("restore.log").is_file());
        counts_on(&bundle, before);
        bundle.exec(&[], &["true"]).ok();
    });
}

/// As podman calls it, which gives the flag twice; twice into the same directory, too.
#[test]
fn leave_running() {
    with_rtc(|| {
        let bundle = Bundle::new(&COUNT).running();
        for _ in 0..2 {
            let paths = ["--image-path", "image", "--work-path", "work"];
            let flags = ["--leave-running", "--tcp-established", "--file-locks", "--leave-running"];
            bundle.call("checkpoint", &[&paths[..], &flags].concat()).ok();
            assert_eq!(bundle.status(), "running");
            counts_on(&bundle, counter(&bundle));
        }
        assert!(bundle.file("work/stats-dump").is_file() && bundle.file("work/dump.log").is_file());
        assert!(!bundle.file("image/stats-dump").exists());
    });
}

/// As containerd and CRI-O call it: paused before, paused after.
#[test]
fn of_a_paused_container() {
    with_rtc(|| {
        let bundle = Bundle::new(&COUNT).running();
        bundle.call("pause", &[]).ok();
        bundle.call("checkpoint", &["--leave-running"]).ok();
        assert_eq!(bundle.status(), "paused");
        bundle.call("resume", &[]).ok();
        counts_on(&bundle, counter(&bundle));
        bundle.call("pause", &[]).ok();
        bundle.call("checkpoint", &[]).ok();
        // containerd goes on with these, and expects this failure.
        bundle.call("resume", &[]).fails(1, "container does not exist");
        bundle.call("delete", &[]).fails(1, "container does not exist");
    });
}

#[test]
fn a_restored_container_in_the_foreground() {
    with_rtc(|| {
        let script = "while ! [ -e /tmp/end ]; do usleep 10000; done; echo bye; exit 7";
        let bundle = Bundle::new(&["sh", "-c", script]).running();
        bundle.call("checkpoint", &[]).ok();
        let restore = bundle.spawn("restore", &[]);
        let bundle = bundle.with_file("tmp/end", "", 0o644);
        let outcome = finish(restore);
        assert_eq!((outcome.status, outcome.stdout.as_str()), (7, "bye\n"), "{}", outcome.stderr);
        bundle.assert_gone();
    });
}

/// podman's containers with -t: the terminal is made anew, and its master sent again.
#[test]
fn a_container_with_a_terminal() {
    with_rtc(|| {
        let bundle = Bundle::new(&["sh", "-c", "n=0; while read line; do n=$((n+1)); echo $n $line; done"])
            .with(|config| config["process"]["terminal"] = json!(true));
        let console = bundle.file("console");
        let socket = ["--console-socket", console.to_str().unwrap()];
        let listener = ConsoleSocket::bind(&console);
        bundle.call("run", &[&["-d"], &socket[..]].concat()).ok();
        let mut terminal = listener.terminal();
        terminal.write("one\n");
        terminal.expect("1 one\r\n");
        bundle.call("checkpoint", &[]).ok();
        drop((terminal, listener));
        fs::remove_file(&console).unwrap();
        let listener = ConsoleSocket::bind(&console);
        bundle.call("restore", &[&["--detach"], &socket[..]].concat()).ok();
        let mut terminal = listener.terminal();
        terminal.write("two\n");
        terminal.expect("2 two\r\n");
    });
}

#[test]
fn what_is_refused() {
    with_rtc(|| {
        let bundle = Bundle::new(&COUNT);
        bundle.call("checkpoint", &[]).fails(1, "container does not exist");
        bundle.call("create", &[]).ok();
        bundle.call("checkpoint", &[]).fails(1, "created");
        bundle.call("start", &[]).ok();
        bundle.call("checkpoint", &["--parent-path", "/absolute"]).fails(1, "--parent-path /absolute");
        bundle.call("checkpoint", &["--parent-path", "nosuch"]).fails(1, "--parent-path nosuch");
        bundle.call("checkpoint", &["--lazy-pages"]).fails(1, "--lazy-pages");
        bundle.call("checkpoint", &["--page-server", "a:1"]).fails(1, "--page-server");
        bundle.call("restore", &["-d"]).fails(1, "checkpoint");
        assert!(!bundle.file("checkpoint").exists(), "nothing was made");
        counts_on(&bundle, counter(&bundle));
        bundle.call("checkpoint", &["--leave-running"]).ok();
        bundle.call("restore", &["-d"]).fails(1, "container with given ID already exists");
        counts_on(&bundle, counter(&bundle));
    });
}

/// The bundle's config.json is the authority: an image can't bring privileges.
#[test]
fn an_image_that_claims_too_much() {
    with_rtc(|| {
        let bundle = Bundle::new(&COUNT).running();
        bundle.call("checkpoint", &[]).ok();
        let bundle = bundle.with(|config| {
            let fewer = json!(["CAP_KILL"]);
            config["process"]["capabilities"] = json!({ "bounding": fewer, "effective": fewer, "permitted": fewer });
        });
        bundle.call("restore", &["-d"]).fails(1, "config.json");
        bundle.assert_gone();
    });
}

#[test]
fn damaged_images() {
    with_rtc(|| {
        let bundle = Bundle::new(&COUNT).running();
        bundle.call("checkpoint", &[]).ok();
        let image = bundle.file("checkpoint");
        let parts = fs::read_dir(&image).unwrap().map(|entry| entry.unwrap().path());
        let of_the_image = |path: &std::path::PathBuf| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name == "manifest.json" || name.contains("-1.")
        };
        for part in parts.filter(of_the_image) {
            let whole = fs::read(&part).unwrap();
            let bad = |bytes: &[u8]| {
                fs::write(&part, bytes).unwrap();
                let outcome = bundle.call("restore", &["-d"]);
                assert!(outcome.status == 1, "{}: {outcome:?}", part.display());
                outcome.fails(1, "");
                bundle.assert_gone();
            };
            bad(&whole[..whole.len() / 2]);
            bad(b"");
            fs::remove_file(&part).unwrap();
            bundle.call("restore", &["-d"]).fails(1, "");
            bundle.assert_gone();
            fs::write(&part, whole).unwrap();
        }
        bundle.call("restore", &["-d"]).ok();
    });
}

/// A volume's mounts are the host's, but for what the container has mounted in it.
#[test]
fn mounts_of_the_containers_own_on_a_volume() {
    with_rtc(|| {
        let command = "mount -t tmpfs own /data/sub && echo kept > /data/sub/file && exec 3< /data/sub/file && \
            echo done > /data/done && exec sleep 1000";
        let bundle = Bundle::new(&["sh", "-c", command]);
        fs::create_dir_all(bundle.file("volume/sub")).unwrap();
        fs::create_dir(bundle.dir().join("rootfs/data")).unwrap();
        let source = bundle.file("volume");
        let mount =
            json!({ "destination": "/data", "type": "bind", "source": source, "options": ["rbind", "rprivate"] });
        let bundle = bundle.with(|config| {
            config["mounts"].as_array_mut().unwrap().push(mount);
            for (_, set) in config["process"]["capabilities"].as_object_mut().unwrap() {
                set.as_array_mut().unwrap().push(json!("CAP_SYS_ADMIN"));
            }
        });
        let bundle = bundle.running();
        until(&source.join("done"), |text| text == "done\n");
        for _ in 0..2 {
            bundle.call("checkpoint", &[]).ok();
            bundle.call("restore", &["-d"]).ok();
            assert_eq!(bundle.exec(&[], &["sh", "-c", "cat /data/sub/file /proc/1/fd/3"]).ok(), "kept\nkept\n");
        }
        assert!(!source.join("sub/file").exists(), "it isn't the host's");
    });
}

#[test]
fn criu_configuration_files_count() {
    with_rtc(|| {
        let bundle = Bundle::new(&COUNT);
        let file = bundle.file("criu.conf");
        fs::write(&file, "leave-running # said so\nlog-file=other.log\n").unwrap();
        let annotations = json!({ "org.criu.config": file.to_str().unwrap() });
        let bundle = bundle.with(|config| config["annotations"] = annotations).running();
        bundle.call("checkpoint", &[]).ok();
        assert!(bundle.file("checkpoint/other.log").is_file());
        assert_eq!(bundle.status(), "running");
        fs::remove_file(file).unwrap();
        bundle.call("checkpoint", &[]).fails(1, "criu.conf");
    });
}

/// Programs and packet filters of the container's control group go by it.
#[test]
fn sockets_belong_to_the_control_group() {
    with_rtc(|| {
        // It goes into the background when it listens.
        let command = "httpd -p 7777 && echo listens && exec sleep 1000";
        let bundle = Bundle::new(&["sh", "-c", command]).with(|config| {
            config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "network" }));
        });
        let bundle = bundle.running();
        let pid = || bundle.state()["pid"].to_string();
        until(&bundle.file("stdout"), |text| text == "listens\n");
        let groups = || {
            let ss = ["-n", "-t", &pid(), "ss", "-Htln", "--cgroup"];
            let output = Command::new("nsenter").args(ss).output().expect("nsenter, of util-linux");
            let text = String::from_utf8(output.stdout).unwrap();
            text.split_whitespace().find_map(|word| word.strip_prefix("cgroup:")).map(str::to_owned)
        };
        let own = groups();
        assert!(own.as_ref().is_some_and(|path| path.contains(&bundle.id)), "{own:?}");
        bundle.call("checkpoint", &[]).ok();
        bundle.call("restore", &["-d"]).ok();
        assert_eq!(groups(), own);
    });
}

/// The log is the file that podman has made beforehand, and holds the error.
#[test]
fn the_log() {
    with_rtc(|| {
        let bundle = Bundle::new(&COUNT).running();
        fs::create_dir(bundle.file("work")).unwrap();
        let log = bundle.file("work/dump.log");
        fs::write(&log, "made before\n").unwrap();
        fs::write(bundle.file("image"), "no directory").unwrap();
        bundle.call("checkpoint", &["--image-path", "image", "--work-path", "work"]).fails(1, "image");
        bundle.call("checkpoint", &["--image-path", "/proc/nosuch", "--work-path", "work"]).fails(1, "/proc/nosuch");
        bundle.call("checkpoint", &["--leave-running", "--work-path", "work"]).ok();
        let text = fs::read_to_string(log).unwrap();
        assert!(text.starts_with("made before\n") && text.lines().count() > 1, "{text}");
    });
}

#[test]
fn a_check_before() {
    with_rtc(|| {
        let bundle = Bundle::new(&COUNT).running();
        let check = bundle.call("checkpoint", &["--check"]);
        assert_eq!((check.status, check.stdout.as_str()), (0, ""), "{}", check.stderr);
        assert!(!bundle.file("checkpoint").exists());
        counts_on(&bundle, counter(&bundle));
        assert_eq!(crate::harness::Outcome::of(plain().arg("check")).status, 0);
    });
}

/// What podman asks a program called criu, and `criu --version` and `criu check` of scripts.
#[test]
fn the_criu_front() {
    with_rtc(|| {
        use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair};
        let bundle = Bundle::new(&["true"]);
        let dir = bundle.file("bin");
        fs::create_dir(&dir).unwrap();
        let install = || crate::harness::Outcome::of(plain().arg("install-shim").arg(&dir));
        let check = || crate::harness::Outcome::of(plain().arg("check").env("PATH", &dir)).ok();
        let says = check();
        assert!(says.contains("rtc install-shim") && says.contains("containerd-shim-rtc-v2 is not on PATH"), "{says}");
        install().ok();
        install().ok();
        let criu = dir.join("criu");
        assert!(check().contains(&format!("ok, {} is there", criu.display())));
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let child = Command::new(&criu).args(["swrk", "0"]).stdin(theirs).spawn().unwrap();
        let mut answer = [0; 100];
        let version = [0x08, 0x0a, 0x20, 1];
        send(&ours, &version, SendFlags::empty()).unwrap();
        let (length, _) = recv(&ours, &mut answer, RecvFlags::empty()).unwrap();
        assert_eq!(answer[..length], [0x08, 0x0a, 0x10, 1, 0x52, 4, 0x08, 4, 0x10, 2]);
        let dump = [0x08, 0x01, 0x20, 1];
        send(&ours, &dump, SendFlags::empty()).unwrap();
        let (length, _) = recv(&ours, &mut answer, RecvFlags::empty()).unwrap();
        assert_eq!(answer[..4], [0x08, 1, 0x10, 0], "refused: {:?}", &answer[..length]);
        drop(ours);
        assert_eq!(finish(child).status, 0, "criu must end with 0 when its peer goes");
        let text = |args: &[&str]| crate::harness::Outcome::of(Command::new(&criu).args(args));
        assert!(text(&["--version"]).ok().starts_with("Version: 4."));
        assert_eq!(text(&["check"]).ok(), "Looks good.\n");
        assert_ne!(text(&["dump", "-t", "1"]).status, 0);
        fs::remove_file(&criu).unwrap();
        fs::write(Path::new(&criu), "another").unwrap();
        install().fails(1, "exists");
    });
}
