//! Cgroups on the real file system. Needs root and a cgroup2 mount; controllers are used where they are.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests, too, say with unwrap what they take for granted"
)]

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxResources};
use rtc_runtime::Kind;
use rtc_runtime::cgroup::{Cgroup, CgroupManager, Event, Hierarchy, Placement};
use serde_json::json;

/// More than any of these operations takes on a busy machine; reached only by a failing test.
const LONG: Duration = Duration::from_secs(30);

/// A cgroup of one test, removed with all in it when the test ends, however it ends.
struct Scratch {
    hierarchy: Hierarchy,
    placement: Placement,
}

impl Scratch {
    fn new(test: &str) -> Self {
        let path = format!("/cgroup-eng-{test}-{}/box", std::process::id());
        let placement = Placement::resolve(CgroupManager::Cgroupfs, Some(path.as_ref()), "x").unwrap().unwrap();
        Self { hierarchy: Hierarchy::find().unwrap(), placement }
    }

    fn create(&self) -> Cgroup {
        self.hierarchy.create(&self.placement).unwrap()
    }

    fn directory(&self) -> PathBuf {
        self.hierarchy.mountpoint().join(self.placement.path.strip_prefix("/").unwrap())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let Ok(Some(parent)) = self.hierarchy.open_path(self.placement.path.parent().unwrap()) else { return };
        let _ = std::fs::write(self.directory().join("cgroup.freeze"), "0");
        let _ = parent.kill();
        if let Err(e) = parent.remove(LONG) {
            eprintln!("left behind: {e}");
        }
    }
}

/// A process that waits for its standard input to end, as it does when the test dies, then runs a script.
struct Waiter {
    child: Child,
    stdin: Option<ChildStdin>,
}

