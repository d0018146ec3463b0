//! `mounts add` and `mounts remove`.

use std::fs;

use serde_json::{Value, json};

use crate::harness::{Bundle, Kind, Outcome, differs};

fn mounts(bundle: &Bundle, action: &str, list: &Value) -> Outcome {
    let file = bundle.file("mounts.json");
    fs::write(&file, list.to_string()).unwrap();
    // ID stands before the file, unlike elsewhere.
    Outcome::of(bundle.runtime().args(["mounts", action, &bundle.id]).arg(file))
}

fn bind(source: &std::path::Path, destination: &str, options: &[&str]) -> Value {
    json!({ "destination": destination, "type": "bind", "source": source, "options": options })
}

#[test]
fn they_come_and_go_while_the_container_runs() {
    differs(&[(Kind::Runc, "has no such command")], || {
        let bundle = Bundle::new(&["sleep", "1000"]).running();
        let data = bundle.file("data");
        fs::create_dir(&data).unwrap();
        fs::write(data.join("x"), "hot\n").unwrap();
        let list = json!([
            bind(&data, "/new/dir", &["bind", "ro"]),
            { "destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["size=4k", "ro"] },
        ]);
        mounts(&bundle, "add", &list).ok();
        assert_eq!(bundle.exec(&[], &["cat", "/new/dir/x"]).ok(), "hot\n");
        for file in ["/new/dir/y", "/tmp/y"] {
            let touched = bundle.exec(&[], &["touch", file]);
            assert!(touched.stderr.contains("Read-only file system"), "{touched:?}");
        }
        // Nothing of it on the host.
        assert!(!fs::read_to_string("/proc/self/mountinfo").unwrap().contains(bundle.dir().to_str().unwrap()));
        mounts(&bundle, "remove", &list).ok();
        assert_eq!(bundle.exec(&[], &["ls", "/new/dir", "/tmp"]).ok(), "/new/dir:\n\n/tmp:\n");
    });
}

#[test]
fn in_a_user_namespace_too() {
    differs(&[(Kind::Runc, "has no such command")], || {
        let bundle = Bundle::new(&["sleep", "1000"]).with(|config| {
            let map = json!([{ "containerID": 0, "hostID": 0, "size": 65_536 }]);
            config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
            config["linux"]["uidMappings"] = map.clone();
            config["linux"]["gidMappings"] = map;
        });
        let bundle = bundle.running();
        // Where the container's root can't go.
        let data = bundle.file("closed/data");
        fs::create_dir_all(&data).unwrap();
        fs::write(data.join("x"), "hot\n").unwrap();
        mounts(&bundle, "add", &json!([bind(&data, "/tmp", &["bind"])])).ok();
        assert_eq!(bundle.exec(&[], &["cat", "/tmp/x"]).ok(), "hot\n");
    });
}

#[test]
fn a_list_that_fails_leaves_nothing() {
    differs(&[(Kind::Runc, "has no such command"), (Kind::Crun, "has its own words")], || {
        let bundle = Bundle::new(&["sleep", "1000"]).running();
        let good = json!({ "destination": "/tmp", "type": "tmpfs", "source": "tmpfs" });
        let before = bundle.exec(&[], &["cat", "/proc/mounts"]).ok();
        for (bad, text) in [
            (bind(&bundle.file("missing"), "/etc", &["bind"]), "missing, CLONE) = ENOENT"),
            (json!({ "destination": "/etc", "type": "nosuchfs" }), "fsopen(nosuchfs) = ENODEV"),
            (json!({ "destination": "/proc/self", "type": "tmpfs" }), "cannot be mounted because it is inside /proc"),
            (json!({ "destination": "/", "type": "tmpfs" }), "a mount can't cover the container's root"),
        ] {
            mounts(&bundle, "add", &json!([good, bad])).fails(1, text);
            assert_eq!(bundle.exec(&[], &["cat", "/proc/mounts"]).ok(), before, "{text}");
        }
        mounts(&bundle, "add", &json!({})).fails(1, "not a list of mounts");
        mounts(&bundle, "remove", &json!([good])).fails(1, "umount2(/tmp) = EINVAL");
        Outcome::of(bundle.runtime().args(["kill", &bundle.id, "KILL"])).ok();
        bundle.stopped();
        mounts(&bundle, "add", &json!([good])).fails(1, "container not running");
    });
}

/// A container may have links where a mount is to go, and change them at any time.
#[test]
fn links_of_the_container_lead_to_nothing_that_hides() {
    differs(&[(Kind::Runc, "has no such command"), (Kind::Crun, "has its own words")], || {
        let bundle = Bundle::new(&["sleep", "1000"]).with(|config| {
            config["linux"]["maskedPaths"] = json!(["/proc/keys", "/proc/kcore"]);
        });
        let root = bundle.dir().join("rootfs");
        std::os::unix::fs::symlink("/proc", root.join("trap")).unwrap();
        std::os::unix::fs::symlink("tmp", root.join("link")).unwrap();
        let bundle = bundle.running();
        let before = bundle.exec(&[], &["cat", "/proc/mounts"]).ok();
        let masked = json!([{ "destination": "/trap/keys" }]);
        mounts(&bundle, "remove", &masked).fails(1, "a link in the container leads from /trap to its procfs or sysfs");
        // What was mounted through a link is taken back from where that has led.
        let file = bundle.file("file");
        fs::write(&file, "").unwrap();
        let list = json!([
            { "destination": "/link", "type": "tmpfs", "source": "tmpfs" },
            bind(&file, "/link/file", &["bind", "ro"]),
            { "destination": "/etc", "type": "nosuchfs" },
        ]);
        mounts(&bundle, "add", &list).fails(1, "fsopen(nosuchfs) = ENODEV");
        assert_eq!(bundle.exec(&[], &["cat", "/proc/mounts"]).ok(), before);
    });
}

#[test]
fn options_may_be_long() {
    differs(&[(Kind::Runc, "has no such command"), (Kind::Crun, "takes them as mount(2) does")], || {
        let bundle = Bundle::new(&["sleep", "1000"]).running();
        let long = format!("mode={}755", "0".repeat(300));
        let list = |more: &str| json!([{ "destination": "/tmp", "type": "tmpfs", "options": [long, more] }]);
        mounts(&bundle, "add", &list("noexec")).ok();
        let table = bundle.exec(&[], &["grep", " /tmp ", "/proc/mounts"]).ok();
        assert!(table.contains("noexec") && table.contains("mode=755") && table.lines().count() == 1, "{table}");
        mounts(&bundle, "remove", &list("noexec")).ok();
        mounts(&bundle, "add", &list("bogus")).fails(1, "mount(tmpfs, ");
        assert_eq!(bundle.exec(&[], &["grep", "-c", " /tmp ", "/proc/mounts"]).stdout, "0\n");
    });
}
