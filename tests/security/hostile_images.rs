//! Checkpoints that a stranger has written: well-formed, with right checksums, and asking for what config.json doesn't
//! give. Each attack has been tried on a good image that is altered in one place.

use std::fs;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rtc_tests::scratch::mounts_below;
use serde_json::{Value, json};

use crate::harness::{Bundle, until};

/// Has a tmpfs, a file, a file of procfs, and says that it is there.
const OPEN: [&str; 3] = ["sh", "-c", "exec 3</etc/x 4</proc/uptime; echo there > /tmp/there; exec sleep 1000"];

fn saved(bundle: Bundle) -> Bundle {
    fs::write(bundle.dir().join("rootfs/etc/x"), "x").unwrap();
    let bundle = bundle.running();
    until(&bundle.dir().join("rootfs/tmp/there"), |text| text.ends_with('\n'));
    bundle.call("checkpoint", &[]).ok();
    bundle
}

/// Changes a part of the image and makes its checksum right.
fn alter(bundle: &Bundle, part: &str, change: impl FnOnce(&mut Value)) {
    let image = bundle.file("checkpoint");
    let read = |path: &Path| -> Value { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() };
    let path = image.join(format!("{part}-1.json"));
    let mut value = read(&path);
    change(&mut value);
    let bytes = value.to_string().into_bytes();
    let mut manifest = read(&image.join("manifest.json"));
    manifest["parts"][part]["size"] = json!(bytes.len());
    manifest["parts"][part]["crc32"] = json!(crc32(&bytes));
    fs::write(path, bytes).unwrap();
    fs::write(image.join("manifest.json"), manifest.to_string()).unwrap();
}

/// The checksum of IEEE 802.3.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32| (0..8).fold(crc, |crc, _| crc >> 1 ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 });
    !bytes.iter().fold(!0, |crc, byte| step(crc ^ u32::from(*byte)))
}

/// A restore fails with one line that holds `text`, and leaves nothing.
#[track_caller]
fn refused(bundle: &Bundle, text: &str) {
    bundle.call("restore", &["-d"]).fails(1, text);
    bundle.assert_gone();
    assert!(mounts_below(&bundle.file("")).is_empty());
}

/// The one process of an image.
fn process(tree: &mut Value) -> &mut Value {
    &mut tree["processes"][0]["live"]
}

/// A folder of the host's that goes with this.
struct Folder(PathBuf);

impl Folder {
    fn new(path: PathBuf) -> Self {
        fs::create_dir(&path).unwrap();
        fs::write(path.join("mark"), "").unwrap();
        Self(path)
    }

