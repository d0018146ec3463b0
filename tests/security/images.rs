//! Images and volumes that are not what they seem: links where directories are expected, false kernel files, programs
//! that lead back to the runtime.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rtc_tests::scratch::mounts_below;
use serde_json::{Value, json};

use crate::harness::{Bundle, until};

/// A bundle with a folder of the host beside it that nothing may touch.
fn beside(args: &[&str]) -> (Bundle, PathBuf) {
    let bundle = Bundle::new(args);
    let outside = bundle.file("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("mark"), "").unwrap();
    (bundle, outside)
}

#[track_caller]
fn untouched(bundle: &Bundle, outside: &Path) {
    let names: Vec<_> = fs::read_dir(outside).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["mark"]);
    assert_eq!(fs::read(outside.join("mark")).unwrap(), b"");
    assert!(mounts_below(&bundle.file("")).is_empty());
}

fn mounts(config: &mut Value) -> &mut Vec<Value> {
    config["mounts"].as_array_mut().unwrap()
}

fn replace(path: &Path, target: &Path) {
    fs::remove_dir(path).unwrap();
    symlink(target, path).unwrap();
}

/// CVE-2019-19921, CVE-2023-27561: /proc and /sys that are links are refused, and so is the cgroup's.
#[test]
fn links_for_kernel_file_systems() {
    for name in ["proc", "sys"] {
        let (bundle, outside) = beside(&["true"]);
        let kind = if name == "sys" { "sysfs" } else { "proc" };
        let bundle = bundle.with(|config| {
            mounts(config).retain(|mount| mount["type"] != kind);
            mounts(config).push(json!({ "destination": format!("/{name}"), "type": kind, "source": kind }));
        });
        replace(&bundle.dir().join("rootfs").join(name), &outside);
        bundle.call("run", &[]).fails(1, "must be mounted on ordinary directory");
        bundle.assert_gone();
        untouched(&bundle, &outside);
    }
}

/// CVE-2019-16884, CVE-2025-52881, CVE-2025-62596: what rtc writes to procfs never goes through the container's /proc.
#[test]
fn a_false_proc() {
    let (bundle, outside) = beside(&["cat", "/real/sys/net/core/somaxconn"]);
    let sink = outside.join("mark");
    // The image has a /proc, in which nothing is mounted; its files lead to one of the host's.
    let proc = bundle.dir().join("rootfs/proc");
    let files =
        ["sys/net/core/somaxconn", "self/attr/exec", "self/attr/apparmor/exec", "self/oom_score_adj", "1/attr/exec"];
    for file in files {
        let file = proc.join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        symlink(&sink, &file).unwrap();
    }
    let bundle = bundle.with(|config| {
        mounts(config).retain(|mount| mount["destination"] != "/proc");
        mounts(config).push(json!({ "destination": "/real", "type": "proc", "source": "proc" }));
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "network" }));
        config["linux"]["sysctl"] = json!({ "net.core.somaxconn": "77" });
        config["process"]["apparmorProfile"] = json!("unconfined");
        if fs::read_to_string("/proc/filesystems").unwrap().contains("selinuxfs") {
            config["process"]["selinuxLabel"] = json!("a:b:c:d");
        }
        config["process"]["oomScoreAdj"] = json!(100);
    });
    assert_eq!(bundle.call("run", &[]).ok(), "77\n", "the real setting is set");
    untouched(&bundle, &outside);
}

/// The same by a volume: nothing that could pass for a part of procfs is mounted over it.
#[test]
fn volumes_over_proc() {
    for place in ["/proc", "/proc/sys", "/proc/self/attr", "/proc/1", "/x/../proc/sys", "/link", "/link/net"] {
        let (bundle, outside) = beside(&["true"]);
        symlink("/proc/sys", bundle.dir().join("rootfs/link")).unwrap();
        let bundle = bundle.with(|config| {
            mounts(config)
                .push(json!({ "destination": place, "type": "bind", "source": outside, "options": ["rbind"] }));
        });
        bundle.call("run", &[]).fails(1, "cannot be mounted because it is");
        bundle.assert_gone();
        untouched(&bundle, &outside);
    }
}

/// CVE-2026-41579, CVE-2026-47766: a /dev that is a link leads to a place in the root.
#[test]
fn a_dev_that_is_a_link() {
    let (bundle, outside) = beside(&["ls", "-l", "/dev/null"]);
    replace(&bundle.dir().join("rootfs/dev"), &outside);
    assert!(bundle.call("run", &[]).ok().starts_with("crw-rw-rw-"));
    untouched(&bundle, &outside);
}

/// CVE-2025-52565: the terminal covers the container's /dev/console, wherever its links lead.
#[test]
fn a_console_that_is_a_link() {
    let (bundle, outside) = beside(&["tty"]);
    let dev = bundle.file("dev");
    fs::create_dir_all(dev.join("pts")).unwrap();
    symlink(outside.join("mark"), dev.join("console")).unwrap();
    let bundle = bundle.with(|config| {
        config["process"]["terminal"] = json!(true);
        let source = json!({ "destination": "/dev", "type": "bind", "source": dev, "options": ["bind"] });
        let at = mounts(config).iter().position(|mount| mount["destination"] == "/dev").unwrap();
        mounts(config)[at] = source;
    });
    let socket = bundle.file("console");
    let listener = UnixListener::bind(&socket).unwrap();
    let outcome = bundle.call("create", &["--console-socket", socket.to_str().unwrap()]);
    assert_eq!(outcome.status, 0, "{}", outcome.stderr);
    let pid = bundle.state()["pid"].as_i64().unwrap();
    let table = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    let consoles = table.lines().filter(|line| line.contains(" - devpts ") && line.contains("/mark ")).count();
    assert_eq!(consoles, 1, "in the root, where the link leads: {table}");
    untouched(&bundle, &outside);
    drop(listener);
}

