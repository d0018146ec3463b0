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
/// The zoo and the real programs stay on the host: they would take a quarter of an hour here.
const PACKAGES: &[&str] = &["rtc-runtime", "rtc-checkpoint"];

/// What can't run in the VM: test executable, test (empty: all of them), reason.
const LEFT_OUT: &[(&str, &str, &str)] =
    &[("rtc-checkpoint-engine", "a_program_with_threads_and_a_heap_goes_on", "needs python3, and time not emulated")];

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
        let left_out = |name: &str| LEFT_OUT.iter().any(|(test, case, _)| *test == name && case.is_empty());
        all.tests.retain(|(name, _)| !left_out(name));
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
    pub fn run(&self, machine: &mut Machine, filter: &str, report: &Report) -> Result<()> {
        for (index, file) in self.programs.iter().enumerate() {
            let script = format!("mkdir -p \"$(dirname '{0}')\"; cp /rtc/tests/program-{index} '{0}'", file.display());
            machine.shell(&script, TIMEOUT)?.expect_success("place a test's program")?;
        }
        self.tests.iter().try_for_each(|(name, _)| run(machine, name, filter, report))
    }
}

fn run(machine: &mut Machine, name: &str, filter: &str, report: &Report) -> Result<()> {
    let began = Instant::now();
    let inner = filter.strip_prefix(name).map_or("", |rest| rest.trim_start_matches(':'));
    let skip: String =
        LEFT_OUT.iter().filter(|left| left.0 == name).map(|left| format!(" --skip {}", left.1)).collect();
    // With addresses that are drawn, as on other machines; the suites go without (machine.rs).
    let script = format!(
        "echo 2 > /proc/sys/kernel/randomize_va_space; RTC=/rtc/bin/rtc exec /rtc/tests/{name} --test-threads=1 {inner}{skip}"
    );
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
                // Without a section, the test has ended the whole process, or the harness is of the test's own.
                let why = section(&stdout, test).map_or_else(|| outcome.to_string(), str::to_owned);
                report.fail(&full, Duration::ZERO, &why);
            }
        }
    }
    report.note(&format!("tests {name}"), began.elapsed());
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
fn section<'a>(output: &'a str, test: &str) -> Option<&'a str> {
    let heading = format!("---- {test} stdout ----");
    let (_, rest) = output.split_once(&heading)?;
    let end = rest.find("\n---- ").or_else(|| rest.find("\nfailures:\n")).unwrap_or(rest.len());
    Some(rest[..end].trim())
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
        assert_eq!(section(OUTPUT, "c"), Some("boom"));
        assert_eq!(section(OUTPUT, "a::b"), None);
    }
}
