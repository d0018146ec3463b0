//! A test's own folder, which goes away with the test however it ends.
//!
//! A helper process outside our process group waits for the end of this process, be it by SIGKILL,
//! and then deletes the containers and the folders that are left.

use crate::command::Runtime;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// A folder for one test.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes a folder that no other test has; `name` is for the eyes of whoever looks.
    ///
    /// # Panics
    /// Where it can't be made.
    pub fn new(name: &str) -> Self {
        let path = base().join(name);
        fs::create_dir(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Self { path }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A folder inside it, made where it isn't there yet.
    ///
    /// # Panics
    /// Where it can't be made.
    pub fn folder(&self, name: &str) -> PathBuf {
        let path = self.path.join(name);
        fs::create_dir_all(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A mount that leaked out of a container may lead to the host's /usr: never delete through one.
        let mounts = mounts_below(&self.path);
        if mounts.is_empty() {
            let _ = fs::remove_dir_all(&self.path);
        } else if !std::thread::panicking() {
            panic!("mounts are left behind on the host: {mounts:?}");
        }
    }
}

/// The mount points of the host below a folder.
///
/// # Panics
/// Where mountinfo can't be read.
pub fn mounts_below(folder: &Path) -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let points = table.lines().filter_map(|line| line.split(' ').nth(4));
    points.filter(|point| Path::new(point).starts_with(folder)).map(str::to_owned).collect()
}

const JANITOR: &str = r#"
cat >/dev/null
base=$1; shift
for state in "$base"/*/state; do
  for id in $("$@" --root "$state" list -q 2>/dev/null); do "$@" --root "$state" delete --force "$id"; done
done
grep -q " $base/" /proc/self/mountinfo || rm -rf "$base"
"#;

/// The folder of this process's tests, with the helper that clears it when we are gone.
fn base() -> &'static Path {
    static BASE: OnceLock<PathBuf> = OnceLock::new();
    BASE.get_or_init(|| {
        // Detached containers become our children, so that they can be reaped and their status seen.
        rustix::process::set_child_subreaper(Some(rustix::process::getpid())).expect("subreaper");
        let path = std::env::temp_dir().join(format!("rtc-tests-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let runtime = Runtime::new(PathBuf::new()).words();
        let program = &runtime[..runtime.len() - 2];
        let mut janitor = Command::new("sh");
        janitor.args(["-c", JANITOR, "janitor"]).arg(&path).args(program).process_group(0);
        janitor.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = janitor.spawn().expect("sh starts");
        // Its standard input stays open as long as this process lives.
        std::mem::forget(child);
        path
    })
}
