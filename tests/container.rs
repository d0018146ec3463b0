//! A container under test: made, asked, saved, gone, brought back.

use crate::bundle::Bundle;
use crate::command::{Output, Runtime};
use crate::scratch::Scratch;
use crate::session::{self, Session};
use crate::watch;
use rustix::process::{Pid, WaitIdOptions};
use std::cell::Cell;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A container that is deleted when this goes out of scope.
#[derive(Debug)]
pub struct Container {
    runtime: Runtime,
    id: String,
    bundle: PathBuf,
    init: OwnedFd,
    pid: u32,
    images: Cell<u32>,
    // Last: what the container uses goes after the container.
    scratch: Scratch,
}

/// The folder of a checkpoint.
#[derive(Debug)]
pub struct Image {
    path: PathBuf,
    took: Duration,
}

impl Image {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How long the command took that made it.
    pub fn took(&self) -> Duration {
        self.took
    }
}

/// What becomes of the container that is saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// It ends, and only the image is left.
    Gone,
    /// It runs on.
    Running,
}

impl Container {
    /// Runs a bundle, detached. `name` must be the test's own; `describe` gets the bundle's folder.
    ///
    /// # Panics
    /// Where it can't be run.
    #[track_caller]
    pub fn run(name: &str, describe: impl FnOnce(PathBuf) -> Bundle) -> Self {
        let scratch = Scratch::new(name);
        let id = format!("{name}-{}", std::process::id());
        let ctl = scratch.folder("ctl");
        rustix::fs::chmod(&ctl, rustix::fs::Mode::from(0o1777)).expect("chmod");
        let cgroup = format!("/rtc-tests-{id}");
        let described = describe(scratch.folder("bundle")).bind(&ctl, "/ctl", &["rw", "nosuid", "nodev"]);
        let bundle = described.with(|config| config["linux"]["cgroupsPath"] = cgroup.into()).write();
        let runtime = Runtime::new(scratch.folder("state"));
        let pid_file = scratch.path().join("pid");
        let args = ["run", "--detach", "--bundle", text(&bundle), "--pid-file", text(&pid_file), &id];
        runtime.run_detached(&scratch.path().join("console"), args).ok("run");
        let (pid, init) = held(&pid_file);
        Self { runtime, id, bundle, init, pid, images: Cell::new(0), scratch }
    }

    /// Runs a shell as the container's first process that takes its commands from the returned session.
    ///
    /// # Panics
    /// Where it can't be run.
    #[track_caller]
    pub fn shell(name: &str, describe: impl FnOnce(Bundle) -> Bundle) -> (Self, Session) {
        Self::shell_in(name, |folder| describe(Bundle::host(folder)))
    }

    /// The same in a bundle that brings its own shell.
    ///
    /// # Panics
    /// Where it can't be run.
    #[track_caller]
    pub fn shell_in(name: &str, describe: impl FnOnce(PathBuf) -> Bundle) -> (Self, Session) {
        let mut session = None;
        let container = Self::run(name, |folder| {
            let talk = session.insert(Session::new(&folder.with_file_name("ctl"), "sh"));
            let script = format!("exec sh {}", talk.redirections());
            describe(folder).args(&["sh", "-c", &script])
        });
        let session = session.expect("run calls its closure");
        session.wait_for_reader(&container.init);
        (container, session)
    }

    /// Starts a program in the container that takes commands from a session of its own.
    ///
    /// # Panics
    /// Where the shell is gone.
    #[track_caller]
    pub fn client(&self, shell: &Session, name: &str, command: &str) -> Session {
        let session = Session::new(&self.ctl(), name);
        shell.say(&format!("{command} {} &", session.redirections()));
        session.wait_for_reader(&self.init);
        session
    }

    /// The host's side of `/ctl`.
    pub fn ctl(&self) -> PathBuf {
        self.scratch.path().join("ctl")
    }

    /// The host's side of `/`.
    pub fn rootfs(&self) -> PathBuf {
        self.bundle.join("rootfs")
    }

    /// What the container wrote to its standard output and error.
    pub fn console(&self) -> String {
        fs::read_to_string(self.scratch.path().join("console")).unwrap_or_default()
    }

    /// The first process, as the host counts pids.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The handle on the first process.
    pub fn init(&self) -> &OwnedFd {
        &self.init
    }

    /// Waits until a file in `/ctl` contains a text, and returns the whole.
    ///
    /// # Panics
    /// Where it doesn't come, or the container ends before.
    #[track_caller]
    pub fn wait_for(&self, file: &str, wanted: &str) -> String {
        let path = self.ctl().join(file);
        let found = watch::until(&path, Some(&self.init), session::PATIENCE, |all| {
            all.contains(wanted).then(|| all.to_owned())
        });
        found.unwrap_or_else(|all| {
            panic!("{}: {file}: {wanted:?} did not come; it says {all:?}; console: {}", self.id, self.console())
        })
    }

    /// Runs a command of the runtime that ends in the container's id.
    pub fn command(&self, args: &[&str]) -> Output {
        self.runtime.run(args.iter().copied().chain([self.id.as_str()]))
    }

    /// Runs a program in the container.
    pub fn exec(&self, args: &[&str]) -> Output {
        self.runtime.run(["exec", self.id.as_str()].iter().chain(args))
    }

    /// The status that the runtime reports; `None` where it knows of no such container.
    pub fn status(&self) -> Option<String> {
        let output = self.command(&["state"]);
        let state: serde_json::Value = serde_json::from_str(&output.stdout).ok()?;
        Some(state["status"].as_str()?.to_owned())
    }

