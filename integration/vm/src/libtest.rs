//! The whole-binary tests of this workspace, run in the VM: the same executables as on the host, where cgroup v2 may
//! lack its controllers.

use crate::build;
use crate::machine::Machine;
use crate::report::Report;
use anyhow::Result;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The packages whose integration tests run in the VM. Their programs must need nothing that the image lacks.
const PACKAGES: &[&str] = &[];

/// Longest time for all tests of one executable.
const TIMEOUT: Duration = Duration::from_secs(900);

/// Builds the test executables and names them for the guest: `package-test`.
/// None, when the filter names a suite of another kind.
pub fn build(filter: &str) -> Result<Vec<(String, PathBuf)>> {
    let mut all = Vec::new();
    for package in PACKAGES {
        for (name, path) in build::tests(package)? {
            all.push((format!("{package}-{name}"), path));
        }
    }
    all.retain(|(name, _)| filter.is_empty() || filter.starts_with(name.as_str()) || name.contains(filter));
    Ok(all)
}

/// Runs one executable test by test, in order, and reports each.
pub fn run(machine: &mut Machine, name: &str, filter: &str, report: &mut Report) -> Result<()> {
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
