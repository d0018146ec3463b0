//! Images, bundles and disks that are no good: one line, status 1, nothing left, nothing lost.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::harness::{Bundle, Kind, differs, until};
use serde_json::{Value, json};

/// Counts in a file of its root file system; with contents in memory, in a tmpfs and in a pipe.
const COUNT: [&str; 3] = [
    "sh",
    "-c",
    "dd if=/dev/urandom of=/dev/blob bs=4096 count=16 2>/dev/null; exec 3<>/tmp/fifo; echo queued >&3; \
     n=0; while :; do n=$((n+1)); echo $n > /tmp/n; usleep 10000; done",
];
/// The files of a first image.
const PARTS: [&str; 6] =
    ["tree-1.json", "files-1.json", "container-1.json", "pages-1.img", "pagemap-1.img", "data-1.img"];

/// A container that counts.
fn counting() -> Bundle {
    let device = json!({ "path": "/dev/urandom", "type": "c", "major": 1, "minor": 9, "fileMode": 0o666 });
    let bundle = Bundle::new(&COUNT).with(|config| config["linux"]["devices"] = json!([device]));
    let made = Command::new("mkfifo").arg(bundle.dir().join("rootfs/tmp/fifo")).status();
    assert!(made.unwrap().success());
    bundle.running()
}

/// A container that counted and is gone, with its image.
fn saved() -> Bundle {
    let bundle = counting();
    counts_on(&bundle);
    bundle.call("checkpoint", &[]).ok();
    bundle.assert_gone();
    bundle
}

fn with_rtc(body: impl FnOnce()) {
    differs(&[(Kind::Runc, "needs criu"), (Kind::Crun, "Debian builds it without criu")], body);
}

fn number(bundle: &Bundle) -> u64 {
    until(&bundle.dir().join("rootfs/tmp/n"), |text| text.ends_with('\n')).trim().parse().unwrap()
}

/// Waits until the container has counted further than it had.
#[track_caller]
fn counts_on(bundle: &Bundle) {
    let before = number(bundle);
    let further = |text: &str| text.ends_with('\n') && text.trim().parse::<u64>().unwrap() > before;
    until(&bundle.dir().join("rootfs/tmp/n"), further);
}

/// A restore fails with one line that holds `text`, and leaves no state, cgroup, process or mount.
#[track_caller]
fn refused(bundle: &Bundle, text: &str) {
    let outcome = bundle.call("restore", &["-d"]);
    assert!(!outcome.stderr.contains("panicked"), "{}", outcome.stderr);
    outcome.fails(1, text);
    bundle.assert_gone();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(bundle.dir().to_str().unwrap()), "a mount is left: {mounts}");
}

/// The image is good, after all.
#[track_caller]
fn restorable(bundle: &Bundle) {
    bundle.call("restore", &["-d"]).ok();
    counts_on(bundle);
}

/// The bundle's config.json is the authority: an image can't bring privileges.
#[test]
fn privileges_that_config_json_does_not_give() {
    with_rtc(|| {
        let mut bundle = saved();
        let plain = bundle.config.clone();
        let few = json!(["CAP_KILL"]);
        let fewer = json!({ "bounding": few, "effective": few, "permitted": few });
        let changes: [(&str, &str, Value, &str); 3] = [
            ("/process", "capabilities", fewer, "capabilities"),
            ("/process", "noNewPrivileges", json!(true), "no_new_privs"),
            ("/linux", "seccomp", json!({ "defaultAction": "SCMP_ACT_ALLOW" }), "seccomp"),
        ];
        for (object, key, value, text) in changes {
            bundle = bundle.with(|config| {
                *config = plain.clone();
                config.pointer_mut(object).unwrap()[key] = value;
            });
            refused(&bundle, text);
        }
        let bundle = bundle.with(|config| *config = plain);
        restorable(&bundle);
    });
}

/// A bounding set is a privilege too: a file with capabilities would give them.
#[test]
fn a_bounding_set_that_config_json_does_not_give() {
    with_rtc(|| {
        let none = json!([]);
        let some = json!(["CAP_KILL", "CAP_NET_RAW"]);
        let capabilities = |bounding| json!({ "bounding": bounding, "effective": none, "permitted": none });
        let bundle =
            Bundle::new(&["sleep", "1000"]).with(|c| c["process"]["capabilities"] = capabilities(some.clone()));
        let bundle = bundle.running();
        bundle.call("checkpoint", &[]).ok();
        let bundle = bundle.with(|config| config["process"]["capabilities"] = capabilities(json!(["CAP_KILL"])));
        refused(&bundle, "capabilities");
        let bundle = bundle.with(|config| config["process"]["capabilities"] = capabilities(some));
        bundle.call("restore", &["-d"]).ok();
    });
}

