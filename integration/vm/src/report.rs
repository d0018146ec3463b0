//! What the user sees of a run: one line per case, the output of those that failed, the counts.

use std::io::{self, Write};
use std::time::Duration;

/// Prints verdicts as they come and counts them.
#[derive(Debug, Default)]
pub struct Report {
    passed: usize,
    failed: usize,
}

impl Report {
    /// A case that did what it should.
    pub fn pass(&mut self, case: &str, took: Duration) {
        self.passed += 1;
        say(&format!("ok     {case} ({:.1} s)", took.as_secs_f64()));
    }

    /// A case that did not, with everything that helps to see why.
    pub fn fail(&mut self, case: &str, took: Duration, why: &str) {
        self.failed += 1;
        say(&format!("FAILED {case} ({:.1} s)\n    {}", took.as_secs_f64(), why.trim_end().replace('\n', "\n    ")));
    }

    /// Prints the counts, alone on the last line. True if nothing failed and something ran.
    pub fn finish(&self) -> bool {
        say(&format!("{} passed, {} failed", self.passed, self.failed));
        self.failed == 0 && self.passed > 0
    }
}

/// Standard output may be a pipe whose reader has gone: the exit status still tells.
fn say(text: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{text}");
    let _ = out.flush();
}
