//! Checkpoints and restores in which one system call fails, or that are killed at it; one after another, all along the
//! way. After a checkpoint that ended early the container runs on as it was, after a restore nothing is left and the
//! image is what it was.
//!
//! `rtc-inject` spoils the call. SIGKILL of everything while code of rtc runs in the tasks is left out: see
//! ARCHITECTURE.md.

#![forbid(unsafe_code)]

use rtc_tests::container::After;
use rtc_tests::{Bundle, Container};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const ZOO: &str = env!("CARGO_BIN_EXE_rtc-zoo");
const INJECT: &str = env!("CARGO_BIN_EXE_rtc-inject");
/// A process with a child, threads, pipes, connections, timers and memory of its own.
const PROGRAM: &str = "small_tree";
/// How many places along the way are tried of each deed; RTC_PLACES has another number, for a thorough look.
const PLACES: u64 = 40;

fn small_tree(name: &str) -> Container {
    let container = Container::run(name, |folder| {
        let ctl = folder.with_file_name("ctl");
        rtc_tests::session::make_fifo(&ctl.join("go"));
        Bundle::empty(folder).file(Path::new(ZOO), "/zoo").args(&["/zoo", PROGRAM])
    });
    container.wait_for("ready", "ready");
    ask(&container, "at the beginning");
    container
}

#[track_caller]
fn ask(container: &Container, when: &str) {
    let result = container.ctl().join("result");
    let _ = fs::remove_file(&result); // None before the first question.
    rtc_tests::session::send(&container.ctl().join("go"), "?");
    let verdict = container.wait_for("result", "\n");
    assert_eq!(verdict.trim(), "ok", "{when}");
}

/// What the injector tells.
struct Told {
    ok: bool,
    counted: u64,
    /// The number of the spoiled call.
    spoiled: String,
    /// What rtc said.
    said: String,
}

fn inject(container: &Container, deed: &str, at: u64, args: &[&str]) -> Told {
    let folder = container.folder("injected");
    let (out, err) = (folder.join("out"), folder.join("err"));
    let mut command = Command::new(INJECT);
    command.args([deed, &at.to_string()]).args(container.words(args)).stdin(Stdio::null());
    // Files: a container that inherits them must not keep us waiting.
    let status = command.stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap()).status().unwrap();
    let told = fs::read_to_string(out).unwrap();
    let words: Vec<&str> = told.lines().last().unwrap_or("").split(' ').collect();
    let [_, counted, _, spoiled] = words[..] else { panic!("the injector says {told:?}") };
    let said = fs::read_to_string(err).unwrap();
    Told { ok: status.success(), counted: counted.parse().unwrap(), spoiled: spoiled.to_owned(), said }
}

/// Places along a way of `count` calls.
fn places(count: u64) -> impl Iterator<Item = u64> {
    let places = std::env::var("RTC_PLACES").ok().and_then(|n| n.parse().ok()).unwrap_or(PLACES);
    (0..places).map(move |n| 1 + n * count / places)
}

fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    entries.map(|path| (path.clone(), fs::read(&path).unwrap())).collect()
}

fn checkpoints(deed: &str) {
    let mut container = small_tree(&format!("fault-ck-{deed}"));
    let work = container.folder("work");
    let count = {
        let image = container.folder("counted");
        let args = ["checkpoint", "--leave-running", "--image-path", text(&image), "--work-path", text(&work)];
        let told = inject(&container, "count", 0, &args);
        assert!(told.ok && told.counted > 100, "{} calls: {}", told.counted, told.said);
        ask(&container, "after a checkpoint that was watched");
        told.counted
    };
    let (mut cut, mut whole) = (0, 0);
    for at in places(count) {
        let image = container.folder(&format!("image-{at}"));
        let args = ["checkpoint", "--image-path", text(&image), "--work-path", text(&work)];
        let told = inject(&container, deed, at, &args);
        let what = format!("{deed} at {at} of {count}, call {}: {}", told.spoiled, told.said);
        if container.status().is_some() {
            assert!(!told.ok, "{what}: the container is still there");
            assert_eq!(container.status().as_deref(), Some("running"), "{what}");
            assert!(deed != "fail" || told.said.lines().count() == 1, "{what}");
            assert!(!told.said.contains("panicked"), "{what}");
            // Killed with its worker it can't clear up.
            assert!(deed == "kill-all" || contents(&image).is_empty(), "{what}: {:?}", contents(&image).keys());
            ask(&container, &what);
            cut += 1;
        } else {
            container.assert_gone();
            let image = image.to_str().unwrap().to_owned();
            restore(&mut container, &image, &what);
            whole += 1;
        }
    }
    println!("{deed}: {cut} of {} checkpoints were cut off, on a way of {count} calls", cut + whole);
    assert!(cut > 5, "{cut} checkpoints were cut off, {whole} complete");
}

#[track_caller]
fn restore(container: &mut Container, image: &str, what: &str) {
    let flags = container.restore_flags();
    let mut args = vec!["restore", "--image-path", image];
    args.extend(flags.iter().map(String::as_str));
    let told = inject(container, "count", 0, &args);
    assert!(told.ok, "{what}: {}", told.said);
    container.found();
    ask(container, what);
}

fn restores(deed: &str) {
    let mut container = small_tree(&format!("fault-re-{deed}"));
    let image = container.checkpoint(After::Gone);
    let path = text(image.path()).to_owned();
    let work = container.folder("work");
    let before = contents(image.path());
    let flags = container.restore_flags();
    let mut args = vec!["restore", "--image-path", path.as_str(), "--work-path", text(&work)];
    args.extend(flags.iter().map(String::as_str));
    let told = inject(&container, "count", 0, &args);
    assert!(told.ok && told.counted > 100, "{} calls: {}", told.counted, told.said);
    container.found();
    container.delete();
    let (mut cut, mut whole) = (0, 0);
    for at in places(told.counted) {
        container.restore_flags();
        let told = inject(&container, deed, at, &args);
        let what = format!("{deed} at {at}, call {}: {}", told.spoiled, told.said);
        if told.ok {
            container.found();
            ask(&container, &what);
            container.delete();
            whole += 1;
        } else {
            assert!(deed != "fail" || told.said.lines().count() == 1, "{what}");
            assert!(!told.said.contains("panicked"), "{what}");
            if deed == "kill" {
                // Of one that was killed in the middle, this is what clears up.
                container.command(&["delete", "--force"]).ok("delete");
            }
            assert_eq!(container.status(), None, "{what}");
            container.assert_gone();
            assert!(contents(image.path()) == before, "{what}: the image is altered");
            cut += 1;
        }
    }
    println!("{deed}: {cut} of {} restores were cut off, on a way of {} calls", cut + whole, told.counted);
    assert!(cut > 5, "{cut} restores were cut off, {whole} complete");
    let again = path.clone();
    restore(&mut container, &again, "after all that");
}

#[test]
fn a_checkpoint_in_which_a_call_fails() {
    checkpoints("fail");
}

#[test]
fn a_checkpoint_that_is_killed() {
    checkpoints("kill");
}

#[test]
fn a_checkpoint_that_is_killed_with_its_worker() {
    checkpoints("kill-all");
}

#[test]
fn a_restore_in_which_a_call_fails() {
    restores("fail");
}

#[test]
fn a_restore_that_is_killed() {
    restores("kill");
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of ours is text")
}
