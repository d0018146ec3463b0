//! Suites: shell files of `integration/suites`, run in the VM function by function.
//!
//! A file `engine.sh` is the suite `engine`. Each function `case_NAME` is a case, run in a shell of its own that stops
//! at the first command to fail; it passes when it ends with status 0.
//! A function `setup` runs before the first case of the file; when it fails, so do all of them.
//! A function `cleanup` runs after a case that failed, so that the next starts from nothing.
//! `lib.sh` is no suite: every suite's shell reads it first.

use crate::machine::{Machine, Outcome};
use crate::report::Report;
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Where the suites are in the guest.
const GUEST: &str = "/rtc/suites";

/// Longest time for one case. A flow of ten engine calls needs 20 s under emulation on an idle machine.
const TIMEOUT: Duration = Duration::from_secs(240);

/// One file of cases.
#[derive(Debug, PartialEq, Eq)]
pub struct Suite {
    name: String,
    cases: Vec<String>,
    has_setup: bool,
    has_cleanup: bool,
}

/// The folder of the suites on the host.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../suites")
}

/// Reads all suites, in the order of their names.
pub fn all() -> Result<Vec<Suite>> {
    let folder = folder();
    let mut suites = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        if path.extension().is_some_and(|extension| extension == "sh") && name != "lib" {
            let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
            suites.push(Suite::parse(&name, &text));
        }
    }
    suites.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(suites)
}

impl Suite {
    fn parse(name: &str, text: &str) -> Self {
        let functions = || text.lines().filter_map(|line| line.strip_suffix("() {"));
        Self {
            name: name.to_owned(),
            cases: functions().filter(|name| name.starts_with("case_")).map(str::to_owned).collect(),
            has_setup: functions().any(|name| name == "setup"),
            has_cleanup: functions().any(|name| name == "cleanup"),
        }
    }

    /// Leaves the cases whose full name (`suite::case`) contains the filter.
    pub fn keep(&mut self, filter: &str) {
        let Self { name, cases, .. } = self;
        cases.retain(|case| full_name(name, case).contains(filter));
    }

    /// Whether no case is left.
    pub fn is_empty(&self) -> bool {
        self.cases.is_empty()
    }

    /// Runs the cases. An error means that the VM is gone; a case that fails is in the report.
    pub fn run(&self, machine: &mut Machine, report: &mut Report) -> Result<()> {
        if self.has_setup && !self.is_empty() {
            let began = Instant::now();
            let outcome = self.call(machine, "setup")?;
            if outcome.code != 0 {
                let why = format!("the suite's setup failed\n{}", outcome);
                for case in &self.cases {
                    report.fail(&full_name(&self.name, case), began.elapsed(), &why);
                }
                return Ok(());
            }
        }
        for case in &self.cases {
            let name = full_name(&self.name, case);
            let began = Instant::now();
            let outcome = match self.call(machine, case) {
                Ok(outcome) => outcome,
                Err(error) => {
                    report.fail(&name, began.elapsed(), &format!("{error:#}"));
                    return Err(error);
                }
            };
            match outcome.code {
                0 => report.pass(&name, began.elapsed()),
                _ => {
                    report.fail(&name, began.elapsed(), &outcome.to_string());
                    self.clean_up(machine)?;
                }
            }
        }
        Ok(())
    }

    fn clean_up(&self, machine: &mut Machine) -> Result<()> {
        if self.has_cleanup {
            // What it can't remove shows in the cases that follow.
            self.call(machine, "set +e; cleanup")?;
        }
        Ok(())
    }

    fn call(&self, machine: &mut Machine, function: &str) -> Result<Outcome> {
        // -x: on failure the trace shows how far the case came, and with which values.
        let script = format!(". {GUEST}/lib.sh; . {GUEST}/{}.sh; set -euxo pipefail; {function}", self.name);
        machine.shell(&script, TIMEOUT)
    }
}

fn full_name(suite: &str, case: &str) -> String {
    format!("{suite}::{}", case.trim_start_matches("case_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "# A suite.\nsetup() {\n    true\n}\nhelper() {\n}\ncase_one() {\n    case_x\n}\ncase_two() {\n}\n";

    #[test]
    fn functions_are_found_by_name() {
        let suite = Suite::parse("demo", TEXT);
        assert_eq!(suite.cases, ["case_one", "case_two"]);
        assert!(suite.has_setup);
        assert!(!suite.has_cleanup);
    }

    #[test]
    fn the_filter_sees_suite_and_case() {
        let mut suite = Suite::parse("demo", TEXT);
        suite.keep("demo::tw");
        assert_eq!(suite.cases, ["case_two"]);
        suite.keep("other");
        assert!(suite.is_empty());
    }
}
