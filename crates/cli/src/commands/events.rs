//! `rtc events`: statistics of a container, once or again and again, and its kills for want of memory.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use crate::session::Session;
use anyhow::{Context, Result, bail};
use clap::Args;
use rtc_runtime::cgroup::Event;
use rtc_runtime::{Container, Status};

/// The arguments of `events`.
#[derive(Args, Debug)]
#[command(about = "print statistics of a container again and again, and kills for want of memory")]
pub(crate) struct Events {
    /// Time between two statistics, as 5s, 500ms or 1m
    #[arg(long, value_name = "DURATION", default_value = "5s")]
    pub(crate) interval: String,
    /// Print statistics once and end
    #[arg(long)]
    pub(crate) stats: bool,
    /// The container
    #[arg(value_name = "container-id")]
    pub(crate) id: String,
}

impl Events {
    /// # Errors
    /// No such container, or it doesn't run.
    pub(crate) fn run(self, session: &Session) -> Result<u8> {
        let container = session.container(&self.id)?;
        if self.stats {
            return emit_stats(&container).map(|()| 0);
        }
        let interval = duration(&self.interval).with_context(|| format!("--interval {}", self.interval))?;
        if container.status()? == Status::Stopped {
            bail!("container not running");
        }
        let mut watch = container.watch()?;
        let mut last = Instant::now();
        loop {
            match watch.next(interval.saturating_sub(last.elapsed()))? {
                Event::OutOfMemory => emit(&container, "oom", "")?,
                Event::Empty => return Ok(0),
                Event::Timeout => {
                    match emit_stats(&container) {
                        // Other processes may live on where the pid namespace isn't the container's.
                        Err(_) if container.status()? == Status::Stopped => return Ok(0),
                        other => other?,
                    }
                    last = Instant::now();
                }
            }
        }
    }
}

fn emit_stats(container: &Container) -> Result<()> {
    emit(container, "stats", &format!(",\"data\":{}", container.stats()?))
}

/// One line: type and id first, as the callers of runc match it.
fn emit(container: &Container, kind: &str, data: &str) -> Result<()> {
    let id = serde_json::to_string(container.id())?;
    let line = format!("{{\"type\":\"{kind}\",\"id\":{id}{data}}}\n");
    io::stdout().write_all(line.as_bytes()).context("write to stdout")
}

/// A time as Go writes it: numbers with units, as `1m30s` or `500ms`.
fn duration(text: &str) -> Result<Duration> {
    let mut total = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let (number, after) =
            rest.split_at(rest.find(|c: char| c.is_ascii_alphabetic()).context("has no unit: s, ms, m")?);
        let (unit, after) = after.split_at(after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len()));
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" => 1e-6,
            other => bail!("unknown unit {other:?}: use s, ms, m"),
        };
        total += number.parse::<f64>().with_context(|| format!("{number:?} is not a number"))? * seconds;
        rest = after;
    }
    let duration = Duration::try_from_secs_f64(total).ok().filter(|d| !d.is_zero());
    duration.context("must be a positive time")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_of_go() {
        assert_eq!(duration("5s").ok(), Some(Duration::from_secs(5)));
        assert_eq!(duration("1m30s").ok(), Some(Duration::from_secs(90)));
        assert_eq!(duration("100ms").ok(), Some(Duration::from_millis(100)));
        assert_eq!(duration("1.5s").ok(), Some(Duration::from_millis(1500)));
        for bad in ["", "5", "s", "5x", "-1s", "0s", "NaNs", "infs"] {
            assert!(duration(bad).is_err(), "{bad} was taken");
        }
    }
}
