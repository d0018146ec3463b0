use std::fs;
use std::os::fd::AsFd;

use rtc_sys::clone::{Clone3, Cloned, clone3, exit, flags};
use serde_json::json;

use crate::bundle::{Bundle, exec_output};
use crate::harness::Test;

pub(crate) const TESTS: &[Test] = &[
    ("namespaces::the_runtime_stays_in_its_own", own),
    ("namespaces::all_kinds_can_be_joined_by_path", joined),
    ("namespaces::a_path_of_another_kind_is_an_error", wrong_kind),
    ("namespaces::a_user_namespace_with_mappings", user),
    ("namespaces::a_user_namespace_by_path", user_by_path),
    ("namespaces::a_network_namespace_of_the_host_can_be_joined_with_a_user_namespace", foreign_net),
    ("namespaces::sources_that_the_containers_root_can_not_reach", unreachable_sources),
    ("namespaces::flags_of_the_hosts_mounts_are_locked", locked_flags),
    ("namespaces::time_offsets", time),
    ("namespaces::the_cgroup_of_a_user_namespace_is_its_roots", delegated),
    ("namespaces::none_is_left_out_silently", contradictions),
];

const KINDS: [(&str, &str); 7] = [
    ("mount", "mnt"),
    ("pid", "pid"),
    ("network", "net"),
    ("ipc", "ipc"),
    ("uts", "uts"),
    ("cgroup", "cgroup"),
    ("time", "time"),
];

fn links(pid: &str) -> Vec<String> {
    let link = |file: &str| fs::read_link(format!("/proc/{pid}/ns/{file}")).unwrap().to_string_lossy().into_owned();
    KINDS.iter().map(|(_, file)| link(file)).collect()
}

/// A process that stays in new namespaces until it is killed with the test.
fn stayer(kinds: u64) -> i32 {
    match clone3(&Clone3 { flags: kinds, ..Clone3::default() }).unwrap() {
        Cloned::Child => loop {
            if rustix::process::getppid().is_none() && kinds & flags::NEWPID == 0 {
                exit(0);
            }
            rustix::event::pause();
        },
        Cloned::Parent { pid, .. } => pid,
    }
}

fn with_user(bundle: &mut Bundle) {
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
    bundle.set("/linux/namespaces/-", json!({"type": "user"}));
    bundle.set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map);
    chown_all(&bundle.rootfs());
}

fn chown_all(path: &std::path::Path) {
    std::os::unix::fs::lchown(path, Some(100_000), Some(100_000)).unwrap();
    if path.is_dir() && !path.is_symlink() {
        fs::read_dir(path).unwrap().for_each(|entry| chown_all(&entry.unwrap().path()));
    }
}

fn own() {
    let before = links("self");
    let root = fs::read_link("/proc/self/root").unwrap();
    let mut bundle = Bundle::new("own", "sleep 1000");
    bundle.set("/linux/namespaces/-", json!({"type": "time"}));
    bundle.set("/linux/timeOffsets", json!({"monotonic": {"secs": 7}}));
    let container = bundle.start();
    let inside = links(&container.init_pid().unwrap().to_string());
    assert!(before.iter().zip(&inside).all(|(ours, theirs)| ours != theirs), "{before:?} {inside:?}");
    assert_eq!(exec_output(&container, "true").0, 0);
    assert_eq!((links("self"), fs::read_link("/proc/self/root").unwrap()), (before, root));
    let children = fs::read_link("/proc/self/ns/pid_for_children").unwrap();
    assert_eq!(children, fs::read_link("/proc/self/ns/pid").unwrap());
    container.delete(true).unwrap();
}

