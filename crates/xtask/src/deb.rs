//! `cargo xtask deb`: the Debian package, from the list that `cargo deb` reads too.
//!
//! cargo-deb is a program to be built first, of more crates than rtc has; dpkg-deb is on every Debian machine. Both take
//! `[package.metadata.deb]` of crates/cli/Cargo.toml.

use crate::packages::{self, Need};
use crate::shell;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const ARCHITECTURE: &str = "amd64";

/// Makes `target/debian/rtc_VERSION_amd64.deb` of what has been built, and looks into it.
pub(crate) fn run() -> Result<bool> {
    packages::ensure(&[Need { package: "dpkg", provides: "dpkg-deb" }, Need { package: "gzip", provides: "gzip" }])?;
    let package = package()?;
    let root = shell::workspace().join("target/debian/root");
    let _ = fs::remove_dir_all(&root);
    for asset in package.assets()? {
        asset.install(&root)?;
    }
    package.documents(&root)?;
    package.control(&root)?;
    let file = root.with_file_name(format!("{}_{}_{ARCHITECTURE}.deb", package.text("name")?, package.version));
    shell::run(Command::new("dpkg-deb").args(["--root-owner-group", "--build"]).arg(&root).arg(&file))?;
    check(&file)?;
    println!("{}", file.display());
    Ok(true)
}

/// The package holds what it should, and its rtc runs.
fn check(file: &Path) -> Result<()> {
    let list = shell::output(Command::new("dpkg-deb").arg("--contents").arg(file))?;
    for path in ["./usr/bin/rtc", "./usr/bin/containerd-shim-rtc-v2", "./usr/share/man/man8/rtc.8.gz"] {
        ensure!(list.lines().any(|line| line.ends_with(path)), "{} has no {path}", file.display());
    }
    let root = file.with_file_name("root");
    let version = shell::output(Command::new(root.join("usr/bin/rtc")).arg("--version"))?;
    ensure!(version.starts_with("rtc version "), "the package's rtc says: {version}");
    Ok(())
}

struct Package {
    deb: Value,
    version: String,
    description: String,
    /// The folder that assets are named from.
    folder: PathBuf,
}

/// One file to install.
struct Asset {
    from: PathBuf,
    to: PathBuf,
    mode: u32,
}

fn package() -> Result<Package> {
    let text = shell::output(shell::cargo().args(["metadata", "--no-deps", "--format-version", "1"]))?;
    let metadata: Value = serde_json::from_str(&text).context("cargo metadata")?;
    let packages = metadata["packages"].as_array().context("cargo metadata: packages")?;
    let rtc = packages.iter().find(|package| package["name"] == "rtc").context("there is no package rtc")?;
    let text = |name: &str| rtc[name].as_str().map(str::to_owned).with_context(|| format!("package rtc: {name}"));
    let folder = PathBuf::from(text("manifest_path")?).parent().context("manifest_path")?.to_owned();
    let deb = rtc["metadata"]["deb"].clone();
    Ok(Package { deb, version: text("version")?, description: text("description")?, folder })
}

impl Package {
    fn text(&self, name: &str) -> Result<&str> {
        self.deb[name].as_str().with_context(|| format!("package.metadata.deb: {name}"))
    }

    fn assets(&self) -> Result<Vec<Asset>> {
        let mut found = Vec::new();
        for asset in self.deb["assets"].as_array().context("package.metadata.deb: assets")? {
            let word = |n: usize| asset[n].as_str().with_context(|| format!("asset {asset}"));
            let (from, to, mode) = (word(0)?, word(1)?, u32::from_str_radix(word(2)?, 8)?);
            for from in self.sources(from)? {
                let name = from.file_name().context("an asset is a file")?;
                let to = if to.ends_with('/') { Path::new(to).join(name) } else { to.into() };
                found.push(Asset { from, to, mode });
            }
        }
        Ok(found)
    }

    /// The files of a pattern: as in cargo-deb, target/release is where cargo puts programs, and a star is a part of a
    /// file's name.
    fn sources(&self, pattern: &str) -> Result<Vec<PathBuf>> {
        if let Some(program) = pattern.strip_prefix("target/release/") {
            return Ok(vec![shell::built("release", program)]);
        }
        let path = self.folder.join(pattern);
        let Some((before, after)) = pattern.rsplit('/').next().and_then(|name| name.split_once('*')) else {
            return Ok(vec![path]);
        };
        let folder = path.parent().context("an asset is in a folder")?;
        let mut files = Vec::new();
        for entry in fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
            let entry = entry?.path();
            let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with(before) && name.ends_with(after) {
                files.push(entry);
            }
        }
        ensure!(!files.is_empty(), "{pattern} names no file");
        files.sort();
        Ok(files)
    }

    /// What Debian's policy wants of every package: its own changelog, compressed.
    fn documents(&self, root: &Path) -> Result<()> {
        let from = self.folder.join(self.text("changelog")?);
        let text = fs::read_to_string(&from).with_context(|| format!("read {}", from.display()))?;
        let wanted = format!("{} ({})", self.text("name")?, self.version);
        ensure!(text.starts_with(&wanted), "{} doesn't begin with {wanted}", from.display());
        let to = Path::new("usr/share/doc").join(self.text("name")?).join("changelog");
        Asset { from, to, mode: 0o644 }.install(root)
    }

    fn control(&self, root: &Path) -> Result<()> {
        let kilobytes = kilobytes(root)?;
        let mut text = format!(
            "Package: {}\nVersion: {}\nArchitecture: {ARCHITECTURE}\nMaintainer: {}\nInstalled-Size: {kilobytes}\n",
            self.text("name")?,
            self.version,
            self.text("maintainer")?
        );
        for (field, name) in
            [("Depends", "depends"), ("Suggests", "suggests"), ("Section", "section"), ("Priority", "priority")]
        {
            match self.text(name)? {
                "" => {}
                value => text += &format!("{field}: {value}\n"),
            }
        }
        text += &format!("Description: {}\n", self.description);
        for line in self.text("extended-description")?.lines() {
            text += &format!(" {line}\n");
        }
        let folder = root.join("DEBIAN");
        fs::create_dir_all(&folder).context("create DEBIAN")?;
        fs::write(folder.join("control"), text).context("write control")
    }
}

impl Asset {
    fn install(&self, root: &Path) -> Result<()> {
        let target = root.join(&self.to);
        let parent = target.parent().context("an asset is in a folder")?;
        fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
        fs::copy(&self.from, &target).with_context(|| format!("copy {}", self.from.display()))?;
        fs::set_permissions(&target, fs::Permissions::from_mode(self.mode)).context("chmod")?;
        if self.to.starts_with("usr/share/man") || self.to.ends_with("changelog") {
            shell::run(Command::new("gzip").args(["-9", "-n", "-f"]).arg(&target))?;
        }
        Ok(())
    }
}

/// The size of a tree, rounded up per file as on disk.
fn kilobytes(folder: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let entry = entry?;
        let meta = entry.metadata()?;
        sum += if meta.is_dir() { 4 + kilobytes(&entry.path())? } else { meta.len().div_ceil(1024) };
    }
    Ok(sum)
}
