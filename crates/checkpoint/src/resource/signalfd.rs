//! Signal descriptors (signalfd(2)): the signals they take. What is pending belongs to the tasks.

use crate::Result;
use crate::files::dumping::Dump;
use crate::files::resource::Resource;
use crate::files::restoring::Restore;
use crate::files::{FileRef, Probe};
use crate::procfs::fdinfo;
use serde::{Deserialize, Serialize};
use std::os::fd::OwnedFd;

/// A signalfd.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signalfd {
    /// The signals it takes: bit n-1 stands for signal n.
    pub mask: u64,
}

impl Resource for Signalfd {
    fn recognises(probe: &Probe<'_>, _cx: &Dump<'_>) -> bool {
        probe.link == "anon_inode:[signalfd]"
    }

    fn dump(probe: &Probe<'_>, _cx: &mut Dump<'_>) -> Result<Option<Self>> {
        Ok(Some(Self { mask: fdinfo::signalfd(probe.fdinfo)? }))
    }

    fn open(&self, _file: FileRef, _cx: &mut Restore<'_>) -> Result<OwnedFd> {
        Ok(rtc_sys::events::signalfd(self.mask)?)
    }
}
