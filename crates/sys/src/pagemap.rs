//! Which pages of a task are there: the `PAGEMAP_SCAN` ioctl of /proc/PID/pagemap (kernel 6.7), and its plain entries.

use crate::{CallExt, Error, Result};
use std::mem;
use std::os::fd::{AsFd, AsRawFd};

/// Page categories of `PAGEMAP_SCAN` (linux/fs.h).
pub mod category {
    /// Backed by a file or shared memory.
    pub const FILE: u64 = 1 << 2;
    /// In memory.
    pub const PRESENT: u64 = 1 << 3;
    /// In swap.
    pub const SWAPPED: u64 = 1 << 4;
    /// The shared page of zeroes.
    pub const PFNZERO: u64 = 1 << 5;
    /// Mapped huge.
    pub const HUGE: u64 = 1 << 6;
    /// A guard region (kernel 6.15).
    pub const GUARD: u64 = 1 << 8;
}

/// A run of pages with the same categories.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Region {
    /// Its first address.
    pub start: u64,
    /// The address behind its last.
    pub end: u64,
    /// Those of the asked-for categories that hold.
    pub categories: u64,
}

#[repr(C)]
struct ScanArg {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

/// _IOWR('f', 16, struct pm_scan_arg)
const PAGEMAP_SCAN: u64 = (3 << 30) | ((mem::size_of::<ScanArg>() as u64) << 16) | ((b'f' as u64) << 8) | 16;

/// What pages to look for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Query {
    /// Categories that must not hold.
    pub without: u64,
    /// Categories of which one must hold.
    pub any_of: u64,
    /// Categories to report.
    pub report: u64,
}

/// Finds the runs of pages between `start` and `end` that match.
///
/// # Errors
/// `ENOTTY` before kernel 6.7.
pub fn scan(pagemap: impl AsFd, start: u64, end: u64, query: Query) -> Result<Vec<Region>> {
    let mut all = Vec::new();
    let mut buffer = [Region::default(); 512];
    let mut at = start;
    while at < end {
        let mut arg = ScanArg {
            size: mem::size_of::<ScanArg>() as u64,
            flags: 0,
            start: at,
            end,
            walk_end: 0,
            vec: buffer.as_mut_ptr() as u64,
            vec_len: buffer.len() as u64,
            max_pages: 0,
            category_inverted: query.without,
            category_mask: query.without,
            category_anyof_mask: query.any_of,
            return_mask: query.report,
        };
        // SAFETY: `arg` is the structure this ioctl reads and writes, and its vec is a live buffer of vec_len regions.
        let n = unsafe { libc::ioctl(pagemap.as_fd().as_raw_fd(), PAGEMAP_SCAN, &raw mut arg) };
        if n < 0 {
            return Err(Error::last("ioctl", format_args!("pagemap, PAGEMAP_SCAN, {at:#x}-{end:#x}")));
        }
        all.extend_from_slice(&buffer[..n as usize]);
        if arg.walk_end <= at {
            break;
        }
        at = arg.walk_end;
    }
    Ok(all)
}

/// One entry of /proc/PID/pagemap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry(pub u64);

impl Entry {
    /// The page frame number, unless the page isn't in memory; 0 without CAP_SYS_ADMIN.
    pub fn frame(self) -> Option<u64> {
        (self.0 >> 63 == 1).then_some(self.0 & ((1 << 55) - 1))
    }
    /// Whether no other address space maps the page (kernel 4.2).
    pub fn is_exclusive(self) -> bool {
        (self.0 >> 56) & 1 == 1
    }
}

/// The entries of `entries.len()` pages from the page number `first` on.
///
/// # Errors
/// `EIO` when the range isn't covered.
pub fn entries(pagemap: impl AsFd, first: u64, count: usize) -> Result<Vec<Entry>> {
    let mut bytes = vec![0u8; count * 8];
    let mut done = 0;
    while done < bytes.len() {
        let n = rustix::io::pread(pagemap.as_fd(), &mut bytes[done..], first * 8 + done as u64)
            .call("pread", format_args!("pagemap, {first:#x}, {count}"))?;
        if n == 0 {
            return Err(Error::new("pread", format_args!("pagemap, {first:#x}, {count}"), crate::Errno::EIO));
        }
        done += n;
    }
    Ok(bytes.chunks_exact(8).map(|b| Entry(u64::from_ne_bytes(b.try_into().expect("chunks of eight")))).collect())
}
