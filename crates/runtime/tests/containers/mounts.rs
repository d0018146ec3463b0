use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use rustix::mount::{MountFlags, mount};
use serde_json::json;

use crate::bundle::Bundle;
use crate::harness::Test;

pub(crate) const TESTS: &[Test] = &[
    ("mounts::a_tmpfs_takes_the_mode_of_what_it_covers", tmpfs_modes),
    ("mounts::a_read_only_tmpfs_gets_its_content_first", readonly_tmpfs),
    ("mounts::a_read_only_bind_may_hold_others", readonly_bind),
    ("mounts::tmpcopyup_keeps_content_and_modes", copy_up),
    ("mounts::a_bind_keeps_flags_that_no_option_clears", bind_flags),
    ("mounts::recursive_attributes_reach_submounts", recursive),
    ("mounts::a_source_may_be_in_the_containers_own_root", own_root),
    ("mounts::relative_paths_and_files", relative),
    ("mounts::mqueue_and_shm", mqueue),
    ("mounts::propagation_types", propagation),
    ("mounts::propagation_where_the_host_shares_its_mounts", shared_host),
    ("mounts::no_peers_of_the_hosts_mounts", no_peers_of_the_host),
    ("mounts::the_cgroup_is_the_containers_own", cgroup),
    ("mounts::devices_of_the_configuration", devices),
    ("mounts::ids_are_mapped", idmapped),
    ("mounts::ids_of_what_the_container_has_mounted_are_mapped", idmapped_inside),
    ("mounts::the_bundle_itself_may_be_the_root", bundle_as_root),
    ("mounts::a_missing_source_is_named", missing_source),
    ("mounts::options_may_be_longer_than_fsconfig_takes", long_options),
];

fn mkdir(bundle: &Bundle, path: &str, mode: u32) {
    let path = bundle.rootfs().join(path);
    fs::create_dir_all(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
}

fn tmpfs_modes() {
    let mut bundle = Bundle::new("modes", "stat -c %a /old /set /made; grep -E ' /(old|set|made) ' /proc/mounts");
    mkdir(&bundle, "old", 0o710);
    mkdir(&bundle, "set", 0o755);
    bundle.mount("/old", "tmpfs", "tmpfs", &["size=1m"]).mount("/set", "tmpfs", "tmpfs", &["mode=1500"]);
    bundle.mount("/made", "tmpfs", "tmpfs", &["noexec"]);
    let output = bundle.good();
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines[..3], ["710", "1500", "1777"]);
    assert!(lines[3].contains("mode=710") && lines[4].contains("mode=1500"), "{output}");
    assert!(!lines[5].contains("mode=") && lines[5].contains("noexec"), "{output}");
    assert_eq!(fs::metadata(bundle.rootfs().join("set")).unwrap().mode() & 0o7777, 0o755);
}

fn readonly_tmpfs() {
    let mut bundle = Bundle::new("rotmpfs", "touch /dev/x /t/x 2>&1; cat /t/file; test -c /dev/null && echo null");
    for mount in bundle.config["mounts"].as_array_mut().unwrap() {
        if mount["destination"] == "/dev" {
            mount["options"] = json!(["nosuid", "mode=755", "ro"]);
        }
    }
    fs::write(bundle.dir.join("file"), "content\n").unwrap();
    bundle.mount("/t", "tmpfs", "tmpfs", &["ro"]).mount("/t/file", "bind", "file", &["bind"]);
    assert_eq!(
        bundle.good(),
        "touch: /dev/x: Read-only file system\ntouch: /t/x: Read-only file system\ncontent\nnull\n"
    );
}

/// podman's secrets: a file bound into a directory that is bound read-only, and has no such file.
fn readonly_bind() {
    let mut bundle = Bundle::new("robind", "touch /s/x /s/file 2>&1; cat /s/file");
    fs::create_dir(bundle.dir.join("s")).unwrap();
    fs::write(bundle.dir.join("file"), "content\n").unwrap();
    bundle.mount("/s", "bind", "s", &["bind", "ro"]).mount("/s/file", "bind", "file", &["bind", "ro"]);
    let refused = "Read-only file system\n";
    assert_eq!(bundle.good(), format!("touch: /s/x: {refused}touch: /s/file: {refused}content\n"));
}

