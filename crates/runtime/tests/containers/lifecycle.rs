use std::fs;

use rtc_runtime::{Kind, Payload, Status, create};

use crate::bundle::{Bundle, exec_output};
use crate::harness::Test;

pub(crate) const TESTS: &[Test] = &[
    ("lifecycle::a_container_is_created_started_killed_and_deleted", whole_life),
    ("lifecycle::run_gives_the_exit_status", exit_status),
    ("lifecycle::a_program_that_is_not_there_leaves_nothing", no_program),
    ("lifecycle::an_id_is_taken_once", id_taken),
    ("lifecycle::a_waiting_init_holds_no_foreign_descriptor", waiting_init),
    ("lifecycle::a_later_edit_of_the_configuration_has_no_effect", edited_config),
    ("lifecycle::delete_force_ends_a_running_container_with_subgroups", delete_force),
    ("lifecycle::what_a_killed_create_leaves_can_be_deleted", killed_create),
    ("lifecycle::broken_configurations_are_refused_in_one_line", broken_config),
    ("lifecycle::pause_and_resume", pause),
    ("lifecycle::a_pid_file_has_the_bare_number", pid_file),
    ("lifecycle::kill_without_a_pid_namespace_reaches_all", shared_pid_namespace),
];

fn whole_life() {
    let mut bundle = Bundle::new("life", "sleep 1000");
    bundle.set("/process/user", serde_json::json!({"uid": 1000, "gid": 1000}));
    let mut container = bundle.create().unwrap();
    assert_eq!(container.status().unwrap(), Status::Created);
    let pid = container.init_pid().unwrap();
    assert_eq!(container.state().unwrap().pid, pid);
    // From disk it is the same.
    assert_eq!(bundle.host.load("life").unwrap().state().unwrap(), container.state().unwrap());
    container.start().unwrap();
    assert_eq!(container.status().unwrap(), Status::Running);
    assert_eq!(container.start().unwrap_err().to_string(), "cannot start an already running container");
    assert_eq!(container.processes().unwrap(), [pid]);
    let loaded = bundle.host.load("life").unwrap();
    let error = loaded.delete(false).unwrap_err();
    assert_eq!(error.to_string(), "cannot delete container life that is not stopped: running");
    container.kill(15, false).unwrap();
    container.kill(9, false).unwrap();
    assert_eq!(container.wait().unwrap(), 128 + 9);
    assert_eq!(container.status().unwrap(), Status::Stopped);
    assert_eq!(container.state().unwrap().pid, 0);
    assert_eq!(container.kill(15, false).unwrap_err().to_string(), "container not running");
    container.kill(15, true).unwrap();
    assert_eq!(container.start().unwrap_err().to_string(), "cannot start a container that has stopped");
    container.delete(false).unwrap();
    bundle.nothing_left();
    assert_eq!(bundle.host.load("life").unwrap_err().to_string(), "container does not exist");
}

fn exit_status() {
    assert_eq!(Bundle::new("status", "echo out; exit 7").output(), (7, "out\n".to_owned()));
    assert_eq!(Bundle::new("inner", "sh -c 'kill -9 $$'; echo $?").output(), (0, "Killed\n137\n".to_owned()));
}

fn no_program() {
    let mut bundle = Bundle::new("noprogram", "");
    bundle.set("/process/args", serde_json::json!(["nosuch"]));
    bundle.save();
    let error = create(&bundle.host, &bundle.options, Payload::Exec).unwrap_err();
    assert_eq!(
        (*error.kind(), error.to_string().as_str()),
        (Kind::Exec, "exec: \"nosuch\": executable file not found in $PATH")
    );
    bundle.nothing_left();
    // What only execve finds out.
    fs::write(bundle.rootfs().join("script"), "#!/no/such/interpreter\n").unwrap();
    fs::set_permissions(bundle.rootfs().join("script"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    bundle.set("/process/args", serde_json::json!(["/script"]));
    assert_eq!(bundle.refused(), "exec /script: no such file or directory");
}

fn id_taken() {
    let bundle = Bundle::new("taken", "sleep 1000");
    let container = bundle.create().unwrap();
    let error = bundle.create().unwrap_err();
    assert_eq!((*error.kind(), error.to_string().as_str()), (Kind::Exists, "container with given ID already exists"));
    assert_eq!(container.status().unwrap(), Status::Created);
    container.delete(false).unwrap();
    bundle.nothing_left();
}

fn waiting_init() {
    let bundle = Bundle::new("fds", "sleep 1000");
    // Something that leaks from the caller.
    let leak = rustix::fs::open("/etc", rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty()).unwrap();
    let container = bundle.create().unwrap();
    drop(leak);
    let pid = container.init_pid().unwrap();
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).unwrap() {
        let entry = entry.unwrap();
        let number: u32 = entry.file_name().to_str().unwrap().parse().unwrap();
        let link = fs::read_link(entry.path()).unwrap();
        let allowed = number < 3 || link.ends_with("exec.fifo") || link.as_os_str() == "/proc";
        assert!(allowed, "fd {number} -> {}", link.display());
    }
    container.delete(true).unwrap();
}

fn edited_config() {
    let mut bundle = Bundle::new("edited", "sleep 1000");
    let mut container = bundle.create().unwrap();
    bundle.set("/process/args", serde_json::json!(["false"])).save();
    container.start().unwrap();
    // Descriptors close early in execve, so `start` may return before the program has its arguments.
    let path = format!("/proc/{}/cmdline", container.init_pid().unwrap());
    let line = std::iter::repeat_with(|| fs::read_to_string(&path).unwrap()).find(|line| !line.is_empty()).unwrap();
    assert!(line.contains("sleep"), "{line:?}");
    container.delete(true).unwrap();
}

fn delete_force() {
    let mut bundle = Bundle::new(
        "force",
        "mkdir /sys/fs/cgroup/sub && (sleep 1000 & echo $! > /sys/fs/cgroup/sub/cgroup.procs) && touch /done && sleep 1000",
    );
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["rw"]);
    let container = bundle.start();
    while !bundle.rootfs().join("done").exists() {
        assert_eq!(container.status().unwrap(), Status::Running);
        std::thread::yield_now();
    }
    container.delete(true).unwrap();
    bundle.nothing_left();
}

