//! What a resource's module can ask and do while files are made anew.

use super::{FileId, RestoreEnv, unknown_file};
use crate::error::{Result, bad_image};
use crate::image::path::ImagePath;
use crate::{Error, Kind};
use rtc_sys::CallExt as _;
use rtc_sys::socket_maker::SocketMaker;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use std::any::{Any, TypeId};
use std::cell::OnceCell;
use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::PathBuf;

/// The state of a restore of files, as the resources' modules see it.
/// All their functions run in the container's namespaces ([`super::inside`]).
pub struct Restore<'a> {
    env: &'a RestoreEnv<'a>,
    /// By [`FileId`].
    pub(super) opened: &'a mut Vec<Option<OwnedFd>>,
    /// The host's /proc: that inside belongs to a pid namespace that we are not in.
    proc: &'a OwnedFd,
    /// The container's root directory.
    root: OwnedFd,
    /// Container's pid to the host's; empty before the tasks exist.
    pids: &'a BTreeMap<i32, i32>,
    kept: &'a mut Kept,
    /// Who makes sockets in the container's control group; none where nobody can.
    socket_maker: OnceCell<Option<SocketMaker>>,
}

/// What kinds of files keep from opening to finishing, by its type.
#[derive(Default)]
pub(super) struct Kept(HashMap<TypeId, Box<dyn Any + Send>>);

impl<'a> Restore<'a> {
    /// Must be called inside.
    pub(super) fn new(
        env: &'a RestoreEnv<'a>,
        opened: &'a mut Vec<Option<OwnedFd>>,
        proc: &'a OwnedFd,
        pids: &'a BTreeMap<i32, i32>,
        kept: &'a mut Kept,
    ) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open("/", flags, Mode::empty()).call("open", "/, O_PATH")?;
        Ok(Self { env, opened, proc, root, pids, kept, socket_maker: OnceCell::new() })
    }

    /// What the caller gave.
    pub fn env(&self) -> &'a RestoreEnv<'a> {
        self.env
    }

    /// Creates a socket in the container's network namespace and control group.
    ///
    /// # Errors
    /// The errno of socket(2).
    pub fn socket(&self, family: i32, kind: i32, protocol: i32) -> rtc_sys::Result<OwnedFd> {
        match self.socket_maker.get_or_init(|| self.start_socket_maker()) {
            Some(maker) => maker.create(family, kind, protocol),
            None => rtc_sys::socket::create(family, kind, protocol),
        }
    }

    fn start_socket_maker(&self) -> Option<SocketMaker> {
        let maker = SocketMaker::start(self.env.cgroup?);
        maker.inspect_err(|e| log::warn!("restored sockets are not in the container's control group: {e}")).ok()
    }

    /// The container's root directory.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// The host's count of a pid of the container; only for [`super::Stage::WithTasks`] and `finish`.
    pub fn host_pid(&self, pid: i32) -> Option<i32> {
        self.pids.get(&pid).copied()
    }

    /// A place of the type `T` for what a kind of file must remember from opening to finishing.
    pub fn kept<T: Any + Default + Send>(&mut self) -> &mut T {
        let any = self.kept.0.entry(TypeId::of::<T>()).or_insert_with(|| Box::<T>::default());
        any.downcast_mut().expect("the entry of a type holds that type")
    }

    /// A description that has been opened already.
    ///
    /// # Errors
    /// When the image names one that does not exist or comes later.
    pub fn opened(&self, id: FileId) -> Result<BorrowedFd<'_>> {
        let fd = self.opened.get(id.index()).and_then(Option::as_ref);
        fd.map(AsFd::as_fd).ok_or_else(|| unknown_file(id))
    }

    /// Hands in the description `id`, which came into being together with another (a pipe's second end);
    /// its own `open` isn't called then.
    ///
    /// # Errors
    /// When the image has no such file or it is there already.
    pub fn place(&mut self, id: FileId, fd: OwnedFd) -> Result<()> {
        match self.opened.get_mut(id.index()) {
            Some(slot @ None) => {
                *slot = Some(fd);
                Ok(())
            }
            _ => Err(unknown_file(id)),
        }
    }

    /// Opens a path of the container. Symbolic links lead where they lead for the container, `..` stops at its root,
    /// and magic links of /proc are refused. Flags that make or truncate files are ignored.
    ///
    /// # Errors
    /// The errno of openat2(2).
    pub fn open_path(&self, path: &ImagePath, flags: i32) -> Result<OwnedFd> {
        const FOR_PATH: i32 = libc::O_DIRECTORY | libc::O_NOFOLLOW;
        // What is there is looked at before it is opened: opening a device can do things.
        let found = OFlags::PATH | OFlags::from_bits_retain((flags & FOR_PATH) as u32) | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let fd = rustix::fs::openat2(&self.root, path.as_path(), found, Mode::empty(), resolve);
        let fd = fd.call("openat2", format_args!("{path}, {found:?}"))?;
        // A FIFO must not make us wait.
        if flags & libc::O_PATH != 0 { Ok(fd) } else { self.reopen(fd.as_fd(), flags | libc::O_NONBLOCK) }
    }

    /// A new description of the file that `fd` is, with other flags (`open("/proc/self/fd/N")`).
    ///
    /// This process is under no device rules: of devices only those are opened that every container may have.
    ///
    /// # Errors
    /// The errno of open(2); `BadImage` for another device.
    pub fn reopen(&self, fd: BorrowedFd<'_>, flags: i32) -> Result<OwnedFd> {
        let stat = nix::sys::stat::fstat(fd).call("fstat", "a file of the image")?;
        if flags & libc::O_PATH == 0 && !is_harmless(&stat) {
            let (major, minor) = (libc::major(stat.st_rdev), libc::minor(stat.st_rdev));
            return Err(bad_image(format!("the device {major}:{minor} is none that an image can ask for")));
        }
        self.reopen_given(fd, flags)
    }

    /// The same for a file that the caller gave, whatever it is.
    ///
    /// # Errors
    /// The errno of open(2).
    pub fn reopen_given(&self, fd: BorrowedFd<'_>, flags: i32) -> Result<OwnedFd> {
        const NEVER: i32 = libc::O_CREAT | libc::O_EXCL | libc::O_TRUNC | libc::O_NOFOLLOW | libc::O_TMPFILE;
        let directory = flags & (libc::O_TMPFILE ^ libc::O_DIRECTORY) == 0 && flags & libc::O_DIRECTORY != 0;
        let mut flags = OFlags::from_bits_retain((flags & !NEVER) as u32) | OFlags::CLOEXEC | OFlags::NOCTTY;
        flags.set(OFlags::DIRECTORY, directory);
        self.open_host_proc(&format!("self/fd/{}", fd.as_raw_fd()), flags)
    }

    /// The text of a link in the host's /proc, paths in it from the container's root on.
    ///
    /// # Errors
    /// The errno of readlink(2).
    pub fn host_proc_link(&self, name: &str) -> Result<PathBuf> {
        use std::os::unix::ffi::OsStringExt as _;
        let text =
            rustix::fs::readlinkat(self.proc, name, Vec::new()).call("readlink", format_args!("/proc/{name}"))?;
        Ok(std::ffi::OsString::from_vec(text.into_bytes()).into())
    }

    /// Opens a file of the host's /proc, in which pids are the host's.
    ///
    /// # Errors
    /// The errno of open(2).
    pub fn open_host_proc(&self, name: &str, flags: OFlags) -> Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(self.proc, name, flags, Mode::empty());
        Ok(fd.call("open", format_args!("/proc/{name}, {flags:?}"))?)
    }
}

