//! Races on paths: somebody exchanges a directory of the root file system with a link to the outside, again and again,
//! as another container can that shares a volume.
//!
//! A thread of the test does the exchanging, which is faster than any container could. Each attack is a bounded number
//! of containers; in each rtc may refuse, but what it does it does inside the root.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use rtc_tests::scratch::mounts_below;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags, ResolveFlags, renameat_with};
use serde_json::{Value, json};

use crate::harness::Bundle;

/// How many containers an attack gets.
const ROUNDS: usize = 40;

/// Exchanges two names until it is dropped.
struct Flipper {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<u64>>,
}

impl Flipper {
    fn new(one: PathBuf, other: PathBuf) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut count = 0;
            while !seen.load(Ordering::Relaxed) {
                renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE).unwrap();
                count += 1;
            }
            // As it was.
            if count % 2 == 1 {
                renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE).unwrap();
            }
            count
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Flipper {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let count = self.thread.take().unwrap().join().unwrap();
        assert!(count > 100 || std::thread::panicking(), "only {count} exchanges");
    }
}

/// A bundle with `place`, a directory in its root, and beside it `lure`, a link to a directory outside that has a file.
struct Trap {
    bundle: Bundle,
    outside: PathBuf,
    place: PathBuf,
    lure: PathBuf,
}

const MARK: &str = "from the host";

impl Trap {
    fn new(place: &str, change: impl FnOnce(&Bundle, &mut Value)) -> Self {
        let bundle = Bundle::new(&["sleep", "1000"]);
        let outside = bundle.file("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("mark"), MARK).unwrap();
        let place = bundle.dir().join("rootfs").join(place);
        fs::create_dir_all(&place).unwrap();
        let lure = place.with_file_name("lure");
        symlink(&outside, &lure).unwrap();
        let mut config = bundle.config.clone();
        change(&bundle, &mut config);
        let bundle = bundle.with(|own| *own = config);
        Self { bundle, outside, place, lure }
    }

    /// Makes containers while the names are exchanged; `check` looks at each that rtc makes. Gives how many it made.
    fn spring(&self, check: impl Fn(&Made)) -> usize {
        let flipper = Flipper::new(self.place.clone(), self.lure.clone());
        let mut made = 0;
        for _ in 0..ROUNDS {
            let outcome = self.bundle.call("create", &[]);
            if outcome.status == 0 {
                made += 1;
                check(&Made::of(&self.bundle));
            } else {
                assert_eq!(outcome.stderr.lines().count(), 1, "{}", outcome.stderr);
            }
            self.bundle.call("delete", &["--force"]).ok();
        }
        drop(flipper);
        self.nothing_outside();
        made
    }

    /// Nothing was made, mounted or changed outside.
    #[track_caller]
    fn nothing_outside(&self) {
        let names: Vec<_> = fs::read_dir(&self.outside).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["mark"]);
        assert_eq!(fs::read_to_string(self.outside.join("mark")).unwrap(), MARK);
        let mounts = mounts_below(&self.bundle.file(""));
        assert!(mounts.is_empty(), "{mounts:?}");
    }
}

/// A container that waits for `start`, seen from the host.
struct Made {
    pid: i64,
    /// Mount point and kind of file system of each mount.
    mounts: Vec<(String, String)>,
}

impl Made {
    fn of(bundle: &Bundle) -> Self {
        let pid = bundle.state()["pid"].as_i64().unwrap();
        let table = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
        let mount = |line: &str| {
            let (front, back) = line.split_once(" - ").unwrap();
            (front.split(' ').nth(4).unwrap().to_owned(), back.split(' ').next().unwrap().to_owned())
        };
        Self { pid, mounts: table.lines().map(mount).collect() }
    }

    fn file(&self, path: &str) -> PathBuf {
        Path::new(&format!("/proc/{}/root", self.pid)).join(path)
    }
}

fn add_mount(config: &mut Value, mount: Value) {
    config["mounts"].as_array_mut().unwrap().push(mount);
}

/// CVE-2021-30465, CVE-2024-45310: the place of a mount is resolved, made and mounted on as one thing.
#[test]
fn places_of_mounts() {
    let trap = Trap::new("vol/place", |bundle, config| {
        fs::write(bundle.file("source"), "source").unwrap();
        add_mount(config, json!({ "destination": "/vol/place/tmp", "type": "tmpfs", "source": "tmpfs" }));
        add_mount(
            config,
            json!({ "destination": "/vol/place/deep/er/file", "type": "bind",
            "source": bundle.file("source"), "options": ["bind"] }),
        );
    });
    let made = trap.spring(|made| {
        for end in ["/tmp", "/deep/er/file"] {
            // Either below /vol/place, or where the link leads within the root: a mount on the host would be gone.
            let found = made.mounts.iter().filter(|(point, _)| point.ends_with(end)).count();
            assert_eq!(found, 1, "{end}: {:?}", made.mounts);
        }
    });
    assert!(made > 0);
}