impl Waiter {
    fn new(script: &str) -> Self {
        let script = format!("read line; {script}");
        let mut child = Command::new("sh")
            .args(["-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take();
        Self { child, stdin }
    }

    fn inside(cgroup: &Cgroup, script: &str) -> Self {
        let waiter = Self::new(script);
        cgroup.add(waiter.pid()).unwrap();
        waiter
    }

    fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Lets the script run; what it prints.
    fn output(mut self) -> String {
        self.stdin.take().unwrap().write_all(b"go\n").unwrap();
        let mut text = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        self.child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        self.child.wait().unwrap();
        text
    }

    /// Waits for its end; the signal that ended it.
    fn signal(mut self) -> Option<i32> {
        use std::os::unix::process::ExitStatusExt;
        let status = self.child.wait().unwrap();
        status.signal()
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_cgroup_is_made_with_its_parents_found_again_and_removed() {
    let scratch = Scratch::new("life");
    assert!(scratch.hierarchy.open(&scratch.placement).unwrap().is_none());
    let cgroup = scratch.create();
    assert!(scratch.directory().is_dir());
    assert!(cgroup.procs().unwrap().is_empty());
    assert!(!cgroup.is_populated().unwrap());
    // A second create takes the empty directory over: it is what a crash leaves.
    scratch.create();
    let waiter = Waiter::inside(&cgroup, "");
    assert_eq!(scratch.hierarchy.open_of(waiter.pid()).unwrap().path(), scratch.placement.path);
    assert_eq!(cgroup.procs().unwrap(), [waiter.pid()]);
    drop(waiter);
    cgroup.remove(LONG).unwrap();
    assert!(!scratch.directory().exists());
    assert!(scratch.hierarchy.open(&scratch.placement).unwrap().is_none());
}

#[test]
fn every_available_controller_is_handed_down() {
    let scratch = Scratch::new("controllers");
    let cgroup = scratch.create();
    let here = std::fs::read_to_string(scratch.directory().join("cgroup.controllers")).unwrap();
    for controller in scratch.hierarchy.controllers().unwrap() {
        assert!(here.split_whitespace().any(|c| c == controller), "{controller} is not in {here:?}");
    }
    drop(cgroup);
}

#[test]
fn a_cgroup_in_use_is_refused() {
    let scratch = Scratch::new("used");
    let cgroup = scratch.create();
    let sub = scratch.directory().join("below");
    std::fs::create_dir(&sub).unwrap();
    let waiter = Waiter::inside(&cgroup.sub("below".as_ref()).unwrap(), "");
    let error = scratch.hierarchy.create(&scratch.placement).unwrap_err();
    assert_eq!(*error.kind(), Kind::WrongState);
    assert!(error.to_string().starts_with("container's cgroup is not empty: 1 process"), "{error}");
    drop(waiter);
    cgroup.wait_empty(LONG).unwrap();
    scratch.hierarchy.create(&scratch.placement).unwrap();
}

#[test]
fn a_frozen_cgroup_is_refused() {
    let scratch = Scratch::new("prefrozen");
    let cgroup = scratch.create();
    cgroup.freeze(LONG).unwrap();
    let error = scratch.hierarchy.create(&scratch.placement).unwrap_err();
    assert!(error.to_string().starts_with("container's cgroup unexpectedly frozen"), "{error}");
    cgroup.thaw(LONG).unwrap();
    // An ancestor stops what is started here just as well.
    let parent = scratch.hierarchy.open_path(scratch.placement.path.parent().unwrap()).unwrap().unwrap();
    parent.freeze(LONG).unwrap();
    let error = scratch.hierarchy.create(&scratch.placement).unwrap_err();
    assert!(error.to_string().starts_with("container's cgroup unexpectedly frozen"), "{error}");
    parent.thaw(LONG).unwrap();
    scratch.hierarchy.create(&scratch.placement).unwrap();
}

#[test]
fn freezing_stops_and_thawing_starts_again() {
    let scratch = Scratch::new("freeze");
    let cgroup = scratch.create();
    let waiter = Waiter::inside(&cgroup, "echo ran");
    assert!(!cgroup.is_frozen().unwrap());
    cgroup.freeze(LONG).unwrap();
    assert!(cgroup.is_frozen().unwrap());
    // Again: no error, no change.
    cgroup.freeze(LONG).unwrap();
    assert!(cgroup.is_frozen().unwrap());
    cgroup.thaw(LONG).unwrap();
    assert!(!cgroup.is_frozen().unwrap());
    assert_eq!(waiter.output(), "ran\n");
}

#[test]
fn a_freeze_that_takes_too_long_is_taken_back() {
    let scratch = Scratch::new("timeout");
    let cgroup = scratch.create();
    let waiter = Waiter::inside(&cgroup, "echo ran");
    // No time at all: the kernel needs a moment to stop the process, or has done so already.
    let result = cgroup.freeze(Duration::ZERO);
    let switch = std::fs::read_to_string(scratch.directory().join("cgroup.freeze")).unwrap();
    match result {
        Ok(()) => assert_eq!(switch, "1\n"),
        Err(error) => {
            assert_eq!(switch, "0\n");
            assert!(error.to_string().contains("not frozen after"), "{error}");
        }
    }
    cgroup.thaw(LONG).unwrap();
    assert_eq!(waiter.output(), "ran\n");
}

#[test]
fn killing_reaches_frozen_processes_and_those_below() {
    let scratch = Scratch::new("kill");
    let cgroup = scratch.create();
    std::fs::create_dir_all(scratch.directory().join("a/b")).unwrap();
    let here = Waiter::inside(&cgroup, "");
    let below = Waiter::inside(&cgroup.sub("a/b".as_ref()).unwrap(), "");
    let mut pids = [here.pid(), below.pid()];
    pids.sort_unstable();
    assert_eq!(cgroup.procs().unwrap(), pids);
    cgroup.freeze(LONG).unwrap();
    cgroup.kill().unwrap();
    assert_eq!(here.signal(), Some(9));
    assert_eq!(below.signal(), Some(9));
    cgroup.remove(LONG).unwrap();
    assert!(!scratch.directory().exists());
}

#[test]
fn removing_waits_for_the_last_process_and_names_those_that_stay() {
    let scratch = Scratch::new("busy");
    let cgroup = scratch.create();
    let waiter = Waiter::inside(&cgroup, "");
    let again = scratch.hierarchy.open(&scratch.placement).unwrap().unwrap();
    let error = again.remove(Duration::ZERO).unwrap_err();
    assert!(error.to_string().ends_with(&format!("pid {}", waiter.pid())), "{error}");
    let pid = waiter.pid();
    let remover = std::thread::spawn(move || cgroup.remove(LONG));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    remover.join().unwrap().unwrap();
    assert!(!scratch.directory().exists());
    drop(waiter);
}

#[test]
fn removing_what_is_gone_leaves_a_newer_one_of_the_same_name() {
    let scratch = Scratch::new("gone");
    let old = scratch.create();
    scratch.create().remove(LONG).unwrap();
    let _new = scratch.create();
    assert!(!old.is_populated().unwrap());
    assert!(old.procs().unwrap().is_empty());
    old.kill().unwrap();
    old.wait_empty(LONG).unwrap();
    old.remove(LONG).unwrap();
    assert!(scratch.directory().exists());
}

#[test]
fn sub_cgroups_stay_below() {
    let scratch = Scratch::new("sub");
    let cgroup = scratch.create();
    for bad in ["..", "a/../..", "../box"] {
        let error = cgroup.sub(bad.as_ref()).unwrap_err();
        assert!(error.to_string().contains("bad sub cgroup path"), "{error}");
    }
    assert!(cgroup.sub("none".as_ref()).unwrap_err().to_string().ends_with(": no such file or directory"));
    assert_eq!(cgroup.sub("/".as_ref()).unwrap().path(), scratch.placement.path);
}

#[test]
fn a_watch_sees_the_end() {
    let scratch = Scratch::new("watch");
    let cgroup = scratch.create();
    let waiter = Waiter::inside(&cgroup, "");
    let mut watch = cgroup.watch().unwrap();
    assert_eq!(watch.next(Duration::from_millis(1)).unwrap(), Event::Timeout);
    drop(waiter);
    assert_eq!(watch.next(LONG).unwrap(), Event::Empty);
    cgroup.remove(LONG).unwrap();
    assert_eq!(watch.next(LONG).unwrap(), Event::Empty);
}

fn devices(json: serde_json::Value) -> Vec<LinuxDeviceCgroup> {
    serde_json::from_value(json).unwrap()
}

#[test]
fn device_rules_hold_and_are_replaced() {
    let scratch = Scratch::new("devices");
    let cgroup = scratch.create();
    let script = "for d in null zero kmsg; do head -c0 /dev/$d 2>&1 && echo $d readable; done; \
                  (echo >/dev/null) && echo null writable";
    let before = Waiter::inside(&cgroup, script).output();
    assert!(before.contains("kmsg readable"), "{before}");
    cgroup.set_devices(&devices(json!([{"allow": false, "access": "rwm"}]))).unwrap();
    let after = Waiter::inside(&cgroup, script).output();
    assert!(after.contains("null readable") && after.contains("zero readable"), "{after}");
    assert!(after.contains("null writable"), "{after}");
    assert!(after.contains("kmsg") && after.contains("Operation not permitted"), "{after}");
    let rules = json!([{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 1, "minor": 11, "access": "r"}]);
    cgroup.set_devices(&devices(rules)).unwrap();
    let script = "head -c0 /dev/kmsg && echo readable; (: >>/dev/kmsg) 2>&1 && echo writable";
    let output = Waiter::inside(&cgroup, script).output();
    assert!(output.starts_with("readable\n") && output.contains("Operation not permitted"), "{output}");
    // Replaced, not added: a program of the first call that was left would forbid everything.
    let count = rtc_sys::bpf::cgroup_device_programs(cgroup.dirfd(), "rtc_devices").unwrap().len();
    assert_eq!(count, 1);
}

fn resources(json: serde_json::Value) -> LinuxResources {
    serde_json::from_value(json).unwrap()
}

#[test]
fn a_limit_without_its_controller_names_both_and_touches_nothing() {
    let scratch = Scratch::new("missing");
    let cgroup = scratch.create();
    let error = cgroup.apply(&resources(json!({"unified": {"nosuch.max": "1"}}))).unwrap_err();
    assert!(error.to_string().contains("unified.nosuch.max: controller nosuch is not available"), "{error}");
    assert!(error.hint().is_some());
    let available = scratch.hierarchy.controllers().unwrap();
    for (controller, json) in [
        ("memory", json!({"memory": {"limit": 100 << 20}})),
        ("pids", json!({"pids": {"limit": 100}})),
        ("cpu", json!({"cpu": {"shares": 100}})),
        ("cpuset", json!({"cpu": {"mems": "0"}})),
    ] {
        let result = cgroup.apply(&resources(json));
        if available.iter().any(|c| c == controller) {
            result.unwrap();
        } else {
            let error = result.unwrap_err().to_string();
            assert!(error.contains(&format!("controller {controller} is not available")), "{error}");
        }
    }
    // No limit needs no controller.
    cgroup.apply(&resources(json!({"memory": {"limit": -1}, "pids": {"limit": -1}, "cpu": {"quota": -1}}))).unwrap();
}

#[test]
fn limits_are_written() {
    let scratch = Scratch::new("limits");
    let cgroup = scratch.create();
    let read = |file: &str| std::fs::read_to_string(scratch.directory().join(file)).unwrap_or_default();
    let available = scratch.hierarchy.controllers().unwrap();
    // controller, resources, file, what it then says
    let table = [
        ("hugetlb", json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}]}), "hugetlb.2MB.max", "4194304\n"),
        ("hugetlb", json!({"unified": {"hugetlb.2MB.max": "2097152"}}), "hugetlb.2MB.max", "2097152\n"),
        ("hugetlb", json!({"hugepageLimits": [{"pageSize": "2MB", "limit": -1}]}), "hugetlb.2MB.max", "max\n"),
        ("memory", json!({"memory": {"limit": 104857600, "swap": 209715200}}), "memory.max", "104857600\n"),
        ("memory", json!({"memory": {"reservation": 1048576}}), "memory.low", "1048576\n"),
        ("memory", json!({"memory": {"limit": -1}}), "memory.max", "max\n"),
        ("pids", json!({"pids": {"limit": 0}}), "pids.max", "1\n"),
        ("cpu", json!({"cpu": {"quota": 5000, "period": 20000, "burst": 1000}}), "cpu.max", "5000 20000\n"),
        ("cpu", json!({"cpu": {"period": 40000}}), "cpu.max", "5000 40000\n"),
        ("cpu", json!({"cpu": {"burst": 2000}}), "cpu.max.burst", "2000\n"),
        ("cpu", json!({"cpu": {"quota": -1}}), "cpu.max", "max 40000\n"),
        ("cpu", json!({"cpu": {"shares": 2}}), "cpu.weight", "1\n"),
        ("cpu", json!({"cpu": {"idle": 1}}), "cpu.idle", "1\n"),
        ("cpuset", json!({"cpu": {"cpus": "0", "mems": "0"}}), "cpuset.cpus", "0\n"),
        ("io", json!({"blockIO": {"throttleReadBpsDevice": []}}), "io.max", ""),
        ("io", json!({"blockIO": {"weight": 1000}}), "io.weight", "default 10000\n"),
    ];
    let mut done = 0;
    for (controller, json, file, expected) in table {
        if available.iter().any(|c| c == controller) {
            cgroup.apply(&resources(json)).unwrap();
            assert_eq!(read(file), expected, "{file}");
            done += 1;
        }
    }
    assert!(done > 0 || available.is_empty(), "none of {available:?} was tried");
}

