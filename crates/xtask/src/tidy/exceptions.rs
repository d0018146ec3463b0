//! The list of excused findings.
//!
//! One line each: rule, place, reason. The place is a file or the beginning of one (`tests/`).

use super::finding::Finding;
use anyhow::{Context, Result, bail};
use std::path::Path;

/// Where the list stands in the workspace.
pub(super) const FILE: &str = "crates/xtask/tidy-exceptions.txt";

struct Exception {
    line: usize,
    rule: String,
    place: String,
    used: bool,
}

/// The excused findings, with a note of which were needed.
pub(super) struct Exceptions(Vec<Exception>);

impl Exceptions {
    pub(super) fn read(file: &Path) -> Result<Self> {
        Self::parse(&std::fs::read_to_string(file).with_context(|| file.display().to_string())?)
    }

    fn parse(text: &str) -> Result<Self> {
        let mut list = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let mut words = line.splitn(3, char::is_whitespace);
            let (Some(rule), Some(place), Some(_reason)) = (words.next(), words.next(), words.next()) else {
                bail!("{FILE}:{}: want RULE PLACE REASON", number + 1);
            };
            list.push(Exception { line: number + 1, rule: rule.into(), place: place.into(), used: false });
        }
        Ok(Self(list))
    }

    /// Whether the finding is excused.
    pub(super) fn excuse(&mut self, finding: &Finding) -> bool {
        let mut excused = false;
        for exception in &mut self.0 {
            let place = exception.place == finding.place
                || exception.place.ends_with('/') && finding.place.starts_with(&exception.place);
            if place && exception.rule == finding.rule {
                exception.used = true;
                excused = true;
            }
        }
        excused
    }

    /// A finding for each exception that excused nothing.
    pub(super) fn unused(&self) -> impl Iterator<Item = Finding> + '_ {
        self.0.iter().filter(|exception| !exception.used).map(|exception| Finding {
            place: FILE.into(),
            line: exception.line,
            rule: "exception",
            text: format!("nothing breaks {} in {} any more: delete this line", exception.rule, exception.place),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(rule: &'static str, place: &str) -> Finding {
        Finding { place: place.into(), line: 1, rule, text: String::new() }
    }

    #[test]
    fn an_exception_excuses_its_rule_in_its_place_only() {
        let mut list = Exceptions::parse("# why\n\nunsafe tests/zoo/ raw kernel state\nlines a.rs a table\n").unwrap();
        assert!(list.excuse(&finding("unsafe", "tests/zoo/src/main.rs")));
        assert!(!list.excuse(&finding("lines", "tests/zoo/src/main.rs")));
        assert!(!list.excuse(&finding("lines", "a.rs.rs")));
        let unused: Vec<_> = list.unused().map(|finding| finding.line).collect();
        assert_eq!(unused, [4]);
    }

    #[test]
    fn an_exception_needs_a_reason() {
        assert!(Exceptions::parse("unsafe tests/zoo/").is_err());
    }
}
