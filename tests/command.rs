//! Runs the binary under test, with a deadline.

use crate::watch;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

/// How long one command of the runtime may take; far more than any needs, so that only a hang meets it.
const PATIENCE: Duration = Duration::from_secs(120);

/// The binary under test with its global flags and its folder of container states.
#[derive(Clone, Debug)]
pub struct Runtime {
    words: Vec<String>,
    root: PathBuf,
}

/// How a command ended and what it wrote.
#[derive(Debug)]
pub struct Output {
    /// Its exit status.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error, or for a command whose standard error belongs to the container, its log.
    pub stderr: String,
}

/// The binary that [`choose`] names.
static CHOSEN: OnceLock<PathBuf> = OnceLock::new();

/// Sets the binary under test for this process, before its first use; `RTC` still goes before it.
pub fn choose(binary: PathBuf) {
    CHOSEN.get_or_init(|| binary);
}

impl Runtime {
    /// The binary that `RTC` names, else runc or crun if `RUNTIME_UNDER_TEST` says so, else the chosen one, or the
    /// newest build of the workspace; it keeps states under `root`.
    ///
    /// # Panics
    /// Where there is no such binary.
    pub fn new(root: PathBuf) -> Self {
        let line = |name| std::env::var(name).ok();
        let other = || line("RUNTIME_UNDER_TEST").filter(|name| name != "rtc");
        let words = match line("RTC").or_else(other) {
            Some(line) => line.split_whitespace().map(str::to_owned).collect(),
            None => vec![CHOSEN.get_or_init(workspace_build).to_string_lossy().into_owned()],
        };
        Self { words, root }
    }

    /// The program and its first arguments, for use in a shell command.
    pub fn words(&self) -> Vec<String> {
        let mut words = self.words.clone();
        words.extend(["--root".into(), self.root.to_string_lossy().into_owned()]);
        words
    }

    /// A command that is not started yet.
    ///
    /// It has the usual niceness, whatever the test runs with: programs in containers may not lower theirs.
    ///
    /// # Panics
    /// Where the niceness can't be set.
    pub fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        rustix::process::setpriority_process(None, 0).expect("setpriority");
        let words = self.words();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).args(args).stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    ///
    /// # Panics
    /// Where it hangs.
    pub fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Output {
        let mut command = self.command(args);
        let (out, err) = (self.root.with_extension("out"), self.root.with_extension("err"));
        // Files, not pipes: a container that inherits them must not keep us waiting.
        command.stdout(create(&out)).stderr(create(&err));
        let status = wait(command.spawn().expect("the runtime starts"), &command);
        Output { status, stdout: read(&out), stderr: read(&err) }
    }

    /// Runs a command whose standard output and error become the container's: they are appended to `console`.
    /// What the runtime has to say comes back in `stderr`.
    ///
    /// # Panics
    /// Where it hangs.
    pub fn run_detached<S: AsRef<OsStr>>(&self, console: &Path, args: impl IntoIterator<Item = S>) -> Output {
        let log = self.root.with_extension("log");
        let _ = fs::remove_file(&log);
        let log_flags = [OsStr::new("--log"), log.as_os_str()];
        let mut command = self.command(log_flags);
        let console = File::options().append(true).create(true).open(console).expect("a console log");
        let same = console.try_clone().expect("a second descriptor");
        command.args(args).stdout(console).stderr(same);
        let status = wait(command.spawn().expect("the runtime starts"), &command);
        Output { status, stdout: String::new(), stderr: read(&log) }
    }
}

impl Output {
    /// Fails the test unless the command exited with 0.
    ///
    /// # Panics
    /// Where it didn't.
    #[track_caller]
    pub fn ok(self, deed: &str) -> Self {
        assert!(self.status.success(), "{deed}: {}\n{}{}", self.status, self.stdout, self.stderr);
        self
    }
}

fn create(path: &Path) -> File {
    File::create(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

fn wait(mut child: Child, command: &Command) -> ExitStatus {
    let pidfd = watch::pidfd(child.id()).expect("our own child has a pidfd");
    if !watch::ended(&pidfd, PATIENCE) {
        let _ = child.kill();
        let _ = child.wait();
        panic!("{command:?} did not end within {PATIENCE:?}");
    }
    child.wait().expect("our own child can be waited for")
}

fn workspace_build() -> PathBuf {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/x86_64-unknown-linux-gnu");
    let builds = ["release", "debug"].map(|profile| target.join(profile).join("rtc"));
    let age = |path: &PathBuf| fs::metadata(path).and_then(|meta| meta.modified()).ok();
    let newest = builds.into_iter().filter(|path| age(path).is_some()).max_by_key(age);
    newest.expect("rtc is built: cargo build -p rtc")
}
