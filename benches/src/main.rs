//! `cargo run --release -p rtc-bench [SUITE…]`: rtc beside runc, crun, CRIU and the floor, in one run, as ratios.
//!
//! The peers come from Debian sid's packages, in a root of their own that this program makes once with mmdebstrap and
//! then enters in a private mount namespace, with cgroup2 at /sys/fs/cgroup. Commands of the different runtimes take
//! turns, so that a noisy machine is equally unfair to all; minima and processor time suffer least from noise.
//! `--rtc BINARY` measures another rtc, `--as-built` builds nothing first, `--rounds N` sets a suite's size.
#![forbid(unsafe_code)]

mod checkpoint;
mod inside;
mod lifecycle;
mod measure;
mod paths;
mod peers;
mod scale;
mod spec;

use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::process::Command;

/// A suite: its name, its usual number of rounds, and what it does with a number of rounds.
type Suite = (&'static str, usize, fn(usize) -> Result<()>);

const SUITES: &[Suite] = &[
    ("run", 40, lifecycle::run),
    ("commands", 40, lifecycle::commands),
    ("memory", 40, lifecycle::memory),
    ("scale", 1000, |rounds| scale::run(rounds, rounds.div_ceil(5))),
    ("inside", 10, inside::run),
    ("checkpoint", 8, checkpoint::run),
];

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let mut rtc = None;
    let mut rounds = None;
    let mut as_built = false;
    let mut chosen: Vec<&Suite> = Vec::new();
    while let Some(arg) = args.next() {
        match (arg.as_str(), SUITES.iter().find(|(name, ..)| *name == arg)) {
            ("--rtc", _) => rtc = args.next().map(PathBuf::from),
            ("--rounds", _) => rounds = args.next().map(|n| n.parse::<usize>()).transpose().context("--rounds")?,
            ("--as-built", _) => as_built = true,
            (_, Some(suite)) => chosen.push(suite),
            _ => {
                let names: Vec<&str> = SUITES.iter().map(|(name, ..)| *name).collect();
                bail!("usage: rtc-bench [--as-built] [--rtc BINARY] [--rounds N] [{}]…", names.join("|"))
            }
        }
    }
    if chosen.is_empty() {
        chosen.extend(SUITES);
    }
    if !as_built {
        build("rtc-bench")?;
        if rtc.is_none() {
            build("rtc")?;
        }
    }
    let rtc = rtc.unwrap_or_else(|| built("rtc"));
    let programs = [("rtc", rtc), ("rtc-floor", built("rtc-floor")), ("rtc-probe", built("rtc-probe"))];
    peers::enter(&programs)?;
    for (_, usual, run) in chosen {
        run(rounds.unwrap_or(*usual))?;
    }
    Ok(())
}

/// Builds a package as it is shipped.
fn build(package: &str) -> Result<()> {
    let status = Command::new("cargo").args(["build", "--quiet", "--release", "--package", package]).status()?;
    if !status.success() {
        bail!("{package} doesn't build");
    }
    Ok(())
}

fn built(program: &str) -> PathBuf {
    PathBuf::from("target/x86_64-unknown-linux-gnu/release").join(program)
}
