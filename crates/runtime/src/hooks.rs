//! Hooks: programs that config.json wants run at six points of a container's life, with its state on their stdin.
//!
//! | hook | when | where | working directory |
//! |---|---|---|---|
//! | prestart, createRuntime | namespaces made, before pivot_root | runtime's namespaces | the bundle |
//! | createContainer | after those, before pivot_root | container's namespaces | the root file system |
//! | startContainer | at start, before the program | container's namespaces | the program's |
//! | poststart | the program runs | runtime's namespaces | the bundle |
//! | poststop | the container is deleted | runtime's namespaces | the bundle |
//!
//! The directories are runc's; the specification names none.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use oci_spec::runtime::{Hook, Hooks};
use rtc_sys::CallExt;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::MemfdFlags;

use crate::error::{Context, Error, Kind, Result};
use crate::spec::annotations;
use crate::state::OciState;

/// How much of a failed hook's output goes into the error.
const OUTPUT_MAX: u64 = 2048;

/// Runs hooks one after the other until one fails, with the environment of this process for those that set none.
///
/// # Errors
/// `error running NAME hook #INDEX: ...`, INDEX from 0.
pub(crate) fn run(name: &str, hooks: &[Hook], state: &OciState) -> Result<()> {
    if hooks.is_empty() {
        return Ok(());
    }
    run_with(name, hooks, state, None, &Outputs::open(&state.annotations)?)
}

/// Runs every one of the hooks that come after a container's end: one that fails is a warning, and the next is run
/// (runtime-spec, runtime, "Lifecycle").
pub(crate) fn run_poststop(hooks: &[Hook], state: &OciState) {
    if hooks.is_empty() {
        return;
    }
    let outputs = Outputs::open(&state.annotations).inspect_err(|e| log::warn!("{e}")).unwrap_or_default();
    for outcome in each("poststop", hooks, state, None, &outputs) {
        if let Err(e) = outcome {
            log::warn!("{e}");
        }
    }
}

/// Whether there are hooks that find the container's mounts made and its root not changed yet.
pub(crate) fn before_the_pivot(hooks: &Hooks) -> bool {
    #[allow(deprecated)]
    let lists = [hooks.prestart(), hooks.create_runtime(), hooks.create_container()];
    lists.into_iter().flatten().any(|list| !list.is_empty())
}

/// Runs hooks as [`run`] does. `environment` is for hooks that set none; what they write goes to `outputs`.
pub(crate) fn run_with(
    name: &str,
    hooks: &[Hook],
    state: &OciState,
    environment: Option<&[String]>,
    outputs: &Outputs,
) -> Result<()> {
    each(name, hooks, state, environment, outputs).collect()
}

/// Runs hooks one after the other, each when its outcome is asked for.
fn each<'a>(
    name: &'a str,
    hooks: &'a [Hook],
    state: &OciState,
    environment: Option<&'a [String]>,
    outputs: &'a Outputs,
) -> impl Iterator<Item = Result<()>> + 'a {
    let directory = directory(name, state).map(Path::to_owned);
    let state = serde_json::to_vec(state).map_err(|e| e.to_string());
    hooks.iter().enumerate().map(move |(index, hook)| {
        let state = state.as_ref().map_err(|e| Error::new(Kind::System, e.clone()))?;
        log::debug!("running {name} hook #{index}: {}", hook.path().display());
        run_one(hook, state, environment, directory.as_deref(), outputs)
            .context(|| format!("error running {name} hook #{index}"))
    })
}

/// Where hooks of a kind run, if not where the caller does: the bundle may be gone by the container's end, or have no
/// way to it in a user namespace.
fn directory<'a>(name: &str, state: &'a OciState) -> Option<&'a Path> {
    let directory = match name {
        "startContainer" => return None,
        "createContainer" => &state.rootfs,
        _ => &state.bundle,
    };
    directory.join(".").is_dir().then_some(directory)
}

/// The files that annotations name for what hooks write, open for appending.
///
/// The last hooks before the program see the container's files alone, so these are opened on the host before.
#[derive(Debug, Default)]
pub(crate) struct Outputs {
    out: Option<Output>,
    err: Option<Output>,
}

