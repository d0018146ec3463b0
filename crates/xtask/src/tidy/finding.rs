//! What a rule found.

use std::fmt;

/// A place that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Finding {
    /// The file, relative to the workspace, or the package.
    pub(super) place: String,
    /// The line, 0 where none applies.
    pub(super) line: usize,
    /// The rule's name, as the exceptions file spells it.
    pub(super) rule: &'static str,
    /// What is wrong.
    pub(super) text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {} [{}]", self.place, self.line, self.text, self.rule)
    }
}
