//! `msrv`: the oldest compiler that README.md promises builds everything.
//!
//! It is the one of Debian 13, in a root folder of its own; the crates are those that this machine's cargo has fetched.

use crate::shell;
use anyhow::{Context, Error, Result, bail};
use std::path::PathBuf;
use std::process::Command;

const SUITE: &str = "trixie";

/// Makes the mounts of a new mount namespace and goes into the root; `$1` is the root, `$2` the workspace, `$3` cargo's
/// home.
const ENTER: &str = r#"
    set -e
    mount --make-rprivate /
    mkdir -p "$1/work" "$1/home" "$1/home/registry" "$1/target"
    mount --bind -o ro "$2" "$1/work"
    mount --bind -o ro "$3/registry" "$1/home/registry"
    mount -t proc proc "$1/proc"
    cd "$1/work"
    export CARGO_HOME=/home CARGO_TARGET_DIR=/target
    exec chroot "$1" sh -c 'cd /work && exec cargo check --offline --locked --quiet --workspace --all-targets'
"#;

/// Checks that everything compiles with the compiler that the workspace names as its oldest.
pub(crate) fn run() -> Result<bool> {
    let promised = promised()?;
    if version(&mut shell::cargo())? == promised {
        println!("the cargo at work is {promised} itself");
        return Ok(true);
    }
    let root = rtc_tests::debian::root("msrv", SUITE, &["cargo", "gcc", "libc6-dev"]).map_err(Error::msg)?;
    let there = version(Command::new("chroot").arg(&root).arg("cargo"))?;
    if there != promised {
        bail!("Cargo.toml promises Rust {promised}, Debian {SUITE} has {there}");
    }
    shell::run(shell::cargo().args(["fetch", "--quiet", "--locked"]))?;
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", ENTER, "enter"]);
    command.arg(&root).arg(shell::workspace()).arg(home.context("neither CARGO_HOME nor HOME is set")?);
    // Those of another toolchain, which the root doesn't have.
    for name in ["RUSTUP_TOOLCHAIN", "RUSTC", "RUSTDOC", "CARGO"] {
        command.env_remove(name);
    }
    shell::run(command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")).map(|()| true)
}

/// `rust-version` of the workspace, "1.85".
fn promised() -> Result<String> {
    let text = std::fs::read_to_string(shell::workspace().join("Cargo.toml")).context("read Cargo.toml")?;
    let value = text.lines().find_map(|line| line.strip_prefix("rust-version = "));
    Ok(value.context("Cargo.toml has no rust-version")?.trim_matches('"').to_owned())
}

/// Major and minor version of a cargo.
fn version(cargo: &mut Command) -> Result<String> {
    let output = cargo.arg("--version").output().context("cargo --version")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // "cargo 1.85.1 (d73d2caf9 2024-12-31)"
    let number = text.split(' ').nth(1).and_then(|version| version.rsplit_once('.'));
    Ok(number.with_context(|| format!("cargo --version says {text:?}"))?.0.to_owned())
}