fn copy_up() {
    let mut bundle = Bundle::new(
        "copyup",
        "cat /data/sub/file; stat -c '%a %u' /data /data/sub /data/sub/file; readlink /data/link; touch /data/new",
    );
    mkdir(&bundle, "data", 0o751);
    mkdir(&bundle, "data/sub", 0o1770);
    fs::write(bundle.rootfs().join("data/sub/file"), "kept\n").unwrap();
    fs::set_permissions(bundle.rootfs().join("data/sub/file"), fs::Permissions::from_mode(0o4640)).unwrap();
    std::os::unix::fs::chown(bundle.rootfs().join("data/sub/file"), Some(0), Some(7)).unwrap();
    std::os::unix::fs::symlink("sub/file", bundle.rootfs().join("data/link")).unwrap();
    bundle.mount("/data", "tmpfs", "tmpfs", &["tmpcopyup"]);
    let output = bundle.good();
    assert!(output.starts_with("kept\n751 0\n1770 0\n"), "{output}");
    assert!(output.ends_with("640 0\nsub/file\n"), "{output}");
    assert!(!bundle.rootfs().join("data/new").exists());
}

fn bind_flags() {
    let mut bundle = Bundle::new("bindflags", "grep ' /m' /proc/mounts | cut -d' ' -f2,4 | sort");
    let source = bundle.dir.join("source");
    fs::create_dir(&source).unwrap();
    mount("tmpfs", &source, "tmpfs", MountFlags::NOSUID | MountFlags::NOEXEC | MountFlags::NOATIME, None).unwrap();
    let cases: [(&str, &[&str]); 7] = [
        ("/m1", &["bind"]),
        ("/m2", &["bind", "ro"]),
        ("/m3", &["bind", "exec", "suid"]),
        ("/m4", &["bind", "atime"]),
        ("/m5", &["bind", "relatime"]),
        ("/m6", &["bind", "strictatime", "nodev"]),
        ("/m7", &["bind", "nodiratime", "relatime"]),
    ];
    for (destination, options) in cases {
        bundle.mount(destination, "bind", "source", options);
    }
    let kept = "rw,nosuid,noexec,noatime";
    assert_eq!(
        without_inode64(&bundle.good()),
        format!(
            "/m1 {kept}\n/m2 ro,nosuid,noexec,noatime\n/m3 rw,noatime\n/m4 {kept}\n/m5 rw,nosuid,noexec,relatime\n\
             /m6 rw,nosuid,nodev,noexec\n/m7 rw,nosuid,noexec,nodiratime,relatime\n"
        )
    );
}

fn recursive() {
    let script = "for d in /plain /r1 /r2; do touch $d/x $d/sub/x 2>&1; done; grep -c '/r2/sub.*noexec' /proc/mounts";
    let mut bundle = Bundle::new("recursive", script);
    let source = bundle.dir.join("source");
    fs::create_dir(&source).unwrap();
    mount("tmpfs", &source, "tmpfs", MountFlags::empty(), None).unwrap();
    fs::create_dir(source.join("sub")).unwrap();
    mount("tmpfs", source.join("sub"), "tmpfs", MountFlags::empty(), None).unwrap();
    bundle.mount("/plain", "bind", "source", &["rbind", "ro"]);
    bundle.mount("/r1", "bind", "source", &["rbind", "rro"]);
    bundle.mount("/r2", "bind", "source", &["rbind", "rro", "rnoexec"]);
    let line = |path: &str| format!("touch: {path}: Read-only file system\n");
    let want = [line("/plain/x"), line("/r1/x"), line("/r1/sub/x"), line("/r2/x"), line("/r2/sub/x"), "1\n".into()];
    assert_eq!(bundle.good(), want.concat());
}