#[test]
fn statistics_have_the_form_that_readers_expect() {
    let scratch = Scratch::new("stats");
    let cgroup = scratch.create();
    let output = Waiter::inside(&cgroup, "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo done").output();
    assert_eq!(output, "done\n");
    let stats = serde_json::to_value(cgroup.stats().unwrap()).unwrap();
    let number = |pointer: &str| stats.pointer(pointer).and_then(serde_json::Value::as_f64);
    assert!(number("/cpu/usage/total").unwrap() > 0.0, "{stats}");
    assert!(number("/cpu/usage/user").is_some() && number("/cpu/usage/kernel").is_some(), "{stats}");
    if scratch.directory().join("cpu.pressure").exists() {
        assert!(number("/cpu/psi/some/avg10").is_some() && number("/cpu/psi/full/total").is_some(), "{stats}");
    }
    let available = scratch.hierarchy.controllers().unwrap();
    let has = |controller: &str| available.iter().any(|c| c == controller);
    assert_eq!(number("/memory/usage/limit").is_some(), has("memory"), "{stats}");
    assert_eq!(stats["hugetlb"].as_object().unwrap().is_empty(), !has("hugetlb"), "{stats}");
}

/// What a test of the memory controller does on a host where version 1 has it.
fn without_memory(scratch: &Scratch, cgroup: &Cgroup) -> bool {
    let has = scratch.hierarchy.controllers().unwrap().iter().any(|controller| controller == "memory");
    if !has {
        let error = cgroup.apply(&resources(json!({"memory": {"limit": 1, "checkBeforeUpdate": true}}))).unwrap_err();
        assert!(error.to_string().starts_with("memory.limit: controller memory is not available"), "{error}");
    }
    !has
}

