//! One limit as a write to a file.

use crate::{Error, Kind, Result};

/// One limit: the property that asked for it and the file that takes it.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::cgroup) struct Setting {
    /// As config.json calls it, below `linux.resources`.
    pub(in crate::cgroup) property: String,
    /// The controller that has the files.
    pub(in crate::cgroup) controller: String,
    /// File and value; the first file that exists is taken.
    pub(in crate::cgroup) files: Vec<(String, Value)>,
    /// What to do if no file exists.
    pub(in crate::cgroup) missing: Missing,
    /// On EINVAL, write it again after all others: its range depends on one of them.
    pub(in crate::cgroup) may_be_early: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cgroup) enum Missing {
    /// The limit can't be kept.
    Refuse,
    /// It asks for what holds without the file: no limit.
    Ignore,
}

/// What to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cgroup) enum Value {
    Text(String),
    /// `QUOTA PERIOD` of cpu.max with this period and the quota that is set.
    Period(u64),
    /// Of this sum of memory and swap, what is above the memory limit that is set.
    SwapOf(i64),
}

impl Setting {
    pub(in crate::cgroup) fn new(property: &str, file: &str, value: impl Into<String>) -> Self {
        let value = value.into();
        // "No limit" holds without the controller.
        let missing = if value == "max" { Missing::Ignore } else { Missing::Refuse };
        Self::of(property, file, Value::Text(value), missing)
    }

    pub(in crate::cgroup) fn of(property: &str, file: &str, value: Value, missing: Missing) -> Self {
        let controller = file.split('.').next().unwrap_or(file).to_owned();
        let files = vec![(file.to_owned(), value)];
        Self { property: property.to_owned(), controller, files, missing, may_be_early: false }
    }

    /// Adds the file to take where the first doesn't exist.
    pub(in crate::cgroup) fn or(mut self, file: &str, value: impl Into<String>) -> Self {
        self.files.push((file.to_owned(), Value::Text(value.into())));
        self
    }

    pub(in crate::cgroup) fn ignore_missing(mut self) -> Self {
        self.missing = Missing::Ignore;
        self
    }

    pub(in crate::cgroup) fn may_be_early(mut self) -> Self {
        self.may_be_early = true;
        self
    }
}

/// The error of a value that makes no sense.
pub(in crate::cgroup) fn invalid<T>(message: impl Into<String>) -> Result<T> {
    Err(Error::new(Kind::Invalid, message))
}

/// A number as cgroup2 writes it: `max` for a negative one.
pub(in crate::cgroup) fn limit(number: i64) -> String {
    if number < 0 { "max".to_owned() } else { number.to_string() }
}