fn own_root() {
    let mut bundle = Bundle::new("ownroot", "cat /b/file /c/file");
    mkdir(&bundle, "a", 0o755);
    fs::write(bundle.dir.join("file"), "seen\n").unwrap();
    let inside = bundle.rootfs().join("a");
    bundle.mount("/a", "tmpfs", "tmpfs", &[]).mount("/a/file", "bind", "file", &["bind"]);
    bundle.mount("/b", "bind", inside.to_str().unwrap(), &["rbind"]);
    bundle.mount("/c", "bind", "rootfs/a", &["rbind"]);
    assert_eq!(bundle.good(), "seen\nseen\n");
}

fn relative() {
    let mut bundle = Bundle::new("relative", "cat /some/place/file; ls -d /else");
    fs::write(bundle.dir.join("file"), "here\n").unwrap();
    bundle.mount("some/place/file", "bind", "./file", &["rbind", "rprivate"]).mount("else", "tmpfs", "tmpfs", &[]);
    assert_eq!(bundle.good(), "here\n/else\n");
}

/// Debian's kernels show this default of theirs in the options of every tmpfs.
fn without_inode64(options: &str) -> String {
    options.replace(",inode64", "")
}

fn mqueue() {
    let mut bundle = Bundle::new("mqueue", "grep -E ' /dev/(mqueue|shm) ' /proc/mounts | cut -d' ' -f1-4");
    bundle.mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]);
    bundle.mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=64k"]);
    assert_eq!(
        without_inode64(&bundle.good()),
        "mqueue /dev/mqueue mqueue rw,nosuid,nodev,noexec,relatime\n\
         shm /dev/shm tmpfs rw,nosuid,nodev,noexec,relatime,size=64k\n"
    );
}

fn propagation() {
    for (index, (kind, want)) in
        [("shared", "shared:"), ("private", "-"), ("slave", "-"), ("unbindable", "unbindable")].iter().enumerate()
    {
        let mut bundle =
            Bundle::new(&format!("prop{index}"), "grep ' / / ' /proc/self/mountinfo; cat /proc/self/mountinfo");
        bundle.set("/linux/rootfsPropagation", (*kind).into());
        bundle.mount("/m", "tmpfs", "tmpfs", &["shared"]);
        let output = bundle.good();
        let field = |point: &str| {
            let find = |line: &&str| line.split(' ').nth(4) == Some(point);
            output.lines().find(find).unwrap().split(' ').nth(6).unwrap().to_owned()
        };
        assert!(field("/").starts_with(want), "{kind}: {output}");
        assert!(field("/m").starts_with("shared:"), "{kind}: {output}");
    }
}

fn shared_host() {
    use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_bind, mount_change, unmount};
    let kinds = [("", "-"), ("private", "-"), ("slave", "master:"), ("shared", "shared:"), ("rshared", "shared:")];
    for (index, (kind, want)) in kinds.into_iter().enumerate() {
        let mut bundle = Bundle::new(&format!("host{index}"), "grep ' / rw' /proc/self/mountinfo | cut -d' ' -f7,8");
        bundle.set("/linux/rootfsPropagation", kind.into());
        let rootfs = bundle.rootfs();
        mount_bind(&rootfs, &rootfs).unwrap();
        mount_change(&rootfs, MountPropagationFlags::SHARED).unwrap();
        let output = bundle.good();
        unmount(&rootfs, UnmountFlags::DETACH).unwrap();
        // A group of its own, with no master: the host and the container don't see each other's mounts.
        let (first, second) = output.trim_end().split_once(' ').unwrap();
        assert!(first.starts_with(want), "{kind}: {output}");
        assert!(first == "-" || second == "-", "{kind}: {output}");
    }
}