#[derive(Debug)]
struct Output {
    path: String,
    file: File,
}

impl Outputs {
    /// Opens, or makes, those that the annotations name.
    ///
    /// # Errors
    /// A file can't be opened.
    pub(crate) fn open(annotations: &HashMap<String, String>) -> Result<Self> {
        let open = |key| annotations::value(Some(annotations), key).map(Output::open).transpose();
        Ok(Self { out: open(annotations::HOOKS_STDOUT)?, err: open(annotations::HOOKS_STDERR)? })
    }

    /// Their descriptors.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = RawFd> {
        [&self.out, &self.err].into_iter().flatten().map(|output| output.file.as_raw_fd())
    }
}

impl Output {
    fn open(path: &str) -> Result<Self> {
        let file = File::options().append(true).create(true).mode(0o600).open(path).call("open", path)?;
        Ok(Self { path: path.to_owned(), file })
    }
}

/// The file for a hook's output: that of the annotation, or one in memory for the error.
fn output_file(output: Option<&Output>, name: &str) -> Result<File> {
    output.map_or_else(|| memory_file(name), |output| Ok(output.file.try_clone().call("dup", &output.path)?))
}

fn run_one(
    hook: &Hook,
    state: &[u8],
    environment: Option<&[String]>,
    directory: Option<&Path>,
    outputs: &Outputs,
) -> Result<()> {
    if !hook.path().is_absolute() {
        return Err(Error::new(Kind::Invalid, format!("path {} is not absolute", hook.path().display())));
    }
    let timeout = match hook.timeout() {
        None => None,
        Some(seconds) if seconds > 0 => Some(Duration::from_secs(seconds.unsigned_abs())),
        Some(seconds) => return Err(Error::new(Kind::Invalid, format!("timeout {seconds} is not above 0"))),
    };
    // Files, not pipes: a hook that doesn't read its state, or writes a lot, can't make anybody wait.
    let input = memory_file("state")?;
    (&input).write_all(state).call("write", "the state for the hook")?;
    (&input).seek(SeekFrom::Start(0)).call("lseek", "the state for the hook")?;
    let (output, errors) = (output_file(outputs.out.as_ref(), "stdout")?, output_file(outputs.err.as_ref(), "stderr")?);
    let clone = |file: &File| file.try_clone().call("dup", "a hook's output");
    let mut command = Command::new(hook.path());
    let mut args = hook.args().iter().flatten();
    if let Some(name) = args.next() {
        command.arg0(name);
    }
    command.args(args).stdin(input).stdout(clone(&output)?).stderr(clone(&errors)?);
    if let Some(environment) = hook.env().as_deref().or(environment) {
        command.env_clear();
        // An entry without a value is no variable: runc and crun pass it on, and no program can find it.
        command.envs(environment.iter().filter_map(|entry| entry.split_once('=')));
    }
    if let Some(directory) = directory {
        command.current_dir(directory);
    }
    let child = rtc_sys::process::with_default_signals(&mut command).spawn().call("exec", hook.path().display())?;
    let status = wait(child, timeout)?;
    if status.success() {
        return Ok(());
    }
    let said = |output: &Option<Output>, file| match output {
        Some(output) => format!("in {}", output.path),
        None => text(file),
    };
    let (output, errors) = (said(&outputs.out, output), said(&outputs.err, errors));
    let message = format!("{}, stdout: {output}, stderr: {errors}", describe(status));
    Err(Error::new(Kind::System, message))
}

fn memory_file(name: &str) -> Result<File> {
    Ok(File::from(rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC).call("memfd_create", name)?))
}

