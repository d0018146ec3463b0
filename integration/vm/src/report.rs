//! What the user sees of a run: one line per case, the output of those that failed, the counts.

use std::io::{self, Write};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

/// Prints verdicts as they come and counts them. Several VMs may report at once.
#[derive(Debug, Default)]
pub struct Report {
    passed: AtomicUsize,
    failed: AtomicUsize,
}

impl Report {
    /// A case that did what it should.
    pub fn pass(&self, case: &str, took: Duration) {
        self.passed.fetch_add(1, Relaxed);
        say(&format!("ok     {case} ({:.1} s)", took.as_secs_f64()));
    }

    /// A case that did not, with everything that helps to see why.
    pub fn fail(&self, case: &str, took: Duration, why: &str) {
        self.failed.fetch_add(1, Relaxed);
        say(&format!("FAILED {case} ({:.1} s)\n    {}", took.as_secs_f64(), why.trim_end().replace('\n', "\n    ")));
    }

    /// How long a part of the run took.
    pub fn note(&self, part: &str, took: Duration) {
        say(&format!("time   {part}: {:.1} s", took.as_secs_f64()));
    }

    /// Prints the counts, alone on the last line. True if nothing failed and something ran.
    pub fn finish(&self) -> bool {
        let (passed, failed) = (self.passed.load(Relaxed), self.failed.load(Relaxed));
        say(&format!("{passed} passed, {failed} failed"));
        failed == 0 && passed > 0
    }
}

/// Standard output may be a pipe whose reader has gone: the exit status still tells.
fn say(text: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{text}");
    let _ = out.flush();
}
