//! The read-only disk that carries the files of one run into the VM.

use crate::host;
use anyhow::{Context, Result};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// Files gathered for the guest, where they appear under `/rtc`.
#[derive(Debug)]
pub struct Share {
    folder: PathBuf,
}

impl Share {
    /// Gathers in `folder`, which must not exist; it belongs to the caller.
    pub fn new(folder: &Path) -> Result<Self> {
        fs::create_dir(folder).with_context(|| format!("create {}", folder.display()))?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// Adds a copy of the file `from` as `/rtc/<to>`, executable by all.
    pub fn program(&self, from: &Path, to: &str) -> Result<()> {
        let target = self.place(to)?;
        fs::copy(from, &target).with_context(|| format!("copy {} to {}", from.display(), target.display()))?;
        fs::set_permissions(&target, fs::Permissions::from_mode(0o755))
            .with_context(|| format!("chmod {}", target.display()))
    }

    /// Adds copies of all plain files of a folder as `/rtc/<to>/…`.
    pub fn folder(&self, from: &Path, to: &str) -> Result<()> {
        for entry in fs::read_dir(from).with_context(|| format!("read {}", from.display()))? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                let name = entry.file_name();
                self.program(&entry.path(), &format!("{to}/{}", name.to_string_lossy()))?;
            }
        }
        Ok(())
    }

    /// Adds a symbolic link `/rtc/<to>`.
    pub fn link(&self, points_to: &str, to: &str) -> Result<()> {
        let link = self.place(to)?;
        symlink(points_to, &link).with_context(|| format!("link {}", link.display()))
    }

    fn place(&self, to: &str) -> Result<PathBuf> {
        let target = self.folder.join(to);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
        }
        Ok(target)
    }

    /// Writes the disk to the file `disk`, as large as the files need and a little more.
    pub(crate) fn write(&self, disk: &Path) -> Result<()> {
        let bytes = size_of_tree(&self.folder)?;
        // Each file may waste a block, and the file system's tables take a part.
        let mebibytes = bytes / (1 << 20) * 5 / 4 + 16;
        let mut mkfs = host::command("mkfs.ext4");
        mkfs.args(["-q", "-F", "-O", "^has_journal,^metadata_csum", "-m", "0", "-d"]);
        host::run({
            mkfs.arg(&self.folder).arg(disk).arg(format!("{mebibytes}M"));
            mkfs
        })
    }
}

fn size_of_tree(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let entry = entry?;
        let data = entry.path().symlink_metadata()?;
        bytes += if data.is_dir() { size_of_tree(&entry.path())? } else { data.len() };
    }
    Ok(bytes)
}
