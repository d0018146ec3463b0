//! userfaultfd(2) as a way to put pages into another task's memory: `UFFDIO_COPY` copies a page into a fresh frame and
//! maps it, without the fault and the zeroing that a write to an untouched page costs.
//!
//! The task makes the descriptor (it belongs to the address space it was made in); we use it from outside.
//! Faults are not served here: all that is registered is filled and let go again before the task runs.

use crate::{Errno, Error, Result};
use std::mem;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// The flag of userfaultfd(2) that needs no privilege (kernel 5.11): faults of the kernel itself are not served.
pub const USER_MODE_ONLY: i32 = 1;

/// `UFFD_API`: the version of the interface.
const API: u64 = 0xaa;
/// `UFFDIO_REGISTER_MODE_MISSING`.
const MISSING: u64 = 1;
/// `UFFDIO_COPY_MODE_DONTWAKE`: nobody waits.
const DONT_WAKE: u64 = 1;

#[repr(C)]
struct ApiArg {
    api: u64,
    features: u64,
    ioctls: u64,
}

#[repr(C)]
struct RegisterArg {
    start: u64,
    len: u64,
    mode: u64,
    ioctls: u64,
}

#[repr(C)]
struct CopyArg {
    to: u64,
    from: u64,
    len: u64,
    mode: u64,
    copied: i64,
}

const fn read_write<T>(number: u64) -> u64 {
    (3 << 30) | ((mem::size_of::<T>() as u64) << 16) | (API << 8) | number
}

/// _IOWR(UFFDIO, 0x3f, struct uffdio_api)
const UFFDIO_API: u64 = read_write::<ApiArg>(0x3f);
/// _IOWR(UFFDIO, 0x00, struct uffdio_register)
const UFFDIO_REGISTER: u64 = read_write::<RegisterArg>(0x00);
/// _IOWR(UFFDIO, 0x03, struct uffdio_copy)
const UFFDIO_COPY: u64 = read_write::<CopyArg>(0x03);

/// A userfaultfd of another task. When it is dropped, what was registered is ordinary memory again, provided that
/// nobody else has the descriptor.
#[derive(Debug)]
pub struct UserFaultFd(OwnedFd);

impl UserFaultFd {
    /// Agrees with the kernel upon the interface. The descriptor must be new.
    ///
    /// # Errors
    /// `EINVAL` when the kernel has another version.
    pub fn new(fd: OwnedFd) -> Result<Self> {
        let mut arg = ApiArg { api: API, features: 0, ioctls: 0 };
        // SAFETY: the request reads and writes one uffdio_api, whose layout `arg` has.
        let done = unsafe { libc::ioctl(fd.as_raw_fd(), UFFDIO_API, &raw mut arg) };
        if done == -1 {
            Err(Error::last("ioctl", format_args!("{}, UFFDIO_API", fd.as_raw_fd())))
        } else {
            Ok(Self(fd))
        }
    }

    /// Registers whole mappings of private memory, whose missing pages [`UserFaultFd::copy`] may then bring.
    ///
    /// # Errors
    /// `EINVAL` for a range that isn't mapped or of a kind that can't be registered.
    pub fn register(&self, start: u64, len: u64) -> Result<()> {
        let fd = self.0.as_fd().as_raw_fd();
        let mut arg = RegisterArg { start, len, mode: MISSING, ioctls: 0 };
        // SAFETY: the request reads and writes one uffdio_register, whose layout `arg` has; the addresses are the
        // other task's.
        let done = unsafe { libc::ioctl(fd, UFFDIO_REGISTER, &raw mut arg) };
        if done == -1 {
            Err(Error::last("ioctl", format_args!("{fd}, UFFDIO_REGISTER, {start:#x}, {len}")))
        } else {
            Ok(())
        }
    }

    /// Gives the task pages with these contents at `to`, which must be registered and have none yet.
    ///
    /// # Errors
    /// `EEXIST` when a page is there already, `ENOMEM`, `ESRCH` when the task is gone.
    pub fn copy(&self, to: u64, contents: &[u8]) -> Result<()> {
        let fd = self.0.as_fd().as_raw_fd();
        let mut done = 0usize;
        while done < contents.len() {
            let rest = &contents[done..];
            let mut arg = CopyArg {
                to: to + done as u64,
                from: rest.as_ptr() as u64,
                len: rest.len() as u64,
                mode: DONT_WAKE,
                copied: 0,
            };
            // SAFETY: the request reads and writes one uffdio_copy, whose layout `arg` has, and reads `len` bytes of
            // ours at `from`, which `rest` covers; the other address is the other task's.
            let result = unsafe { libc::ioctl(fd, UFFDIO_COPY, &raw mut arg) };
            let errno = Errno::last();
            // A part was copied when the kernel was interrupted: the rest follows.
            match usize::try_from(arg.copied) {
                Ok(n) if result == 0 || (errno == Errno::EAGAIN && n > 0) => done += n,
                _ => {
                    return Err(Error::new(
                        "ioctl",
                        format_args!("{fd}, UFFDIO_COPY, {:#x}, {}", arg.to, arg.len),
                        errno,
                    ));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CallExt;
    use std::os::fd::FromRawFd;

    #[test]
    fn pages_come_by_copy_once() {
        let page = 4096;
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
        let at = unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            libc::mmap(std::ptr::null_mut(), 3 * page, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0)
        };
        assert_ne!(at, libc::MAP_FAILED);
        // SAFETY: the call takes one integer and gives a new descriptor.
        let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC | USER_MODE_ONLY) } as i32;
        assert!(fd >= 0, "userfaultfd: {:?}", std::io::Error::last_os_error());
        // SAFETY: the descriptor is new and nobody else's.
        let uffd = UserFaultFd::new(unsafe { OwnedFd::from_raw_fd(fd) }).unwrap();
        assert_eq!(uffd.copy(at as u64, &[1; 4096]).unwrap_err().errno(), Errno::ENOENT);
        uffd.register(at as u64, 3 * page as u64).unwrap();
        uffd.copy(at as u64, &[7; 8192]).unwrap();
        assert_eq!(uffd.copy(at as u64, &[8; 4096]).unwrap_err().errno(), Errno::EEXIST);
        drop(uffd);
        // SAFETY: all three pages are mapped readable, and nobody writes.
        let seen = unsafe { std::slice::from_raw_parts(at.cast::<u8>(), 3 * page) };
        assert_eq!((seen[0], seen[2 * page - 1], seen[2 * page]), (7, 7, 0));
        // SAFETY: mapped above, and `seen` is not used any more.
        nix_result(unsafe { libc::munmap(at, 3 * page) }).call("munmap", "").unwrap();
    }

    fn nix_result(done: i32) -> std::io::Result<()> {
        if done == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    }
}