#[test]
fn one_altered_byte() {
    with_rtc(|| {
        let bundle = saved();
        for part in PARTS {
            let path = bundle.file("checkpoint").join(part);
            let file = File::options().read(true).write(true).open(&path).unwrap();
            let length = file.metadata().unwrap().len();
            for at in [length / 4, length / 2, length - 1] {
                let mut byte = [0];
                file.read_exact_at(&mut byte, at).unwrap();
                file.write_all_at(&[byte[0] ^ 4], at).unwrap();
                refused(&bundle, "");
                file.write_all_at(&byte, at).unwrap();
            }
        }
        restorable(&bundle);
    });
}

/// None of them is opened, let alone read.
#[test]
fn what_is_no_regular_file() {
    with_rtc(|| {
        let bundle = saved();
        for part in PARTS.iter().chain(&["manifest.json"]) {
            let path = bundle.file("checkpoint").join(part);
            let aside = bundle.file("aside");
            fs::rename(&path, &aside).unwrap();
            symlink(&aside, &path).unwrap();
            refused(&bundle, part);
            fs::remove_file(&path).unwrap();
            assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
            refused(&bundle, part);
            fs::remove_file(&path).unwrap();
            fs::create_dir(&path).unwrap();
            refused(&bundle, part);
            fs::remove_dir(&path).unwrap();
            refused(&bundle, part);
            fs::rename(&aside, &path).unwrap();
        }
        restorable(&bundle);
    });
}

#[test]
fn manifests_that_make_no_sense() {
    with_rtc(|| {
        let bundle = saved();
        let path = bundle.file("checkpoint/manifest.json");
        let good = fs::read(&path).unwrap();
        let manifest: Value = serde_json::from_slice(&good).unwrap();
        let changes: [(&str, &str, Value, &str); 12] = [
            ("", "version", json!(2), "version 2"),
            ("", "version", json!("1"), "version"),
            ("", "version", json!(null), "version"),
            ("", "format", json!("other"), "rtc image"),
            ("", "generation", json!(-1), "manifest.json"),
            ("", "parts", json!({}), ""),
            ("", "machine", json!({}), "manifest.json"),
            ("/parts/tree", "name", json!("../x"), "../x"),
            ("/parts/tree", "name", json!("/etc/passwd"), "/etc/passwd"),
            ("/parts/tree", "name", json!(""), "plain"),
            ("/parts/tree", "size", json!(u64::MAX), "tree"),
            ("/machine", "page_size", json!(65536), "65536"),
        ];
        for (object, key, value, text) in changes {
            let mut manifest = manifest.clone();
            manifest.pointer_mut(object).unwrap()[key] = value;
            fs::write(&path, manifest.to_string()).unwrap();
            refused(&bundle, text);
        }
        for text in ["", "{", "null", "[]", "no JSON\n", &"[".repeat(100_000)] {
            fs::write(&path, text).unwrap();
            refused(&bundle, "manifest.json");
        }
        fs::write(&path, good).unwrap();
        restorable(&bundle);
    });
}

#[test]
fn an_image_of_another_container() {
    with_rtc(|| {
        let bundle = saved();
        let rootfs = bundle.dir().join("rootfs");
        let program = rootfs.join("bin/busybox");
        let aside = bundle.file("aside");
        fs::rename(&program, &aside).unwrap();
        refused(&bundle, "busybox");
        fs::write(&program, "another program").unwrap();
        refused(&bundle, "busybox");
        fs::rename(&aside, &program).unwrap();
        fs::rename(rootfs.join("tmp/fifo"), &aside).unwrap();
        refused(&bundle, "fifo");
        fs::write(rootfs.join("tmp/fifo"), "no FIFO").unwrap();
        refused(&bundle, "fifo");
        fs::rename(&aside, rootfs.join("tmp/fifo")).unwrap();
        restorable(&bundle);
    });
}

