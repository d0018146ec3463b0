//! Files that were given to the container from outside: its stdio.
//!
//! Nothing of them is saved but the name; the caller of restore brings new ones.

use crate::Result;
use crate::error::bad_image;
use crate::files::dumping::Dump;
use crate::files::resource::Resource;
use crate::files::restoring::Restore;
use crate::files::{External, FileRef, Probe};
use rtc_sys::CallExt as _;
use serde::{Deserialize, Serialize};
use std::os::fd::OwnedFd;

/// A file from outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExternalFile {
    /// [`External::name`].
    pub name: String,
}

/// The external file that `probe` is, by device, inode and link.
///
/// The link counts because each pipe end and each anonymous inode shares device and inode with others.
pub(crate) fn find<'a>(probe: &Probe<'_>, cx: &Dump<'a>) -> Option<&'a External> {
    let same = |e: &&External| e.dev == probe.stat.st_dev && e.ino == probe.stat.st_ino && e.link == probe.link;
    cx.externals().iter().find(same)
}

impl Resource for ExternalFile {
    fn recognises(probe: &Probe<'_>, cx: &Dump<'_>) -> bool {
        find(probe, cx).is_some()
    }

    fn dump(probe: &Probe<'_>, cx: &mut Dump<'_>) -> Result<Option<Self>> {
        Ok(find(probe, cx).map(|external| Self { name: external.name.clone() }))
    }

    fn open(&self, _file: FileRef, cx: &mut Restore<'_>) -> Result<OwnedFd> {
        let Some(given) = cx.env().externals.get(&self.name) else {
            return Err(bad_image(format!("the image wants the file \"{}\", which was not given", self.name)));
        };
        // The same description, not a copy of it: its offset and flags are shared with whoever gave it.
        Ok(given.try_clone().call("dup", &self.name)?)
    }
}
