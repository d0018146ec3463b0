//! Where an image, its log and its statistics are.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::OFlags;

/// Opens or makes a file beside an image, readable for root alone.
///
/// An engine may have unpacked the directory from an archive of a stranger's: a link there, symbolic or hard, must not
/// lead a write of root's to another file, nor a FIFO hold it up.
///
/// # Errors
/// What is there is no regular file; or it can't be opened.
pub(crate) fn open_plain(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = options.create(true).mode(0o600).custom_flags(flags.bits() as i32).open(path)?;
    let found = file.metadata()?;
    match (found.is_file(), found.nlink()) {
        (true, ..=1) => Ok(file),
        (true, _) => Err(io::Error::other("it has another name elsewhere")),
        (false, _) => Err(io::Error::other("it is not a regular file")),
    }
}

/// The default image directory, relative to the caller's.
const DEFAULT: &str = "checkpoint";

/// The directories of one checkpoint or restore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Directories {
    /// `--image-path`.
    pub(crate) image: PathBuf,
    /// `--work-path`, or the image directory.
    pub(crate) work: PathBuf,
    /// `--work-path` was given: what belongs there must be written.
    pub(crate) work_given: bool,
}

impl Directories {
    /// From the flags; empty values count as none.
    pub(crate) fn new(image: Option<&Path>, work: Option<&Path>) -> Self {
        let given = |path: Option<&Path>| path.filter(|path| !path.as_os_str().is_empty()).map(Path::to_owned);
        let image = given(image).unwrap_or_else(|| DEFAULT.into());
        let work = given(work);
        Self { work_given: work.is_some(), work: work.unwrap_or_else(|| image.clone()), image }
    }

    /// Makes both, readable by root alone, as far as they aren't there.
    ///
    /// # Errors
    /// One can't be made.
    pub(crate) fn make(&self) -> Result<()> {
        make(&self.image)?;
        make(&self.work)
    }

    /// Makes the work directory alone, for a restore.
    ///
    /// # Errors
    /// It can't be made.
    pub(crate) fn make_work(&self) -> Result<()> {
        make(&self.work)
    }

    /// Opens the image directory.
    ///
    /// # Errors
    /// It isn't there, or is something else.
    pub(crate) fn open_image(&self) -> Result<OwnedFd> {
        let flags = OFlags::DIRECTORY.bits() as i32;
        let opened = OpenOptions::new().read(true).custom_flags(flags).open(&self.image);
        Ok(opened.with_context(|| format!("image directory {}", self.image.display()))?.into())
    }

    /// Opens a log in the work directory. One that is there is appended to: podman makes it beforehand, with a label.
    ///
    /// # Errors
    /// It can't be opened or made.
    pub(crate) fn log(&self, name: &Path) -> Result<File> {
        let path = self.work.join(name);
        open_plain(&path, OpenOptions::new().append(true)).with_context(|| format!("open {}", path.display()))
    }

    /// Checks `--parent-path`: relative to the image directory, and there.
    ///
    /// # Errors
    /// It isn't.
    pub(crate) fn check_parent(&self, parent: &Path) -> Result<()> {
        if parent.is_absolute() {
            bail!("--parent-path {} is absolute: give it relative to the image directory", parent.display());
        }
        let path = self.image.join(parent);
        // The image directory may not be there yet; the kernel finds nothing below it then, not even what is beside it.
        let found = match (self.image.is_dir(), self.image.parent(), parent.strip_prefix("..")) {
            (false, Some(above), Ok(rest)) => above.join(rest),
            _ => path.clone(),
        };
        match found.metadata() {
            Ok(found) if found.is_dir() => Ok(()),
            Ok(_) => bail!("--parent-path {}: {} is not a directory", parent.display(), path.display()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                bail!("--parent-path {}: {} does not exist", parent.display(), path.display())
            }
            Err(e) => Err(e).with_context(|| format!("--parent-path {}: {}", parent.display(), path.display())),
        }
    }
}

fn make(path: &Path) -> Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.with_context(|| format!("make {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults() {
        let directories = Directories::new(None, Some(Path::new("")));
        assert_eq!((directories.image, directories.work), ("checkpoint".into(), "checkpoint".into()));
        let directories = Directories::new(Some(Path::new("/i")), None);
        assert_eq!((directories.work, directories.work_given), ("/i".into(), false));
    }

    #[test]
    fn parents_are_named_when_they_are_wrong() {
        let directories = Directories::new(Some(Path::new("/proc/self/fd")), None);
        for bad in ["/proc", "nosuch", "../stat"] {
            let error = directories.check_parent(Path::new(bad)).expect_err("it is wrong").to_string();
            assert!(error.starts_with(&format!("--parent-path {bad}")), "{error}");
        }
        assert!(directories.check_parent(Path::new("../fdinfo")).is_ok());
        // podman's order: the earlier image, beside one that is yet to be made.
        let directories = Directories::new(Some(Path::new("/proc/self/nosuch")), None);
        assert!(directories.check_parent(Path::new("../fdinfo")).is_ok());
        assert!(directories.check_parent(Path::new("../stat")).is_err());
        assert!(directories.check_parent(Path::new("fdinfo")).is_err());
    }
}
