//! The same cases run with rtc, runc and crun, and known differences listed with their reasons.
//!
//! A case is data: changes to a configuration, what is in the root file system, what is called, and what comes out of
//! it ([`case`], [`cases`]). What is written there is what rtc must do. runc and crun run the same cases where their
//! root is (benches/ makes it): an outcome of theirs that isn't rtc's must stand in [`differences`], and one that stands
//! there must still differ.
//!
//! `cargo test -p rtc-tests --test differential -- [--rtc-only] [PART-OF-A-NAME]`
//!
//! Left out: checkpoints, terminals, limits of cgroups, and everything that can't be said in a line of shell.

#![forbid(unsafe_code)]

mod case;
mod cases;
mod differences;
mod documented;
mod peers;
mod run;

use std::path::Path;
use std::process::ExitCode;

use case::{Case, Peer};
use run::Outcome;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.is_empty()).collect();
    if let [inside, directory, filter @ ..] = &args[..] {
        if inside == peers::INSIDE {
            return all(Path::new(directory), &[Peer::Rtc, Peer::Runc, Peer::Crun], filter);
        }
    }
    let (flags, filter): (Vec<String>, Vec<String>) = args.into_iter().partition(|arg| arg.starts_with('-'));
    let scratch = rtc_tests::scratch::Scratch::new("differential");
    std::fs::copy(rtc_binary(), scratch.path().join("rtc")).expect("rtc is built");
    if peers::are_there() && !flags.iter().any(|flag| flag == "--rtc-only") {
        return peers::enter(scratch.path(), &filter);
    }
    println!("runc and crun are not there (cargo run -p rtc-bench makes their root): rtc alone");
    all(scratch.path(), &[Peer::Rtc], &filter)
}

fn rtc_binary() -> String {
    rtc_tests::command::Runtime::new(std::path::PathBuf::new()).words()[0].clone()
}

/// Runs all cases that the filter leaves with some runtimes, each runtime in a thread of its own.
fn all(directory: &Path, peers: &[Peer], filter: &[String]) -> ExitCode {
    let chosen = |case: &Case| filter.is_empty() || filter.iter().any(|part| case.name.contains(part.as_str()));
    let cases: Vec<Case> = cases::all().into_iter().filter(chosen).collect();
    let failures: Vec<String> = std::thread::scope(|scope| {
        let run = |peer: Peer| {
            let cases = &cases;
            move || cases.iter().filter_map(|case| judge(directory, peer, case)).collect::<Vec<_>>()
        };
        let threads: Vec<_> = peers.iter().map(|peer| scope.spawn(run(*peer))).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no case panics")).collect()
    });
    let all = cases::all();
    let stale: Vec<_> = [differences::of_no_case(&all), documented::of_no_case(&all)].concat();
    for name in &stale {
        println!("differences.rs or docs/oci-features.md: there is no case {name:?}");
    }
    failures.iter().for_each(|failure| println!("{failure}"));
    println!("differential: {} cases, {} runtimes", cases.len(), peers.len());
    println!("{} passed, {} failed", cases.len() * peers.len() - failures.len(), failures.len());
    if failures.is_empty() && stale.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs one case with one runtime: what is wrong about its outcome.
fn judge(directory: &Path, peer: Peer, case: &Case) -> Option<String> {
    let outcomes = run::run(directory, peer, case);
    let wrong = case.steps.iter().zip(&outcomes).find_map(|(step, outcome)| complaint(peer, step, outcome));
    match (wrong, differences::of(peer, case.name)) {
        (None, None) | (Some(_), Some(_)) => None,
        (None, Some(reason)) => {
            Some(format!("{peer:?}: {}: is said to differ ({reason}), but does not any more", case.name))
        }
        (Some(wrong), None) => Some(format!("{peer:?}: {}: {wrong}", case.name)),
    }
}

/// What an outcome has that the step doesn't want. The words of errors are rtc's own.
fn complaint(peer: Peer, step: &case::Step, outcome: &Outcome) -> Option<String> {
    let fits = if step.fails && peer != Peer::Rtc { outcome.status != 0 } else { outcome.status == step.status };
    let said = step.stdout.as_ref().is_none_or(|wanted| *wanted == outcome.stdout);
    let worded = peer != Peer::Rtc || outcome.stderr.replace("\\\"", "\"").contains(step.stderr);
    let one_line = peer != Peer::Rtc || !step.fails || outcome.stderr.lines().count() == 1;
    if fits && said && worded && one_line {
        return None;
    }
    Some(format!("{}: wanted {}, {:?}, {:?}; got {outcome:?}", step.call, step.status, step.stdout, step.stderr))
}
