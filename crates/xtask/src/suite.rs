//! `cargo xtask test`: the steps, run one after another, and the sum of what they counted.
//!
//! A red step does not stop the others, so one run shows everything that is wrong.
//! The release build begins with the first step, out of sight: it spends minutes on one crate after another, which
//! leaves a processor to the steps before its own turn. They build into other folders.
//! The last line is `N passed, N failed`.

use crate::packages::{self, Need};
use crate::{deb, msrv, shell, tidy};
use anyhow::{Context, Result, bail};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// Where a step runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tier {
    /// On this machine.
    Host,
    /// In a virtual machine with a plain cgroup v2 hierarchy and container engines.
    Vm,
}

/// One step of the test.
pub(crate) struct Step {
    /// What `cargo xtask ci` calls it.
    pub(crate) name: &'static str,
    what: &'static str,
    /// Where it runs.
    pub(crate) tier: Tier,
    run: fn(&mut Tally) -> Result<bool>,
}

/// Cheap steps first: a slip is shown within seconds.
const STEPS: &[Step] = &[
    Step { name: "tidy", what: "structure of the source", tier: Tier::Host, run: |_| tidy::run() },
    Step { name: "fmt", what: "format", tier: Tier::Host, run: fmt },
    Step { name: "clippy", what: "lints", tier: Tier::Host, run: clippy },
    Step { name: "doc", what: "documentation", tier: Tier::Host, run: doc },
    Step { name: "msrv", what: "the oldest compiler", tier: Tier::Host, run: |_| msrv::run() },
    Step { name: "unit", what: "unit tests of the workspace", tier: Tier::Host, run: unit },
    Step { name: "build", what: "the binary as users run it", tier: Tier::Host, run: |_| build().map(|()| true) },
    Step { name: "deb", what: "the Debian package", tier: Tier::Host, run: |_| build().and_then(|()| deb::run()) },
    Step { name: "zoo", what: "one small program per kernel resource, saved and restored", tier: Tier::Host, run: zoo },
    Step { name: "programs", what: "real programs, saved and restored", tier: Tier::Host, run: programs },
    Step { name: "vm", what: "engines in a virtual machine", tier: Tier::Vm, run: vm },
];

/// The packages whose tests run rtc as a whole; they have steps of their own.
const WHOLE: [&str; 2] = ["rtc-tests", "rtc-zoo"];

/// What the tests counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
}

impl Tally {
    /// Takes in a line of a test runner's output: cargo's `test result: …`, or a plain `N passed, N failed`.
    fn read(&mut self, line: &str) {
        let counts = match line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". ")) {
            Some((_, counts)) => counts,
            None => line,
        };
        let mut parts = counts.split([',', ';']).map(str::trim);
        let mut number = |word: &str| parts.next()?.strip_suffix(word)?.trim().parse::<u64>().ok();
        if let (Some(passed), Some(failed)) = (number("passed"), number("failed")) {
            self.passed += passed;
            self.failed += failed;
        }
    }
}

/// Prints the steps.
pub(crate) fn list() {
    for step in STEPS {
        println!("{:10} {}", step.name, step.what);
    }
}

/// Runs the named steps.
pub(crate) fn run_named(names: &[&str]) -> Result<bool> {
    if let Some(name) = names.iter().find(|name| !STEPS.iter().any(|step| step.name == **name)) {
        bail!("no step is called {name}; `cargo xtask ci` lists them");
    }
    run(|step| names.contains(&step.name))
}

/// Runs the chosen steps and says whether all of them passed.
pub(crate) fn run(chosen: impl Fn(&Step) -> bool) -> Result<bool> {
    let mut total = Tally::default();
    let mut red = Vec::new();
    let mut lines = Vec::new();
    let steps: Vec<&Step> = STEPS.iter().filter(|step| chosen(step)).collect();
    let mut ahead = match steps.iter().position(|step| step.name == "build") {
        Some(1..) => Some(begin_build()?),
        _ => None,
    };
    for step in steps {
        shell::heading(&format!("{}: {}", step.name, step.what));
        let start = Instant::now();
        if step.name == "build" {
            wait_for_build(ahead.take())?;
        }
        let mut tally = Tally::default();
        let good = (step.run)(&mut tally).unwrap_or_else(|e| {
            println!("{}: {e:#}", step.name);
            false
        });
        // A step that counts nothing is one test; one that fails without a count has failed once.
        if tally == Tally::default() {
            tally.passed = u64::from(good);
        }
        if !good {
            tally.failed = tally.failed.max(1);
            red.push(step.name);
        }
        total.passed += tally.passed;
        total.failed += tally.failed;
        let seconds = start.elapsed().as_secs_f64();
        lines.push(format!("{:10} {:4} passed {:4} failed {seconds:8.1} s", step.name, tally.passed, tally.failed));
    }
    shell::heading("summary");
    println!("{}", lines.join("\n"));
    if !red.is_empty() {
        println!("red: {}", red.join(" "));
    }
    println!("{} passed, {} failed", total.passed, total.failed);
    Ok(red.is_empty())
}

/// What every build needs besides cargo.
fn compiler() -> Result<()> {
    packages::ensure(&[
        Need { package: "gcc", provides: "cc" },
        Need { package: "libc6-dev", provides: "/usr/lib/x86_64-linux-gnu/libc.a" },
    ])
}