/// Waits for a hook's end, and kills it when its time is over.
fn wait(mut child: Child, timeout: Option<Duration>) -> Result<ExitStatus> {
    let Some(timeout) = timeout else { return Ok(child.wait().call("wait4", "the hook")?) };
    let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
    let pid = pid.ok_or_else(|| Error::new(Kind::System, "a hook without a pid"))?;
    let pidfd =
        rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).call("pidfd_open", "the hook")?;
    let deadline = Instant::now() + timeout;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left =
            Timespec { tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX), tv_nsec: left.subsec_nanos().into() };
        match rustix::event::poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&left)) {
            Ok(0) => {
                child.kill().call("kill", "the hook")?;
                child.wait().call("wait4", "the hook")?;
                return Err(Error::new(Kind::System, format!("timed out after {} s", timeout.as_secs())));
            }
            Ok(_) => return Ok(child.wait().call("wait4", "the hook")?),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(rtc_sys::Error::from_raw("poll", "the hook", e.raw_os_error()).into()),
        }
    }
}

/// The end of a process in Go's words, as runc prints it.
fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal: {}", signal_name(signal)),
        (None, None) => status.to_string(),
    }
}

fn signal_name(signal: i32) -> String {
    let name = match signal {
        libc::SIGSYS => "bad system call",
        libc::SIGKILL => "killed",
        libc::SIGSEGV => "segmentation fault",
        libc::SIGTERM => "terminated",
        libc::SIGABRT => "aborted",
        libc::SIGPIPE => "broken pipe",
        _ => return signal.to_string(),
    };
    name.to_owned()
}

fn text(mut file: File) -> String {
    let mut bytes = Vec::new();
    if file.seek(SeekFrom::Start(0)).and_then(|_| file.take(OUTPUT_MAX).read_to_end(&mut bytes)).is_err() {
        return String::new();
    }
    String::from_utf8_lossy(&bytes).trim_end().replace('\n', "; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Status;

    fn hook(text: &str) -> Hook {
        serde_json::from_str(text).unwrap()
    }

    fn state() -> OciState {
        OciState {
            oci_version: "1.2.0".into(),
            id: "c".into(),
            pid: 7,
            status: Status::Creating,
            bundle: "/b".into(),
            rootfs: "/b/rootfs".into(),
            created: String::new(),
            annotations: Default::default(),
            owner: String::new(),
        }
    }

    #[test]
    fn a_hook_gets_state_arguments_and_environment() {
        let script = r#"test "$0-$1-$A" = zero-one-1 && grep -q '"pid":7'"#;
        let ok = hook(&format!(
            r#"{{"path":"/bin/sh","args":["sh","-c",{},"zero","one"],"env":["A=1","PATH=/bin:/usr/bin"]}}"#,
            serde_json::to_string(script).unwrap()
        ));
        run("prestart", &[ok], &state()).unwrap();
    }

    #[test]
    fn hooks_run_in_the_bundle_or_the_root() {
        let state = OciState { bundle: "/usr".into(), rootfs: "/usr/bin".into(), ..state() };
        let at = |path: &str| hook(&format!(r#"{{"path":"/bin/sh","args":["sh","-c","test $(pwd) = {path}"]}}"#));
        run("poststart", &[at("/usr")], &state).unwrap();
        run("createContainer", &[at("/usr/bin")], &state).unwrap();
        let here = std::env::current_dir().unwrap();
        let gone = OciState { bundle: "/nothing/here".into(), ..state };
        run("poststop", &[at(here.to_str().unwrap())], &gone).unwrap();
    }

    #[test]
    fn the_failing_hook_is_named_with_its_output() {
        let list = [
            hook(r#"{"path":"/bin/true"}"#),
            hook(r#"{"path":"/bin/sh","args":["sh","-c","echo out; echo err >&2; exit 3"]}"#),
        ];
        let error = run("createRuntime", &list, &state()).unwrap_err().to_string();
        assert_eq!(error, "error running createRuntime hook #1: exit status 3, stdout: out, stderr: err");
    }

    #[test]
    fn a_hook_is_killed_when_its_time_is_over() {
        let slow = hook(r#"{"path":"/bin/sleep","args":["sleep","600"],"timeout":1}"#);
        let error = run("poststop", &[slow], &state()).unwrap_err().to_string();
        assert_eq!(error, "error running poststop hook #0: timed out after 1 s");
    }
}
