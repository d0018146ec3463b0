//! Processes that have more in common than their parentage: tables of descriptors, working directories.

use crate::base::{Check, Named, Prepare, Result, check, pipe, read, same, sys, write};
use crate::memory::Map;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

pub(crate) const ZOO: &[(&str, Prepare)] =
    &[("shared_descriptor_table", shared_descriptor_table), ("shared_working_directory", shared_working_directory)];

/// A child made with `flags` that runs `deed` each time it is told.
/// It may have the parent's table of descriptors, so the ends of its pipes are never closed.
fn with_flags(flags: i32, mut deed: impl FnMut() -> Result<()>) -> Result<impl FnMut() -> Result<()>> {
    let (their_ask, ask) = pipe(0)?;
    let (answer, their_answer) = pipe(0)?;
    let none = std::ptr::null_mut::<u8>();
    let pid = sys!(libc::syscall(libc::SYS_clone, i64::from(flags | libc::SIGCHLD), none, none, none, none))?;
    if pid == 0 {
        loop {
            let text = match read(&their_ask, 1) {
                Ok(byte) if byte.len() == 1 => deed().err().unwrap_or_default(),
                // SAFETY: ends this process.
                _ => unsafe { libc::_exit(0) },
            };
            drop(write(&their_answer, format!("{text}\n").as_bytes()));
        }
    }
    std::mem::forget((their_ask, their_answer));
    Ok(move || {
        write(&ask, b"?")?;
        same("the child", String::from_utf8_lossy(&read(&answer, 1000)?).trim(), "")
    })
}

/// What the child opens is open in the parent.
fn shared_descriptor_table() -> Result<Check> {
    let number = Map::new(4096, libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1)?;
    let at = number.at as *mut i32;
    let mut child = with_flags(libc::CLONE_FILES, move || {
        let fd = sys!(libc::open(c"/etc".as_ptr(), libc::O_RDONLY | libc::O_DIRECTORY))?;
        // SAFETY: within the shared mapping.
        unsafe { at.write_volatile(fd) };
        Ok(())
    })?;
    check(move || {
        child()?;
        // SAFETY: within the shared mapping; the descriptor is in our table too, and nobody else closes it.
        let fd = unsafe { OwnedFd::from_raw_fd(at.read_volatile()) };
        let link = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).named("the child's descriptor")?;
        same("the child's descriptor", link, "/etc".into())
    })
}

/// Where the child goes, the parent is.
fn shared_working_directory() -> Result<Check> {
    let mut child = with_flags(libc::CLONE_FS, || {
        sys!(libc::umask(0o031))?;
        sys!(libc::chdir(c"/etc".as_ptr())).map(drop)
    })?;
    check(move || {
        sys!(libc::chdir(c"/".as_ptr()))?;
        child()?;
        same("working directory", std::env::current_dir().named("cwd")?, "/etc".into())?;
        same("umask", sys!(libc::umask(0o022))?, 0o031)
    })
}
