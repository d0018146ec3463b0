//! Containers in cgroups of unusual kinds.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use crate::harness::{Bundle, Kind, Outcome, cgroup2, differs};

/// A cgroup with a threaded one below it, which go with this.
struct Threaded(PathBuf);

impl Threaded {
    fn new() -> Self {
        let made = Self(cgroup2().join(format!("cli-threaded-{}", std::process::id())));
        fs::create_dir_all(made.0.join("threads")).unwrap();
        fs::write(made.0.join("threads/cgroup.type"), "threaded").unwrap();
        made
    }
}

impl Drop for Threaded {
    fn drop(&mut self) {
        let _ = fs::remove_dir(self.0.join("threads"));
        let _ = fs::remove_dir(&self.0);
    }
}

/// Below a threaded cgroup a container's is one too (cgroups(7), "Thread mode"): its processes can't be listed or killed
/// there by the files that do so elsewhere, and controllers that count by processes are missing.
#[test]
fn a_life_below_a_threaded_cgroup() {
    differs(&[(Kind::Crun, "can't list what is in a threaded cgroup")], || {
        let threaded = Threaded::new();
        let place = format!("/{}/threads", threaded.0.file_name().unwrap().to_str().unwrap());
        let bundle = Bundle::new(&["sleep", "1000"]).with(|config| {
            let path = format!("{place}{}", config["linux"]["cgroupsPath"].as_str().unwrap());
            config["linux"]["cgroupsPath"] = path.into();
        });
        let bundle = bundle.running();
        let own = threaded.0.join("threads").join(&bundle.id);
        assert_eq!(fs::read_to_string(own.join("cgroup.type")).unwrap(), "threaded\n");
        let mut exec = bundle.command("exec", &["-d"]);
        exec.args(["sleep", "1000"]).stdout(Stdio::null()).stderr(Stdio::null());
        assert!(exec.status().unwrap().success());
        let pids = Outcome::of(bundle.runtime().args(["ps", "--format", "json", &bundle.id])).ok();
        assert_eq!(pids.split(',').count(), 2, "{pids}");
        bundle.call("pause", &[]).ok();
        assert_eq!(bundle.status(), "paused");
        bundle.call("resume", &[]).ok();
        let refused = Outcome::of(bundle.runtime().args(["update", "--memory", "10M", &bundle.id]));
        assert!(refused.status == 1 && refused.stderr.contains("memory"), "{refused:?}");
        Outcome::of(bundle.runtime().args(["kill", "--all", &bundle.id, "KILL"])).ok();
        bundle.stopped();
        bundle.call("delete", &[]).ok();
        assert!(!own.exists());
        let again = bundle.running();
        again.call("delete", &["--force"]).ok();
        assert!(!own.exists());
    });
}

/// Linux since 6.14 kills who is born in a cgroup that was once killed.
#[test]
fn a_cgroup_that_was_killed_is_taken_over() {
    let bundle = Bundle::new(&["sleep", "1000"]);
    let cgroup = cgroup2().join(&bundle.id);
    fs::create_dir(&cgroup).unwrap();
    fs::write(cgroup.join("cgroup.kill"), "1").unwrap();
    let bundle = bundle.running();
    let pid = bundle.state()["pid"].to_string();
    assert!(fs::read_to_string(cgroup.join("cgroup.procs")).unwrap().lines().any(|line| line == pid));
    bundle.call("delete", &["--force"]).ok();
    assert!(!cgroup.exists());
}