fn cgroup() {
    let mut bundle = Bundle::new(
        "cgroup",
        "cat /sys/fs/cgroup/cgroup.procs; grep 0:: /proc/self/cgroup; touch /sys/fs/cgroup/x 2>&1",
    );
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["ro", "nosuid"]);
    let (_, output) = bundle.output();
    assert!(output.starts_with("1\n"), "{output}");
    assert!(output.contains("\n0::/\n") && output.contains("Read-only file system"), "{output}");
    // Without a cgroup namespace it is the hierarchy in which /proc/self/cgroup has its path.
    let script = "cat /sys/fs/cgroup$(grep 0:: /proc/self/cgroup | cut -d: -f3)/cgroup.procs; \
                  grep ' /sys/fs/cgroup ' /proc/self/mountinfo";
    let mut shared = Bundle::new("cgroupshared", script);
    shared.config["linux"]["namespaces"].as_array_mut().unwrap().retain(|ns| ns["type"] != "cgroup");
    shared.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["ro"]);
    let output = shared.good();
    assert!(output.starts_with("1\n") && output.contains(" / /sys/fs/cgroup ro,"), "{output}");
    assert!(!output.contains("shared:"), "{output}");
}

/// What the container mounts below a bind is not mounted on the host, nor the other way round, whoever cloned it.
fn no_peers_of_the_host() {
    use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_bind, mount_change, unmount};
    let maps = json!([{ "containerID": 0, "hostID": 100_000, "size": 1000 }]);
    for (index, user_namespace) in [false, true].into_iter().enumerate() {
        let script = "grep -E ' /(plain|ids) ' /proc/self/mountinfo | sort -k5 | cut -d' ' -f7-8";
        let mut bundle = Bundle::new(&format!("peers{index}"), script);
        let source = bundle.dir.join("source");
        fs::create_dir(&source).unwrap();
        mkdir(&bundle, "plain", 0o755);
        mkdir(&bundle, "ids", 0o755);
        mount_bind(&source, &source).unwrap();
        mount_change(&source, MountPropagationFlags::SHARED).unwrap();
        bundle.mount("/plain", "bind", "source", &["rbind"]).mount("/ids", "bind", "source", &["rbind", "idmap"]);
        let last = bundle.config["mounts"].as_array().unwrap().len() - 1;
        bundle.config["mounts"][last]["uidMappings"] = maps.clone();
        bundle.config["mounts"][last]["gidMappings"] = maps.clone();
        if user_namespace {
            bundle.set("/linux/uidMappings", maps.clone()).set("/linux/gidMappings", maps.clone());
            bundle.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
        }
        let (_, output) = bundle.output();
        unmount(&source, UnmountFlags::DETACH).unwrap();
        let lines: Vec<&str> = output.lines().collect();
        assert_eq!(lines.len(), 2, "{output}");
        assert!(lines.iter().all(|line| line.starts_with("master:") && line.ends_with(" -")), "{output}");
    }
}

fn devices() {
    let mut bundle = Bundle::new(
        "devices",
        "stat -c '%F %a %u %g %t:%T %n' /dev/mine /dev/tty /deep/er/fifo; head -c0 /dev/mine && echo ok; ls -l /dev/ptmx",
    );
    bundle.set(
        "/linux/devices",
        json!([
            {"path": "/dev/mine", "type": "c", "major": 1, "minor": 5, "fileMode": 0o640, "uid": 3, "gid": 4},
            {"path": "/dev/tty", "type": "c", "major": 5, "minor": 0, "fileMode": 0o600},
            {"path": "/dev/ptmx", "type": "c", "major": 5, "minor": 2},
            {"path": "/deep/er/fifo", "type": "p", "fileMode": 0o622},
        ]),
    );
    let output = bundle.good();
    assert!(
        output.starts_with(
            "character special file 640 3 4 1:5 /dev/mine\ncharacter special file 600 0 0 5:0 /dev/tty\nfifo 622 0 0"
        ),
        "{output}"
    );
    assert!(output.contains("\nok\n") && output.ends_with("/dev/ptmx -> pts/ptmx\n"), "{output}");
}

