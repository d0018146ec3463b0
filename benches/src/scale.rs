//! Many containers: one after another, and alive at once. What counts is the last against the first.

use crate::lifecycle::made;
use crate::measure::{Sample, Table, time};
use crate::spec::Kind;
use anyhow::{Context, Result};

/// The suite `scale`: `sequence` containers one after another, `alive` at once.
pub(crate) fn run(sequence: usize, alive: usize) -> Result<()> {
    let dir = made("scale", Kind::Default, &["/bin/sleep", "100000"])?;
    let dir = dir.to_str().context("a plain path")?;
    let one = |id: &str| -> Result<Sample> {
        let started = time("rtc", &["run", "--detach", "--bundle", dir, id])?;
        Ok(started + time("rtc", &["delete", "--force", id])?)
    };
    let mut table = Table::default();
    for number in 0..sequence {
        let sample = one("bench-scale")?;
        table.add(&part(number, sequence), sample);
    }
    table.print(&format!("{sequence} containers started and deleted one after another"), &part(0, sequence));

    let mut start = Table::default();
    let mut other = Table::default();
    for _ in 0..20 {
        other.add("none alive", one("bench-scale")?);
    }
    let id = |number: usize| format!("bench-alive-{number}");
    for number in 0..alive {
        let sample = time("rtc", &["run", "--detach", "--bundle", dir, &id(number)])?;
        start.add(&part(number, alive), sample);
    }
    for _ in 0..20 {
        other.add("all alive", one("bench-scale")?);
    }
    let mut end = Table::default();
    for number in 0..alive {
        let sample = time("rtc", &["delete", "--force", &id(number)])?;
        end.add(&part(number, alive), sample);
    }
    start.print(&format!("run -d, {alive} alive in the end"), &part(0, alive));
    other.print("one more started and deleted", "none alive");
    end.print(&format!("delete, {alive} alive in the beginning"), &part(0, alive));
    left_over()
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
    let states = std::fs::read_dir("/run/rtc").map_or(0, Iterator::count);
    let cgroups = std::fs::read_dir("/sys/fs/cgroup")?.flatten();
    let cgroups = cgroups.filter(|entry| entry.file_name().to_string_lossy().starts_with("bench-")).count();
    anyhow::ensure!(states == 0 && cgroups == 0, "left over: {states} states, {cgroups} cgroups");
    println!("nothing left over");
    Ok(())
}
