//! Network namespaces: work done in another one, and whether anybody uses one.

use crate::error::{Context as _, Result};
use rtc_sys::CallExt as _;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::MetadataExt as _;

/// Runs `work` in the network namespace `namespace`. A socket made there belongs to that namespace for good.
///
/// # Errors
/// When the namespace can't be entered (it needs `CAP_SYS_ADMIN` over it), and what `work` says.
pub fn inside<T: Send>(namespace: BorrowedFd<'_>, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    // setns changes the calling thread alone, and this thread ends with the work.
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))
                .call("setns", format_args!("{}, CLONE_NEWNET", namespace.as_raw_fd()))
                .context(|| "enter the network namespace")?;
            work()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Whether nobody can reach the namespace any more: no process is in it, and no mount that we see holds it.
/// A descriptor of it that somebody has is not seen.
///
/// # Errors
/// When /proc can't be read.
pub fn is_deserted(namespace: BorrowedFd<'_>) -> Result<bool> {
    let stat = rustix::fs::fstat(namespace).call("fstat", "network namespace")?;
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").context(|| "/proc/self/mountinfo")?;
    let name = format!(" net:[{}] ", stat.st_ino);
    if mounts.contains(&name) {
        return Ok(false);
    }
    for entry in std::fs::read_dir("/proc").context(|| "/proc")? {
        // Whatever is no process, and processes that end meanwhile, have no such file.
        let Ok(meta) = entry.and_then(|entry| std::fs::metadata(entry.path().join("ns/net"))) else { continue };
        if (meta.dev(), meta.ino()) == (stat.st_dev, stat.st_ino) {
            return Ok(false);
        }
    }
    Ok(true)
}
