//! Shared anonymous memory as an object that outlives its mapping.

use crate::{Error, Result};
use std::ops::Range;
use std::os::fd::OwnedFd;

/// Makes the object that `mmap(MAP_SHARED | MAP_ANONYMOUS)` makes and hands it out as a descriptor: `open` gets the
/// range where it is mapped meanwhile, opens that range's file in /proc/self/map_files, and the mapping goes away again.
///
/// Where the memory can't be reserved (vm.overcommit_memory), the object is made with `MAP_NORESERVE`.
///
/// # Errors
/// The errno of mmap(2), or the error of `open`.
pub fn shared_anonymous<E: From<Error>>(
    size: usize,
    open: impl FnOnce(Range<usize>) -> std::result::Result<OwnedFd, E>,
) -> std::result::Result<OwnedFd, E> {
    let start = match map(size, 0) {
        Err(e) if e.errno() == crate::Errno::ENOMEM => map(size, libc::MAP_NORESERVE)?,
        start => start?,
    };
    let opened = open(start..start + size);
    // SAFETY: the range was mapped above, and nobody has a pointer into it.
    unsafe { libc::munmap(start as *mut libc::c_void, size) };
    opened
}

fn map(size: usize, flag: i32) -> Result<usize> {
    let (prot, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS | flag);
    // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
    let start = unsafe { libc::mmap(std::ptr::null_mut(), size, prot, flags, -1, 0) };
    if start == libc::MAP_FAILED {
        return Err(Error::last("mmap", format_args!("NULL, {size}, PROT_READ|PROT_WRITE, {flags:#x}, -1, 0")));
    }
    Ok(start as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CallExt as _;
    use std::os::fd::AsRawFd as _;

    #[test]
    fn the_object_outlives_its_mapping_and_has_the_kernels_name() {
        let fd: OwnedFd = shared_anonymous(8192, |range| {
            let path = format!("/proc/self/map_files/{:x}-{:x}", range.start, range.end);
            let file = std::fs::OpenOptions::new().read(true).write(true).open(&path);
            file.call("open", path).map(OwnedFd::from)
        })
        .unwrap();
        let link = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap();
        assert_eq!(link.to_str(), Some("/dev/zero (deleted)"));
        assert_eq!(std::fs::File::from(fd).metadata().unwrap().len(), 8192);
    }
}
