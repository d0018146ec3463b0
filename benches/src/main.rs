//! `cargo run --release -p rtc-bench`: rtc beside runc, crun and CRIU, in one run, as ratios.
//!
//! The peers come from Debian sid's packages, in a root of their own that this program makes once with mmdebstrap and
//! then enters in a private mount namespace, with cgroup2 at /sys/fs/cgroup. Commands of the different runtimes take
//! turns, so that a noisy machine is equally unfair to all.
#![forbid(unsafe_code)]

mod checkpoint;
mod lifecycle;
mod measure;
mod peers;

use anyhow::{Context, Result, bail};
use std::path::PathBuf;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let mut rtc = None;
    let mut rounds = None;
    let mut what = Vec::new();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--rtc" => rtc = args.next().map(PathBuf::from),
            "--rounds" => rounds = args.next().map(|n| n.parse::<usize>()).transpose().context("--rounds")?,
            "lifecycle" | "checkpoint" => what.push(arg),
            _ => bail!("usage: rtc-bench [--rtc BINARY] [--rounds N] [lifecycle] [checkpoint]"),
        }
    }
    let rtc = match rtc {
        Some(path) => path,
        None => build_rtc()?,
    };
    let rtc = std::fs::canonicalize(&rtc).with_context(|| format!("{}", rtc.display()))?;
    peers::enter(&rtc)?;
    let all = what.is_empty();
    if all || what.iter().any(|w| w == "lifecycle") {
        lifecycle::run(rounds.unwrap_or(40))?;
    }
    if all || what.iter().any(|w| w == "checkpoint") {
        checkpoint::run(rounds.unwrap_or(8))?;
    }
    Ok(())
}

/// Builds rtc as it is shipped.
fn build_rtc() -> Result<PathBuf> {
    let status = std::process::Command::new("cargo").args(["build", "--release", "--package", "rtc"]).status()?;
    if !status.success() {
        bail!("rtc doesn't build");
    }
    Ok(PathBuf::from("target/x86_64-unknown-linux-gnu/release/rtc"))
}
