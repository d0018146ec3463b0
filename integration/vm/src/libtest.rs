//! The whole-binary tests of this workspace, run in the VM: the same executables as on the host, where cgroup v2 may
//! lack its controllers.

use crate::build;
use crate::machine::Machine;
use crate::report::Report;
use crate::share::Share;
use anyhow::Result;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The packages whose integration tests run in the VM. Their programs must need nothing that the image lacks.
const PACKAGES: &[&str] = &[];

/// Longest time for all tests of one executable.
const TIMEOUT: Duration = Duration::from_secs(900);

/// The test executables of all packages.
#[derive(Debug, Default)]
pub struct Executables {
    /// Names for the guest, `package-test`, and files.
    tests: Vec<(String, PathBuf)>,
    /// Programs that tests call by their paths on the host.
    programs: Vec<PathBuf>,
}

impl Executables {
    /// Builds them, and keeps those whose name contains the filter or begins it (`package-test::function`).
    pub fn build(filter: &str) -> Result<Self> {
        let mut all = Self::default();
        for package in PACKAGES {
            let built = build::tests(package)?;
            all.tests.extend(built.tests.into_iter().map(|(name, path)| (format!("{package}-{name}"), path)));
            all.programs.extend(built.programs);
        }
        all.tests.retain(|(name, _)| name.contains(filter) || filter.starts_with(&format!("{name}::")));
        Ok(all)
    }

    /// Whether no test is left.
    pub fn is_empty(&self) -> bool {
        self.tests.is_empty()
    }

    /// Puts them on the share.
    pub fn share(&self, share: &Share) -> Result<()> {
        for (name, file) in &self.tests {
            share.program(file, &format!("tests/{name}"))?;
        }
        for (index, file) in self.programs.iter().enumerate() {
            share.program(file, &format!("tests/program-{index}"))?;
        }
        Ok(())
    }

    /// Runs them one after the other, each test by test, and reports each test.
    pub fn run(&self, machine: &mut Machine, filter: &str, report: &mut Report) -> Result<()> {
        for (index, file) in self.programs.iter().enumerate() {
            let script = format!("mkdir -p \"$(dirname '{0}')\"; cp /rtc/tests/program-{index} '{0}'", file.display());
            machine.shell(&script, TIMEOUT)?.expect_success("place a test's program")?;
        }
        self.tests.iter().try_for_each(|(name, _)| run(machine, name, filter, report))
    }
}

fn run(machine: &mut Machine, name: &str, filter: &str, report: &mut Report) -> Result<()> {
    let began = Instant::now();
    let inner = filter.strip_prefix(name).map_or("", |rest| rest.trim_start_matches(':'));
    let script = format!("RTC=/rtc/bin/rtc exec /rtc/tests/{name} --test-threads=1 {inner}");
    let outcome = machine.shell(&script, TIMEOUT)?;
    let stdout = String::from_utf8_lossy(&outcome.stdout);
    let mut failed = false;
    for (test, verdict) in stdout.lines().filter_map(verdict) {
        let full = format!("{name}::{test}");
        match verdict {
            "ok" => report.pass(&full, Duration::ZERO),
            verdict if verdict.starts_with("ignored") => {}
            _ => {
                failed = true;
                report.fail(&full, Duration::ZERO, section(&stdout, test));
            }
        }
    }
    if outcome.code != 0 && !failed {
        report.fail(name, began.elapsed(), &outcome.to_string());
    }
    Ok(())
}

/// The test and its verdict, if this line of the harness tells one.
fn verdict(line: &str) -> Option<(&str, &str)> {
    line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... "))
}

/// What a failed test printed: from its heading to the next.
fn section<'a>(output: &'a str, test: &str) -> &'a str {
    let heading = format!("---- {test} stdout ----");
    let Some((_, rest)) = output.split_once(&heading) else { return "it printed nothing" };
    let end = rest.find("\n---- ").or_else(|| rest.find("\nfailures:\n")).unwrap_or(rest.len());
    rest[..end].trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "running 2 tests\ntest a::b ... ok\ntest c ... FAILED\n\nfailures:\n\n---- c stdout ----\n\
                          boom\n\n\nfailures:\n    c\n\ntest result: FAILED. 1 passed; 1 failed\n";

    #[test]
    fn verdicts_and_sections_are_found() {
        let verdicts: Vec<_> = OUTPUT.lines().filter_map(verdict).collect();
        assert_eq!(verdicts, [("a::b", "ok"), ("c", "FAILED")]);
        assert_eq!(section(OUTPUT, "c"), "boom");
        assert_eq!(section(OUTPUT, "a::b"), "it printed nothing");
    }
}
