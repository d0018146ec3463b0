use std::fs;

use rtc_runtime::{ExecProcess, Kind, Status, User};
use serde_json::json;

use crate::bundle::{Bundle, exec_options, exec_output, exec_with, overrides};
use crate::harness::{Test, capture};

pub(crate) const TESTS: &[Test] = &[
    ("exec::a_process_joins_everything_of_the_container", joins),
    ("exec::exit_status_user_environment_and_directory", overriding),
    ("exec::capabilities_are_added_but_never_inheritable", capabilities),
    ("exec::a_process_object_replaces_all", process_json),
    ("exec::failures_name_the_program_once", failures),
    ("exec::into_a_created_container_leaves_it_created", created),
    ("exec::a_paused_container_refuses", paused),
    ("exec::a_sub_cgroup_may_be_chosen", sub_cgroup),
    ("exec::cpus_are_chosen", affinity),
    ("exec::nothing_of_the_host_is_reachable_on_the_way", not_dumpable),
];

fn namespaces(pid: &str) -> Vec<(String, String)> {
    let mut list: Vec<_> = fs::read_dir(format!("/proc/{pid}/ns"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| {
            let link = fs::read_link(entry.path()).unwrap();
            (entry.file_name().into_string().unwrap(), link.to_string_lossy().into_owned())
        })
        .collect();
    list.sort();
    list
}

fn joins() {
    let mut bundle = Bundle::new("joins", "sleep 1000");
    let list = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
    list.push(json!({"type": "time"}));
    let container = bundle.start();
    let executed = container.exec(&exec_options(overrides("sleep 1000"))).unwrap();
    let init = container.init_pid().unwrap();
    assert_eq!(namespaces(&executed.pid.to_string()), namespaces(&init.to_string()));
    let mut pids = vec![init, executed.pid];
    pids.sort_unstable();
    assert_eq!(container.processes().unwrap(), pids);
    let root = |pid: i32| fs::read_link(format!("/proc/{pid}/root")).unwrap();
    assert_eq!(root(executed.pid), root(init));
    container.kill(9, false).unwrap();
    assert_eq!(executed.wait().unwrap(), 137);
    container.wait().unwrap();
    container.delete(false).unwrap();
    bundle.nothing_left();
}

fn overriding() {
    let mut bundle = Bundle::new("over", "sleep 1000");
    bundle.set("/process/user", json!({"uid": 0, "gid": 0, "additionalGids": [1000]}));
    let container = bundle.start();
    let mut changes = overrides("id -u; id -g; id -G; echo $A; pwd; exit 42");
    changes.user = Some(User { uid: 1000, gid: Some(7) });
    changes.additional_gids = vec![100, 65534];
    changes.env = vec!["A=b".into()];
    changes.cwd = Some("/tmp".into());
    assert_eq!(exec_with(&container, changes), (42, "1000\n7\n7 100 1000 65534\nb\n/tmp\n".to_owned()));
    assert_eq!(container.status().unwrap(), Status::Running);
    container.delete(true).unwrap();
}

fn capabilities() {
    let container = Bundle::new("execcaps", "sleep 1000").start();
    let mut changes = overrides("grep -E 'CapInh|CapPrm|CapBnd|CapAmb' /proc/self/status");
    changes.capabilities = vec!["CAP_SYS_PTRACE".into()];
    let (status, output) = exec_with(&container, changes);
    let (none, more) = ("0000000000000000", "00000000080800eb");
    assert_eq!(output, format!("CapInh:\t{none}\nCapPrm:\t{more}\nCapBnd:\t{more}\nCapAmb:\t{none}\n"));
    assert_eq!(status, 0);
    container.delete(true).unwrap();
}

fn process_json() {
    let container = Bundle::new("execjson", "sleep 1000").start();
    let process = json!({"user": {"uid": 5, "gid": 6}, "cwd": "/bin", "args": ["sh", "-c", "id -u; pwd; echo $HOME-$B"],
        "env": ["PATH=/bin", "B=c"]});
    let mut options = exec_options(overrides(""));
    options.process = ExecProcess::Json(serde_json::to_vec(&process).unwrap());
    let (status, output) = capture(|| container.exec(&options).unwrap().wait().unwrap());
    assert_eq!((status, output.as_str()), (0, "5\n/bin\n/-c\n"));
    options.process = ExecProcess::Json(b"{}".to_vec());
    assert!(container.exec(&options).unwrap_err().to_string().starts_with("process.json: missing field"));
    container.delete(true).unwrap();
}

fn failures() {
    let container = Bundle::new("execfail", "sleep 1000").start();
    let mut changes = overrides("");
    changes.args = vec!["nosuch".into()];
    let (error, output) = capture(|| container.exec(&exec_options(changes.clone())).unwrap_err());
    assert_eq!(
        (*error.kind(), error.to_string().as_str()),
        (Kind::Exec, "exec: \"nosuch\": executable file not found in $PATH")
    );
    assert_eq!(output, "");
    changes.args = vec!["/etc".into()];
    assert_eq!(container.exec(&exec_options(changes)).unwrap_err().to_string(), "exec: \"/etc\": is a directory");
    assert_eq!(container.processes().unwrap().len(), 1);
    container.kill(9, false).unwrap();
    container.wait().unwrap();
    let error = container.exec(&exec_options(overrides("true"))).unwrap_err();
    assert_eq!(error.to_string(), "cannot exec in a stopped container");
    container.delete(false).unwrap();
}

fn created() {
    let container = Bundle::new("execcreated", "sleep 1000").create().unwrap();
    assert_eq!(exec_output(&container, "echo here"), (0, "here\n".to_owned()));
    assert_eq!(container.status().unwrap(), Status::Created);
    container.delete(true).unwrap();
}

fn paused() {
    let container = Bundle::new("execpaused", "sleep 1000").start();
    container.pause().unwrap();
    let error = container.exec(&exec_options(overrides("true"))).unwrap_err();
    assert_eq!(error.to_string(), "cannot exec in a paused container");
    container.delete(true).unwrap();
}

fn sub_cgroup() {
    let mut bundle = Bundle::new("execcgroup", "mkdir /sys/fs/cgroup/sub; touch /done; sleep 1000");
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["rw"]);
    let container = bundle.start();
    while !bundle.rootfs().join("done").exists() {
        std::thread::yield_now();
    }
    let mut options = exec_options(overrides("cat /proc/self/cgroup"));
    options.cgroup = Some("sub".into());
    let (status, output) = capture(|| container.exec(&options).unwrap().wait().unwrap());
    let last = output.lines().find(|line| line.starts_with("0::"));
    assert_eq!((status, last), (0, Some("0::/sub")));
    options.cgroup = Some("../x".into());
    assert!(container.exec(&options).unwrap_err().to_string().contains("bad sub cgroup path"));
    container.delete(true).unwrap();
    bundle.nothing_left();
}

fn not_dumpable() {
    let container = Bundle::new("dump", "sleep 1000").start();
    assert_eq!(exec_output(&container, "true").0, 0);
    let behaviour = rustix::process::dumpable_behavior().unwrap();
    assert_eq!(behaviour, rustix::process::DumpableBehavior::NotDumpable);
    container.delete(true).unwrap();
}

fn affinity() {
    let mut bundle = Bundle::new("affinity", "sleep 1000");
    let cpus = "grep Cpus_allowed_list /proc/self/status";
    let container = bundle.start();
    let all = exec_output(&container, cpus).1;
    container.delete(true).unwrap();
    bundle.options.id = "affinity2".into();
    bundle.set("/linux/cgroupsPath", format!("{}/affinity2", crate::harness::cgroup()).into());
    bundle.set("/process/execCPUAffinity", json!({"final": "0"}));
    let container = bundle.start();
    assert_eq!(exec_output(&container, cpus).1, "Cpus_allowed_list:\t0\n");
    let init = fs::read_to_string(format!("/proc/{}/status", container.init_pid().unwrap())).unwrap();
    assert!(init.contains(&all), "init runs where its cgroup lets it");
    container.delete(true).unwrap();
}