fn joined() {
    let all = flags::NEWPID
        | flags::NEWNET
        | flags::NEWIPC
        | flags::NEWUTS
        | flags::NEWCGROUP
        | flags::NEWTIME
        | flags::NEWNS;
    let target = stayer(all);
    let before = links("self");
    let mut bundle = Bundle::new("joined", "sleep 1000");
    let list: Vec<_> = KINDS
        .iter()
        // Its mounts would be changed under the one who lives in it; joined in the second part.
        .map(|(kind, file)| match *kind {
            "mount" => json!({"type": kind}),
            _ => json!({"type": kind, "path": format!("/proc/{target}/ns/{file}")}),
        })
        .collect();
    bundle.set("/linux/namespaces", list.into());
    bundle.config.as_object_mut().unwrap().remove("hostname");
    let container = bundle.start();
    let want = links(&target.to_string());
    let pid = container.init_pid().unwrap();
    assert_eq!(links(&pid.to_string())[1..], want[1..]);
    assert_eq!(exec_output(&container, "test $$ != 1 && echo in"), (0, "in\n".into()));
    assert_eq!(links("self"), before);
    container.delete(true).unwrap();
    bundle.set("/linux/namespaces/0/path", format!("/proc/{target}/ns/mnt").into());
    let container = bundle.start();
    assert_eq!(links(&container.init_pid().unwrap().to_string()), want);
    assert_eq!(links("self"), before);
    container.delete(true).unwrap();
}

fn wrong_kind() {
    let mut bundle = Bundle::new("wrongkind", "true");
    let list = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
    list.retain(|namespace| namespace["type"] != "network");
    list.push(json!({"type": "network", "path": "/proc/self/ns/uts"}));
    assert_eq!(bundle.refused(), "/proc/self/ns/uts is not a net namespace");
}

fn user() {
    let script = "id -u; cat /proc/self/uid_map; touch /made; stat -c %u /made /bin/busybox
        test -c /dev/null && echo x > /dev/null && hostname && echo done";
    let mut bundle = Bundle::new("user", script);
    with_user(&mut bundle);
    let output = bundle.good();
    let words: Vec<&str> = output.split_whitespace().collect();
    assert_eq!(words, ["0", "0", "100000", "65536", "0", "0", "box", "done"], "{output}");
    use std::os::unix::fs::MetadataExt;
    assert_eq!(fs::metadata(bundle.rootfs().join("made")).unwrap().uid(), 100_000);
    bundle.set("/process/args/2", "sleep 1000".into());
    let container = bundle.start();
    assert_eq!(exec_output(&container, "id -u; id -g; cat /proc/self/uid_map | wc -l"), (0, "0\n0\n1\n".into()));
    container.delete(true).unwrap();
    bundle.nothing_left();
}

fn user_by_path() {
    let target = stayer(flags::NEWUSER | flags::NEWNET);
    for file in ["uid_map", "gid_map"] {
        fs::write(format!("/proc/{target}/{file}"), "0 100000 65536\n").unwrap();
    }
    let mut bundle = Bundle::new("userpath", "id -u; cat /proc/self/uid_map; ifconfig lo | wc -l");
    chown_all(&bundle.rootfs());
    let list = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
    list.retain(|namespace| namespace["type"] != "network");
    list.push(json!({"type": "user", "path": format!("/proc/{target}/ns/user")}));
    list.push(json!({"type": "network", "path": format!("/proc/{target}/ns/net")}));
    let output = bundle.good();
    assert_eq!(output.split_whitespace().take(4).collect::<Vec<_>>(), ["0", "0", "100000", "65536"], "{output}");
    bundle.nothing_left();
}

fn foreign_net() {
    let target = stayer(flags::NEWNET);
    let mut bundle = Bundle::new("foreignnet", "readlink /proc/self/ns/net");
    with_user(&mut bundle);
    let list = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
    list.retain(|namespace| namespace["type"] != "network");
    list.push(json!({"type": "network", "path": format!("/proc/{target}/ns/net")}));
    // sysfs of a network namespace that the container doesn't own can't be mounted (fs/sysfs/mount.c).
    bundle.config["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/sys");
    let want = fs::read_link(format!("/proc/{target}/ns/net")).unwrap();
    assert_eq!(bundle.good().trim(), want.to_str().unwrap());
}