    #[track_caller]
    fn untouched(&self) {
        let names: Vec<_> = fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["mark"]);
        assert_eq!(fs::read(self.0.join("mark")).unwrap(), b"");
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The contents of a tmpfs are the image's; those of a volume are the host's, on whatever file system it is, and all
/// the more where config.json has it read-only.
#[test]
fn contents_for_a_volume() {
    let bundle = Bundle::new(&OPEN);
    let memory = PathBuf::from("/dev/shm").join(format!("rtc-volume-{}", bundle.id));
    let folders = [("/disk", Folder::new(bundle.file("volume"))), ("/memory", Folder::new(memory))];
    let bundle = folders.iter().fold(bundle, |bundle, (place, folder)| {
        let mount = json!({ "destination": place, "type": "bind", "source": folder.0, "options": ["bind", "ro"] });
        bundle.with(|config| config["mounts"].as_array_mut().unwrap().push(mount))
    });
    let bundle = saved(bundle);
    for (place, folder) in &folders {
        alter(&bundle, "container", |container| {
            let mounts = container["mounts"]["mounts"].as_array_mut().unwrap();
            let own = mounts.iter().find(|mount| mount["mountpoint"] == "/dev").unwrap()["contents"].clone();
            mounts.iter_mut().for_each(|mount| {
                let here = mount["mountpoint"] == *place;
                if here || mount["mountpoint"] == "/disk" || mount["mountpoint"] == "/memory" {
                    mount["contents"] = if here { own.clone() } else { Value::Null };
                }
            });
        });
        refused(&bundle, &format!("mount on {place}"));
        folder.untouched();
    }
}

/// A bind of /proc shows what masks and read-only mounts cover.
#[test]
fn mounts_that_the_container_could_not_have_made() {
    let bundle = saved(Bundle::new(&OPEN));
    for origin in [json!({ "bind": "/proc" }), json!({ "tmpfs": ["rw"] })] {
        alter(&bundle, "container", |container| {
            let mounts = container["mounts"]["mounts"].as_array_mut().unwrap();
            mounts.retain(|mount| mount["mountpoint"] != "/tmp");
            mounts.push(json!({ "mountpoint": "/tmp", "fs_type": "proc", "options": ["rw"], "origin": origin }));
        });
        refused(&bundle, "the image mounts /tmp, which takes CAP_SYS_ADMIN");
    }
}

/// The profile of config.json is loaded, whatever filters the image has.
#[test]
fn a_filter_that_allows_everything() {
    let script = "echo there > /tmp/there; while ! [ -e /tmp/go ]; do usleep 10000; done; \
                  mkdir /tmp/made; echo done > /tmp/end; exec sleep 1000";
    let profile = json!({ "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO" }] });
    let bundle = saved(Bundle::new(&["sh", "-c", script]).with(|config| config["linux"]["seccomp"] = profile));
    alter(&bundle, "tree", |tree| {
        // BPF_RET | BPF_K with SECCOMP_RET_ALLOW.
        tree["filters"] = json!([{ "flags": 0, "code": [0x7fff_0000_u64 << 32 | 6] }]);
        process(tree)["threads"][0]["seccomp"]["filters"] = json!([0]);
    });
    bundle.call("restore", &["-d"]).ok();
    fs::write(bundle.dir().join("rootfs/tmp/go"), "").unwrap();
    until(&bundle.dir().join("rootfs/tmp/end"), |text| text.ends_with('\n'));
    assert!(!bundle.dir().join("rootfs/tmp/made").exists());
}

