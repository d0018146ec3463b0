//! Whether a thread is in a Landlock domain: no file tells, so it is tried.
//!
//! A folder in the file system of message queues can't be made by anyone: the kernel says EPERM. But a domain that
//! restricts the making of folders is asked before and says EACCES. Nothing can come of the attempt.
//!
//! Left out: domains that don't restrict that (only the network, only reading), containers without /dev/mqueue, and
//! machines where another security module may be the one that says EACCES.

use crate::proc::Proc;
use crate::program::{CallRef, Program};
use crate::tracee::Results;
use rtc_sys::Errno;
use rustix::fs::OFlags;

/// `MQUEUE_MAGIC` of ipc/mqueue.c.
const MQUEUE: i64 = 0x1980_0202;
/// The permissions of a queue file system's root that let everybody try: write and search.
const FOR_ALL: u32 = 0o003;

/// Whether the attempt tells anything in this process.
pub(super) fn can_be_asked(pid: i32) -> bool {
    let label = Proc(pid).text("attr/current").unwrap_or_default();
    let Ok(folder) = Proc(pid).open("root/dev/mqueue", OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW) else {
        return false;
    };
    let is_queues = rustix::fs::fstatfs(&folder).is_ok_and(|fs| fs.f_type == MQUEUE);
    let is_open = rustix::fs::fstat(&folder).is_ok_and(|stat| stat.st_mode & FOR_ALL == FOR_ALL);
    is_queues && is_open && matches!(label.trim_end_matches(['\0', '\n']), "" | "unconfined")
}

/// Adds the attempt to a program.
pub(super) fn ask(program: &mut Program) -> CallRef {
    let path = program.data(b"/dev/mqueue/.rtc\0");
    program.try_call(libc::SYS_mkdirat, [libc::AT_FDCWD.into(), path.into(), 0o700.into()])
}

/// Whether the answer is that of a domain.
pub(super) fn is_confined(results: &Results, call: CallRef) -> bool {
    results.ok(call) == Err(Errno::EACCES)
}