    /// Saves the container and checks that afterwards it is what it should be.
    ///
    /// # Panics
    /// Where it can't be saved, or is not gone or not running afterwards.
    #[track_caller]
    pub fn checkpoint(&self, after: After) -> Image {
        let number = self.images.replace(self.images.get() + 1);
        let image = self.scratch.path().join(format!("image{number}"));
        let work = self.scratch.folder("work");
        let mut args = vec!["checkpoint", "--image-path", text(&image), "--work-path", text(&work)];
        args.extend(["--tcp-established", "--file-locks"]);
        if after == After::Running {
            args.push("--leave-running");
        }
        let start = Instant::now();
        self.command(&args).ok("checkpoint");
        let took = start.elapsed();
        match after {
            After::Gone => self.assert_gone(),
            After::Running => {
                assert_eq!(self.status().as_deref(), Some("running"), "after checkpoint --leave-running");
                assert!(!watch::ended(&self.init, Duration::ZERO), "the first process ended");
            }
        }
        Image { path: image, took }
    }

    /// Checks that nothing is left of the container: no process, no state, no mount.
    ///
    /// # Panics
    /// Where something is.
    #[track_caller]
    pub fn assert_gone(&self) {
        assert!(watch::ended(&self.init, Duration::from_secs(10)), "the first process still lives");
        self.reap();
        assert_eq!(self.status(), None, "the runtime still knows the container");
        let listed = fs::read_to_string(format!("/proc/{}/cgroup", self.pid)).unwrap_or_default();
        assert!(!listed.contains(&self.id), "a task of the container is left: {listed}");
        let mounts = crate::scratch::mounts_below(self.scratch.path());
        assert!(mounts.is_empty(), "mounts are left behind on the host: {mounts:?}");
    }

    /// The words of a command of the runtime that ends in the container's id.
    pub fn words(&self, args: &[&str]) -> Vec<String> {
        let mut words = self.runtime.words();
        words.extend(args.iter().map(|arg| (*arg).to_owned()));
        words.push(self.id.clone());
        words
    }

    /// The flags that a restore of this container needs: bundle and pid file.
    pub fn restore_flags(&self) -> Vec<String> {
        let pid_file = self.scratch.path().join("pid");
        let _ = fs::remove_file(&pid_file);
        ["--detach", "--bundle", text(&self.bundle), "--pid-file", text(&pid_file)].map(str::to_owned).to_vec()
    }

    /// Takes note of the first process that a command made which was not run here.
    ///
    /// # Panics
    /// Where there is none.
    #[track_caller]
    pub fn found(&mut self) {
        (self.pid, self.init) = held(&self.scratch.path().join("pid"));
    }

    /// A folder for whatever a test puts beside the container.
    pub fn folder(&self, name: &str) -> PathBuf {
        self.scratch.folder(name)
    }

    /// Brings the container back from an image, under the same name and from the same bundle.
    /// Returns how long the command took.
    ///
    /// # Panics
    /// Where it can't be restored, or does not run afterwards.
    #[track_caller]
    pub fn restore(&mut self, image: &Image) -> Duration {
        let pid_file = self.scratch.path().join("pid");
        let _ = fs::remove_file(&pid_file);
        let work = self.scratch.folder("work");
        let mut args = vec!["restore", "--detach", "--bundle", text(&self.bundle), "--pid-file", text(&pid_file)];
        args.extend(["--image-path", text(image.path()), "--work-path", text(&work)]);
        args.extend(["--tcp-established", "--file-locks", &self.id]);
        let start = Instant::now();
        self.runtime.run_detached(&self.scratch.path().join("console"), args).ok("restore");
        let took = start.elapsed();
        (self.pid, self.init) = held(&pid_file);
        assert_eq!(self.status().as_deref(), Some("running"), "after restore");
        took
    }

    /// Ends the container and removes it.
    ///
    /// # Panics
    /// Where it can't be removed.
    #[track_caller]
    pub fn delete(&self) {
        self.command(&["delete", "--force"]).ok("delete");
        self.assert_gone();
    }

    /// Saves the container, sees it gone, brings it back and asks; twice over; then saves it while it runs on and
    /// asks the one that ran on; then the same and the first once more, without a question between them.
    ///
    /// # Panics
    /// Where any of it fails.
    #[track_caller]
    pub fn lives_through_checkpoints(&mut self, mut ask: impl FnMut(&Self, &str)) {
        for round in ["the first restore", "the second restore"] {
            let image = self.checkpoint(After::Gone);
            self.restore(&image);
            ask(self, round);
        }
        self.checkpoint(After::Running);
        ask(self, "a checkpoint that leaves it running");
        // What was interrupted and goes on is interrupted again: other than the first time.
        self.checkpoint(After::Running);
        let image = self.checkpoint(After::Gone);
        self.restore(&image);
        ask(self, "a restore after a checkpoint that left it running");
    }

    fn reap(&self) {
        if let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) {
            // Not our child where the machine's first process adopted it: then it is reaped there.
            let _ = rustix::process::waitid(rustix::process::WaitId::Pid(pid), WaitIdOptions::EXITED);
        }
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let output = self.command(&["delete", "--force"]);
        if !output.status.success() && !std::thread::panicking() {
            panic!("delete --force {}: {}", self.id, output.stderr);
        }
        if watch::ended(&self.init, Duration::from_secs(10)) {
            self.reap();
        }
    }
}

/// The process that a pid file names, with a handle on it.
#[track_caller]
fn held(pid_file: &Path) -> (u32, OwnedFd) {
    let text = fs::read_to_string(pid_file).unwrap_or_else(|e| panic!("{}: {e}", pid_file.display()));
    let pid: u32 = text.trim().parse().unwrap_or_else(|e| panic!("{}: {text:?}: {e}", pid_file.display()));
    (pid, watch::pidfd(pid).expect("the first process of the container lives"))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of ours is text")
}
