use serde_json::json;

use crate::bundle::Bundle;
use crate::harness::Test;

pub(crate) const TESTS: &[Test] = &[
    ("process::capabilities_are_those_of_the_configuration", capabilities),
    ("process::an_unprivileged_user_keeps_what_it_is_given", user_capabilities),
    ("process::user_groups_umask_and_home", user),
    ("process::limits_are_set_as_far_as_allowed", rlimits),
    ("process::no_new_privileges_and_oom_score", no_new_privileges),
    ("process::the_working_directory_is_made_and_must_be_inside", cwd),
    ("process::scheduling_and_priorities", scheduling),
    ("process::environment_has_no_duplicates", environment),
    ("process::signals_are_as_a_new_program_expects", signals),
    ("process::names_and_sysctls", names),
    ("process::preserved_descriptors_and_no_others", descriptors),
];

fn capabilities() {
    let bundle = Bundle::new("caps", "grep ^Cap /proc/self/status");
    // CHOWN 0, DAC_OVERRIDE 1, FOWNER 3, KILL 5, SETGID 6, SETUID 7, MKNOD 27.
    let given = "00000000080000eb";
    let none = "0000000000000000";
    let want = format!("CapInh:\t{none}\nCapPrm:\t{given}\nCapEff:\t{given}\nCapBnd:\t{given}\nCapAmb:\t{none}\n");
    assert_eq!(bundle.good(), want);
    let mut none_at_all = Bundle::new("nocaps", "grep ^CapBnd /proc/self/status");
    none_at_all.config["process"].as_object_mut().unwrap().remove("capabilities");
    assert_eq!(none_at_all.good(), format!("CapBnd:\t{none}\n"));
}

fn user_capabilities() {
    let mut bundle = Bundle::new("usercaps", "grep -E 'CapPrm|CapEff|CapInh|CapAmb' /proc/self/status");
    bundle.set("/process/user", json!({"uid": 1000, "gid": 1000}));
    let sets = json!({"bounding": ["CAP_CHOWN", "CAP_KILL"], "permitted": ["CAP_CHOWN", "CAP_KILL"],
        "effective": ["CAP_CHOWN"], "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"]});
    bundle.set("/process/capabilities", sets);
    // execve of a user who isn't root leaves the ambient ones.
    let kill = "0000000000000020";
    assert_eq!(bundle.good(), format!("CapInh:\t{kill}\nCapPrm:\t{kill}\nCapEff:\t{kill}\nCapAmb:\t{kill}\n"));
}

fn user() {
    let mut bundle =
        Bundle::new("user", "id -u; id -g; id -G; umask; echo $HOME; touch /tmp/f; stat -c '%a %u' /tmp/f");
    std::fs::write(bundle.rootfs().join("etc/passwd"), "x:x:1000:1000:x:/home/x:/bin/sh\n").unwrap();
    bundle.mount("/tmp", "tmpfs", "tmpfs", &["mode=1777"]);
    bundle.set("/process/user", json!({"uid": 1000, "gid": 1001, "additionalGids": [5, 7], "umask": 0o027}));
    assert_eq!(bundle.good(), "1000\n1001\n1001 5 7\n0027\n/home/x\n640 1000\n");
}

fn rlimits() {
    let mut bundle = Bundle::new("rlimits", "ulimit -Sn; ulimit -Hn; ulimit -c");
    bundle.set(
        "/process/rlimits",
        json!([{"type": "RLIMIT_NOFILE", "soft": 64, "hard": 128},
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]),
    );
    assert_eq!(bundle.good(), "64\n128\n0\n");
    // More than the caller may have: without CAP_SYS_RESOURCE as much as is allowed.
    bundle.set("/process/rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": 70, "hard": 1_000_000_000}]));
    assert!(bundle.good().starts_with("70\n"));
    bundle.set("/process/rlimits", json!([{"type": "RLIMIT_NONSENSE", "soft": 1, "hard": 1}]));
    assert!(bundle.refused().contains("RLIMIT_NONSENSE"));
}

fn no_new_privileges() {
    let mut bundle = Bundle::new("nnp", "grep NoNewPrivs /proc/self/status; cat /proc/self/oom_score_adj");
    bundle.set("/process/noNewPrivileges", true.into()).set("/process/oomScoreAdj", 333.into());
    assert_eq!(bundle.good(), "NoNewPrivs:\t1\n333\n");
}

