//! File handles: an inode's name that needs no path (open_by_handle_at(2)).

use crate::{Error, Result};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// The longest handle the kernel gives or takes (`MAX_HANDLE_SZ`).
pub const MAX_HANDLE: usize = 128;

#[repr(C, align(4))]
struct Raw {
    bytes: u32,
    kind: i32,
    handle: [u8; MAX_HANDLE],
}

/// A file handle: the file system's type of it, and its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileHandle {
    /// What the bytes mean to the file system.
    pub kind: i32,
    /// At most [`MAX_HANDLE`] bytes.
    pub bytes: Vec<u8>,
}

/// Opens, with `O_PATH`, the inode that `handle` names on the file system that `mount` is a descriptor of.
///
/// # Errors
/// The errno of the call: `ESTALE` when there is no such inode, `EOPNOTSUPP` when the file system can't do it,
/// `EPERM` without CAP_DAC_READ_SEARCH.
pub fn open_by_handle(mount: BorrowedFd<'_>, handle: &FileHandle) -> Result<OwnedFd> {
    let describe = || format!("{}, {handle:?}, O_PATH", mount.as_raw_fd());
    if handle.bytes.len() > MAX_HANDLE {
        return Err(Error::new("open_by_handle_at", describe(), crate::Errno::EINVAL));
    }
    let mut raw = Raw { bytes: handle.bytes.len() as u32, kind: handle.kind, handle: [0; MAX_HANDLE] };
    raw.handle[..handle.bytes.len()].copy_from_slice(&handle.bytes);
    let flags = libc::O_PATH | libc::O_CLOEXEC;
    // SAFETY: `raw` has the layout of struct file_handle with room for the bytes that it announces.
    let fd = unsafe { libc::syscall(libc::SYS_open_by_handle_at, mount.as_raw_fd(), &raw const raw, flags) };
    if fd < 0 {
        return Err(Error::last("open_by_handle_at", describe()));
    }
    // SAFETY: the call has just made this descriptor, nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_made_up_handle_is_refused_by_the_kernel() {
        let root = std::fs::File::open("/").unwrap();
        let handle = FileHandle { kind: 1, bytes: vec![0xff; 8] };
        let error = open_by_handle(root.as_fd(), &handle).unwrap_err();
        assert_eq!(error.call(), "open_by_handle_at");
        let long = FileHandle { kind: 1, bytes: vec![0; MAX_HANDLE + 1] };
        assert_eq!(open_by_handle(root.as_fd(), &long).unwrap_err().errno(), crate::Errno::EINVAL);
    }
}