#[test]
fn a_limit_below_what_is_used_is_refused_if_asked() {
    let scratch = Scratch::new("check");
    let cgroup = scratch.create();
    if without_memory(&scratch, &cgroup) {
        return;
    }
    // Memory that isn't given back: a page or more for the shell, and the tables for it.
    let _waiter = Waiter::inside(&cgroup, "");
    let started = Waiter::inside(&cgroup, "cat /dev/zero | head -c 3000000 > /dev/null; echo done").output();
    assert_eq!(started, "done\n");
    let set = |json| cgroup.apply(&resources(json));
    let error = set(json!({"memory": {"limit": 4096, "checkBeforeUpdate": true}})).unwrap_err();
    assert!(error.to_string().starts_with("rejecting memory limit 4096"), "{error}");
    assert_eq!(std::fs::read_to_string(scratch.directory().join("memory.max")).unwrap(), "max\n");
}

#[test]
fn a_watch_sees_the_kernel_kill_for_want_of_memory() {
    let scratch = Scratch::new("oom");
    let cgroup = scratch.create();
    if without_memory(&scratch, &cgroup) {
        return;
    }
    cgroup.apply(&resources(json!({"memory": {"limit": 16 << 20, "swap": 16 << 20}}))).unwrap();
    let keeper = Waiter::inside(&cgroup, "");
    let mut watch = cgroup.watch().unwrap();
    // tail keeps all of a line without end.
    let hungry = Waiter::inside(&cgroup, "head -c 64000000 /dev/zero | tail; echo over");
    hungry.output();
    assert_eq!(watch.next(LONG).unwrap(), Event::OutOfMemory);
    drop(keeper);
    assert_eq!(watch.next(LONG).unwrap(), Event::Empty);
}

#[test]
fn a_value_that_the_kernel_refuses_names_the_property_and_stays_out() {
    let scratch = Scratch::new("refused");
    let cgroup = scratch.create();
    let available = scratch.hierarchy.controllers().unwrap();
    let table = [
        ("cpu", json!({"unified": {"cpu.max": "much"}}), "unified.cpu.max: ", "cpu.max"),
        ("cpuset", json!({"cpu": {"cpus": "9-1"}}), "cpu.cpus: cgroup ", "cpuset.cpus"),
        ("hugetlb", json!({"unified": {"hugetlb.2MB.max": "much"}}), "unified.hugetlb.2MB.max: ", "hugetlb.2MB.max"),
    ];
    for (controller, json, start, file) in table {
        let read = || std::fs::read_to_string(scratch.directory().join(file)).ok();
        let before = read();
        let error = cgroup.apply(&resources(json)).unwrap_err().to_string();
        assert_eq!(read(), before, "{file}");
        if available.iter().any(|c| c == controller) {
            assert!(error.starts_with(start) && error.ends_with("= EINVAL"), "{error}");
        } else {
            assert!(error.contains(&format!("controller {controller} is not available")), "{error}");
        }
    }
}