fn cwd() {
    let mut bundle = Bundle::new("cwd", "pwd");
    bundle.set("/process/cwd", "/new/dir".into());
    assert_eq!(bundle.good(), "/new/dir\n");
    assert!(bundle.rootfs().join("new/dir").is_dir());
    // Only the user may enter: root has no CAP_DAC_OVERRIDE over it... but the runtime has.
    let mut private = Bundle::new("cwduser", "pwd");
    std::fs::create_dir(private.rootfs().join("home")).unwrap();
    std::os::unix::fs::chown(private.rootfs().join("home"), Some(1000), Some(1000)).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(private.rootfs().join("home"), mode).unwrap();
    private.set("/process/cwd", "/home".into()).set("/process/user", json!({"uid": 1000, "gid": 1000}));
    assert_eq!(private.good(), "/home\n");
    // A leaked descriptor as the way out (CVE-2024-21626).
    let leak = rustix::fs::open("/etc", rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty()).unwrap();
    use std::os::fd::AsRawFd;
    for number in [leak.as_raw_fd(), 7, 8, 9, 10] {
        private.set("/process/cwd", format!("/proc/self/fd/{number}").into());
        private.refused();
    }
}

fn scheduling() {
    let mut bundle = Bundle::new("sched", "set -- $(cat /proc/self/stat); echo ${19} ${41}");
    bundle.set("/process/scheduler", json!({"policy": "SCHED_BATCH", "nice": 5}));
    bundle.set("/process/ioPriority", json!({"class": "IOPRIO_CLASS_IDLE", "priority": 0}));
    assert_eq!(bundle.good(), "5 3\n");
    bundle.set("/process/ioPriority", json!({"class": "IOPRIO_CLASS_BE", "priority": 9}));
    assert!(bundle.refused().contains("priority 9 is not in 0 to 7"));
    let mut old = Bundle::new("personality", "uname -m");
    old.set("/linux/personality", json!({"domain": "LINUX32"}));
    assert_eq!(old.good(), "i686\n");
}

fn environment() {
    let mut bundle = Bundle::new("env", "env");
    bundle.set("/process/env", json!(["PATH=/bin", "A=1", "HOME=", "A=2"]));
    let output = bundle.good();
    let mut lines: Vec<&str> =
        output.lines().filter(|line| !line.starts_with("SHLVL") && !line.starts_with("PWD")).collect();
    lines.sort_unstable();
    assert_eq!(lines, ["A=2", "HOME=/", "PATH=/bin"]);
    bundle.set("/process/env", json!(["nothing"]));
    assert!(bundle.refused().contains("is not NAME=VALUE"));
}

fn signals() {
    let mut bundle = Bundle::new("signals", "");
    // No shell between: it has ideas of its own about SIGQUIT.
    bundle.set("/process/args", json!(["grep", "-E", "SigBlk|SigIgn", "/proc/self/status"]));
    // Rust programs ignore SIGPIPE, and a caller may block anything.
    let mut all = nix::sys::signal::SigSet::all();
    all.remove(nix::sys::signal::Signal::SIGCHLD);
    all.thread_block().unwrap();
    assert_eq!(bundle.good(), "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
}

fn names() {
    let mut bundle = Bundle::new(
        "names",
        "hostname; cat /proc/sys/kernel/domainname /proc/sys/kernel/msgmax /proc/sys/net/ipv4/ip_forward; ifconfig lo | grep -c UP",
    );
    bundle.set("/domainname", "example.test".into());
    bundle.set("/linux/sysctl", json!({"kernel.msgmax": "4321", "net/ipv4/ip_forward": "1"}));
    assert_eq!(bundle.good(), "box\nexample.test\n4321\n1\n1\n");
}

fn descriptors() {
    use std::os::fd::AsRawFd;
    let mut bundle = Bundle::new("preserve", "test -e /proc/self/fd/3 && ! test -e /proc/self/fd/4");
    let open = |number| {
        let file = rustix::fs::memfd_create("kept", rustix::fs::MemfdFlags::empty()).unwrap();
        if file.as_raw_fd() == number { file } else { rustix::io::fcntl_dupfd_cloexec(&file, number).unwrap() }
    };
    let first = open(3);
    let second = open(4);
    assert_eq!((first.as_raw_fd(), second.as_raw_fd()), (3, 4), "the test itself holds descriptors");
    bundle.options.preserve_fds = 1;
    rustix::io::fcntl_setfd(&first, rustix::io::FdFlags::empty()).unwrap();
    bundle.save();
    let container = rtc_runtime::run(&bundle.host, &bundle.options).unwrap();
    assert_eq!(container.wait().unwrap(), 0);
    container.delete(false).unwrap();
    // One that isn't open, or is of the runtime's own making, is refused.
    bundle.options.preserve_fds = 2;
    assert_eq!(bundle.create().unwrap_err().to_string(), "--preserve-fds 2: fd 4 is not open");
}
