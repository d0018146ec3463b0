//! `maskedPaths` and `readonlyPaths`, done after the change of root.

use std::collections::HashSet;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path};

use rtc_sys::Errno;
use rtc_sys::mount::attr;

use super::options::Bind;
use super::path::{self, RootDir};
use super::tree;
use crate::error::{Context, Error, Kind, Result};

/// Hides paths: a file behind `/dev/null`, a directory behind an empty read-only tmpfs that all of them share.
///
/// A path that doesn't exist is left out.
pub(crate) fn mask(root: &RootDir, paths: &[String]) -> Result<()> {
    let mut masks = Masks::default();
    let mut done = HashSet::new();
    for path in paths {
        if done.insert(path.as_str()) {
            masks.hide(root, Path::new(path)).context(|| format!("mask {path}"))?;
        }
    }
    Ok(())
}

/// What paths are hidden behind, made when first needed.
#[derive(Default)]
struct Masks {
    null: Option<OwnedFd>,
    empty: Option<OwnedFd>,
}

impl Masks {
    fn hide(&mut self, root: &RootDir, path: &Path) -> Result<()> {
        let Some(target) = resolve(root, path)? else { return Ok(()) };
        if path::is_directory(&target)? { self.hide_directory(&target) } else { self.hide_file(root, &target) }
    }

    fn hide_directory(&mut self, target: &OwnedFd) -> Result<()> {
        match &self.empty {
            // Cloned from the one that is attached: kernels before 6.15 don't clone a detached mount.
            Some(empty) => tree::attach(tree::clone_fd(empty, Bind::One)?, target)?,
            None => {
                let attrs = attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC;
                let empty = tree::new_filesystem("tmpfs", "tmpfs", ["nr_inodes=1", "size=4k", "mode=755"], attrs)?;
                tree::attach(&empty, target)?;
                self.empty = Some(empty);
            }
        }
        Ok(())
    }

    fn hide_file(&mut self, root: &RootDir, target: &OwnedFd) -> Result<()> {
        let null = match &self.null {
            Some(null) => null,
            None => self.null.insert(open_null(root)?),
        };
        tree::attach(tree::clone_fd(null, Bind::One)?, target)?;
        Ok(())
    }
}

/// The container's `/dev/null`, verified: an image may have put something else there (CVE-2025-31133).
fn open_null(root: &RootDir) -> Result<OwnedFd> {
    let null = root.resolve(Path::new("/dev/null"))?;
    if path::is_char_device(&null, 1, 3)? {
        Ok(null)
    } else {
        Err(Error::new(Kind::Invalid, "the container's /dev/null is not the null device"))
    }
}

/// Makes paths read-only by bind mounts of themselves. A path that doesn't exist is left out.
pub(crate) fn make_readonly(root: &RootDir, paths: &[String]) -> Result<()> {
    for path in paths {
        readonly(root, Path::new(path)).context(|| format!("make {path} read-only"))?;
    }
    Ok(())
}

fn readonly(root: &RootDir, path: &Path) -> Result<()> {
    let Some(target) = resolve(root, path)? else { return Ok(()) };
    // What is mounted over a process's root is not seen by it.
    if path.components().all(|part| part == Component::RootDir) {
        return Ok(tree::set_readonly(root.fd())?);
    }
    let tree = tree::clone_fd(&target, Bind::Recursive)?;
    tree::set_readonly(tree.as_fd())?;
    tree::attach(&tree, &target)?;
    Ok(())
}

fn resolve(root: &RootDir, path: &Path) -> Result<Option<OwnedFd>> {
    match root.resolve(path) {
        Ok(fd) => Ok(Some(fd)),
        Err(e) if matches!(e.errno(), Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
        Err(e) => Err(e.into()),
    }
}
