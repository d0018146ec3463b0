//! Which descriptors are one open file description.
//!
//! Descriptors whose cheap keys differ can't be the same description; among equal keys kcmp(2) decides,
//! whose order lets a sorted list be searched, so that a thousand sockets cost ten comparisons each.

use super::FileId;
use crate::Result;
use rtc_sys::Errno;
use rtc_sys::kcmp::{Resource, kcmp};
use std::cmp::Ordering;
use std::collections::HashMap;

/// What equal descriptions have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) dev: u64,
    pub(crate) ino: u64,
    pub(crate) flags: i32,
}

/// A descriptor by which a description can be reached: task and number.
pub(crate) type Handle = (i32, i32);

/// The descriptions known so far.
#[derive(Default)]
pub(crate) struct Identities {
    /// Sorted as kcmp orders them.
    known: HashMap<Key, Vec<(Handle, FileId)>>,
}

impl Identities {
    /// The description that `handle` is, which becomes `new` if it is none of those known.
    pub(crate) fn find_or_add(&mut self, key: Key, handle: Handle, new: FileId) -> Result<FileId> {
        let list = self.known.entry(key).or_default();
        // binary_search_by has no way to stop at an error.
        let (mut low, mut high) = (0, list.len());
        while low < high {
            let middle = low.midpoint(high);
            let ((pid, fd), id) = list[middle];
            match kcmp(pid, handle.0, Resource::File(fd, handle.1)) {
                Ok(Ordering::Equal) => return Ok(id),
                Ok(Ordering::Less) => low = middle + 1,
                Ok(Ordering::Greater) => high = middle,
                // Only a task that runs (preflight) or was killed can have closed it; it is nobody's twin then.
                Err(e) if matches!(e.errno(), Errno::EBADF | Errno::ESRCH) => {
                    list.remove(middle);
                    (low, high) = (0, list.len());
                }
                Err(e) => return Err(e.into()),
            }
        }
        list.insert(low, (handle, new));
        Ok(new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn duplicates_are_found_among_many_of_one_key() {
        let key = Key { dev: 1, ino: 2, flags: 0 };
        let pid = std::process::id() as i32;
        let files: Vec<_> = (0..50).map(|_| std::fs::File::open("/dev/null").unwrap()).collect();
        let twins: Vec<_> = files.iter().map(|f| f.try_clone().unwrap()).collect();
        let mut known = Identities::default();
        for (n, file) in files.iter().enumerate() {
            let id = FileId(n as u32);
            assert_eq!(known.find_or_add(key, (pid, file.as_raw_fd()), id).unwrap(), id);
        }
        for (n, twin) in twins.iter().enumerate() {
            let id = known.find_or_add(key, (pid, twin.as_raw_fd()), FileId(1000)).unwrap();
            assert_eq!(id, FileId(n as u32));
        }
    }
}