/// CVE-2019-18837, CVE-2025-24965: rtc writes no file into a root file system by its name.
#[test]
fn files_that_other_runtimes_write() {
    let (bundle, outside) = beside(&["true"]);
    for name in [".krun_config.json", ".crun_config.json", "etc/resolv.conf", "run.oci"] {
        symlink(outside.join("mark"), bundle.dir().join("rootfs").join(name)).unwrap();
    }
    let bundle = bundle.with(|config| config["annotations"] = json!({ "run.oci.handler": "krun" }));
    // Whether the annotation is known or not.
    bundle.call("run", &[]);
    untouched(&bundle, &outside);
}

/// A link at the place of a file that is bound, dangling or not, leads to a place in the root.
#[test]
fn links_at_places_of_mounts() {
    let (bundle, outside) = beside(&["cat", "/hosts"]);
    fs::write(bundle.file("hosts"), "bound\n").unwrap();
    symlink(outside.join("mark"), bundle.dir().join("rootfs/hosts")).unwrap();
    symlink(outside.join("new/deep"), bundle.dir().join("rootfs/deep")).unwrap();
    let source = bundle.file("hosts");
    let bundle = bundle.with(|config| {
        for place in ["/hosts", "/deep/file"] {
            mounts(config).push(json!({ "destination": place, "type": "bind", "source": source, "options": ["bind"] }));
        }
    });
    assert_eq!(bundle.call("run", &[]).ok(), "bound\n");
    untouched(&bundle, &outside);
}

/// CVE-2023-25809: in a user namespace, without a cgroup namespace, a container sees its own cgroup and nothing above it.
#[test]
fn the_cgroup_hierarchy() {
    let bundle = Bundle::new(&["sh", "-c", "grep ' /cg ' /proc/self/mountinfo; cat /cg/cgroup.procs; ls /cg/.."]);
    let bundle = bundle.with(|config| {
        let options = json!(["ro", "nosuid"]);
        mounts(config).push(json!({ "destination": "/cg", "type": "cgroup", "source": "cgroup", "options": options }));
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
        let maps = json!([{ "containerID": 0, "hostID": 0, "size": 1 }]);
        config["linux"]["uidMappings"] = maps.clone();
        config["linux"]["gidMappings"] = maps;
    });
    let output = bundle.call("run", &[]).ok();
    let fields: Vec<_> = output.lines().next().unwrap().split(' ').collect();
    assert!(fields[3].ends_with(&bundle.id), "its root is the container's cgroup: {output}");
    assert!(fields[5].starts_with("ro,"), "{output}");
    assert!(!fields[6].starts_with("shared:"), "no peer of the host's: {output}");
    let (procs, above): (Vec<&str>, Vec<&str>) = output.lines().skip(1).partition(|line| line.parse::<u32>().is_ok());
    assert!(procs.contains(&"1") && procs.iter().all(|pid| pid.parse::<u32>().unwrap() < 10), "{output}");
    assert!(above.contains(&"bin"), "above it is the container's root: {output}");
}

/// CVE-2015-5228 and its like: an image directory, unpacked from a stranger's archive, has links where rtc writes.
#[test]
fn links_beside_an_image() {
    let (bundle, outside) = beside(&["sleep", "1000"]);
    let bundle = bundle.running();
    let image = bundle.file("image");
    for name in ["dump.log", "stats-dump", "inventory.img", "descriptors.json"] {
        fs::create_dir_all(&image).unwrap();
        symlink(outside.join("mark"), image.join(name)).unwrap();
        // Without statistics it succeeds all the same.
        bundle.call("checkpoint", &["--leave-running", "--image-path", image.to_str().unwrap()]);
        untouched(&bundle, &outside);
        fs::remove_dir_all(&image).unwrap();
    }
    assert_eq!(bundle.status(), "running");
    bundle.call("checkpoint", &["--image-path", image.to_str().unwrap()]).ok();
    for name in ["restore.log", "stats-restore"] {
        let _ = fs::remove_file(image.join(name));
        symlink(outside.join("mark"), image.join(name)).unwrap();
    }
    // They are of no use to the container: whether it is restored is the same.
    bundle.call("restore", &["-d", "--image-path", image.to_str().unwrap()]);
    untouched(&bundle, &outside);
}

/// A container that was never let go of by its maker isn't started by a link in the place of its FIFO.
#[test]
fn the_state_is_not_the_containers() {
    use std::os::unix::fs::MetadataExt;
    let bundle = Bundle::new(&["sleep", "1000"]);
    bundle.call("create", &[]).ok();
    let state = fs::metadata(bundle.root().join(&bundle.id)).unwrap();
    assert_eq!((state.mode() & 0o777, state.uid()), (0o700, 0));
    for file in ["state.json", "config.json"] {
        let file = fs::metadata(bundle.root().join(&bundle.id).join(file)).unwrap();
        assert_eq!((file.mode() & 0o777, file.uid()), (0o600, 0));
    }
    bundle.call("start", &[]).ok();
    until(&bundle.file("stdout"), str::is_empty);
}