/// A file was open in a mount that config.json no longer has.
#[test]
fn a_mount_that_is_missing() {
    with_rtc(|| {
        let bundle = Bundle::new(&["sh", "-c", "exec 3>/data/open; exec sleep 1000"]);
        let source = bundle.file("volume");
        fs::create_dir(&source).unwrap();
        fs::create_dir(bundle.dir().join("rootfs/data")).unwrap();
        let mount = json!({ "destination": "/data", "type": "bind", "source": source, "options": ["rbind"] });
        let bundle = bundle.with(|config| config["mounts"].as_array_mut().unwrap().push(mount)).running();
        until(&source.join("open"), |_| true);
        bundle.call("checkpoint", &[]).ok();
        let whole = bundle.config.clone();
        let bundle = bundle.with(|config| {
            config["mounts"].as_array_mut().unwrap().pop();
        });
        refused(&bundle, "/data");
        let bundle = bundle.with(|config| *config = whole);
        bundle.call("restore", &["-d"]).ok();
    });
}

#[test]
fn bundles_that_are_broken() {
    with_rtc(|| {
        let bundle = saved();
        let rootfs = bundle.dir().join("rootfs");
        fs::rename(&rootfs, bundle.file("aside")).unwrap();
        refused(&bundle, "rootfs");
        fs::rename(bundle.file("aside"), &rootfs).unwrap();
        let config = bundle.dir().join("config.json");
        let good = fs::read(&config).unwrap();
        for text in ["", "{", "[]", "{}", "null"] {
            fs::write(&config, text).unwrap();
            refused(&bundle, "");
        }
        fs::remove_file(&config).unwrap();
        refused(&bundle, "config.json");
        fs::write(&config, good).unwrap();
        let image = bundle.file("checkpoint");
        fs::rename(&image, bundle.file("aside")).unwrap();
        refused(&bundle, "checkpoint");
        fs::write(&image, "no directory").unwrap();
        refused(&bundle, "checkpoint");
        fs::remove_file(&image).unwrap();
        fs::rename(bundle.file("aside"), &image).unwrap();
        restorable(&bundle);
    });
}

/// A small tmpfs in a mount namespace that ends with this.
struct SmallDisk {
    holder: Child,
    inside: PathBuf,
}

impl SmallDisk {
    fn new(directory: &Path) -> Self {
        fs::create_dir(directory).unwrap();
        let script = "mount -t tmpfs -o size=1m small \"$1\" && echo mounted && exec cat >/dev/null";
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", script, "sh"]).arg(directory).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut holder = command.spawn().unwrap();
        let mut answer = [0; 8];
        holder.stdout.as_mut().unwrap().read_exact(&mut answer).unwrap();
        let inside = Path::new("/proc").join(holder.id().to_string()).join("root");
        Self { inside: inside.join(directory.strip_prefix("/").unwrap()), holder }
    }

    /// Leaves this much room, in bytes.
    fn leave(&self, room: usize) {
        let filler = self.inside.join("filler");
        let _ = fs::remove_file(&filler);
        let mut file = File::create(&filler).unwrap();
        let mut length = 0;
        while let Ok(written) = file.write(&[1; 4096]) {
            length += written;
        }
        file.set_len(length.saturating_sub(room) as u64).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // At the end of its input it ends, and with it the namespace.
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}

/// What makes a checkpoint: names and contents.
fn checkpoint(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let named = entries.map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(path).unwrap()));
    let beside = ["filler", "dump.log", "restore.log", "stats-dump", "descriptors.json"];
    let mut files: Vec<_> = named.filter(|(name, _)| !beside.contains(&name.as_str())).collect();
    files.sort();
    files
}

#[test]
fn a_full_disk() {
    with_rtc(|| {
        let bundle = counting();
        let disk = SmallDisk::new(&bundle.file("small"));
        let paths = ["--image-path", disk.inside.to_str().unwrap(), "--leave-running"];
        let mut failures = 0;
        // First without, then with an earlier checkpoint in the same directory.
        for earlier in [false, true] {
            let before = checkpoint(&disk.inside);
            assert_eq!(before.is_empty(), !earlier);
            for room in (0..100).map(|blocks| blocks * 4096) {
                disk.leave(room);
                let outcome = bundle.call("checkpoint", &paths);
                if outcome.status == 0 {
                    break;
                }
                let words = if outcome.stderr.contains("ENOSPC") { "" } else { "No space left on device" };
                outcome.fails(1, words);
                assert!(
                    before == checkpoint(&disk.inside),
                    "with room for {room} bytes the image directory has changed"
                );
                assert_eq!(bundle.status(), "running");
                counts_on(&bundle);
                failures += 1;
            }
            assert!(before != checkpoint(&disk.inside), "there was no room, ever");
        }
        assert!(failures > 20, "only {failures} checkpoints failed");
        bundle.call("delete", &["--force"]).ok();
        disk.leave(0);
        bundle.call("restore", &["-d", "--image-path", paths[1]]).ok();
        counts_on(&bundle);
    });
}
