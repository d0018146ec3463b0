//! mount_setattr(2), the one call of the mount API that rustix lacks.

use std::os::fd::{AsRawFd, BorrowedFd};

use crate::{Error, Result};

/// `MOUNT_ATTR_*` (linux/mount.h).
pub mod attr {
    /// Read-only.
    pub const RDONLY: u64 = 0x1;
    /// Set-user-id bits and file capabilities are ignored.
    pub const NOSUID: u64 = 0x2;
    /// Device files can't be opened.
    pub const NODEV: u64 = 0x4;
    /// No program is executed from it.
    pub const NOEXEC: u64 = 0x8;
    /// The three values of access time updates; to be cleared whole when one is set.
    pub const ATIME: u64 = 0x70;
    /// Access time is updated if it is older than the modification.
    pub const RELATIME: u64 = 0x0;
    /// Never updated.
    pub const NOATIME: u64 = 0x10;
    /// Always updated.
    pub const STRICTATIME: u64 = 0x20;
    /// Not updated for directories.
    pub const NODIRATIME: u64 = 0x80;
    /// Ids are mapped as in a user namespace (Linux 5.12).
    pub const IDMAP: u64 = 0x10_0000;
    /// Symlinks aren't followed (Linux 5.14).
    pub const NOSYMFOLLOW: u64 = 0x20_0000;
}

/// `MS_*` propagation types for [`MountAttr::propagation`].
pub mod propagation {
    /// Unbindable.
    pub const UNBINDABLE: u64 = libc::MS_UNBINDABLE;
    /// Private.
    pub const PRIVATE: u64 = libc::MS_PRIVATE;
    /// Slave.
    pub const SLAVE: u64 = libc::MS_SLAVE;
    /// Shared.
    pub const SHARED: u64 = libc::MS_SHARED;
}

/// `struct mount_attr`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MountAttr {
    /// Attributes to set.
    pub set: u64,
    /// Attributes to clear, before those of `set` are set.
    pub clear: u64,
    /// A propagation type, or 0.
    pub propagation: u64,
    /// The user namespace of an id mapping, with [`attr::IDMAP`].
    pub userns_fd: u64,
}

/// Changes the attributes of the mount that `mount` is in (Linux 5.12), and with `recursive` of those below it.
///
/// # Errors
/// See mount_setattr(2): `EINVAL` when `mount` isn't the root of a mount, `EPERM` for a locked attribute.
pub fn mount_setattr(mount: BorrowedFd<'_>, recursive: bool, attr: &MountAttr) -> Result<()> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is an empty C string and `attr` a valid struct mount_attr of the size given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(attr),
            size_of::<MountAttr>(),
        )
    };
    if result == 0 {
        return Ok(());
    }
    Err(Error::last(
        "mount_setattr",
        format_args!(
            "{}, {}{{set={:#x}, clr={:#x}, propagation={:#x}}}",
            mount.as_raw_fd(),
            if recursive { "AT_RECURSIVE, " } else { "" },
            attr.set,
            attr.clear,
            attr.propagation
        ),
    ))
}
