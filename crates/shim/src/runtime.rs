//! Calls of rtc, the runtime: the command lines, and what a failed one said.
//!
//! rtc is a process of its own each time. Making a container takes a process with one thread and without the memory of
//! others, and the shim stays as small as it is.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use containerd_shim::api::Options;
use serde::Deserialize;

use crate::bundle::Config;
use crate::fault::{Code, Fault, Result};
use crate::options;

/// rtc with its global flags.
#[derive(Clone, Debug)]
pub(crate) struct Runtime {
    binary: PathBuf,
    root: PathBuf,
    bundle: PathBuf,
    systemd: bool,
}

/// A call that is about to be made.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) command: Command,
    /// What is being done, for the front of an error.
    pub(crate) deed: &'static str,
    /// The file that rtc logs to.
    pub(crate) log: PathBuf,
}

impl Runtime {
    pub(crate) fn new(options: &Options, namespace: &str, bundle: &Path, config: &Config) -> Self {
        Self {
            binary: options::binary(options),
            root: options::state_directory(options, namespace),
            bundle: bundle.to_owned(),
            systemd: options.systemd_cgroup || config.has_systemd_path(),
        }
    }

    /// Whether systemd makes the container's cgroup, and removes it.
    pub(crate) fn is_systemd(&self) -> bool {
        self.systemd
    }

    /// `rtc COMMAND`, with no input and no output.
    ///
    /// `number` makes the log's name unique: calls may run side by side.
    pub(crate) fn call(&self, deed: &'static str, number: u64) -> Call {
        let log = self.bundle.join(format!("rtc-{number}.json"));
        let mut command = Command::new(&self.binary);
        command.arg("--root").arg(&self.root).arg("--log").arg(&log).args(["--log-format", "json"]);
        if self.systemd {
            command.arg("--systemd-cgroup");
        }
        command.arg(deed).current_dir(&self.bundle);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // Where systemd has started containerd, it is containerd's: rtc would wait for the container to say it is ready.
        command.env_remove("NOTIFY_SOCKET");
        // And these are of descriptors that the shim hasn't got.
        for name in ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"] {
            command.env_remove(name);
        }
        Call { command, deed, log }
    }
}

/// The outcome of a call that has ended with `status`: its last error. The log goes away.
pub(crate) fn outcome(deed: &str, log: &Path, status: u32) -> Result<()> {
    let text = fs::read_to_string(log).unwrap_or_default();
    let _ = fs::remove_file(log);
    if status == 0 {
        return Ok(());
    }
    let said = last_error(&text).unwrap_or_else(|| format!("rtc ended with status {status}"));
    let gone = ["does not exist", "container not running", "process already finished"];
    let code = if gone.iter().any(|text| said.contains(text)) { Code::NOT_FOUND } else { Code::UNKNOWN };
    // docker and others look for these words.
    let deed = if deed == "create" || deed == "exec" || deed == "start" {
        "OCI runtime ".to_owned() + deed
    } else {
        deed.into()
    };
    Err(Fault::new(code, format!("{deed} failed: {said}")))
}

#[derive(Deserialize)]
struct Line {
    level: String,
    msg: String,
}

fn last_error(log: &str) -> Option<String> {
    let lines = log.lines().rev().filter_map(|line| serde_json::from_str::<Line>(line).ok());
    lines.into_iter().find(|line| line.level == "error").map(|line| line.msg)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_is_told() {
        let log = std::env::temp_dir().join(format!("shim-log-{}", std::process::id()));
        let write = |text: &str| fs::write(&log, text).unwrap();
        write(
            "{\"level\":\"error\",\"msg\":\"first\"}\n{\"level\":\"error\",\"msg\":\"exec: no\"}\n{\"level\":\"warning\",\"msg\":\"w\"}\n",
        );
        let fault = outcome("create", &log, 1).unwrap_err();
        assert_eq!((fault.code, fault.message.as_str()), (Code::UNKNOWN, "OCI runtime create failed: exec: no"));
        assert!(!log.exists());
        write("{\"level\":\"error\",\"msg\":\"container does not exist\"}\n");
        assert_eq!(outcome("kill", &log, 1).unwrap_err().code, Code::NOT_FOUND);
        assert_eq!(outcome("pause", &log, 2).unwrap_err().message, "pause failed: rtc ended with status 2");
        assert_eq!(outcome("pause", &log, 0), Ok(()));
    }

    #[test]
    fn the_command_line_has_the_global_flags_first() {
        let options = Options { binary_name: "/opt/rtc".into(), systemd_cgroup: true, ..Options::default() };
        let runtime = Runtime::new(&options, "default", Path::new("/b"), &Config::default());
        let call = runtime.call("pause", 3);
        let words: Vec<_> = call.command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
        let line = "--root /run/containerd/rtc/default --log /b/rtc-3.json --log-format json --systemd-cgroup pause";
        assert_eq!(words.join(" "), line);
        let names: Vec<_> = call.command.get_envs().map(|(name, value)| (name.to_str().unwrap(), value)).collect();
        assert_eq!(names, ["LISTEN_FDNAMES", "LISTEN_FDS", "LISTEN_PID", "NOTIFY_SOCKET"].map(|name| (name, None)));
    }
}
