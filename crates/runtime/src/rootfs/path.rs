//! Paths in the container's root file system, by descriptors only.
//!
//! A path is resolved once, to a descriptor, with the root as the limit of `..` and absolute symlinks; all later work is
//! done on that descriptor (CVE-2021-30465, CVE-2024-45310, CVE-2026-41579).
//! What doesn't exist yet is made one component at a time, each opened with `O_NOFOLLOW`, symlinks read as text and `..`
//! taken from our own list of opened directories: so neither can lead out, whoever renames what meanwhile.

use std::cell::OnceCell;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rtc_sys::{CallExt, Errno};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, StatxAttributes, StatxFlags};

use crate::error::Result;

/// How often a resolution is tried again that a rename elsewhere disturbed (`EAGAIN`, openat2(2)).
const RETRIES: usize = 128;
/// How many symlinks a path may hold, as in the kernel (`MAXSYMLINKS`).
const MAX_SYMLINKS: usize = 40;

/// The root directory of the container.
#[derive(Debug)]
pub(crate) struct RootDir {
    fd: OwnedFd,
    /// Its mount and inode, once they were asked for.
    identity: OnceCell<(u64, u64)>,
}

/// A place in the root that exists: its descriptor (`O_PATH`), and whether we have just made it.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) fd: OwnedFd,
    pub(crate) made: bool,
}

impl RootDir {
    /// A root from a descriptor of its directory.
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self { fd, identity: OnceCell::new() }
    }

    /// The descriptor of the root itself.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Resolves `path` with the root as its limit; symlinks are followed, magic links (procfs) are not.
    pub(crate) fn resolve(&self, path: &Path) -> rtc_sys::Result<OwnedFd> {
        self.open(path, OFlags::PATH, ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
    }

    /// Resolves `path` to what it names: a symlink at its end is not followed.
    pub(crate) fn resolve_unfollowed(&self, path: &Path) -> rtc_sys::Result<OwnedFd> {
        self.open(path, OFlags::PATH | OFlags::NOFOLLOW, ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
    }

    /// Resolves `path` and refuses any symlink in it (`ELOOP`).
    pub(crate) fn resolve_plain(&self, path: &Path) -> rtc_sys::Result<OwnedFd> {
        self.open(path, OFlags::PATH, ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS)
    }

    /// Opens `path` with `flags`, resolved with the root as its limit.
    pub(crate) fn open(&self, path: &Path, flags: OFlags, resolve: ResolveFlags) -> rtc_sys::Result<OwnedFd> {
        let mut tries = 0;
        loop {
            tries += 1;
            match rustix::fs::openat2(&self.fd, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
                Err(rustix::io::Errno::AGAIN) if tries < RETRIES => {}
                other => return other.call("openat2", format_args!("{}, {flags:?}", path.display())),
            }
        }
    }

    /// Whether `fd` refers to the root itself, on the root's own mount.
    pub(crate) fn is(&self, fd: impl AsFd) -> rtc_sys::Result<bool> {
        let own = match self.identity.get() {
            Some(own) => *own,
            None => {
                let own = mount_and_inode(&self.fd)?;
                *self.identity.get_or_init(|| own)
            }
        };
        Ok(own == mount_and_inode(fd)?)
    }

    /// The directory at `path`, made with its parents (mode 0755) where it is missing.
    ///
    /// Symlinks that lead nowhere yet are followed too: what they name is made.
    pub(crate) fn directory(&self, path: &Path) -> Result<Place> {
        self.make(path, Leaf::Directory)
    }

    /// The file at `path`; an empty one is made where there is none.
    pub(crate) fn file(&self, path: &Path) -> Result<Place> {
        self.make(path, Leaf::File)
    }

    /// What `path` names, and not what a symlink at its end leads to; none where there is nothing.
    pub(crate) fn unfollowed(&self, path: &Path) -> Result<Option<OwnedFd>> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(None) };
        let parent = self.directory(parent)?.fd;
        match open_component(parent.as_fd(), name) {
            Ok(fd) => Ok(Some(fd)),
            Err(e) if e.errno() == Errno::ENOENT => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// Makes a symlink. One with the same text may be there; anything else is an error.
    pub(crate) fn symlink(&self, path: &Path, target: &Path) -> Result<()> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(rtc_sys::Error::new("symlinkat", path.display(), Errno::EEXIST).into());
        };
        let parent = self.directory(parent)?.fd;
        match rustix::fs::symlinkat(target, &parent, name) {
            Err(rustix::io::Errno::EXIST) => {
                let there = rustix::fs::readlinkat(&parent, name, Vec::new()).call("readlinkat", path.display())?;
                if there.as_bytes() == target.as_os_str().as_encoded_bytes() {
                    return Ok(());
                }
                Err(rtc_sys::Error::new("symlinkat", path.display(), Errno::EEXIST).into())
            }
            other => Ok(other.call("symlinkat", format_args!("{}, {}", target.display(), path.display()))?),
        }
    }

    fn make(&self, path: &Path, leaf: Leaf) -> Result<Place> {
        match self.resolve(path) {
            Ok(fd) => Ok(Place { fd, made: false }),
            Err(e) if e.errno() == Errno::ENOENT => Walk::new(self, path, leaf).run(),
            Err(e) => Err(e.into()),
        }
    }
}