fn idmapped() {
    let mut bundle = Bundle::new("idmapped", "stat -c '%u %g' /m /m/file; touch /m/new");
    let source = bundle.dir.join("source");
    fs::create_dir(&source).unwrap();
    mount("tmpfs", &source, "tmpfs", MountFlags::empty(), None).unwrap();
    fs::write(source.join("file"), "").unwrap();
    std::os::unix::fs::chown(source.join("file"), Some(5), Some(6)).unwrap();
    bundle.mount("/m", "bind", "source", &["bind", "idmap"]);
    let map = json!([{"containerID": 0, "hostID": 1000, "size": 100}]);
    let last = bundle.config["mounts"].as_array().unwrap().len() - 1;
    bundle.set(&format!("/mounts/{last}/uidMappings"), map.clone()).set(&format!("/mounts/{last}/gidMappings"), map);
    // On disk 0 is shown as 1000; and what root (0) makes there has no id on disk.
    let (status, output) = bundle.output();
    assert!(output.starts_with("1000 1000\n1005 1006\n"), "{output}");
    assert_ne!(status, 0);
}

fn idmapped_inside() {
    let mut bundle = Bundle::new("idmapinner", "stat -c %u /m /m/file");
    fs::write(bundle.dir.join("file"), "").unwrap();
    mkdir(&bundle, "a", 0o755);
    bundle.mount("/a", "tmpfs", "tmpfs", &[]).mount("/a/file", "bind", "file", &["bind"]);
    bundle.mount("/m", "bind", "rootfs/a", &["rbind", "ridmap"]);
    let map = json!([{"containerID": 0, "hostID": 1000, "size": 100}]);
    let last = bundle.config["mounts"].as_array().unwrap().len() - 1;
    bundle.set(&format!("/mounts/{last}/uidMappings"), map.clone()).set(&format!("/mounts/{last}/gidMappings"), map);
    assert_eq!(bundle.good(), "1000\n1000\n");
}

fn missing_source() {
    let mut bundle = Bundle::new("missing", "true");
    bundle.mount("/m", "bind", "/no/such/source", &["bind"]);
    assert_eq!(bundle.refused(), "mount /m: open_tree(/no/such/source, CLONE) = ENOENT");
    let last = bundle.config["mounts"].as_array().unwrap().len() - 1;
    bundle.set(&format!("/mounts/{last}/destination"), "/".into());
    bundle.set(&format!("/mounts/{last}/source"), "/tmp".into());
    assert!(bundle.refused().contains("can't cover the container's root"));
}

fn bundle_as_root() {
    let mut bundle = Bundle::new("asroot", "ls -d /config.json /bin; cat /m/file");
    let rootfs = bundle.rootfs();
    for entry in fs::read_dir(&rootfs).unwrap() {
        let entry = entry.unwrap();
        fs::rename(entry.path(), bundle.dir.join(entry.file_name())).unwrap();
    }
    fs::create_dir(bundle.dir.join("data")).unwrap();
    fs::write(bundle.dir.join("data/file"), "bound\n").unwrap();
    bundle.set("/root/path", ".".into());
    bundle.mount("/m", "bind", "data", &["rbind"]);
    assert_eq!(bundle.good(), "/bin\n/config.json\nbound\n");
}

/// podman's volumes with `:O` in a user's folder: overlay's layers are more than 255 bytes.
fn long_options() {
    let mut bundle =
        Bundle::new("longoptions", "cat /over/a /over/b; touch /over/c 2>&1; grep -c ' /over ' /proc/mounts; pwd");
    let layer = |name: &str| {
        let dir = bundle.dir.join(format!("{name}{}", "x".repeat(150)));
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join(name), format!("{name}\n")).unwrap();
        dir.display().to_string()
    };
    let option = format!("lowerdir={}:{}", layer("a"), layer("b"));
    bundle.mount("/over", "overlay", "overlay", &[&option, "ro", "nodev", "noatime"]);
    assert_eq!(bundle.good(), "a\nb\ntouch: /over/c: Read-only file system\n1\n/\n");
}