fn unreachable_sources() {
    let mut bundle = Bundle::new("unreachable", "cat /a/file /b/file");
    with_user(&mut bundle);
    for name in ["a", "b"] {
        let private = bundle.dir.join(format!("private-{name}"));
        fs::create_dir_all(private.join("source")).unwrap();
        fs::write(private.join("source/file"), format!("{name}\n")).unwrap();
        fs::set_permissions(&private, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        bundle.mount(&format!("/{name}"), "bind", &format!("private-{name}/source"), &["rbind"]);
    }
    // Nor can it reach its own root file system from outside.
    fs::set_permissions(&bundle.dir, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    assert_eq!(bundle.good(), "a\nb\n");
    // Hooks would have the root attached there.
    bundle.set("/hooks", json!({ "createRuntime": [{ "path": "/bin/true" }] }));
    assert_eq!(bundle.good(), "a\nb\n");
}

fn locked_flags() {
    use rustix::mount::{MountFlags, mount};
    let mut bundle = Bundle::new("locked", "grep ' /m ' /proc/self/mountinfo | cut -d' ' -f6");
    let source = bundle.dir.join("source");
    fs::create_dir_all(&source).unwrap();
    mount("tmpfs", &source, "tmpfs", MountFlags::RDONLY | MountFlags::NOEXEC | MountFlags::NODEV, None).unwrap();
    bundle.mount("/m", "bind", "source", &["bind"]);
    with_user(&mut bundle);
    assert_eq!(bundle.good(), "ro,nodev,noexec,relatime\n");
    for (option, flag) in [("rw", "ro"), ("exec", "noexec"), ("dev", "nodev")] {
        let mounts = bundle.config["mounts"].as_array_mut().unwrap();
        mounts.last_mut().unwrap()["options"] = json!(["bind", option]);
        assert!(bundle.refused().contains(&format!("the source is mounted with {flag}")), "{option}");
    }
    // Without a user namespace they are the administrator's to clear.
    let mut bundle = Bundle::new("unlocked", "grep ' /m ' /proc/self/mountinfo | cut -d' ' -f6");
    bundle.mount("/m", "bind", source.to_str().unwrap(), &["bind", "rw", "exec", "dev"]);
    assert_eq!(bundle.good(), "rw,relatime\n");
}

fn time() {
    let mut bundle = Bundle::new("time", "sleep 1000");
    bundle.set("/linux/namespaces/-", json!({"type": "time"}));
    bundle.set(
        "/linux/timeOffsets",
        json!({"monotonic": {"secs": 7_881, "nanosecs": 2_718_281}, "boottime": {"secs": 1337}}),
    );
    let container = bundle.start();
    let offsets = |pid: &str| {
        let text = fs::read_to_string(format!("/proc/{pid}/timens_offsets")).unwrap();
        text.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    let want = ["monotonic", "7881", "2718281", "boottime", "1337", "0"];
    assert_eq!(offsets(&container.init_pid().unwrap().to_string()), want);
    let (_, inside) = exec_output(&container, "cat /proc/self/timens_offsets");
    assert_eq!(inside.split_whitespace().collect::<Vec<_>>(), want);
    assert_eq!(offsets("self"), ["monotonic", "0", "0", "boottime", "0", "0"]);
    container.delete(true).unwrap();
}

fn contradictions() {
    let mut bundle = Bundle::new("contra", "true");
    bundle.set("/linux/timeOffsets", json!({"monotonic": {"secs": 1}}));
    assert!(bundle.refused().contains("no time namespace"));
    bundle.config["linux"].as_object_mut().unwrap().remove("timeOffsets");
    let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|ns| ns["type"] != "mount");
    namespaces.push(json!({"type": "user"}));
    assert!(bundle.refused().contains("user namespace without a mount namespace"));
    let status = match clone3(&Clone3::default()).unwrap() {
        Cloned::Child => exit(0),
        Cloned::Parent { pidfd, .. } => {
            let options = rustix::process::WaitIdOptions::EXITED;
            rustix::process::waitid(rustix::process::WaitId::PidFd(pidfd.as_fd()), options).unwrap().unwrap()
        }
    };
    assert_eq!(status.exit_status(), Some(0), "the runtime can still make processes of its own");
}

fn delegated() {
    for (name, option, owner) in [("delegrw", "rw", "0\n0\n"), ("delegro", "ro", "65534\n65534\n")] {
        let mut bundle = Bundle::new(name, "stat -c %u /sys/fs/cgroup /sys/fs/cgroup/cgroup.procs; ulimit -Hn");
        with_user(&mut bundle);
        bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", &[option]);
        bundle.set("/process/rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": 64, "hard": 128}]));
        assert_eq!(bundle.good(), format!("{owner}128\n"));
    }
}
