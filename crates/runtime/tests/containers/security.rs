use std::fs;
use std::os::fd::AsFd;

use rtc_sys::Errno;
use rtc_sys::mount::{MountAttr, attr, mount_setattr};
use rustix::fs::{Mode, OFlags};
use rustix::mount::OpenTreeFlags;
use serde_json::json;

use crate::bundle::{Bundle, exec_output};
use crate::harness::Test;

/// The argument that makes the test program stay as it is.
pub(crate) const STAY: &str = "--stay";

pub(crate) const TESTS: &[Test] = &[
    ("security::the_runtimes_executable_can_not_be_written_to", sealed),
    ("security::masked_and_readonly_paths", masks),
    ("security::a_fake_null_device_masks_nothing", fake_null),
    ("security::proc_and_sys_must_be_ordinary_directories", symlinked_proc),
    ("security::links_in_the_image_do_not_lead_out", links),
    ("security::an_image_can_not_redirect_devices", device_links),
    ("security::a_seccomp_filter_holds_for_init_and_exec", seccomp),
    ("security::a_seccomp_agent_gets_the_listener", seccomp_notify),
    ("security::a_waiting_init_shows_nothing_of_the_host", waiting_init),
    ("security::a_nested_namespace_mounts_no_fresh_proc", nested_proc),
    ("security::a_read_only_root", readonly_root),
    ("security::no_mount_of_the_host_is_seen", host_mounts),
];

/// CVE-2019-5736: the container executes the runtime, and then has its file by /proc/PID/exe.
fn sealed() {
    assert!(rtc_runtime::seal::is_sealed().unwrap());
    let mut bundle = Bundle::new("sealed", "");
    bundle.set("/process/args", json!(["/proc/self/exe", STAY]));
    let more = json!(["CAP_SYS_PTRACE", "CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"]);
    bundle.set("/process/capabilities", json!({"bounding": more, "effective": more, "permitted": more}));
    let container = bundle.start();
    let (status, output) = exec_output(&container, "echo x > /proc/1/exe");
    assert_ne!(status, 0);
    assert!(output.contains("Read-only file system"), "{output}");
    // Whoever holds a descriptor of it can't make it writable.
    let exe = format!("/proc/{}/exe", container.init_pid().unwrap());
    let file = rustix::fs::open(exe, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
    let clear = MountAttr { clear: attr::RDONLY, ..MountAttr::default() };
    assert_eq!(mount_setattr(file.as_fd(), false, &clear).unwrap_err().errno(), Errno::EINVAL);
    let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::AT_EMPTY_PATH;
    assert_eq!(rustix::mount::open_tree(&file, "", clone).unwrap_err(), rustix::io::Errno::INVAL);
    container.delete(true).unwrap();
}

fn masks() {
    let mut bundle = Bundle::new(
        "masks",
        "cat /proc/timer_list | wc -c; ls /sys/firmware /sys/kernel/debug | grep -v ^/ | wc -w
         stat -c %d /sys/firmware; stat -c %d /sys/kernel/debug
         touch /sys/firmware/x 2>&1; echo 1 > /proc/sys/kernel/msgmax; touch /etc/x 2>&1; umount /sys/firmware 2>&1
         grep -c /sys/firmware /proc/self/mountinfo; cat /file",
    );
    fs::write(bundle.rootfs().join("file"), "secret").unwrap();
    bundle.set(
        "/linux/maskedPaths",
        json!(["/proc/timer_list", "/sys/firmware", "/sys/kernel/debug", "/sys/firmware", "/no/such", "/file"]),
    );
    bundle.set("/linux/readonlyPaths", json!(["/proc/sys", "/etc", "/no/such"]));
    let (_, output) = bundle.output();
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines[..2], ["0", "0"], "{output}");
    assert_eq!(lines[2], lines[3], "one tmpfs masks all directories");
    assert!(lines[4].contains("Read-only file system"), "{output}");
    assert!(output.contains("can't create /proc/sys/kernel/msgmax: Read-only file system"), "{output}");
    assert!(output.contains("/etc/x: Read-only file system"), "{output}");
    assert!(output.contains("Operation not permitted"), "{output}");
    assert_eq!(lines.last(), Some(&"1"), "{output}");
}

