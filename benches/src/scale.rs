//! Many containers: one after another, and alive at once.
//!
//! One after another, the last count against the first. With many alive, what counts is one more beside what it costs
//! with none alive, and that isn't measured once before and once after, for a machine isn't the same a minute later: the
//! many come and go several times, and each time rounds with them follow rounds without (A B A B …).
//! In the same rounds are the floor and crun, which know nothing of rtc's containers, so that what becomes slower for them
//! is the kernel; and rtc with an empty `--root`, so that what becomes slower for it and rtc alike isn't rtc's state.

use crate::lifecycle::{Who, made};
use crate::measure::{Sample, Table, time};
use crate::spec::Kind;
use anyhow::{Context, Result};

/// How often the many come and go.
const TURNS: usize = 8;
/// How many rounds with and without them each time.
const ROUNDS: usize = 25;
/// The state of an rtc that has no other containers.
const EMPTY: &str = "/run/rtc-empty";

/// The suite `scale`: `sequence` containers one after another, `alive` at once.
pub(crate) fn run(sequence: usize, alive: usize) -> Result<()> {
    let dir = made("scale", Kind::Default, &["/bin/sleep", "100000"])?;
    let dir = dir.to_str().context("a plain path")?;
    let mut table = Table::default();
    for number in 0..sequence {
        table.add(&part(number, sequence), One::Rtc.time(dir)?);
    }
    table.print(&format!("{sequence} containers started and deleted one after another"), &part(0, sequence));
    with_and_without(dir, alive)?;
    left_over()
}

/// What one more costs beside none and beside many.
fn with_and_without(dir: &str, alive: usize) -> Result<()> {
    let (mut start, mut end) = (Table::default(), Table::default());
    let mut more: Vec<Table> = One::ALL.iter().map(|_| Table::default()).collect();
    let mut rounds = |state: &str| -> Result<()> {
        for round in 0..ROUNDS {
            for at in (0..One::ALL.len()).map(|at| (at + round) % One::ALL.len()) {
                more[at].add(state, One::ALL[at].time(dir)?);
            }
        }
        Ok(())
    };
    let id = |number: usize| format!("bench-alive-{number}");
    for _ in 0..TURNS {
        rounds("none alive")?;
        for number in 0..alive {
            start.add(&part(number, alive), time("rtc", &["run", "--detach", "--bundle", dir, &id(number)])?);
        }
        rounds("many alive")?;
        for number in 0..alive {
            end.add(&part(number, alive), time("rtc", &["delete", "--force", &id(number)])?);
        }
    }
    start.print(&format!("rtc run -d, {alive} alive in the end"), &part(0, alive));
    end.print(&format!("rtc delete, {alive} alive in the beginning"), &part(0, alive));
    for (one, table) in One::ALL.iter().zip(&more) {
        table.print(&format!("one more started and deleted by {}, {alive} of rtc's alive", one.label()), "none alive");
    }
    Ok(())
}

/// Who starts and deletes one more.
#[derive(Clone, Copy)]
enum One {
    Rtc,
    /// With no other container's state beside it.
    RtcAlone,
    Crun,
    Floor,
}

impl One {
    const ALL: [Self; 4] = [Self::Rtc, Self::RtcAlone, Self::Crun, Self::Floor];

    fn label(self) -> &'static str {
        match self {
            Self::Rtc => "rtc",
            Self::RtcAlone => "rtc with an empty --root",
            Self::Crun => "crun",
            Self::Floor => "the floor",
        }
    }

    fn time(self, dir: &str) -> Result<Sample> {
        let id = "bench-scale";
        let (program, global): (Who, &[&str]) = match self {
            Self::Rtc => (Who::Rtc, &[]),
            Self::RtcAlone => (Who::Rtc, &["--root", EMPTY]),
            Self::Crun => (Who::Crun, &[]),
            Self::Floor => {
                let root = format!("{dir}/rootfs");
                let args = [&root, "/sys/fs/cgroup/bench-floor", Kind::Default.name(), "/bin/true"];
                return time(Who::Floor.program(), &args);
            }
        };
        let call = |args: &[&str]| time(program.program(), &[global, args].concat());
        Ok(call(&["run", "--detach", "--bundle", dir, id])? + call(&["delete", "--force", id])?)
    }
}

/// Which tenth of all this one is in.
fn part(number: usize, all: usize) -> String {
    let tenth = number * 10 / all;
    match tenth {
        0 => "first tenth".to_owned(),
        9 => "last tenth".to_owned(),
        _ => "between".to_owned(),
    }
}

/// Nothing of all these containers is there any more.
fn left_over() -> Result<()> {
    let states = ["/run/rtc", EMPTY].map(|root| std::fs::read_dir(root).map_or(0, Iterator::count));
    let states: usize = states.iter().sum();
    let cgroups = std::fs::read_dir("/sys/fs/cgroup")?.flatten();
    let cgroups = cgroups.filter(|entry| entry.file_name().to_string_lossy().starts_with("bench-")).count();
    anyhow::ensure!(states == 0 && cgroups == 0, "left over: {states} states, {cgroups} cgroups");
    println!("nothing left over");
    Ok(())
}