fn killed_create() {
    use rtc_sys::clone::{Clone3, Cloned, clone3, exit};
    let mut bundle = Bundle::new("killed", "sleep 1000");
    // The hook kills the creating process, its parent, in the middle.
    let hook = serde_json::json!([{"path": "/bin/sh", "args": ["sh", "-c", "kill -9 $PPID"]}]);
    bundle.set("/hooks", serde_json::json!({"createRuntime": hook}));
    match clone3(&Clone3::default()).unwrap() {
        Cloned::Child => exit(i32::from(bundle.create().is_ok())),
        Cloned::Parent { pidfd, .. } => {
            use std::os::fd::AsFd;
            let options = rustix::process::WaitIdOptions::EXITED;
            let status =
                rustix::process::waitid(rustix::process::WaitId::PidFd(pidfd.as_fd()), options).unwrap().unwrap();
            assert_eq!(status.terminating_signal(), Some(9));
        }
    }
    bundle.host.load("killed").unwrap().delete(true).unwrap();
    bundle.nothing_left();
}

fn broken_config() {
    let mut bundle = Bundle::new("broken", "true");
    fs::write(bundle.dir.join("config.json"), b"{\"ociVersion\": ").unwrap();
    let error = create(&bundle.host, &bundle.options, Payload::Exec).unwrap_err().to_string();
    assert_eq!(error, "config.json: EOF while parsing a value at line 1 column 15");
    bundle.set("/root/path", "nosuch".into());
    assert!(bundle.refused().starts_with("root file system: realpath("));
    bundle.set("/root/path", "rootfs".into());
    bundle.mount("/x", "nosuchfs", "none", &[]);
    assert_eq!(bundle.refused(), "mount /x: fsopen(nosuchfs) = ENODEV");
    bundle.config["mounts"].as_array_mut().unwrap().pop();
    bundle.mount("/x", "tmpfs", "none", &["size=7k", "nonsense=1"]);
    let error = bundle.refused();
    assert!(error.starts_with("mount /x: ") && error.contains("nonsense"), "{error}");
}

fn pause() {
    let container = Bundle::new("pause", "sleep 1000").start();
    container.pause().unwrap();
    assert_eq!(container.status().unwrap(), Status::Paused);
    assert_eq!(container.resume().map(|()| container.status().unwrap()).unwrap(), Status::Running);
    assert_eq!(container.resume().unwrap_err().to_string(), "container not paused");
    container.pause().unwrap();
    container.delete(true).unwrap();
}

fn pid_file() {
    let mut bundle = Bundle::new("pidfile", "sleep 1000");
    bundle.options.pid_file = Some(bundle.dir.join("pid"));
    let container = bundle.create().unwrap();
    let text = fs::read_to_string(bundle.dir.join("pid")).unwrap();
    assert_eq!(text, container.init_pid().unwrap().to_string());
    container.delete(true).unwrap();
}

fn shared_pid_namespace() {
    let mut bundle = Bundle::new("sharedpid", "sleep 1000 & touch /done; sleep 1000");
    bundle.config["linux"]["namespaces"].as_array_mut().unwrap().retain(|ns| ns["type"] != "pid");
    let container = bundle.start();
    while !bundle.rootfs().join("done").exists() {
        assert_eq!(container.status().unwrap(), Status::Running);
        std::thread::yield_now();
    }
    assert!(exec_output(&container, "true").0 == 0);
    container.kill(9, false).unwrap();
    assert_eq!(container.wait().unwrap(), 137);
    container.kill(9, false).ok();
    container.delete(false).unwrap();
    bundle.nothing_left();
}