/// What stands at the end of a path that is to be made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leaf {
    Directory,
    File,
}

/// A walk along a path, making what is missing.
struct Walk<'a> {
    root: &'a RootDir,
    /// Components still to go, the next one last.
    todo: Vec<OsString>,
    /// The directories above the current one that we opened; `..` goes back here, never to the kernel.
    opened: Vec<OwnedFd>,
    leaf: Leaf,
    symlinks: usize,
    made: bool,
}

impl<'a> Walk<'a> {
    fn new(root: &'a RootDir, path: &Path, leaf: Leaf) -> Self {
        let mut walk = Self { root, todo: Vec::new(), opened: Vec::new(), leaf, symlinks: 0, made: false };
        walk.push(path);
        walk
    }

    fn push(&mut self, path: &Path) {
        let mut names: Vec<OsString> = Vec::new();
        for component in path.components() {
            match component {
                Component::Normal(name) => names.push(name.to_owned()),
                Component::ParentDir => names.push("..".into()),
                Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            }
        }
        self.todo.extend(names.into_iter().rev());
    }

    fn current(&self) -> BorrowedFd<'_> {
        self.opened.last().map_or(self.root.fd(), |fd| fd.as_fd())
    }

    fn run(mut self) -> Result<Place> {
        while let Some(name) = self.todo.pop() {
            if name == ".." {
                self.opened.pop();
                continue;
            }
            let fd = self.enter(&name)?;
            let stat = rustix::fs::fstat(&fd).call("fstat", format_args!("{name:?}"))?;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
                self.follow(&fd, &name)?;
            } else {
                self.opened.push(fd);
            }
        }
        let fd = match self.opened.pop() {
            Some(fd) => fd,
            None => self.root.fd.try_clone().call("dup", "the root")?,
        };
        Ok(Place { fd, made: self.made })
    }

    /// Opens the component, making it where it is missing.
    fn enter(&mut self, name: &OsStr) -> rtc_sys::Result<OwnedFd> {
        let here = self.current();
        match open_component(here, name) {
            Err(e) if e.errno() == Errno::ENOENT => {}
            other => return other,
        }
        if self.todo.is_empty() && self.leaf == Leaf::File {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::openat(here, name, flags, Mode::from(0o644)).call("openat", format_args!("{name:?}, CREAT"))?;
        } else {
            rustix::fs::mkdirat(here, name, Mode::from(0o755)).call("mkdirat", format_args!("{name:?}, 0755"))?;
        }
        let fd = open_component(here, name)?;
        self.made = true;
        Ok(fd)
    }

    fn follow(&mut self, link: &OwnedFd, name: &OsStr) -> Result<()> {
        self.symlinks += 1;
        if self.symlinks > MAX_SYMLINKS {
            return Err(rtc_sys::Error::new("openat", format_args!("{name:?}"), Errno::ELOOP).into());
        }
        let text = rustix::fs::readlinkat(link, "", Vec::new()).call("readlinkat", format_args!("{name:?}"))?;
        let target = PathBuf::from(OsString::from_vec(text.into_bytes()));
        if target.is_absolute() {
            self.opened.clear();
        }
        self.push(&target);
        Ok(())
    }
}

fn open_component(dir: BorrowedFd<'_>, name: &OsStr) -> rtc_sys::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::empty()).call("openat", format_args!("{name:?}, PATH|NOFOLLOW"))
}

/// The attributes of what a descriptor refers to.
pub(crate) fn stat(fd: impl AsFd) -> rtc_sys::Result<Stat> {
    rustix::fs::fstat(fd).call("fstat", "")
}

