//! Times of whole commands: wall clock and the processor time of the command and all it waited for.

use anyhow::{Context, Result, bail};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What one command took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) wall: Duration,
    pub(crate) cpu: Duration,
}

/// Runs a command to its end; its output goes nowhere unless it fails.
pub(crate) fn time(program: &str, args: &[&str]) -> Result<Sample> {
    let before = children_cpu()?;
    let start = Instant::now();
    let output = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .with_context(|| program.to_owned())?;
    let wall = start.elapsed();
    if !output.success() {
        let again = Command::new(program).args(args).stdin(Stdio::null()).output()?;
        bail!("{program} {}: {output}: {}", args.join(" "), String::from_utf8_lossy(&again.stderr));
    }
    Ok(Sample { wall, cpu: children_cpu()? - before })
}

fn children_cpu() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(Duration::from_micros(micros.unsigned_abs()))
}

/// Named samples of several contestants.
#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<(String, Vec<Sample>)>,
}

impl Table {
    pub(crate) fn add(&mut self, name: &str, sample: Sample) {
        match self.rows.iter_mut().find(|(n, _)| n == name) {
            Some((_, samples)) => samples.push(sample),
            None => self.rows.push((name.to_owned(), vec![sample])),
        }
    }

    /// Prints minimum and median of each row, and the median's ratio to that of the row `to`.
    pub(crate) fn print(&self, title: &str, to: &str) {
        let base = self.rows.iter().find(|(n, _)| n == to).map(|(_, s)| median(s, |s| s.wall));
        println!("\n{title} ({} rounds; milliseconds)", self.rows.first().map_or(0, |(_, s)| s.len()));
        println!("{:<28} {:>9} {:>9} {:>9} {:>12}", "", "wall min", "median", "cpu", format!("of {to}"));
        for (name, samples) in &self.rows {
            let wall = median(samples, |s| s.wall);
            let least = samples.iter().map(|s| s.wall).min().unwrap_or_default();
            let ratio = base.map_or(String::new(), |b| format!("{:.2}", wall.as_secs_f64() / b.as_secs_f64()));
            let cpu = median(samples, |s| s.cpu);
            println!("{name:<28} {:>9} {:>9} {:>9} {ratio:>12}", millis(least), millis(wall), millis(cpu));
        }
    }
}

fn median(samples: &[Sample], of: impl Fn(&Sample) -> Duration) -> Duration {
    let mut all: Vec<Duration> = samples.iter().map(of).collect();
    all.sort_unstable();
    all.get(all.len() / 2).copied().unwrap_or_default()
}

fn millis(time: Duration) -> String {
    format!("{:.2}", time.as_secs_f64() * 1e3)
}
