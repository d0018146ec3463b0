//! What a container uses: the `data` object of `events --stats`, in runc's form.

use serde::Serialize;

use super::Cgroup;
use crate::Result;

/// The `data` object of an event of type `stats`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Stats {}

impl Cgroup {
    /// Reads what is used now. Controllers that are missing leave their part empty.
    ///
    /// # Errors
    /// A file exists but can't be read.
    pub fn stats(&self) -> Result<Stats> {
        unimplemented!()
    }
}
