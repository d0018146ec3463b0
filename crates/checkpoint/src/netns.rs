//! Work done in another network namespace by a thread of its own.

use crate::error::{Context as _, Result};
use rtc_sys::CallExt as _;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::os::fd::{AsRawFd, BorrowedFd};

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
