//! `linux.netDevices`: devices of the host's become the container's.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::harness::{Bundle, Kind, Outcome, differs};

const OLD: &[(Kind, &str)] = &[(Kind::Runc, "1.3 has no netDevices yet"), (Kind::Crun, "leaves them out")];

/// A pair of virtual devices that goes with the test, if a container's end hasn't taken it along.
struct Pair {
    /// The end for the container.
    name: String,
}

impl Pair {
    fn new(letter: char) -> Self {
        let name = format!("rtc{letter}{}", std::process::id());
        ip(&["link", "add", &name, "type", "veth", "peer", "name", &format!("{name}p")]).ok();
        Self { name }
    }

    fn device(&self, inside: &str) -> Value {
        json!({ &self.name: { "name": inside } })
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        let _ = ip(&["link", "del", &self.name]);
    }
}

fn ip(args: &[&str]) -> Outcome {
    Outcome::of(Command::new("ip").args(args))
}

fn with_network(script: &str, devices: Value) -> Bundle {
    Bundle::new(&["sh", "-c", script]).with(|config| {
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "network" }));
        config["linux"]["netDevices"] = devices;
    })
}

#[test]
fn a_device_moves_with_its_properties_under_another_name() {
    differs(OLD, || {
        let pair = Pair::new('a');
        ip(&["link", "set", &pair.name, "mtu", "1400", "address", "02:00:00:00:00:77", "up"]).ok();
        ip(&["addr", "add", "10.9.9.1/24", "dev", &pair.name]).ok();
        ip(&["addr", "add", "fd00:9::1/64", "dev", &pair.name]).ok();
        ip(&["addr", "add", "169.254.3.3/16", "scope", "link", "dev", &pair.name]).ok();
        let bundle = with_network("ip addr show eth9", pair.device("eth9"));
        let shown = bundle.call("run", &[]).ok();
        for part in ["UP", "mtu 1400", "02:00:00:00:00:77", "10.9.9.1/24 scope global eth9", "fd00:9::1/64"] {
            assert!(shown.contains(part), "{part:?} is not in: {shown}");
        }
        assert!(!shown.contains("169.254"), "{shown}");
        assert_ne!(ip(&["link", "show", &pair.name]).status, 0);
    });
}

#[test]
fn a_device_stays_in_a_namespace_that_is_not_the_containers_own() {
    differs(OLD, || {
        let name = format!("rtc-test-{}", std::process::id());
        ip(&["netns", "add", &name]).ok();
        let pair = Pair::new('b');
        let mut bundle = with_network("ip -o link show eth9", pair.device("eth9"));
        let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.last_mut().unwrap()["path"] = format!("/run/netns/{name}").into();
        let bundle = bundle.with(|_| {});
        let ran = bundle.call("run", &[]);
        let left = ip(&["-n", &name, "link", "show", "eth9"]);
        ip(&["netns", "del", &name]).ok();
        assert!(ran.ok().contains("eth9"));
        assert_eq!(left.status, 0, "{}", left.stderr);
    });
}

/// In a namespace of its own a virtual device would be gone with it, in another's it would stay there.
#[test]
fn a_create_that_fails_gives_them_back() {
    differs(OLD, || {
        let name = format!("rtc-test-back-{}", std::process::id());
        ip(&["netns", "add", &name]).ok();
        let pair = Pair::new('d');
        ip(&["link", "set", &pair.name, "up"]).ok();
        ip(&["addr", "add", "10.9.8.1/24", "dev", &pair.name]).ok();
        for path in [None, Some(format!("/run/netns/{name}"))] {
            let bundle = with_network("true", pair.device("eth9")).with(|config| {
                if let Some(path) = &path {
                    config["linux"]["namespaces"].as_array_mut().unwrap().last_mut().unwrap()["path"] =
                        path.as_str().into();
                }
                config["process"]["args"] = json!(["/no/such/program"]);
            });
            let failed = bundle.call("create", &[]);
            let back = ip(&["addr", "show", &pair.name]);
            assert_eq!(failed.status, 1, "{failed:?}");
            bundle.assert_gone();
            assert!(back.stdout.contains("10.9.8.1/24") && back.stdout.contains(",UP"), "{path:?}: {back:?}");
        }
        // One of two can't be moved: the other comes back.
        let mut devices = pair.device("eth9");
        devices["rtczz-none"] = json!({});
        with_network("true", devices).call("run", &[]).fails(1, "there is no such network device");
        let back = ip(&["link", "show", &pair.name]);
        ip(&["netns", "del", &name]).ok();
        back.ok();
    });
}

/// Not by an undo of its own, but by a process that outlives it.
#[test]
fn a_create_that_is_killed_gives_them_back() {
    differs(OLD, || {
        let pair = Pair::new('e');
        ip(&["link", "set", &pair.name, "up"]).ok();
        ip(&["addr", "add", "10.9.7.1/24", "dev", &pair.name]).ok();
        let kill = json!([{ "path": "/usr/bin/busybox", "args": ["sh", "-c", "kill -9 $PPID"] }]);
        let bundle =
            with_network("true", pair.device("eth9")).with(|config| config["hooks"] = json!({ "createRuntime": kill }));
        let status = bundle.command("create", &[]).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
        assert_eq!(status.signal(), Some(9));
        // The container's lock is free when they are back.
        bundle.call("delete", &["--force"]).ok();
        let back = ip(&["addr", "show", &pair.name]);
        assert!(back.stdout.contains("10.9.7.1/24") && back.stdout.contains(",UP"), "{back:?}");
        bundle.assert_gone();
    });
}

#[test]
fn what_can_not_be_moved_is_refused_and_nothing_is_left() {
    differs(OLD, || {
        let pair = Pair::new('c');
        let refused = |devices: Value, text: &str| {
            let bundle = with_network("true", devices);
            bundle.call("run", &[]).fails(1, text);
            bundle.assert_gone();
        };
        refused(json!({ "rtc-none": {} }), "linux.netDevices: \"rtc-none\": there is no such network device");
        refused(pair.device("lo"), "the container has a network device \"lo\" already");
        refused(pair.device("a/b"), "invalid network device name \"a/b\"");
        ip(&["link", "show", &pair.name]).ok();
        let bundle = Bundle::new(&["true"]).with(|config| config["linux"]["netDevices"] = pair.device("eth0"));
        bundle.call("run", &[]).fails(1, "unable to move network devices without a private NET namespace");
    });
}