/// Without a way to become another user, the image's processes are config.json's user.
#[test]
fn users_and_capabilities_under_no_new_privs() {
    let few = json!(["CAP_KILL"]);
    let bundle = Bundle::new(&OPEN).with(|config| {
        config["process"]["user"] = json!({ "uid": 7, "gid": 8 });
        config["process"]["noNewPrivileges"] = json!(true);
        config["process"]["capabilities"] = json!({ "bounding": few });
    });
    let tmp = bundle.dir().join("rootfs/tmp");
    fs::set_permissions(tmp, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let bundle = saved(bundle);
    for (key, value, text) in [
        ("uid", json!([7, 0, 0, 0]), "is of users"),
        ("gid", json!([8, 8, 8, 0]), "is of groups"),
        ("groups", json!([0]), "is of groups"),
        ("caps", json!([0, 1 << 5, 1 << 5, 1 << 5, 0]), "gives no program"),
    ] {
        let mut before = Value::Null;
        alter(&bundle, "tree", |tree| {
            let creds = &mut process(tree)["threads"][0]["creds"];
            before = std::mem::replace(&mut creds[key], value);
        });
        refused(&bundle, text);
        alter(&bundle, "tree", |tree| process(tree)["threads"][0]["creds"][key] = before);
    }
    bundle.call("restore", &["-d"]).ok();
}

/// Priorities and limits beyond config.json's are cut down.
#[test]
fn priorities_and_limits() {
    let limit = json!([{ "type": "RLIMIT_NOFILE", "soft": 100, "hard": 200 }]);
    let bundle = saved(Bundle::new(&OPEN).with(|config| config["process"]["rlimits"] = limit));
    alter(&bundle, "tree", |tree| {
        let live = process(tree);
        live["limits"][7] = json!([5000, 5000]);
        live["oom_score_adj"] = json!(-1000);
        live["threads"][0]["scheduling"] = json!({ "policy": 1, "priority": 99, "nice": -20, "io_priority": 1 << 13 });
    });
    bundle.call("restore", &["-d"]).ok();
    let proc = PathBuf::from(format!("/proc/{}", bundle.state()["pid"]));
    let limits = fs::read_to_string(proc.join("limits")).unwrap();
    let files: Vec<_> = limits.lines().find(|line| line.starts_with("Max open files")).unwrap().split("  ").collect();
    assert!(files.iter().filter(|word| word.trim() == "200").count() == 2, "{limits}");
    assert!(fs::read_to_string(proc.join("oom_score_adj")).unwrap().trim().parse::<i32>().unwrap() >= 0);
    let stat = fs::read_to_string(proc.join("stat")).unwrap();
    let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().collect();
    // Fields 19, 40 and 41, of which the third is the first here: nice, realtime priority, policy.
    assert_eq!((fields[16], fields[37], fields[38]), ("0", "0", "0"), "{stat}");
}

/// rtc is under no device rules: what an image names must not be opened by it.
#[test]
fn devices_that_config_json_does_not_allow() {
    let bundle = saved(Bundle::new(&OPEN));
    let node = bundle.dir().join("rootfs/etc/kmsg");
    assert!(Command::new("mknod").arg(&node).args(["c", "1", "11"]).status().unwrap().success());
    let altered = |change: fn(&mut Vec<Value>, usize), text: &str| {
        let mut whole = Value::Null;
        alter(&bundle, "files", |files| {
            whole = files.clone();
            let files = files["files"].as_array_mut().unwrap();
            let place = files.iter().position(|file| file["file"]["path"] == "/etc/x").unwrap();
            files[place]["flags"] = json!(0o2);
            change(files, place);
        });
        refused(&bundle, text);
        alter(&bundle, "files", |files| *files = whole);
    };
    let to_the_node = |files: &mut Vec<Value>, place: usize| files[place]["file"]["path"] = json!("/etc/kmsg");
    altered(to_the_node, "/etc/kmsg is a character device here, and was a regular file");
    // By a descriptor without access, of which another is made.
    altered(
        |files, place| {
            let node = json!({ "kind": "path_only", "path": "/etc/kmsg", "file_type": 0o020_000 });
            let id = files.len();
            let mut first = std::mem::replace(&mut files[0], json!({ "id": 0, "flags": 0o10_000_000, "file": node }));
            first["id"] = json!(id);
            files.push(first);
            files[place]["file"]["contents"] = json!({ "ghost_of": 0 });
        },
        "the device 1:11 is none that an image can ask for",
    );
    bundle.call("restore", &["-d"]).ok();
}

/// rtc may read all of procfs, and what a file shows depends on who has opened it.
#[test]
fn files_of_procfs() {
    let bundle = saved(Bundle::new(&OPEN));
    for (kind, path, text) in [
        ("proc_file", "/proc/kmsg", "/proc/kmsg is none that an image can ask for"),
        ("proc_file", "/proc/kallsyms", "/proc/kallsyms is none that an image can ask for"),
        ("reg_file", "/proc/kmsg", "/proc/kmsg is a file of procfs here"),
        ("reg_file", "/proc/uptime", "/proc/uptime is a file of procfs here"),
    ] {
        let mut whole = Value::Null;
        alter(&bundle, "files", |files| {
            whole = files.clone();
            let file = files["files"].as_array_mut().unwrap().iter_mut().find(|file| file["file"]["kind"] == kind);
            file.unwrap()["file"]["path"] = json!(path);
        });
        refused(&bundle, text);
        alter(&bundle, "files", |files| *files = whole);
    }
    bundle.call("restore", &["-d"]).ok();
}

/// Objects and limits of an IPC namespace that isn't the container's alone.
#[test]
fn the_hosts_ipc_namespace() {
    let bundle = saved(Bundle::new(&OPEN));
    let limit = json!([{ "name": "kernel/msgmax", "values": [1] }]);
    alter(&bundle, "container", |container| container["ipc"] = json!({ "limits": limit }));
    let bundle = bundle.with(|config| {
        config["linux"]["namespaces"].as_array_mut().unwrap().retain(|namespace| namespace["type"] != "ipc");
    });
    let before = fs::read_to_string("/proc/sys/kernel/msgmax").unwrap();
    refused(&bundle, "no IPC namespace of its own");
    assert_eq!(fs::read_to_string("/proc/sys/kernel/msgmax").unwrap(), before);
    // A segment that is somebody else's.
    alter(&bundle, "container", |container| container["ipc"] = json!({}));
    alter(&bundle, "tree", |tree| {
        let vmas = tree["mms"][0]["vmas"].as_array_mut().unwrap();
        let mut first = vmas[0].clone();
        first["start"] = json!(0x10000);
        first["end"] = json!(0x11000);
        first["shared"] = json!(true);
        first["backing"] = json!({ "sysv": { "id": 0, "offset": 0 } });
        vmas.insert(0, first);
    });
    refused(&bundle, "shared memory segment 0 is not in the image");
}

/// A socket that could only have been made or set with a capability that the container never has.
#[test]
fn sockets_with_privilege() {
    let bundle = saved(Bundle::new(&OPEN));
    let as_socket = |kind: i32, protocol: i32, options: Value| {
        alter(&bundle, "files", |files| {
            let file = files["files"].as_array_mut().unwrap().iter_mut().find(|file| file["file"]["path"] == "/etc/x");
            let Some(file) = file else { return };
            file["flags"] = json!(0o2);
            file["file"] = json!({
                "kind": "socket", "inode": 1, "sort": { "family": 2, "kind": kind, "protocol": protocol },
                "owner": { "uid": 0, "gid": 0 }, "options": { "values": options }, "detail": { "datagram": {} },
            });
        });
    };
    let mut good = Value::Null;
    alter(&bundle, "files", |files| good = files.clone());
    for (kind, protocol, options, text) in [
        (2, 17, json!({ "ip_transparent": 1 }), "speaks for other machines, which takes CAP_NET_RAW"),
        (2, 17, json!({ "mark": 7 }), "has a mark for packet filters, which takes CAP_NET_ADMIN"),
        (3, 1, json!({}), "is a raw socket, which takes CAP_NET_RAW"),
    ] {
        alter(&bundle, "files", |files| *files = good.clone());
        as_socket(kind, protocol, options);
        refused(&bundle, text);
    }
    // What anybody may have.
    alter(&bundle, "files", |files| *files = good.clone());
    as_socket(2, 17, json!({ "priority": 6 }));
    bundle.call("restore", &["-d"]).ok();
}

/// The configuration that decides is the one that the container is made of.
#[test]
fn another_configuration_than_config_json() {
    let bundle = saved(Bundle::new(&OPEN));
    let mut other = bundle.config.clone();
    other["process"]["capabilities"]["bounding"] = json!([]);
    fs::write(bundle.dir().join("other.json"), other.to_string()).unwrap();
    bundle.call("restore", &["-d", "--config", "other.json"]).fails(1, "capabilities that config.json doesn't allow");
    bundle.assert_gone();
}

/// A checkpoint goes to a directory in which somebody else has put things before.
#[test]
fn what_waits_in_an_image_directory() {
    let bundle = Bundle::new(&OPEN);
    let image = bundle.file("checkpoint");
    let elsewhere = bundle.file("elsewhere");
    fs::create_dir(&image).unwrap();
    fs::write(&elsewhere, "mine").unwrap();
    // Held open by another, who would read what is written to it.
    let names = ["pages-1.img", "tree-1.json", "data-1.img", "manifest.json.1"];
    let held = names.map(|name| {
        let mut options = fs::File::options();
        options.read(true).write(true).create_new(true).mode(0o666).open(image.join(name)).unwrap()
    });
    let bundle = saved(bundle);
    for mut file in held {
        let mut text = Vec::new();
        file.read_to_end(&mut text).unwrap();
        assert!(text.is_empty());
    }
    bundle.call("restore", &["-d"]).ok();
    for name in ["stats-dump", "descriptors.json", "dump.log"] {
        let _ = fs::remove_file(image.join(name));
        fs::hard_link(&elsewhere, image.join(name)).unwrap();
    }
    let outcome = bundle.call("checkpoint", &["--leave-running"]);
    outcome.fails(1, "dump.log: it has another name elsewhere");
    assert_eq!(fs::read(&elsewhere).unwrap(), b"mine");
}
