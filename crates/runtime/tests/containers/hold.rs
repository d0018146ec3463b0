use std::fs;

use rtc_runtime::{Kind, Payload, Status, create};

use crate::bundle::Bundle;
use crate::harness::Test;

pub(crate) const TESTS: &[Test] = &[
    ("hold::the_process_stands_in_the_container_with_all_privilege", stands),
    ("hold::an_error_of_the_closure_takes_everything_back", refused),
];

fn stands() {
    let mut bundle = Bundle::new("hold", "never executed");
    bundle.config["process"]["user"]["uid"] = 1000.into();
    bundle.save();
    let mut seen = None;
    let mut closure = |held: &rtc_runtime::Held| {
        let pid = held.pid;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let field =
            |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned();
        assert_eq!(field("Uid:"), "0\t0\t0\t0");
        assert_eq!(field("NSpid:").split_whitespace().last(), Some("1"));
        assert_eq!(fs::read_link(format!("/proc/{pid}/cwd"))?.to_str(), Some("/"));
        assert!(fs::read_dir(format!("/proc/{pid}/root/"))?.any(|entry| entry.unwrap().file_name() == "bin"));
        let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo"))?;
        assert!(mounts.contains(" /proc ") && mounts.contains(" /dev/pts "), "{mounts}");
        let cgroup = held.cgroup.clone().unwrap();
        assert_eq!(fs::read_to_string(cgroup.join("cgroup.procs"))?.trim(), pid.to_string());
        assert_ne!(fs::read_link(format!("/proc/{pid}/ns/net"))?, fs::read_link("/proc/self/ns/net")?);
        // In place of an engine that takes the process over: let go as it is, it would end at once.
        rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::STOP)?;
        seen = Some(pid);
        Ok(())
    };
    let container = create(&bundle.host, &bundle.options, Payload::Hold(&mut closure)).unwrap();
    assert_eq!(container.init_pid(), seen);
    assert_eq!(container.status().unwrap(), Status::Running);
    assert!(container.stdio().unwrap()[0].ino != 0);
    container.delete(true).unwrap();
    bundle.nothing_left();
}

fn refused() {
    let bundle = Bundle::new("holdfail", "never executed");
    bundle.save();
    let mut closure = |_: &rtc_runtime::Held| Err("the image is truncated".into());
    let error = create(&bundle.host, &bundle.options, Payload::Hold(&mut closure)).unwrap_err();
    assert_eq!((*error.kind(), error.to_string().as_str()), (Kind::System, "the image is truncated"));
    bundle.nothing_left();
}
