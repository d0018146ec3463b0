//! Whole trees, saved and rebuilt in fresh namespaces, without a container runtime around them.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use rtc_checkpoint::dump::{self, Container};
use rtc_checkpoint::files::FileOptions;
use rtc_checkpoint::resource::mount::Given;
use rtc_checkpoint::restore::Checkpoint;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A process that is pid 1 of new namespaces; it dies with the test.
struct Tree {
    shell: Child,
    init: i32,
}

impl Tree {
    fn new(script: &str, dir: &Path) -> Self {
        // What the test inherited from its caller isn't the container's.
        rtc_sys::process::cloexec_range(3, u32::MAX).unwrap();
        let mut command = Command::new("unshare");
        command.args(["--pid", "--mount", "--net", "--ipc", "--uts", "--fork", "--kill-child", "--mount-proc"]);
        command.args(["setsid", "sh", "-c", script]).current_dir(dir);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let shell = command.spawn().unwrap();
        let children = format!("/proc/{0}/task/{0}/children", shell.id());
        let init = wait_for(|| std::fs::read_to_string(&children).ok()?.trim().parse().ok());
        Self { shell, init }
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

/// A container that consists of a pid namespace alone.
struct PidNamespace(i32);

impl Container for PidNamespace {
    fn is_paused(&self) -> rtc_checkpoint::Result<bool> {
        Ok(false)
    }
    fn processes(&self) -> rtc_checkpoint::Result<Vec<i32>> {
        Ok(vec![self.0])
    }
    fn pause(&mut self) -> rtc_checkpoint::Result<()> {
        Ok(())
    }
    fn resume(&mut self) -> rtc_checkpoint::Result<()> {
        Ok(())
    }
    fn kill(&mut self) -> rtc_checkpoint::Result<()> {
        Ok(rtc_sys::ptrace::tgkill(self.0, self.0, libc::SIGKILL)?)
    }
}

fn wait_for<T>(mut what: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(value) = what() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited too long");
        std::thread::yield_now();
    }
}

struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("engine-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(path.join("image")).unwrap();
        Self(path)
    }
    fn image(&self) -> OwnedFd {
        std::fs::File::open(self.0.join("image")).unwrap().into()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn checkpoint(tree: &Tree, dir: &Dir, leave_running: bool) -> dump::Report {
    let files = FileOptions::default();
    // The tree is in the host's own root: all its mounts are given.
    let text = std::fs::read_to_string(format!("/proc/{}/mountinfo", tree.init)).unwrap();
    let points = text.lines().map(|line| std::ffi::OsStr::new(line.split(' ').nth(4).unwrap()));
    let mounts: Vec<Given> = points.map(|point| Given { mountpoint: point.into(), external: true }).collect();
    let options = dump::Options {
        id: "test",
        init: tree.init,
        image: dir.image(),
        files: &files,
        externals: &[],
        mounts: &mounts,
        may_mount: true,
        execs: dump::Execs::default(),
        leave_running,
        check_only: false,
    };
    match dump::dump(&options, &mut PidNamespace(tree.init)).unwrap() {
        Ok(report) => report,
        Err(blockers) => panic!("{blockers:#?}"),
    }
}

/// A process to become the restored one.
fn restore(dir: &Dir) -> Tree {
    let checkpoint = Checkpoint::open(dir.image()).unwrap();
    let tree = Tree::new("exec sleep 1000", &dir.0);
    wait_for(|| std::fs::read_link(format!("/proc/{}/exe", tree.init)).ok().filter(|exe| exe.ends_with("sleep")));
    checkpoint.restore(tree.init, None, &[]).unwrap();
    tree
}

fn counter(dir: &Dir) -> u64 {
    std::fs::read_to_string(dir.0.join("count")).ok().and_then(|n| n.trim().parse().ok()).unwrap_or(0)
}

#[test]
fn a_shell_counts_on_where_it_was() {
    let dir = Dir::new("shell");
    let script = "exec <&- >&- 2>&-; i=0; while :; do i=$((i+1)); echo $i > count.new; mv count.new count; done";
    let tree = Tree::new(script, &dir.0);
    wait_for(|| (counter(&dir) > 10).then_some(()));
    let report = checkpoint(&tree, &dir, false);
    eprintln!("{report:?}");
    wait_for(|| std::fs::metadata(format!("/proc/{}/exe", tree.init)).is_err().then_some(()));
    let before = counter(&dir);
    std::fs::remove_file(dir.0.join("count")).unwrap();
    let tree = restore(&dir);
    wait_for(|| (counter(&dir) >= before).then_some(()));
    drop(tree);
}

/// A Python program with threads, floating point, signal handlers and a large heap goes on; its own checks tell.
#[test]
fn a_program_with_threads_and_a_heap_goes_on() {
    let dir = Dir::new("python");
    std::fs::write(
        dir.0.join("program.py"),
        r#"
import hashlib, math, os, signal, threading, time
data = [hashlib.sha256(str(i).encode()).digest() for i in range(50000)]
big = bytearray(os.urandom(8 << 20))
digest = hashlib.sha256(big).hexdigest()
hits = []
signal.signal(signal.SIGUSR1, lambda *_: hits.append(1))
counts = [0.0] * 4
def work(n):
    x = 0.5 + n
    while True:
        for _ in range(1000):
            x = math.sin(x) + math.sqrt(x * x + 1)
        counts[n] += 1
        time.sleep(0.0005)
for n in range(4):
    threading.Thread(target=work, args=(n,), daemon=True).start()
round = 0
while True:
    ok = all(data[i] == hashlib.sha256(str(i).encode()).digest() for i in range(0, 50000, 500))
    ok = ok and hashlib.sha256(big).hexdigest() == digest
    round += 1
    with open("count.new", "w") as f:
        f.write(str(round if ok else -1))
    os.rename("count.new", "count")
    with open("threads.new", "w") as f:
        f.write(str(int(min(counts))))
    os.rename("threads.new", "threads")
"#,
    )
    .unwrap();
    let tree = Tree::new("exec <&- >&- 2>&-; exec python3 program.py", &dir.0);
    wait_for(|| (counter(&dir) > 2).then_some(()));
    let mut tree = Some(tree);
    for _ in 0..3 {
        let report = checkpoint(tree.as_ref().unwrap(), &dir, false);
        eprintln!("{report:?}");
        let before = counter(&dir);
        let threads: u64 = std::fs::read_to_string(dir.0.join("threads")).unwrap().parse().unwrap();
        tree = Some(restore(&dir));
        wait_for(|| (counter(&dir) >= before + 3).then_some(()));
        wait_for(|| std::fs::read_to_string(dir.0.join("threads")).ok()?.parse::<u64>().ok().filter(|t| *t > threads));
    }
}

/// What a container that runs on after its checkpoint must not notice.
#[test]
fn a_tree_that_is_left_running_runs_on() {
    let dir = Dir::new("leave");
    let script = "exec <&- >&- 2>&-; (while :; do sleep 0.001; done) & i=0; \
                  while :; do i=$((i+1)); echo $i > count.new; mv count.new count; done";
    let tree = Tree::new(script, &dir.0);
    wait_for(|| (counter(&dir) > 10).then_some(()));
    for _ in 0..20 {
        let report = checkpoint(&tree, &dir, true);
        assert!(report.processes >= 2);
        let before = counter(&dir);
        wait_for(|| (counter(&dir) > before).then_some(()));
    }
}
