//! The global flags: those in front of the command.

use std::path::PathBuf;

use clap::{ArgAction, Args, ValueEnum};

/// The flags in front of the command.
#[derive(Args, Debug, Default)]
pub(crate) struct Global {
    /// Write debug messages to the log
    #[arg(long)]
    pub(crate) debug: bool,
    /// The least important messages that are logged [default: info]
    #[arg(long, value_name = "LEVEL", value_enum)]
    pub(crate) log_level: Option<LogLevel>,
    /// Append log messages to a file, or send them to journald:ID or syslog:ID, instead of writing them to stderr
    #[arg(long, value_name = "[file:]FILE")]
    pub(crate) log: Option<PathBuf>,
    /// Format of the log
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    pub(crate) log_format: LogFormat,
    /// Directory that keeps the state of containers [default: /run/rtc, or $XDG_RUNTIME_DIR/rtc for other users than
    /// root]
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// Let systemd make the cgroups: cgroupsPath is then slice:prefix:name
    #[arg(long)]
    pub(crate) systemd_cgroup: bool,
    /// Who makes the cgroups [default: cgroupfs, or systemd with --systemd-cgroup]
    #[arg(long, value_name = "MANAGER", value_enum)]
    pub(crate) cgroup_manager: Option<Manager>,
    /// Whether the caller is an ordinary user: the user's systemd, and no cgroup where none may be made
    #[arg(long, value_name = "true|false|auto", value_enum, default_value_t)]
    pub(crate) rootless: Rootless,
    /// Accepted and without effect: rtc needs no criu
    #[arg(long, value_name = "PATH", hide = true)]
    pub(crate) criu: Option<PathBuf>,
    /// Print the version
    #[arg(long, short = 'v', short_alias = 'V', action = ArgAction::SetTrue)]
    pub(crate) version: bool,
}

impl Global {
    /// The least important level that is logged.
    pub(crate) fn level(&self) -> log::LevelFilter {
        match self.log_level {
            _ if self.debug => log::LevelFilter::Debug,
            Some(level) => level.into(),
            None => log::LevelFilter::Info,
        }
    }
}

/// How a log line is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// `time="…" level=error msg="…"`
    #[default]
    Text,
    /// `{"level":"error","msg":"…","time":"…"}`
    Json,
}

/// The values of `--log-level`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogLevel {
    /// What ends a command.
    Error,
    /// What went wrong without ending it.
    #[value(alias = "warn")]
    Warning,
    /// What happened.
    Info,
    /// Everything; as `--debug`.
    Debug,
}

impl From<LogLevel> for log::LevelFilter {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Error => Self::Error,
            LogLevel::Warning => Self::Warn,
            LogLevel::Info => Self::Info,
            LogLevel::Debug => Self::Debug,
        }
    }
}

/// The values of `--cgroup-manager`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Manager {
    /// Make cgroups as directories.
    Cgroupfs,
    /// Ask systemd for a scope.
    Systemd,
    /// Leave the container in the caller's cgroup.
    Disabled,
}

/// The values of `--rootless`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Rootless {
    /// Assume a caller without privilege.
    #[value(aliases = ["1", "t", "T", "TRUE", "True"])]
    True,
    /// Assume a caller with privilege.
    #[value(aliases = ["0", "f", "F", "FALSE", "False"])]
    False,
    /// Look at the user and the user namespace.
    #[default]
    Auto,
}
