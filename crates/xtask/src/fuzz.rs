//! `cargo xtask fuzz`: the targets of fuzz/, each for a while.
//!
//! They are targets of cargo-fuzz. This runs them with the stable compiler: libFuzzer's instrumentation is a pass of
//! LLVM that needs no unstable flag; the address sanitizer does, but there is no unsafe code in what is fuzzed.

use crate::packages::{self, Need};
use crate::shell;
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The targets, the first to run first.
const TARGETS: &[&str] = &["config", "process", "seccomp", "procfs", "image"];

/// How long each runs where the command line doesn't say.
const SECONDS: u32 = 60;

/// What cargo-fuzz passes, but for the sanitizer.
const FLAGS: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
    "--cfg=fuzzing",
];

/// Runs the named target or all, each for so many seconds.
///
/// What libFuzzer finds new is kept in target/fuzz/corpus, an input that fails in target/fuzz/artifacts.
pub(crate) fn run(args: &[&str]) -> Result<bool> {
    let (names, seconds): (Vec<&str>, u32) = match args {
        [] => (TARGETS.to_vec(), SECONDS),
        [number] if number.parse::<u32>().is_ok() => (TARGETS.to_vec(), number.parse()?),
        [name] => (vec![name], SECONDS),
        [name, number, ..] => (vec![name], number.parse().with_context(|| format!("seconds: {number}"))?),
    };
    if let Some(name) = names.iter().find(|name| !TARGETS.contains(name)) {
        bail!("no target is called {name}: {}", TARGETS.join(" "));
    }
    packages::ensure(&[Need { package: "g++", provides: "c++" }])?;
    build()?;
    let mut good = true;
    for name in names {
        shell::heading(&format!("fuzz {name}: {seconds} s"));
        good &= fuzz(name, seconds)?;
    }
    Ok(good)
}

fn folder() -> PathBuf {
    shell::workspace().join("target/fuzz")
}

fn build() -> Result<()> {
    let mut command = shell::cargo();
    // Linked as a host program: libFuzzer is C++.
    command.args(["build", "--quiet", "--release", "--manifest-path", "fuzz/Cargo.toml", "--target-dir"]).arg(folder());
    shell::run(command.env("RUSTFLAGS", FLAGS.join(" ")).env_remove("CARGO_ENCODED_RUSTFLAGS"))
}

fn fuzz(name: &str, seconds: u32) -> Result<bool> {
    let corpus = folder().join("corpus").join(name);
    let artifacts = folder().join("artifacts").join(name);
    for folder in [&corpus, &artifacts] {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    seed(name, &corpus).with_context(|| format!("seeds of {name}"))?;
    let mut command = Command::new(folder().join(shell::TARGET).join("release").join(name));
    command.arg(&corpus).arg(format!("-artifact_prefix={}/", artifacts.display()));
    command.arg(format!("-max_total_time={seconds}")).args(["-print_final_stats=1", "-timeout=10", "-verbosity=0"]);
    command.args(["-max_len=20000", "-rss_limit_mb=1024"]);
    let mut child = command.spawn().with_context(|| shell::show(&command))?;
    let good = child.wait()?.success();
    // The copies that the image's target works on.
    let _ = fs::remove_dir_all(format!("/dev/shm/rtc-fuzz-image-{}", child.id()));
    Ok(good)
}

/// Puts inputs into the corpus that reach far from the start.
fn seed(name: &str, corpus: &Path) -> Result<()> {
    let copy = |from: &Path, prefix: &[u8]| -> Result<()> {
        let bytes = [prefix, &fs::read(from)?].concat();
        let file = from.file_name().context("a file has a name")?;
        Ok(fs::write(corpus.join(file), bytes)?)
    };
    let files = |folder: &str| -> Result<Vec<PathBuf>> {
        let entries: Result<Vec<_>, _> = fs::read_dir(folder)?.collect();
        Ok(entries?.into_iter().map(|entry| entry.path()).collect())
    };
    match name {
        "seccomp" => {
            let profiles = files("crates/runtime/testdata/libseccomp")?;
            let profiles = profiles.iter().filter(|path| path.extension().is_some_and(|kind| kind == "json"));
            profiles.into_iter().try_for_each(|profile| copy(profile, &[0; 64]))
        }
        "image" => {
            let parts = ["tree-1.json", "files-1.json", "container-1.json", "pagemap-1.img", "manifest.json"];
            let folder = Path::new("crates/checkpoint/tests/data/image-v1");
            (0..).zip(parts).try_for_each(|(number, part)| copy(&folder.join(part), &[number]))
        }
        _ => files(&format!("fuzz/seeds/{name}"))?.iter().try_for_each(|file| copy(file, b"")),
    }
}
