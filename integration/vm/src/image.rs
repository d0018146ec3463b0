//! The VM's kernels, initrds and root disk: made once per recipe, kept in a cache.
//!
//! The cache is `$RTC_CACHE/vm/<hash>` (by default `/var/cache/rtc/vm/<hash>`); the hash covers every file of
//! `integration/image` and QEMU's version. Of other recipes' images, the three that were used last are kept.

use crate::guest::Guest;
use crate::host;
use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};
use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Instant, SystemTime};

/// How many images of other recipes stay: those of branches that are worked on at the same time.
const KEPT: usize = 3;

/// A complete image in the cache.
#[derive(Debug, Clone)]
pub struct Image {
    folder: PathBuf,
}

impl Image {
    /// Finds the image in the cache or builds it, which takes one to four minutes and says so.
    /// Several callers may ask at once: one builds, the others wait.
    pub fn prepare() -> Result<Self> {
        host::install_programs()?;
        let cache = env::var_os("RTC_CACHE").map_or_else(|| PathBuf::from("/var/cache/rtc"), PathBuf::from).join("vm");
        fs::create_dir_all(&cache).with_context(|| format!("create {}", cache.display()))?;
        let folder = cache.join(recipe_hash()?);
        let image = Self { folder };
        let lock = File::create(cache.join("lock")).with_context(|| format!("lock {}", cache.display()))?;
        flock(&lock, FlockOperation::LockExclusive).with_context(|| format!("lock {}", cache.display()))?;
        if !image.folder.exists() {
            image.build()?;
            remove_old(&cache, &image.folder)?;
        }
        // The time of its last use.
        let folder = File::open(&image.folder).with_context(|| format!("open {}", image.folder.display()))?;
        folder.set_modified(SystemTime::now()).with_context(|| format!("touch {}", image.folder.display()))?;
        Ok(image)
    }

    /// Debian's kernel that this guest boots.
    pub fn kernel(&self, guest: Guest) -> PathBuf {
        self.folder.join(format!("vmlinuz{}", guest.boot_suffix()))
    }

    /// The initrd with the drivers of that kernel.
    pub fn initrd(&self, guest: Guest) -> PathBuf {
        self.folder.join(format!("initrd{}.cpio", guest.boot_suffix()))
    }

    /// The root disk. VMs write to a temporary layer above it.
    pub fn disk(&self) -> PathBuf {
        self.folder.join("root.ext4")
    }

    /// Builds beside the final place and renames: a build that was interrupted is never taken for an image.
    fn build(&self) -> Result<()> {
        println!("rtc-vm: building the VM's image from Debian packages into {}", self.folder.display());
        let began = Instant::now();
        let unfinished = self.folder.with_extension("unfinished");
        // The lock is held, so whoever made this is dead.
        remove_if_there(&unfinished)?;
        fs::create_dir(&unfinished).with_context(|| format!("create {}", unfinished.display()))?;
        let script = recipe_folder().join("build.sh");
        let status = Command::new("bash").arg(&script).arg(&unfinished).status().context("start build.sh")?;
        if !status.success() {
            // The script has said why in one line; its log stays in the unfinished folder.
            bail!("the VM's image could not be built");
        }
        fs::rename(&unfinished, &self.folder).with_context(|| format!("create {}", self.folder.display()))?;
        println!("rtc-vm: image built in {:.0} s", began.elapsed().as_secs_f64());
        Ok(())
    }
}

/// Removes images that other recipes made and that nobody has used for long.
fn remove_old(cache: &Path, own: &Path) -> Result<()> {
    let mut others = Vec::new();
    for entry in fs::read_dir(cache).with_context(|| format!("list {}", cache.display()))? {
        let entry = entry?;
        let data = entry.metadata()?;
        if data.is_dir() && entry.path() != own {
            others.push((data.modified()?, entry.path()));
        }
    }
    others.sort_unstable_by(|a, b| b.cmp(a));
    others.iter().skip(KEPT).try_for_each(|(_, folder)| remove_if_there(folder))
}

fn remove_if_there(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

fn recipe_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../image")
}

fn recipe_hash() -> Result<String> {
    let mut command = Command::new("sh");
    // Names and contents, in a fixed order; the first word of sha256sum's line is the hash.
    let script = "cd \"$1\" && { LC_ALL=C; export LC_ALL; sha256sum * && printf '%s' \"$2\"; } | sha256sum";
    let mut qemu = host::command("qemu-system-x86_64");
    qemu.arg("--version");
    command.args(["-euc", script, "sh"]).arg(recipe_folder()).arg(host::output(qemu)?);
    let line = host::output(command)?;
    line.split_whitespace().next().map(str::to_owned).context("sha256sum wrote nothing")
}
