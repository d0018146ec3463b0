//! Debian packages that the commands need: looked for, and installed when missing.

use crate::shell;
use anyhow::{Context, Result, bail};
use std::fs;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};

/// A program and the package that brings it.
pub(crate) struct Need {
    /// The package.
    pub(crate) package: &'static str,
    /// A file that is there once the package is installed, or a name to find in `PATH`.
    pub(crate) provides: &'static str,
}

/// Makes sure that everything in `needs` is on this machine.
/// Says which packages it installs, and installs none where all is there.
pub(crate) fn ensure(needs: &[Need]) -> Result<()> {
    let missing: Vec<&str> = needs.iter().filter(|need| !is_there(need.provides)).map(|need| need.package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    println!("installing Debian packages: {}", missing.join(" "));
    let quiet = NoServices::declare()?;
    // The first try spares the download of the package lists; a fresh machine has none, an old one stale ones.
    if install(&missing).is_err() {
        shell::run(apt_get().arg("update"))?;
        install(&missing)?;
    }
    drop(quiet);
    match needs.iter().find(|need| !is_there(need.provides)) {
        Some(need) => bail!("package {} is installed, but {} is still missing", need.package, need.provides),
        None => Ok(()),
    }
}

fn install(packages: &[&str]) -> Result<()> {
    shell::run(apt_get().args(["install", "--yes", "--no-install-recommends"]).args(packages).stdout(Stdio::null()))
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    // Another run on the same machine may hold the lock for a while.
    command.args(["-qq", "-o", "DPkg::Lock::Timeout=600"]).env("DEBIAN_FRONTEND", "noninteractive");
    command
}

fn is_there(what: &str) -> bool {
    if what.starts_with('/') {
        return Path::new(what).exists();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(Into::into);
    std::env::split_paths(&path).chain(usual).any(|folder| folder.join(what).exists())
}

/// While it lives, installed daemons are not started on the host: the tests run them in containers only.
struct NoServices {
    made: bool,
}

/// The hook by which Debian's maintainer scripts ask whether they may start a service.
const POLICY: &str = "/usr/sbin/policy-rc.d";

impl NoServices {
    fn declare() -> Result<Self> {
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o755).open(POLICY);
        match file {
            Ok(mut file) => {
                use std::io::Write;
                file.write_all(b"#!/bin/sh\nexit 101\n").context(POLICY)?;
                file.set_permissions(fs::Permissions::from_mode(0o755)).context(POLICY)?;
                Ok(Self { made: true })
            }
            // The machine has a policy of its own: leave it.
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(Self { made: false }),
            Err(e) => Err(e).context(POLICY),
        }
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.made {
            let _ = fs::remove_file(POLICY);
        }
    }
}