/// Whether opening a file has no effect but on who opens it. The terminals are those of a devpts alone: of nodes elsewhere
/// the kernel knows no such (drivers/tty/pty.c), and /dev/tty would be ours.
fn is_harmless(stat: &libc::stat) -> bool {
    let number = (libc::major(stat.st_rdev), libc::minor(stat.st_rdev));
    match stat.st_mode & libc::S_IFMT {
        // null, zero, full, random, urandom; ptmx; slaves (Linux Documentation/admin-guide/devices.txt).
        libc::S_IFCHR => matches!(number, (1, 3 | 5 | 7 | 8 | 9) | (5, 2) | (136..=143, _)),
        libc::S_IFBLK => false,
        _ => true,
    }
}

/// Runs `act` while each of `files` has the number that stands with it, in a thread with a descriptor table of its own.
///
/// For what remembers the number it was given, as epoll does: neither a task nor a program is needed for it.
/// `others` are handed on under numbers that are not among those; the table is gone when this returns.
///
/// # Errors
/// When a number is out of range (`RLIMIT_NOFILE` of this process), or the error of `act`.
pub fn with_numbers<T: Send>(
    files: &[(BorrowedFd<'_>, RawFd)],
    others: &[BorrowedFd<'_>],
    act: impl FnOnce(&[BorrowedFd<'_>]) -> Result<T> + Send,
) -> Result<T> {
    let highest = files.iter().map(|(_, number)| *number).max().unwrap_or(0);
    if files.iter().any(|(_, number)| *number < 0) || highest == RawFd::MAX {
        return Err(Error::new(Kind::BadImage, format!("descriptor {highest} is out of range")));
    }
    let minimum = highest + 1;
    // Out of the way of the numbers wanted; in this table, so that the thread's copy has them too.
    let aside = |fd: &BorrowedFd<'_>| {
        rustix::io::fcntl_dupfd_cloexec(fd, minimum).call("fcntl", format_args!("F_DUPFD_CLOEXEC, {minimum}"))
    };
    let others: Vec<OwnedFd> = others.iter().map(aside).collect::<rtc_sys::Result<_>>()?;
    let moved: Vec<OwnedFd> = files.iter().map(|(fd, _)| aside(fd)).collect::<rtc_sys::Result<_>>()?;
    let wanted: Vec<_> = moved.iter().map(AsFd::as_fd).zip(files.iter().map(|(_, number)| *number)).collect();
    super::inside::own_thread(|| {
        rtc_sys::fdio::renumber_in_own_table(&wanted)?;
        act(&others.iter().map(AsFd::as_fd).collect::<Vec<_>>())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_changed_in_the_thread_alone() {
        let (a, b) = (std::fs::File::open("/dev/null").unwrap(), std::fs::File::open("/dev/zero").unwrap());
        let before = std::fs::read_link("/proc/self/fd/0").unwrap();
        let seen = with_numbers(&[(a.as_fd(), 0), (b.as_fd(), a.as_raw_fd())], &[a.as_fd()], |others| {
            let link = |fd: RawFd| Ok::<_, Error>(std::fs::read_link(format!("/proc/thread-self/fd/{fd}"))?);
            Ok((link(0)?, link(a.as_raw_fd())?, link(others[0].as_raw_fd())?))
        });
        assert_eq!(seen.unwrap(), ("/dev/null".into(), "/dev/zero".into(), "/dev/null".into()));
        assert_eq!(std::fs::read_link("/proc/self/fd/0").unwrap(), before);
        assert_eq!(std::fs::read_link(format!("/proc/self/fd/{}", a.as_raw_fd())).unwrap().to_str(), Some("/dev/null"));
    }
}
