//! Runs tests as forks in namespaces of their own.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::catch_unwind;

use rtc_sys::clone::{Clone3, Cloned, clone3, exit, flags};
use rustix::event::{PollFd, PollFlags};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::process::{Signal, WaitId, WaitIdOptions, waitid};

/// A name and what it runs; a panic is a failure.
pub(crate) type Test = (&'static str, fn());

/// How long one test may take.
const LIMIT: rustix::time::Timespec = rustix::time::Timespec { tv_sec: 60, tv_nsec: 0 };

/// Where a test has its files.
pub(crate) const DIR: &str = "/tmp/runtime-test";

/// The cgroup below which a test has its containers.
pub(crate) fn cgroup() -> String {
    format!("/runtime-test-{}", id())
}

/// Runs the tests that the command line names, all by default; gives the exit status.
pub(crate) fn run(tests: &[Test]) -> i32 {
    let words: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let chosen: Vec<&Test> =
        tests.iter().filter(|(name, _)| words.is_empty() || words.iter().any(|word| name.contains(word))).collect();
    if std::env::args().any(|arg| arg == "--list") {
        chosen.iter().for_each(|(name, _)| println!("{name}: test"));
        return 0;
    }
    fs::create_dir_all(DIR).unwrap();
    remove_leftovers();
    let mut failed = Vec::new();
    for (index, (name, test)) in chosen.iter().enumerate() {
        let id = format!("{}-{index}", std::process::id());
        let ok = run_one(&id, *test);
        remove_cgroups(&id);
        println!("test {name} ... {}", if ok { "ok" } else { "FAILED" });
        if !ok {
            failed.push(*name);
        }
    }
    println!("\n{} passed; {} failed {failed:?}", chosen.len() - failed.len(), failed.len());
    i32::from(!failed.is_empty())
}

fn run_one(id: &str, test: fn()) -> bool {
    let what = Clone3 { flags: flags::NEWPID | flags::NEWNS, ..Clone3::default() };
    let pidfd = match clone3(&what).unwrap() {
        Cloned::Child => {
            let result = catch_unwind(|| {
                prepare(id);
                test();
            });
            exit(i32::from(result.is_err()));
        }
        Cloned::Parent { pidfd, .. } => pidfd,
    };
    if rustix::event::poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&LIMIT)).unwrap() == 0 {
        eprintln!("the test takes too long: killed");
        rustix::process::pidfd_send_signal(&pidfd, Signal::KILL).unwrap();
    }
    let status = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED).unwrap().unwrap();
    status.exit_status() == Some(0)
}

fn prepare(id: &str) {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).unwrap();
    rustix::process::setsid().unwrap();
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
    mount("proc", "/proc", "proc", MountFlags::empty(), None).unwrap();
    mount("tmpfs", DIR, "tmpfs", MountFlags::empty(), Some(c"mode=755")).unwrap();
    fs::write(format!("{DIR}/id"), id).unwrap();
}

/// The id of the running test.
pub(crate) fn id() -> String {
    fs::read_to_string(format!("{DIR}/id")).unwrap()
}

/// Removes the cgroups of runs that were killed: their processes went with their namespaces.
fn remove_leftovers() {
    let mountpoint = rtc_runtime::cgroup::Hierarchy::find().unwrap().mountpoint().to_owned();
    for entry in fs::read_dir(mountpoint).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(id) = name.strip_prefix("runtime-test-") else { continue };
        let runner = id.split('-').next().unwrap_or_default();
        if !std::path::Path::new("/proc").join(runner).exists() {
            remove_cgroups(id);
        }
    }
}

fn remove_cgroups(id: &str) {
    let mountpoint = rtc_runtime::cgroup::Hierarchy::find().unwrap().mountpoint().to_owned();
    let top = mountpoint.join(format!("runtime-test-{id}"));
    for entry in fs::read_dir(&top).into_iter().flatten().flatten() {
        let _ = fs::remove_dir(entry.path());
    }
    let _ = fs::remove_dir(top);
}

/// What standard output and error get while `f` runs, and its result.
pub(crate) fn capture<T>(f: impl FnOnce() -> T) -> (T, String) {
    let file = rustix::fs::memfd_create("output", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    let saved: [OwnedFd; 2] = [
        rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 100).unwrap(),
        rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stderr(), 100).unwrap(),
    ];
    rustix::stdio::dup2_stdout(&file).unwrap();
    rustix::stdio::dup2_stderr(&file).unwrap();
    let result = f();
    rustix::stdio::dup2_stdout(&saved[0]).unwrap();
    rustix::stdio::dup2_stderr(&saved[1]).unwrap();
    let mut text = vec![0; rustix::fs::fstat(&file).unwrap().st_size as usize];
    let n = rustix::io::pread(&file, &mut text, 0).unwrap();
    assert_eq!(n, text.len());
    (result, String::from_utf8_lossy(&text).into_owned())
}
