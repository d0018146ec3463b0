//! Checks of the line between driver and guest itself, as cases of the suite `driver`.

use crate::machine::{Machine, Outcome};
use crate::orphan;
use crate::report::Report;
use anyhow::{Result, ensure};
use std::time::{Duration, Instant};

/// A name and what it checks.
pub type Case = (&'static str, fn(&mut Machine) -> Result<()>);

const CASES: &[Case] = &[
    ("exit_statuses_are_exact", exit_statuses),
    ("streams_stay_apart", streams),
    ("input_reaches_the_command", input),
    ("unread_input_is_dropped", unread_input),
    ("a_time_out_kills_the_whole_group", time_out),
    ("a_daemon_does_not_hold_up_its_parent", daemon),
    ("files_come_back_as_they_went", files),
    ("a_killed_driver_leaves_nothing", |_| orphan::check()),
];

/// Time for commands that end by themselves.
const SHORT: Duration = Duration::from_secs(60);

/// The cases whose full name contains the filter.
pub fn matching(filter: &str) -> Vec<&'static Case> {
    CASES.iter().filter(|(name, _)| full_name(name).contains(filter)).collect()
}

/// Runs cases one after the other.
pub fn run(cases: &[&Case], machine: &mut Machine, report: &Report) {
    for (name, check) in cases {
        let began = Instant::now();
        match check(machine) {
            Ok(()) => report.pass(&full_name(name), began.elapsed()),
            Err(error) => report.fail(&full_name(name), began.elapsed(), &format!("{error:#}")),
        }
    }
}

fn full_name(name: &str) -> String {
    format!("driver::{name}")
}

fn code(outcome: &Outcome, expected: i32) -> Result<()> {
    ensure!(outcome.code == expected, "exit status {} instead of {expected}: {outcome}", outcome.code);
    ensure!(!outcome.timed_out, "it is said to have timed out");
    Ok(())
}

fn exit_statuses(machine: &mut Machine) -> Result<()> {
    for expected in [0, 1, 3, 124, 255] {
        code(&machine.shell(&format!("exit {expected}"), SHORT)?, expected)?;
    }
    code(&machine.shell("kill -9 $$", SHORT)?, 137)?;
    code(&machine.run(&["/no/such/program"], &[], SHORT)?, 127)
}

fn streams(machine: &mut Machine) -> Result<()> {
    let outcome = machine.shell("seq 1 50000; echo problem >&2", SHORT)?;
    code(&outcome, 0)?;
    let expected: String = (1..=50_000).map(|number| format!("{number}\n")).collect();
    ensure!(outcome.stdout == expected.as_bytes(), "{} bytes of output differ", outcome.stdout.len());
    ensure!(outcome.stderr == b"problem\n", "standard error: {:?}", outcome.stderr);
    Ok(())
}

fn input(machine: &mut Machine) -> Result<()> {
    // More than a pipe holds, both ways at once.
    let sent: Vec<u8> = (0..300_000_u32).flat_map(|number| number.to_le_bytes()).collect();
    let outcome = machine.run(&["cat"], &sent, SHORT)?;
    code(&outcome, 0)?;
    ensure!(outcome.stdout == sent, "{} of {} bytes came back, or others", outcome.stdout.len(), sent.len());
    Ok(())
}

fn unread_input(machine: &mut Machine) -> Result<()> {
    code(&machine.run(&["true"], &vec![b'x'; 500_000], SHORT)?, 0)?;
    let outcome = machine.run(&["cat"], b"next", SHORT)?;
    ensure!(outcome.stdout == b"next", "the next command read {} bytes", outcome.stdout.len());
    Ok(())
}

fn time_out(machine: &mut Machine) -> Result<()> {
    let outcome = machine.shell("echo before; sleep 1000 & wait", Duration::from_secs(1))?;
    ensure!(outcome.timed_out && outcome.code == 137, "{outcome}");
    ensure!(outcome.stdout == b"before\n", "output before the end was lost: {outcome}");
    // pgrep's status 1 is its own for "none".
    code(&machine.shell("pgrep -f '^sleep 1000$'", SHORT)?, 1)
}

fn daemon(machine: &mut Machine) -> Result<()> {
    let outcome = machine.shell("setsid sleep 1001 & echo parent", SHORT)?;
    code(&outcome, 0)?;
    ensure!(outcome.stdout == b"parent\n", "{outcome}");
    code(&machine.shell("pkill -f '^sleep 1001$'", SHORT)?, 0)
}

fn files(machine: &mut Machine) -> Result<()> {
    let sent: Vec<u8> = (0..=255).cycle().take(200_000).collect();
    machine.put("/tmp/driver file", &sent)?;
    ensure!(machine.get("/tmp/driver file")? == sent, "the file changed on its way");
    ensure!(machine.get("/tmp/no such file").is_err(), "a file that is not there was read");
    Ok(())
}
