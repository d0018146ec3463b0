//! How many system calls commands make: the part of their speed that is the same on every machine, loaded or not.
//!
//! A budget that is exceeded is a question, not a verdict: is what was added worth it? Then raise the budget here, and
//! measure (docs/performance.md). It stands beside the attacks because the tracer does.

use std::process::Command;

use serde_json::json;

use crate::harness::Bundle;
use crate::trace::{self, Victim};

/// A command with its arguments, the program behind the container's id, and how many calls it and its processes may
/// make up to its end, those of a small program in the container included.
type Budget = (&'static str, &'static [&'static str], &'static [&'static str], usize);

/// In an order in which each finds what it needs: a tenth more than they made when this was written.
const BUDGETS: &[Budget] = &[
    ("create", &[], &[], 550),
    ("state", &[], &[], 65),
    ("start", &[], &[], 103),
    ("exec", &[], &["true"], 356),
    ("kill", &[], &["KILL"], 66),
    ("delete", &["--force"], &[], 158),
];

#[test]
fn no_command_makes_more_than_its_budget() {
    let bundle = Bundle::new(&["sleep", "1000"]).with(|config| {
        let linux = &mut config["linux"];
        linux["namespaces"].as_array_mut().unwrap().extend(["network", "cgroup"].map(|kind| json!({ "type": kind })));
        linux["maskedPaths"] = json!(["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"]);
        linux["readonlyPaths"] = json!(["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]);
        linux["resources"] = json!({ "devices": [{ "allow": false, "access": "rwm" }] });
        config["process"]["noNewPrivileges"] = json!(true);
    });
    let output = bundle.file("output");
    let mut over = Vec::new();
    for (command, args, program, budget) in BUDGETS {
        let mut line = bundle.command(command, args);
        line.args(*program);
        let trace = trace::run(&line, &output, usize::MAX, Victim::All);
        assert_eq!(trace.status, Some(0), "{command}: {}", std::fs::read_to_string(&output).unwrap());
        eprintln!("{command}: {} calls of {budget}", trace.calls);
        if trace.calls > *budget {
            over.push(format!("{command}: {} calls, {budget} are planned", trace.calls));
        }
    }
    assert!(over.is_empty(), "{over:#?}");
}

/// In a virtual machine each `cpuid` is a way to the hypervisor and back (crates/sys/src/start.rs).
#[test]
fn the_start_asks_the_cpu_nothing() {
    let bundle = Bundle::new(&["true"]);
    let libc = Command::new("getconf").arg("GNU_LIBC_VERSION").output().unwrap().stdout;
    let known = ["glibc 2.36", "glibc 2.41"].contains(&String::from_utf8(libc).unwrap().trim());
    let count = trace::cpuids_of_the_start(&bundle.command("state", &[]), &bundle.file("output"));
    assert_eq!(count == 0, known, "{count} cpuid before main");
}
