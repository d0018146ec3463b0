//! Another task's memory: process_vm_readv(2), process_vm_writev(2).

use crate::{Errno, Error, Result};
use std::io::{IoSlice, IoSliceMut};

/// One range of the other task's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct RemoteRange {
    /// Where it begins.
    pub address: u64,
    /// Its length in bytes.
    pub len: u64,
}

/// Reads ranges of task `pid`, one after another, into `buffer`; gives the bytes read, short at an unreadable page.
///
/// # Errors
/// `EFAULT` when the first page can't be read, `ESRCH` when the task is gone.
pub fn read_ranges(pid: i32, buffer: &mut [u8], ranges: &[RemoteRange]) -> Result<usize> {
    let local = IoSliceMut::new(buffer);
    // SAFETY: IoSliceMut has the layout of iovec and covers `buffer`; RemoteRange has the layout of iovec and the
    // kernel only takes addresses of the other task from it.
    let n = unsafe {
        libc::process_vm_readv(pid, (&raw const local).cast(), 1, ranges.as_ptr().cast(), ranges.len() as u64, 0)
    };
    if n == -1 { Err(Error::last("process_vm_readv", format_args!("{pid}, {ranges:x?}"))) } else { Ok(n as usize) }
}

/// Writes `contents` to ranges of task `pid`, one after another.
///
/// # Errors
/// `EFAULT` when a page isn't mapped writable, `ESRCH` when the task is gone.
pub fn write_ranges(pid: i32, contents: &[u8], ranges: &[RemoteRange]) -> Result<()> {
    let local = IoSlice::new(contents);
    // SAFETY: as above; the kernel only reads `contents`.
    let n = unsafe {
        libc::process_vm_writev(pid, (&raw const local).cast(), 1, ranges.as_ptr().cast(), ranges.len() as u64, 0)
    };
    match n {
        -1 => Err(Error::last("process_vm_writev", format_args!("{pid}, {ranges:x?}"))),
        n if n as usize == contents.len() => Ok(()),
        _ => Err(Error::new("process_vm_writev", format_args!("{pid}, {ranges:x?}"), Errno::EFAULT)),
    }
}

/// Reads exactly `buffer.len()` bytes at `address` of task `pid`.
///
/// # Errors
/// `EFAULT` when not all of it can be read.
pub fn read(pid: i32, address: u64, buffer: &mut [u8]) -> Result<()> {
    let range = RemoteRange { address, len: buffer.len() as u64 };
    match read_ranges(pid, buffer, &[range])? {
        n if n == buffer.len() => Ok(()),
        _ => Err(Error::new("process_vm_readv", format_args!("{pid}, {address:#x}"), Errno::EFAULT)),
    }
}

/// Writes `contents` at `address` of task `pid`.
///
/// # Errors
/// `EFAULT` when not all of it is mapped writable.
pub fn write(pid: i32, address: u64, contents: &[u8]) -> Result<()> {
    write_ranges(pid, contents, &[RemoteRange { address, len: contents.len() as u64 }])
}