/// The mount that a descriptor is in (Linux 5.8), and the inode in its file system.
fn mount_and_inode(fd: impl AsFd) -> rtc_sys::Result<(u64, u64)> {
    let about = rustix::fs::statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::INO | StatxFlags::MNT_ID);
    about.call("statx", "INO, MNT_ID").map(|about| (about.stx_mnt_id, about.stx_ino))
}

/// Whether a descriptor is of the root of a mount (Linux 5.8).
pub(crate) fn is_mount_root(fd: impl AsFd) -> rtc_sys::Result<bool> {
    let about = rustix::fs::statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::empty()).call("statx", "")?;
    Ok(about.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// Whether a descriptor refers to a directory.
pub(crate) fn is_directory(fd: impl AsFd) -> rtc_sys::Result<bool> {
    Ok(FileType::from_raw_mode(stat(fd)?.st_mode) == FileType::Directory)
}

/// Whether `fd` refers to the character device `major:minor`.
pub(crate) fn is_char_device(fd: impl AsFd, major: u32, minor: u32) -> rtc_sys::Result<bool> {
    let stat = stat(fd)?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
        && stat.st_rdev == rustix::fs::makedev(major, minor))
}

/// Sets owner and mode of what an `O_PATH` descriptor refers to.
pub(crate) fn set_owner(fd: BorrowedFd<'_>, uid: u32, gid: u32) -> rtc_sys::Result<()> {
    let (user, group) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
    rustix::fs::chownat(fd, "", Some(user), Some(group), AtFlags::EMPTY_PATH)
        .call("fchownat", format_args!("{uid}, {gid}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    struct Temp(PathBuf);
    impl Temp {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("runtime-path-{name}-{}", std::process::id()));
            fs::create_dir_all(&dir).unwrap();
            Self(dir)
        }
        fn root(&self) -> RootDir {
            RootDir::new(fs::File::open(&self.0).unwrap().into())
        }
    }
    impl Drop for Temp {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn missing_directories_are_made_below_the_root() {
        let temp = Temp::new("plain");
        let place = temp.root().directory(Path::new("/a/../b/c/../../../../d")).unwrap();
        assert!(place.made);
        assert_eq!(stat(&place.fd).unwrap().st_ino, fs::metadata(temp.0.join("d")).unwrap().ino());
        assert!(!temp.root().directory(Path::new("d")).unwrap().made);
    }

    #[test]
    fn dangling_links_are_made_real_inside_the_root() {
        let temp = Temp::new("dangling");
        let outside = format!("/runtime-path-must-not-exist-{}", std::process::id());
        symlink(&outside, temp.0.join("link")).unwrap();
        symlink("../../../up", temp.0.join("rel")).unwrap();
        let file = temp.root().file(Path::new("/link/x/file")).unwrap();
        assert!(file.made);
        assert!(temp.0.join(&outside[1..]).join("x/file").is_file());
        assert!(!Path::new(&outside).exists());
        temp.root().directory(Path::new("/rel")).unwrap();
        assert!(temp.0.join("up").is_dir());
    }

    #[test]
    fn links_in_a_circle_end_in_an_error() {
        let temp = Temp::new("circle");
        symlink("b/x", temp.0.join("a")).unwrap();
        symlink("a", temp.0.join("b")).unwrap();
        let error = temp.root().directory(Path::new("a")).unwrap_err();
        assert!(error.to_string().ends_with("= ELOOP"), "{error}");
    }

    #[test]
    fn the_root_is_known_however_it_is_reached() {
        let temp = Temp::new("root");
        fs::create_dir(temp.0.join("d")).unwrap();
        symlink("..", temp.0.join("d/up")).unwrap();
        let root = temp.root();
        let is_root = |path: &str| root.is(root.resolve(Path::new(path)).unwrap()).unwrap();
        assert!(is_root("/") && is_root("d/..") && is_root("../d/up/..") && !is_root("/d"));
        assert!(!root.is(fs::File::open("/proc").unwrap()).unwrap());
        let link = root.resolve_unfollowed(Path::new("d/up")).unwrap();
        assert_eq!(FileType::from_raw_mode(stat(link).unwrap().st_mode), FileType::Symlink);
    }

    #[test]
    fn plain_resolution_refuses_links() {
        let temp = Temp::new("links");
        fs::create_dir(temp.0.join("real")).unwrap();
        symlink("real", temp.0.join("proc")).unwrap();
        assert_eq!(temp.root().resolve_plain(Path::new("/proc")).unwrap_err().errno(), Errno::ELOOP);
        assert!(temp.root().resolve_plain(Path::new("/real")).is_ok());
    }
}
