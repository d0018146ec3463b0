//! The state object of the OCI specification, and the small things it is made of.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

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
    #[serde(default, skip_serializing_if = "HashMap::is_empty", serialize_with = "in_order")]
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

impl Stdio {
    /// What stands for a descriptor that is closed.
    pub(crate) const CLOSED: Self = Self { link: String::new(), dev: 0, ino: 0 };
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

/// A time as RFC 3339 with nanoseconds, UTC.
pub(crate) fn timestamp(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    // Civil date from days since 1970-03-01 in eras of 400 years (146097 days), years beginning in March.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:09}Z", since.subsec_nanos())
}

/// The same text every time.
fn in_order<S: serde::Serializer>(
    map: &HashMap<String, String>,
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    serializer.collect_map(map.iter().collect::<std::collections::BTreeMap<_, _>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn times_are_written_as_rfc_3339() {
        let at = |seconds, nanos| timestamp(UNIX_EPOCH + Duration::new(seconds, nanos));
        assert_eq!(at(0, 0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(at(951_782_400, 1), "2000-02-29T00:00:00.000000001Z");
        assert_eq!(at(1_795_260_799, 999_999_999), "2026-11-21T11:33:19.999999999Z");
    }

    #[test]
    fn ids_can_not_lead_out_of_the_root() {
        for bad in ["", ".", "..", "a/b", "a b", "\u{e9}"] {
            assert_eq!(*check_id(bad).unwrap_err().kind(), Kind::Invalid, "{bad:?}");
        }
        check_id("web_1+2-3.4").unwrap();
    }
}
