//! The same work inside containers and outside, in turns: what a container costs while it runs.

use crate::lifecycle::{Who, made};
use crate::spec::Kind;
use anyhow::{Context, Result, bail};
use std::process::{Command, Stdio};

/// Measured things with the least time that each place took for them, in nanoseconds.
type Times = Vec<(String, Vec<f64>)>;

/// The suite `inside`.
pub(crate) fn run(rounds: usize) -> Result<()> {
    let program = ["/bin/rtc-probe", "work"];
    let plain = made("inside", Kind::Default, &program)?;
    let filtered = made("inside", Kind::Docker, &program)?;
    let (plain, filtered) = (plain.to_str().context("a path")?, filtered.to_str().context("a path")?);
    let in_bundle = |who: Who, dir| vec![who.program(), "run", "--bundle", dir, "bench-inside"];
    let places: [(&str, Vec<&str>); 5] = [
        ("native", vec!["rtc-probe", "work"]),
        ("rtc, default", in_bundle(Who::Rtc, plain)),
        ("native, one-line filter", vec!["rtc-probe", "filtered-work"]),
        ("rtc, docker", in_bundle(Who::Rtc, filtered)),
        ("crun, docker", in_bundle(Who::Crun, filtered)),
    ];
    let mut times: Times = Vec::new();
    for round in 0..rounds {
        for turn in 0..places.len() {
            let at = (turn + round) % places.len();
            collect(&mut times, &places[at].1, at, places.len())?;
        }
    }
    println!("\nwork inside ({rounds} rounds; nanoseconds, the least of all rounds, and its ratio to native)");
    print!("{:<26}", "");
    times.iter().for_each(|(name, _)| print!(" {name:>20}"));
    println!();
    for (at, (place, _)) in places.iter().enumerate() {
        print!("{place:<26}");
        for (_, all) in &times {
            print!(" {:>12.1} {:>7.3}", all[at], all[at] / all[0]);
        }
        println!();
    }
    Ok(())
}

fn collect(times: &mut Times, command: &[&str], at: usize, places: usize) -> Result<()> {
    let (program, args) = command.split_first().context("a command")?;
    let output = Command::new(program).args(args).stdin(Stdio::null()).output().context("probe")?;
    if !output.status.success() {
        bail!("{}: {}", command.join(" "), String::from_utf8_lossy(&output.stderr));
    }
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let (name, time) = line.rsplit_once(' ').with_context(|| format!("the probe said {line:?}"))?;
        let time: f64 = time.parse()?;
        let row = match times.iter().position(|(known, _)| known == name) {
            Some(row) => row,
            None => {
                times.push((name.to_owned(), vec![f64::INFINITY; places]));
                times.len() - 1
            }
        };
        times[row].1[at] = times[row].1[at].min(time);
    }
    Ok(())
}
