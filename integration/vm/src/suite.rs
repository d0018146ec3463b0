//! Suites: shell files of `integration/suites`, run in the VM function by function.
//!
//! A file `engine.sh` is the suite `engine`. Each function `case_NAME` is a case, run in a shell of its own that stops
//! at the first command to fail; it passes when it ends with status 0.
//! A function `setup` runs before the first case of the file; when it fails, so do all of them.
//! A function `cleanup` runs after a case that failed, so that the next starts from nothing.
//! A line `. /rtc/suites/FILE.sh` reads another file, whose `setup` and `cleanup` count as the suite's own.
//! A line `# guest: systemd` names the guest that the suite needs (`shell` without such a line); with several names,
//! parted by blanks, it runs on each, and from the second on it is called `engine@guest`.
//! A line `# seconds: 170` says about how long it takes, for the spread over the VMs (10 without such a line).
//! A file without cases is no suite but a part of some, which read it; every suite's shell reads `lib.sh` first.

use crate::guest::Guest;
use crate::machine::{Machine, Outcome};
use crate::report::Report;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Where the suites are in the guest.
const GUEST: &str = "/rtc/suites";

/// About how long a suite takes that doesn't say.
const SECONDS: u32 = 10;

/// Longest time for one case. A flow of ten engine calls needs 20 s under emulation on an idle machine.
const TIMEOUT: Duration = Duration::from_secs(240);

/// One file of cases, on one guest.
#[derive(Debug, PartialEq, Eq)]
pub struct Suite {
    name: String,
    file: String,
    guest: Guest,
    seconds: u32,
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
    let mut texts = BTreeMap::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        if path.extension().is_some_and(|extension| extension == "sh") {
            texts.insert(name, fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?);
        }
    }
    let mut suites = Vec::new();
    for name in texts.keys() {
        suites.extend(Suite::parse(name, &texts).with_context(|| format!("suite {name}"))?);
    }
    suites.retain(|suite| !suite.is_empty());
    suites.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(suites)
}

impl Suite {
    /// One suite per guest.
    fn parse(file: &str, texts: &BTreeMap<String, String>) -> Result<Vec<Self>> {
        let text = texts.get(file).context("there is no such file")?;
        let header = |key: &str| text.lines().find_map(|line| line.strip_prefix("# ")?.strip_prefix(key));
        let guests = header("guest: ").unwrap_or(Guest::Shell.name());
        let seconds = header("seconds: ").map_or(Ok(SECONDS), str::parse).context("its line `# seconds: `")?;
        let mut known = Vec::new();
        read_functions(file, texts, &mut known)?;
        let suite = |(index, guest)| {
            let guest = Guest::named(guest)?;
            Ok(Self {
                name: if index == 0 { file.to_owned() } else { format!("{file}@{guest}") },
                file: file.to_owned(),
                guest,
                seconds,
                cases: functions(text).filter(|name| name.starts_with("case_")).map(str::to_owned).collect(),
                has_setup: known.contains(&"setup"),
                has_cleanup: known.contains(&"cleanup"),
            })
        };
        guests.split_whitespace().enumerate().map(suite).collect()
    }

    /// About how long its cases take, in seconds.
    pub fn seconds(&self) -> u32 {
        self.seconds
    }

    /// The guest that it runs on.
    pub fn guest(&self) -> Guest {
        self.guest
    }

    /// Leaves the cases whose full name (`suite::case`) contains the filter.
    pub fn keep(&mut self, filter: &str) {
        let Self { name, cases, seconds, .. } = self;
        let all = cases.len().max(1) as u32;
        cases.retain(|case| full_name(name, case).contains(filter));
        *seconds = *seconds * cases.len() as u32 / all;
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

/// The functions that a file defines.
fn functions(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| line.strip_suffix("() {"))
}

/// Adds the functions of a file and of those that it reads.
fn read_functions<'a>(file: &str, texts: &'a BTreeMap<String, String>, known: &mut Vec<&'a str>) -> Result<()> {
    let text = texts.get(file).with_context(|| format!("{GUEST}/{file}.sh is read, but not there"))?;
    known.extend(functions(text));
    let read = |line: &'a str| line.strip_prefix(". ")?.strip_prefix(GUEST)?.strip_prefix('/')?.strip_suffix(".sh");
    text.lines().filter_map(read).try_for_each(|other| read_functions(other, texts, known))
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
        Suite::parse(name, &files(&[(name, text)])).unwrap()
    }

    fn files(files: &[(&str, &str)]) -> BTreeMap<String, String> {
        files.iter().map(|&(name, text)| (name.to_owned(), text.to_owned())).collect()
    }

    #[test]
    fn functions_are_found_by_name() {
        let suites = parse("demo", TEXT);
        assert_eq!(suites.len(), 1);
        assert_eq!(suites[0].cases, ["case_one", "case_two"]);
        assert_eq!(suites[0].guest, Guest::Shell);
        assert!(suites[0].has_setup);
        assert!(!suites[0].has_cleanup);
        assert_eq!(suites[0].seconds(), 10);
    }

    #[test]
    fn what_it_reads_is_its_own() {
        let common = ("common", "cleanup() {\n}\ncase_other() {\n}\n");
        let texts = files(&[("demo", &format!("# seconds: 70\n. /rtc/suites/common.sh\n{TEXT}")), common]);
        let suite = Suite::parse("demo", &texts).unwrap().remove(0);
        assert!(suite.has_setup && suite.has_cleanup);
        assert_eq!(suite.cases, ["case_one", "case_two"]);
        assert_eq!(suite.seconds(), 70);
        let error = Suite::parse("demo", &files(&[("demo", ". /rtc/suites/common.sh\n")])).unwrap_err();
        assert_eq!(error.to_string(), "/rtc/suites/common.sh is read, but not there");
    }

    #[test]
    fn a_suite_runs_on_each_guest_it_names() {
        let suites = parse("demo", &format!("# guest: systemd debian12\n{TEXT}"));
        let names: Vec<_> =
            suites.iter().map(|suite| (suite.name.as_str(), suite.file.as_str(), suite.guest)).collect();
        assert_eq!(names, [("demo", "demo", Guest::Systemd), ("demo@debian12", "demo", Guest::Debian12)]);
        assert!(Suite::parse("demo", &files(&[("demo", "# guest: other\n")])).is_err());
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
