//! A bundle: the directory with config.json and, usually, the root file system.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use oci_spec::runtime::Spec;
use rtc_sys::CallExt;
use rustix::fs::{Mode, OFlags};

use crate::error::{Context, Error, Kind, Result};
use crate::spec;

/// The longest config.json in bytes; those of engines have some ten thousand.
const CONFIG_MAX: u64 = 64 << 20;

/// A bundle as it was read: later changes of its files have no effect on a container.
#[derive(Debug)]
pub(crate) struct Bundle {
    /// Its directory, absolute.
    pub(crate) dir: PathBuf,
    /// config.json as it is.
    pub(crate) config: Vec<u8>,
    /// config.json parsed and found valid; shared, because a profile makes it large.
    pub(crate) spec: Rc<Spec>,
    /// The root file system's directory, absolute.
    pub(crate) rootfs: PathBuf,
    /// The user who has entered the container's user namespace already, as the host counts (`rootless`).
    pub(crate) entered_by: Option<u32>,
}

impl Bundle {
    /// Reads and checks the bundle in `dir`, relative to the working directory; an empty path is that itself.
    /// `config` is another file than config.json, relative to `dir`.
    ///
    /// # Errors
    /// One line that names the file and what is wrong.
    pub(crate) fn read(dir: &Path, config: Option<&Path>) -> Result<Self> {
        let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
        let dir = fs::canonicalize(dir).call("realpath", dir.display()).context(|| "bundle")?;
        let path = dir.join(config.unwrap_or(Path::new("config.json")));
        let config = read_config(&path)?;
        let spec = spec::read(&config)?;
        let root = spec.root().as_ref().ok_or_else(|| Error::new(Kind::Invalid, "config.json: root is missing"))?;
        if root.path().as_os_str().is_empty() {
            return Err(Error::new(Kind::Invalid, "config.json: root.path is missing"));
        }
        let rootfs = root_of(&dir, root.path())?;
        Ok(Self { dir, config, spec: Rc::new(spec), rootfs, entered_by: None })
    }
}

/// The container's root, with all symlinks resolved: `path` relative to the canonical directory `bundle`.
fn root_of(bundle: &Path, path: &Path) -> Result<PathBuf> {
    // In nearly all bundles it is a directory in the bundle, and there is nothing to resolve.
    if let Some(name) = path.file_name().filter(|name| *name == path) {
        let rootfs = bundle.join(name);
        if fs::symlink_metadata(&rootfs).is_ok_and(|found| found.is_dir()) {
            return Ok(rootfs);
        }
    }
    let given = bundle.join(path);
    let rootfs = fs::canonicalize(&given).call("realpath", given.display()).context(|| "root file system")?;
    if !rootfs.is_dir() {
        return Err(Error::new(Kind::Invalid, format!("root file system {} is not a directory", rootfs.display())));
    }
    Ok(rootfs)
}

/// Reads config.json, which must be a file and of a sane size: a FIFO would hang, a device might never end.
///
/// # Errors
/// It is none of that, or isn't there.
pub fn read_config(path: &Path) -> Result<Vec<u8>> {
    let refuse = |why: &str| Err(Error::new(Kind::Invalid, format!("{} {why}", path.display())));
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty()).call("open", path.display()).map_err(|e| {
        Error::from(e).with_kind(Kind::Invalid).with_hint("name the directory of config.json with --bundle")
    })?;
    let file = File::from(file);
    let kept = file.metadata().call("fstat", path.display())?;
    if !kept.is_file() {
        return refuse("is not a regular file");
    }
    if kept.len() > CONFIG_MAX {
        return refuse("is larger than 64 MiB");
    }
    let mut bytes = Vec::with_capacity(usize::try_from(kept.len()).unwrap_or(0) + 1);
    file.take(CONFIG_MAX).read_to_end(&mut bytes).call("read", path.display())?;
    Ok(bytes)
}
