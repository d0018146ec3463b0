//! Programs of the host that the VM is made and run with, and how missing ones get there.

use anyhow::{Context, Result, ensure};
use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A program and the Debian package that has it.
const PROGRAMS: &[(&str, &str)] = &[
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("mmdebstrap", "mmdebstrap"),
    ("mkfs.ext4", "e2fsprogs"),
    ("cpio", "cpio"),
    ("xz", "xz-utils"),
    ("setpriv", "util-linux"),
];

/// Installs what is missing of the programs above, saying so on standard output.
pub fn install_programs() -> Result<()> {
    let missing: Vec<&str> =
        PROGRAMS.iter().filter(|(program, _)| find(program).is_none()).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    println!("rtc-vm: installing {} with apt-get", missing.join(" "));
    run(apt_get(&["update"])).context("the list of Debian's packages could not be fetched")?;
    let mut install = apt_get(&["install", "--yes", "--no-install-recommends"]);
    install.args(&missing);
    run(install).with_context(|| format!("{} could not be installed", missing.join(" ")))
}

fn apt_get(args: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command.arg("-qq").args(["-o", "DPkg::Lock::Timeout=300"]).args(args).env("DEBIAN_FRONTEND", "noninteractive");
    command
}

/// The path of a program on `PATH` or in the system's own folders, which an ordinary user's `PATH` lacks.
fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    folders.map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// A command for a program of the table above.
pub(crate) fn command(program: &str) -> Command {
    Command::new(find(program).unwrap_or_else(|| Path::new(program).to_owned()))
}

/// Runs a command quietly; what it wrote to standard error is part of the error.
pub(crate) fn run(mut command: Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("start {name}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name}: {}: {}", output.status, errors.trim().replace('\n', "; "));
    Ok(())
}

/// Runs a command and gives what it wrote to standard output.
pub(crate) fn output(mut command: Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("start {name}"))?;
    ensure!(output.status.success(), "{name}: {}", output.status);
    String::from_utf8(output.stdout).with_context(|| format!("the output of {name}"))
}
