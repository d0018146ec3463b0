//! Runs rtc from an executable that nothing in a container can write to.
//!
//! A container's image may name `/proc/self/exe` as its program, or as the interpreter of a script: execve then runs
//! *this* program as a process of the container, where others can open its `/proc/PID/exe` and, once it isn't executed
//! any more, write to it (CVE-2019-5736). `PR_SET_DUMPABLE` doesn't help: execve sets it anew.
//! What counts is the mount that the link leads through.
//!
//! So the commands that end in a container's program first go over to a detached clone of the mount that is read-only:
//! the program's file is exchanged for the same file on the clone, without executing anything (rtc_sys::exe).
//! Then the clone's descriptor is closed: the mount loses its namespace, and from then on no call can change its flags or
//! clone it again (fs/namespace.c: `is_mounted`, `check_mnt`), not even one by a container with CAP_SYS_ADMIN, while the
//! running program keeps it alive.
//! Where the file can't be exchanged (no CONFIG_CHECKPOINT_RESTORE), the program is executed once more from the clone;
//! where mounts may not be cloned (no CAP_SYS_ADMIN), from a sealed memfd, which costs a copy of the file.

use std::ffi::{CString, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use rtc_sys::mount::attr;
use rtc_sys::{CallExt, Errno};
use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};
use rustix::mount::OpenTreeFlags;
use rustix::thread::CapabilitySet;

use crate::error::{Context, Result};
use crate::rootfs::options::Attrs;
use crate::rootfs::tree;

/// This program's file.
const EXE: &str = "/proc/self/exe";
/// The name that the program has as a process.
const NAME: &std::ffi::CStr = c"rtc";

/// Goes over to a read-only clone of this program's file, once: in place, or by executing the program anew.
///
/// To be called first thing by commands that bring a process into a container that stands (exec, restore), while the
/// process has one thread; create and run do it themselves, later if they can. Returns when the process runs from the clone.
///
/// # Errors
/// The clone can't be made or executed.
pub fn ensure() -> Result<()> {
    if is_sealed()? {
        // Executed by descriptor, the process is named after that.
        return Ok(rustix::thread::set_name(NAME).call("prctl", "SET_NAME, rtc")?);
    }
    let sealed = match read_only_clone() {
        Ok(clone) => match exchange(&clone) {
            Ok(()) => return Ok(()),
            Err(_) => clone,
        },
        Err(e) if matches!(e.errno(), Errno::EPERM | Errno::EINVAL | Errno::ENOSYS) => memory_copy()?,
        Err(e) => return Err(e.into()),
    };
    let c = |text: OsString| CString::new(text.into_vec()).unwrap_or_default();
    let args: Vec<CString> = std::env::args_os().map(c).collect();
    let join = |(mut name, value): (OsString, OsString)| {
        name.push("=");
        name.push(value);
        c(name)
    };
    let environment: Vec<CString> = std::env::vars_os().map(join).collect();
    match nix::unistd::execveat(sealed.as_fd(), c"", &args, &environment, nix::fcntl::AtFlags::AT_EMPTY_PATH) {
        Ok(never) => match never {},
        Err(e) => Err(e).call("execveat", "a sealed copy of rtc").map_err(Into::into),
    }
}

/// Whether this process runs from a clone or copy that [`ensure`] has made.
///
/// A clone has no path but `/`, a copy is sealed. Both refuse to be opened for writing, for good.
///
/// # Errors
/// procfs can't be read.
pub fn is_sealed() -> Result<bool> {
    let link = rustix::fs::readlink(EXE, Vec::new()).call("readlink", EXE)?;
    match link.as_bytes() {
        b"/" => {
            let fs = rustix::fs::statvfs(EXE).call("statfs", EXE)?;
            Ok(fs.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY))
        }
        link if link.starts_with(b"/memfd:") => {
            let exe = rustix::fs::open(EXE, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).call("open", EXE)?;
            let seals = rustix::fs::fcntl_get_seals(&exe).call("fcntl", "F_GET_SEALS")?;
            Ok(seals.contains(SealFlags::WRITE))
        }
        _ => Ok(false),
    }
}

fn read_only_clone() -> rtc_sys::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let clone =
        rustix::mount::open_tree(rustix::fs::CWD, EXE, flags).call("open_tree", format_args!("{EXE}, CLONE"))?;
    tree::set_attrs(clone.as_fd(), false, Attrs { set: attr::RDONLY | attr::NOSUID | attr::NODEV, clear: 0 })?;
    Ok(clone)
}

/// Exchanges the program's file for that of the clone, in place.
fn exchange(clone: &OwnedFd) -> rtc_sys::Result<()> {
    rtc_sys::exe::exchange(open_clone(clone)?.as_fd())
}

fn open_clone(clone: &OwnedFd) -> rtc_sys::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", clone.as_raw_fd());
    rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).call("open", path)
}

/// A read-only clone for a process that is still to be made: it goes over itself, as the first thing it does.
///
/// That is cheaper, as it has hardly any pages of the program mapped yet, and as safe where nobody in the container can
/// see it before: where it is the first of a new pid namespace.
#[derive(Debug)]
pub(crate) struct Prepared {
    file: OwnedFd,
    /// Keeps the mount attached to nothing but us.
    _mount: OwnedFd,
}

/// Sees to it that a process to be made runs from a clone or copy: prepares one where the process will be `alone` in its
/// pid namespace, else does [`ensure`] for the caller, whose copy it will be.
pub(crate) fn prepare(alone: bool) -> Result<Option<Prepared>> {
    if is_sealed()? {
        return Ok(None);
    }
    if alone && rtc_sys::exe::can_exchange() && may_exchange() {
        if let Ok(mount) = read_only_clone() {
            return Ok(Some(Prepared { file: open_clone(&mount)?, _mount: mount }));
        }
    }
    ensure()?;
    Ok(None)
}

/// Whether this process has a capability that `PR_SET_MM_MAP` asks for.
fn may_exchange() -> bool {
    let wanted = CapabilitySet::CHECKPOINT_RESTORE | CapabilitySet::SYS_RESOURCE;
    rustix::thread::capabilities(None).is_ok_and(|own| own.effective.intersects(wanted))
}

impl Prepared {
    /// In the new process.
    pub(crate) fn enter(self) -> Result<()> {
        Ok(rtc_sys::exe::exchange(self.file.as_fd())?)
    }
}

fn memory_copy() -> Result<OwnedFd> {
    let mut source = File::open(EXE).call("open", EXE)?;
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut copy = File::from(rustix::fs::memfd_create("rtc", flags).call("memfd_create", "rtc")?);
    io::copy(&mut source, &mut copy).context(|| "copy rtc into memory")?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    rustix::fs::fcntl_add_seals(&copy, seals).call("fcntl", "F_ADD_SEALS")?;
    Ok(copy.into())
}
