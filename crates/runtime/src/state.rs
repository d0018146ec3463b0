//! What is kept of a container on disk, and the state object of the OCI specification.
//!
//! `ROOT/ID/state.json` (mode 0600) is replaced atomically and small: what `state`, `kill` and `delete` need.
//! `ROOT/ID/config.json` is the configuration as it was when the container was created.
//! `ROOT/ID/exec.fifo` exists as long as init waits for `start`.
//! The directory itself carries the lock (`flock`), so that there is no lock file to be left behind.

use std::collections::HashMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};

/// A container's status (runtime specification, "State"), and `paused` as runc adds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// `create` is at work.
    Creating,
    /// Init waits for `start`.
    Created,
    /// Init has been started and lives.
    Running,
    /// The cgroup is frozen.
    Paused,
    /// Init has ended.
    Stopped,
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        })
    }
}

/// The state object: what `state` prints, and what hooks get on their stdin. Field order is runc's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OciState {
    /// The specification's version, from config.json.
    pub oci_version: String,
    /// The container's id.
    pub id: String,
    /// Init's pid as the host counts; 0 when stopped.
    pub pid: i32,
    /// The status.
    pub status: Status,
    /// The bundle, absolute.
    pub bundle: PathBuf,
    /// The root file system, absolute.
    pub rootfs: PathBuf,
    /// When it was created: RFC 3339, nanoseconds, UTC.
    pub created: String,
    /// config.json's annotations.
    #[serde(default, skip_serializing_if = "HashMap::is_empty")]
    pub annotations: HashMap<String, String>,
    /// The name of the user who created it; `state` prints it empty, `list` filled, as runc does.
    pub owner: String,
}

/// One of init's descriptors 0 to 2 as it was when the container was created.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stdio {
    /// `readlink /proc/PID/fd/N`.
    pub link: String,
    /// `st_dev`.
    pub dev: u64,
    /// `st_ino`.
    pub ino: u64,
}

/// Says whether `id` may name a container: letters, digits, `_ + - .`, not `.` or `..`.
///
/// # Errors
/// [`Kind::Invalid`].
pub fn check_id(id: &str) -> Result<()> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '+' | '-' | '.');
    if id.is_empty() || id.len() > 1024 || id == "." || id == ".." || !id.chars().all(allowed) {
        return Err(Error::new(Kind::Invalid, format!("invalid container ID format: {id:?}")));
    }
    Ok(())
}
