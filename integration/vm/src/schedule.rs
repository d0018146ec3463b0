//! Which VM runs what: the work of a run spread over lanes, of which each has one VM at a time.
//!
//! All work of a guest shares one VM, because a fresh emulator has to translate all programs anew; only where one lane
//! would end long after another does a second VM of the same guest take some of it.
//! The spread follows from the work alone, so that every run of the same suites puts each beside the same others.

use crate::guest::Guest;
use std::collections::BTreeMap;

/// What a VM of its own costs, in seconds: its boot, and programs that its emulator has to translate once more.
const START: u32 = 20;

/// A part of a run that stays in one piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Job<W> {
    /// Where it runs.
    pub guest: Guest,
    /// About how long it takes, in seconds.
    pub seconds: u32,
    /// What it is.
    pub work: W,
}

/// What one VM does, one after the other.
#[derive(Debug, PartialEq, Eq)]
pub struct Vm<W> {
    /// Its kind.
    pub guest: Guest,
    /// Its work, in the order in which it was given.
    pub jobs: Vec<Job<W>>,
}

impl<W> Vm<W> {
    fn seconds(&self) -> u32 {
        START + self.jobs.iter().map(|job| job.seconds).sum::<u32>()
    }
}

/// Spreads work over so many lanes. Each lane is the VMs that run in it, one after the other.
pub fn lanes<W>(jobs: Vec<Job<W>>, count: usize) -> Vec<Vec<Vm<W>>> {
    let mut guests = BTreeMap::<Guest, Vec<Job<W>>>::new();
    for job in jobs {
        guests.entry(job.guest).or_default().push(job);
    }
    let mut vms: Vec<Vm<W>> = guests.into_iter().map(|(guest, jobs)| Vm { guest, jobs }).collect();
    vms.sort_by_key(|vm| std::cmp::Reverse(vm.seconds()));
    let mut lanes: Vec<Vec<Vm<W>>> = (0..count.max(1)).map(|_| Vec::new()).collect();
    for vm in vms {
        let shortest = ends(&lanes).0;
        lanes[shortest].push(vm);
    }
    while level(&mut lanes) {}
    lanes
}

/// The lanes that end first and last.
fn ends<W>(lanes: &[Vec<Vm<W>>]) -> (usize, usize) {
    let mut order: Vec<usize> = (0..lanes.len()).collect();
    order.sort_by_key(|&lane| seconds(&lanes[lane]));
    (order[0], order[order.len() - 1])
}

fn seconds<W>(lane: &[Vm<W>]) -> u32 {
    lane.iter().map(Vm::seconds).sum()
}

/// Moves one job from the lane that ends last to the one that ends first: the longest one that doesn't turn them round.
/// False if there is none.
fn level<W>(lanes: &mut [Vec<Vm<W>>]) -> bool {
    let (first, last) = ends(lanes);
    let gap = seconds(&lanes[last]) - seconds(&lanes[first]);
    let Some(from) = lanes[last].iter().enumerate().max_by_key(|(_, vm)| vm.seconds()).map(|(index, _)| index) else {
        return false;
    };
    let guest = lanes[last][from].guest;
    let to = lanes[first].iter().position(|vm| vm.guest == guest);
    let start = if to.is_some() { 0 } else { START };
    let fitting = |job: &Job<W>| 2 * job.seconds + start <= gap && job.seconds > start;
    let jobs = &mut lanes[last][from].jobs;
    let longest = jobs.iter().enumerate().filter(|(_, job)| fitting(job)).max_by_key(|(_, job)| job.seconds);
    let Some(index) = longest.map(|(index, _)| index) else { return false };
    if jobs.len() == 1 {
        return false;
    }
    let job = jobs.remove(index);
    match to {
        Some(to) => lanes[first][to].jobs.push(job),
        None => lanes[first].push(Vm { guest, jobs: vec![job] }),
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(guest: Guest, seconds: u32, work: &'static str) -> Job<&'static str> {
        Job { guest, seconds, work }
    }

    fn names(lanes: &[Vec<Vm<&'static str>>]) -> Vec<Vec<String>> {
        let vm = |vm: &Vm<&str>| {
            let jobs: Vec<&str> = vm.jobs.iter().map(|job| job.work).collect();
            format!("{}: {}", vm.guest, jobs.join(" "))
        };
        lanes.iter().map(|lane| lane.iter().map(vm).collect()).collect()
    }

    #[test]
    fn a_guest_is_split_where_a_lane_would_idle() {
        let jobs = vec![
            job(Guest::Shell, 300, "podman"),
            job(Guest::Shell, 100, "options"),
            job(Guest::Shell, 90, "cri"),
            job(Guest::Shell, 10, "bare"),
            job(Guest::Systemd, 150, "docker"),
            job(Guest::Debian12, 30, "old"),
        ];
        // 410 seconds in the one lane, 350 in the other: cri would turn them round.
        let expected = [vec!["shell: podman cri"], vec!["systemd: docker", "debian12: old", "shell: options bare"]];
        assert_eq!(names(&lanes(jobs, 2)), expected);
    }

    #[test]
    fn what_is_short_stays_together() {
        let jobs = vec![job(Guest::Shell, 15, "one"), job(Guest::Shell, 15, "two")];
        assert_eq!(names(&lanes(jobs, 2)), [vec!["shell: one two"], vec![]]);
        let one = vec![job(Guest::Shell, 500, "one")];
        assert_eq!(names(&lanes(one, 2)), [vec!["shell: one"], vec![]]);
    }

    #[test]
    fn one_lane_takes_all() {
        let jobs = vec![job(Guest::Systemd, 5, "one"), job(Guest::Shell, 5, "two")];
        assert_eq!(names(&lanes(jobs, 1)), [["shell: two", "systemd: one"]]);
    }
}