/// What the checks of the source need besides, where cargo is Debian's.
fn lints() -> Result<()> {
    compiler()?;
    if is_rustup() {
        return Ok(());
    }
    packages::ensure(&[
        Need { package: "rustfmt", provides: "rustfmt" },
        Need { package: "rust-clippy", provides: "cargo-clippy" },
    ])
}

/// Whether cargo comes from rustup, which brings formatter and lints itself.
fn is_rustup() -> bool {
    std::env::var_os("RUSTUP_TOOLCHAIN").is_some()
}

fn fmt(_: &mut Tally) -> Result<bool> {
    lints()?;
    shell::run(shell::cargo().args(["fmt", "--all", "--check"])).map(|()| true)
}

fn clippy(_: &mut Tally) -> Result<bool> {
    lints()?;
    let mut command = shell::cargo();
    command.args(["clippy", "--quiet", "--workspace", "--all-targets"]);
    // Each version has its own lints. Those of the one that we develop with are errors; an older one, as Debian's, warns
    // of things that later versions have thought better of.
    if is_rustup() {
        command.args(["--", "--deny", "warnings"]);
    }
    shell::run(&mut command).map(|()| true)
}

fn doc(_: &mut Tally) -> Result<bool> {
    let mut command = shell::cargo();
    command.args(["doc", "--quiet", "--workspace", "--no-deps", "--document-private-items"]);
    shell::run(command.env("RUSTDOCFLAGS", "--deny warnings --allow rustdoc::private-intra-doc-links")).map(|()| true)
}

fn unit(tally: &mut Tally) -> Result<bool> {
    compiler()?;
    packages::ensure(SCRIPTED)?;
    let mut command = shell::cargo();
    command.args(["test", "--quiet", "--no-fail-fast", "--workspace"]);
    for package in WHOLE {
        command.args(["--exclude", package]);
    }
    shell::run_watched(&mut command, |line| tally.read(line))
}

/// Builds rtc and its shim as they are shipped.
pub(crate) fn build() -> Result<()> {
    compiler()?;
    shell::run(&mut release_build())
}

/// Builds rtc alone, which takes a third of the crates.
pub(crate) fn build_rtc() -> Result<()> {
    compiler()?;
    shell::run(shell::cargo().args(["build", "--release", "--package", "rtc"]))
}

fn release_build() -> Command {
    let mut command = shell::cargo();
    command.args(["build", "--release", "--package", "rtc", "--package", "rtc-shim"]);
    command
}

/// Begins the release build. What it prints is for its step to show, which asks cargo for the same once more.
fn begin_build() -> Result<Child> {
    compiler()?;
    let mut command = release_build();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().with_context(|| format!("start {}", shell::show(&command)))
}

/// Waits for the build that was begun. Whether it was good shows in the step.
fn wait_for_build(ahead: Option<Child>) -> Result<()> {
    if let Some(mut child) = ahead {
        child.wait().context("wait for the release build")?;
    }
    Ok(())
}

fn zoo(tally: &mut Tally) -> Result<bool> {
    whole("rtc-zoo", tally)
}

fn programs(tally: &mut Tally) -> Result<bool> {
    packages::ensure(PROGRAMS)?;
    whole("rtc-tests", tally)
}

/// What the tests of the crates run in their containers, or compare with.
const SCRIPTED: &[Need] = &[
    Need { package: "busybox-static", provides: "busybox" },
    Need { package: "iproute2", provides: "ip" },
    Need { package: "python3", provides: "/usr/bin/python3" },
];

/// The real programs of the tests, as Debian packages them.
const PROGRAMS: &[Need] = &[
    Need { package: "busybox-static", provides: "busybox" },
    Need { package: "curl", provides: "/usr/bin/curl" },
    Need { package: "default-jdk-headless", provides: "/usr/bin/javac" },
    Need { package: "iproute2", provides: "ip" },
    Need { package: "nginx", provides: "/usr/sbin/nginx" },
    Need { package: "nodejs", provides: "/usr/bin/node" },
    Need { package: "postgresql", provides: "/usr/lib/postgresql" },
    Need { package: "python3", provides: "/usr/bin/python3" },
    Need { package: "redis-server", provides: "/usr/bin/redis-server" },
    Need { package: "redis-tools", provides: "/usr/bin/redis-cli" },
];

/// Runs a package of whole-binary tests.
fn whole(package: &str, tally: &mut Tally) -> Result<bool> {
    build()?;
    let rtc = shell::built("release", "rtc");
    let mut command = shell::cargo();
    command.args(["test", "--no-fail-fast", "--package", package]).env("RTC", &rtc);
    shell::run_watched(&mut command, |line| tally.read(line))
}

fn vm(tally: &mut Tally) -> Result<bool> {
    build()?;
    let mut command = shell::cargo();
    command.args(["run", "--quiet", "--package", "rtc-vm", "--", "test", "--rtc"]).arg(shell::built("release", "rtc"));
    // The VM's own tests print their counts as they go; its last count is the sum.
    let mut last = String::new();
    let good = shell::run_watched(&mut command, |line| {
        if line.contains(" passed, ") {
            line.clone_into(&mut last);
        }
    })?;
    tally.read(&last);
    Ok(good)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_from_both_forms() {
        let mut tally = Tally::default();
        tally.read("test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s");
        tally.read("test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s");
        tally.read("10 passed, 4 failed");
        tally.read("running 3 tests");
        assert_eq!(tally, Tally { passed: 15, failed: 5 });
    }
}