/// CVE-2023-27561, CVE-2023-28642, CVE-2025-54867, CVE-2019-19921: procfs is mounted on a directory `/proc` or nowhere.
#[test]
fn the_place_of_procfs() {
    let trap = Trap::new("proc", |_, _| {});
    let made = trap.spring(|made| {
        let procs: Vec<_> = made.mounts.iter().filter(|(_, kind)| kind == "proc").map(|(point, _)| point).collect();
        assert!(procs.iter().all(|point| *point == "/proc" || *point == "/lure"), "{:?}", made.mounts);
        assert_eq!(procs.len(), 1, "{:?}", made.mounts);
    });
    assert!(made > 0);
}

/// CVE-2026-41579, CVE-2026-47766: devices, links and the terminal are made in the container's own /dev.
#[test]
fn the_place_of_devices() {
    let trap = Trap::new("dev", |_, _| {});
    trap.spring(|_| {});
}

/// A source within the root file system is looked up with the root as the limit (CVE-2023-0778 is its kin).
#[test]
fn sources_of_mounts() {
    let trap = Trap::new("vol/place", |bundle, config| {
        let source = bundle.dir().join("rootfs/vol/place");
        fs::write(source.join("inside"), "").unwrap();
        add_mount(config, json!({ "destination": "/mnt", "type": "bind", "source": source, "options": ["rbind"] }));
    });
    let made = trap.spring(|made| assert!(!made.file("mnt/mark").exists() && made.file("mnt/inside").exists()));
    assert!(made > 0);
}

/// What `tmpcopyup` copies is the container's.
#[test]
fn what_is_copied_up() {
    let trap = Trap::new("vol/place", |bundle, config| {
        fs::write(bundle.dir().join("rootfs/vol/place/inside"), "").unwrap();
        add_mount(
            config,
            json!({ "destination": "/vol/place", "type": "tmpfs", "source": "tmpfs",
            "options": ["tmpcopyup"] }),
        );
    });
    let made = trap.spring(|made| {
        // The names go on being exchanged while this looks: no link may be followed, from here it would lead outside.
        let (plain, inside) = (ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS, OFlags::PATH | OFlags::DIRECTORY);
        let root = rustix::fs::open(made.file(""), inside, Mode::empty()).unwrap();
        for place in ["vol/place", "vol/lure"] {
            if let Ok(place) = rustix::fs::openat2(&root, place, inside, Mode::empty(), plain) {
                assert!(rustix::fs::statat(place, "mark", AtFlags::SYMLINK_NOFOLLOW).is_err());
            }
        }
    });
    assert!(made > 0);
}

/// CVE-2025-31133, CVE-2025-62161: what hides a file is the null device, or there is no container.
#[test]
fn the_null_device_that_masks() {
    for lure in ["a link", "a file"] {
        let trap = Trap::new("vol/place", |bundle, config| {
            fs::write(bundle.dir().join("rootfs/secret"), "secret").unwrap();
            let dev = bundle.file("dev");
            fs::create_dir(&dev).unwrap();
            let null = rustix::fs::makedev(1, 3);
            rustix::fs::mknodat(CWD, dev.join("null"), rustix::fs::FileType::CharacterDevice, 0o666.into(), null)
                .unwrap();
            match lure {
                "a link" => symlink("/vol", dev.join("lure")).unwrap(),
                _ => fs::write(dev.join("lure"), "").unwrap(),
            }
            let mounts = config["mounts"].as_array_mut().unwrap();
            mounts.retain(|mount| mount["destination"] == "/proc");
            add_mount(config, json!({ "destination": "/dev", "type": "bind", "source": dev, "options": ["bind"] }));
            config["linux"]["maskedPaths"] = json!(["/secret"]);
        });
        let dev = trap.bundle.file("dev");
        let trap = Trap { place: dev.join("null"), lure: dev.join("lure"), ..trap };
        let made = trap.spring(|made| {
            let hidden = fs::metadata(made.file("secret")).unwrap();
            assert!(hidden.file_type().is_char_device() && hidden.rdev() == rustix::fs::makedev(1, 3), "{hidden:?}");
        });
        assert!(made > 0, "{lure}");
    }
}
