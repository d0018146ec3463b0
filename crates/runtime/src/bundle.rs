//! A bundle: the directory with config.json and, usually, the root file system.

use std::fs;
use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;
use rtc_sys::CallExt;

use crate::error::{Context, Error, Kind, Result};
use crate::spec;

/// A bundle as it was read: later changes of its files have no effect on a container.
#[derive(Debug)]
pub(crate) struct Bundle {
    /// Its directory, absolute.
    pub(crate) dir: PathBuf,
    /// config.json as it is.
    pub(crate) config: Vec<u8>,
    /// config.json parsed and found valid.
    pub(crate) spec: Spec,
    /// The root file system's directory, absolute.
    pub(crate) rootfs: PathBuf,
}

impl Bundle {
    /// Reads and checks the bundle in `dir`, relative to the working directory; an empty path is that itself.
    ///
    /// # Errors
    /// One line that names the file and what is wrong.
    pub(crate) fn read(dir: &Path) -> Result<Self> {
        let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
        let dir = fs::canonicalize(dir).call("realpath", dir.display()).context(|| "bundle")?;
        let path = dir.join("config.json");
        let config = fs::read(&path).call("open", path.display()).map_err(|e| {
            Error::from(e).with_kind(Kind::Invalid).with_hint("name the directory of config.json with --bundle")
        })?;
        let spec = spec::parse(&config)?;
        spec::validate::validate(&spec)?;
        let root = spec.root().as_ref().ok_or_else(|| Error::new(Kind::Invalid, "config.json: root is missing"))?;
        let rootfs = dir.join(root.path());
        let rootfs = fs::canonicalize(&rootfs).call("realpath", rootfs.display()).context(|| "root file system")?;
        if !rootfs.is_dir() {
            return Err(Error::new(Kind::Invalid, format!("root file system {} is not a directory", rootfs.display())));
        }
        Ok(Self { dir, config, spec, rootfs })
    }
}
