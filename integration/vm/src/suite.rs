//! Suites: shell files of `integration/suites`, run in the VM function by function.
//!
//! A file `engine.sh` is the suite `engine`. Each function `case_NAME` is a case, run in a shell of its own that stops
//! at the first command to fail; it passes when it ends with status 0.
//! A function `setup` runs before the first case of the file; when it fails, so do all of them.
//! A function `cleanup` runs after a case that failed, so that the next starts from nothing.
//! A line `# guest: systemd` names the guest that the suite needs (`shell` without such a line); with several names,
//! parted by blanks, it runs on each, and from the second on it is called `engine@guest`.
//! A file without cases is no suite but a part of some, which read it; every suite's shell reads `lib.sh` first.

use crate::guest::Guest;
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

/// One file of cases, on one guest.
#[derive(Debug, PartialEq, Eq)]
pub struct Suite {
    name: String,
    file: String,
    guest: Guest,
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
        if path.extension().is_some_and(|extension| extension == "sh") {
            let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
            suites.extend(Suite::parse(&name, &text).with_context(|| path.display().to_string())?);
        }
    }
    suites.retain(|suite| !suite.is_empty());
    suites.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(suites)
}

impl Suite {
    /// One suite per guest.
    fn parse(file: &str, text: &str) -> Result<Vec<Self>> {
        let functions = || text.lines().filter_map(|line| line.strip_suffix("() {"));
        let guests = text.lines().find_map(|line| line.strip_prefix("# guest: ")).unwrap_or(Guest::Shell.name());
        let suite = |(index, guest)| {
            let guest = Guest::named(guest)?;
            Ok(Self {
                name: if index == 0 { file.to_owned() } else { format!("{file}@{guest}") },
                file: file.to_owned(),
                guest,
                cases: functions().filter(|name| name.starts_with("case_")).map(str::to_owned).collect(),
                has_setup: functions().any(|name| name == "setup"),
                has_cleanup: functions().any(|name| name == "cleanup"),
            })
        };
        guests.split_whitespace().enumerate().map(suite).collect()
    }

    /// The guest that it runs on.
    pub fn guest(&self) -> Guest {
        self.guest
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
    pub fn run(&self, machine: &mut Machine, report: &Report) -> Result<()> {
        let began = Instant::now();
        let ran = self.run_cases(machine, report);
        report.note(&format!("suite {}", self.name), began.elapsed());
        ran
    }

    fn run_cases(&self, machine: &mut Machine, report: &Report) -> Result<()> {
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
        let script = format!(". {GUEST}/lib.sh; . {GUEST}/{}.sh; set -euxo pipefail; {function}", self.file);
        machine.shell(&script, TIMEOUT)
    }
}

fn full_name(suite: &str, case: &str) -> String {
    format!("{suite}::{}", case.trim_start_matches("case_"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const TEXT: &str =
        "# A suite.\nsetup() {\n    true\n}\nhelper() {\n}\ncase_one() {\n    case_x\n}\ncase_two() {\n}\n";

    fn parse(name: &str, text: &str) -> Vec<Suite> {
        Suite::parse(name, text).unwrap()
    }

    #[test]
    fn functions_are_found_by_name() {
        let suites = parse("demo", TEXT);
        assert_eq!(suites.len(), 1);
        assert_eq!(suites[0].cases, ["case_one", "case_two"]);
        assert_eq!(suites[0].guest, Guest::Shell);
        assert!(suites[0].has_setup);
        assert!(!suites[0].has_cleanup);
    }

    #[test]
    fn a_suite_runs_on_each_guest_it_names() {
        let suites = parse("demo", &format!("# guest: systemd debian12\n{TEXT}"));
        let names: Vec<_> =
            suites.iter().map(|suite| (suite.name.as_str(), suite.file.as_str(), suite.guest)).collect();
        assert_eq!(names, [("demo", "demo", Guest::Systemd), ("demo@debian12", "demo", Guest::Debian12)]);
        assert!(Suite::parse("demo", "# guest: other\n").is_err());
    }

    #[test]
    fn the_filter_sees_suite_and_case() {
        let mut suite = parse("demo", TEXT).remove(0);
        suite.keep("demo::tw");
        assert_eq!(suite.cases, ["case_two"]);
        suite.keep("other");
        assert!(suite.is_empty());
    }
}