fn fake_null() {
    let mut bundle = Bundle::new("fakenull", "cat /file");
    fs::write(bundle.rootfs().join("file"), "secret").unwrap();
    // A /dev of its own, with a /dev/null that is a directory's.
    fs::create_dir(bundle.dir.join("dev")).unwrap();
    fs::write(bundle.dir.join("dev/null"), "not null").unwrap();
    bundle.config["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] == "/proc");
    bundle.mount("/dev", "bind", "dev", &["bind"]);
    bundle.set("/linux/maskedPaths", json!(["/file"]));
    assert_eq!(bundle.refused(), "mask /file: the container's /dev/null is not the null device");
}

fn symlinked_proc() {
    let bundle = Bundle::new("symproc", "true");
    fs::create_dir(bundle.rootfs().join("elsewhere")).unwrap();
    for name in ["proc", "sys"] {
        fs::remove_dir(bundle.rootfs().join(name)).unwrap();
        std::os::unix::fs::symlink("elsewhere", bundle.rootfs().join(name)).unwrap();
        let error = bundle.refused();
        assert!(error.ends_with("must be mounted on ordinary directory"), "{error}");
        fs::remove_file(bundle.rootfs().join(name)).unwrap();
        fs::create_dir(bundle.rootfs().join(name)).unwrap();
    }
}

fn links() {
    let mut bundle = Bundle::new("links", "cat /a/b/c/file /real; ls -d /runtime-test-outside/x");
    fs::write(bundle.dir.join("file"), "bound\n").unwrap();
    std::os::unix::fs::symlink("/runtime-test-outside", bundle.rootfs().join("a")).unwrap();
    std::os::unix::fs::symlink("../../../../etc/new", bundle.rootfs().join("real")).unwrap();
    bundle.mount("/a/b/c/file", "bind", "file", &["bind", "ro"]);
    bundle.mount("/real", "bind", "file", &["bind"]);
    bundle.mount("/a/x", "tmpfs", "tmpfs", &[]);
    assert_eq!(bundle.good(), "bound\nbound\n/runtime-test-outside/x\n");
    assert!(!std::path::Path::new("/runtime-test-outside").exists());
    assert!(bundle.rootfs().join("etc/new").exists() && !std::path::Path::new("/etc/new").exists());
}

fn device_links() {
    let mut bundle = Bundle::new("devlink", "ls -l /target/null");
    bundle.config["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] == "/proc");
    fs::remove_dir(bundle.rootfs().join("dev")).unwrap();
    std::os::unix::fs::symlink("/target", bundle.rootfs().join("dev")).unwrap();
    assert!(bundle.good().starts_with("crw-rw-rw-"));
    assert!(!std::path::Path::new("/target").exists());
}

fn seccomp() {
    let mut bundle = Bundle::new("seccomp", "mkdir /x 2>&1; grep Seccomp: /proc/self/status; sleep 1000");
    bundle.set(
        "/linux/seccomp",
        json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [{"names": ["mkdir", "mkdirat", "getcwd"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}]}),
    );
    for no_new_privileges in [false, true] {
        bundle.set("/process/noNewPrivileges", no_new_privileges.into());
        let container = bundle.start();
        let (_, output) =
            exec_output(&container, "mkdir /x 2>&1; grep Seccomp: /proc/self/status; grep CapEff /proc/self/status");
        let want =
            "mkdir: can't create directory '/x': Operation not permitted\nSeccomp:\t2\nCapEff:\t00000000080000eb\n";
        assert_eq!(output, want);
        let status = fs::read_to_string(format!("/proc/{}/status", container.init_pid().unwrap())).unwrap();
        assert!(status.contains("Seccomp:\t2") && status.contains("CapPrm:\t00000000080000eb"), "{status}");
        container.delete(true).unwrap();
    }
}

fn readonly_root() {
    let mut bundle = Bundle::new("roroot", "touch /x 2>&1; touch /tmp/y && echo written");
    bundle.set("/root/readonly", true.into());
    bundle.mount("/tmp", "tmpfs", "tmpfs", &[]);
    // The mount point is made before the root becomes read-only.
    bundle.mount("/new/place", "tmpfs", "tmpfs", &[]);
    assert_eq!(bundle.good(), "touch: /x: Read-only file system\nwritten\n");
}

fn host_mounts() {
    for no_pivot in [false, true] {
        let mut bundle = Bundle::new(if no_pivot { "moved" } else { "pivoted" }, "cat /proc/self/mountinfo; ls -a /");
        bundle.options.no_pivot = no_pivot;
        let output = bundle.good();
        let points: Vec<&str> =
            output.lines().filter(|line| line.contains(" - ")).filter_map(|line| line.split(' ').nth(4)).collect();
        assert_eq!(points, ["/", "/proc", "/dev", "/dev/pts", "/sys"]);
        assert!(output.lines().any(|line| line == "bin") && !output.lines().any(|line| line == "work"), "{output}");
    }
}

fn seccomp_notify() {
    use rtc_sys::message::{Control, receive};
    let mut bundle = Bundle::new("notify", "mkdir /x 2>&1");
    let path = bundle.dir.join("agent");
    let rule = json!({"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"});
    bundle.set(
        "/linux/seccomp",
        json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": path, "listenerMetadata": "meta", "syscalls": [rule]}),
    );
    let error = bundle.refused();
    assert!(error.contains("failed to connect with seccomp agent"), "{error}");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    bundle.save();
    let mut container = bundle.create().unwrap();
    let mut buffer = vec![0; 8192];
    let (connection, _) = listener.accept().unwrap();
    let received = receive(connection.as_fd(), &mut buffer, 0).unwrap();
    let state: serde_json::Value = serde_json::from_slice(&buffer[..received.len]).unwrap();
    assert_eq!((&state["metadata"], &state["state"]["id"]), (&json!("meta"), &json!("notify")));
    assert_eq!(state["pid"], json!(container.init_pid().unwrap()));
    let held: Vec<_> = received.control.into_iter().filter(|piece| matches!(piece, Control::Rights(_))).collect();
    assert_eq!(held.len(), 1);
    // An agent that is gone doesn't hang the container.
    drop(held);
    container.start().unwrap();
    assert_eq!(container.wait().unwrap(), 1);
    container.delete(false).unwrap();
}

fn waiting_init() {
    let container = Bundle::new("waiting", "sleep 1000").create().unwrap();
    let pid = container.init_pid().unwrap();
    let mut seen = 0;
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).unwrap() {
        let entry = entry.unwrap();
        if fs::read_link(entry.path()).unwrap().as_os_str() == "/proc" {
            // Through it one sees the container's processes only.
            let names =
                fs::read_dir(entry.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
            let pids: Vec<String> = names.filter(|name| name.parse::<u32>().is_ok()).collect();
            assert_eq!(pids, ["1"]);
            seen += 1;
        }
    }
    assert_eq!(seen, 1);
    container.delete(true).unwrap();
}

/// A fresh procfs would lack what is masked in the container's own.
fn nested_proc() {
    for no_pivot in [false, true] {
        let script = "unshare -U -r -m -p -f mount -t proc proc /tmp 2>&1; echo $?";
        let mut bundle = Bundle::new(if no_pivot { "nestmoved" } else { "nestpivoted" }, script);
        std::os::unix::fs::symlink("busybox", bundle.rootfs().join("bin/unshare")).unwrap();
        bundle.options.no_pivot = no_pivot;
        bundle.set("/linux/maskedPaths", json!(["/proc/timer_list", "/proc/keys"]));
        // Or root couldn't be mapped to root (user_namespaces(7)).
        let more = json!(["CAP_SETFCAP", "CAP_SETUID", "CAP_SETGID"]);
        bundle.set("/process/capabilities", json!({"bounding": more, "effective": more, "permitted": more}));
        assert_eq!(bundle.good(), "mount: permission denied (are you root?)\n1\n");
    }
}
