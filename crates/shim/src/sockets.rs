//! Sockets of the shim's own, for terminals. The one it serves on has the name that the crate gives it, in the same
//! directory.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rtc_sys::CallExt;
use rustix::fs::Mode;
use rustix::process::umask;

use crate::fault::Result;

/// The directory that all shims have their sockets in; its path is short, as a socket's must be.
const SOCKETS: &str = "/run/containerd/s";
/// In a bundle: the address of the shim that its container belongs to.
pub(crate) const ADDRESS: &str = "address";

/// A path for a new socket that nobody else has.
pub(crate) fn new_path(suffix: &str) -> Result<PathBuf> {
    fs::DirBuilder::new().recursive(true).mode(0o711).create(SOCKETS)?;
    let unique = fs::read_to_string("/proc/sys/kernel/random/uuid")?;
    Ok(Path::new(SOCKETS).join(format!("rtc-{}{suffix}", unique.trim())))
}

/// Nobody but the owner, root, may connect to sockets made under this mask. chmod(2) afterwards would leave a moment for
/// others.
pub(crate) fn owner_only() -> Mode {
    umask(Mode::RWXG | Mode::RWXO)
}

/// Makes a socket that only its owner can connect to.
pub(crate) fn bind(path: &Path) -> rtc_sys::Result<UnixListener> {
    // This process has one thread: nobody else makes files now.
    let before = owner_only();
    let listener = UnixListener::bind(path).call("bind", path.display());
    umask(before);
    listener
}

/// The file system path in an address.
pub(crate) fn path_of(address: &str) -> &Path {
    Path::new(address.strip_prefix("unix://").unwrap_or(address))
}
