//! Times of whole commands: wall clock, and the processor time of the command and all it waited for.

use anyhow::{Context, Result, bail};
use std::fs::File;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What one command took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) wall: Duration,
    pub(crate) cpu: Duration,
}

impl std::ops::Add for Sample {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self { wall: self.wall + other.wall, cpu: self.cpu + other.cpu }
    }
}

/// Runs a command to its end; its output goes nowhere unless it fails.
pub(crate) fn time(program: &str, args: &[&str]) -> Result<Sample> {
    let nothing = File::options().read(true).write(true).open("/dev/null").context("/dev/null")?;
    let (input, output, errors) = (nothing.try_clone()?, nothing.try_clone()?, nothing);
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::from(input)).stdout(Stdio::from(output)).stderr(Stdio::from(errors));
    let start = Instant::now();
    let child = command.spawn().with_context(|| program.to_owned())?;
    let ended = rtc_sys::usage::wait(i32::try_from(child.id())?)?;
    let wall = start.elapsed();
    if ended.status != Some(0) {
        let again = Command::new(program).args(args).stdin(Stdio::null()).output()?;
        bail!("{program} {}: {:?}: {}", args.join(" "), ended.status, String::from_utf8_lossy(&again.stderr));
    }
    Ok(Sample { wall, cpu: ended.cpu })
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

    /// Prints minimum and median of each row, wall clock and processor time, and their ratios to those of the row `to`.
    pub(crate) fn print(&self, title: &str, to: &str) {
        let base = self.rows.iter().find(|(n, _)| n == to).map(|(_, samples)| Summary::of(samples));
        println!("\n{title} ({} rounds; milliseconds)", self.rows.first().map_or(0, |(_, s)| s.len()));
        let of = format!("of {to}:");
        println!(
            "{:<20} {:>8} {:>8} {:>8} {:>8}   {of:>9} {:>8} {:>8} {:>8} {:>8}",
            "", "wall min", "median", "cpu min", "median", "wall min", "median", "cpu min", "median"
        );
        for (name, samples) in &self.rows {
            let own = Summary::of(samples);
            let ratios = base.map_or(String::new(), |base| {
                let each = own.0.iter().zip(base.0);
                each.map(|(own, base)| format!(" {:>8.2}", own.as_secs_f64() / base.as_secs_f64())).collect()
            });
            let times: String = own.0.iter().map(|time| format!(" {:>8.2}", millis(*time))).collect();
            println!("{name:<20}{times}   {:>9}{ratios}", "");
        }
    }
}

/// Minimum and median of wall clock, then of processor time.
#[derive(Clone, Copy)]
struct Summary([Duration; 4]);

impl Summary {
    fn of(samples: &[Sample]) -> Self {
        let [walls, cpus] = [|s: &Sample| s.wall, |s: &Sample| s.cpu].map(|of| {
            let mut all: Vec<Duration> = samples.iter().map(of).collect();
            all.sort_unstable();
            [all.first().copied().unwrap_or_default(), all.get(all.len() / 2).copied().unwrap_or_default()]
        });
        Self([walls[0], walls[1], cpus[0], cpus[1]])
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
