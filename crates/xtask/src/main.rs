//! Developer commands, run as `cargo xtask COMMAND` on a bare Debian machine with cargo and root.
//!
//! `demo` shows what rtc does, `test` passes every check there is, `tidy` checks the structure of the source.
//! They install the Debian packages they need and say so.

#![forbid(unsafe_code)]

mod deb;
mod demo;
mod fuzz;
mod msrv;
mod packages;
mod shell;
mod suite;
mod tidy;
mod usage;

use anyhow::{Result, bail};
use std::process::ExitCode;
use usage::USAGE;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args.iter().map(String::as_str).collect::<Vec<_>>()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("xtask: {e:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs one command and says whether all went well.
fn run(args: &[&str]) -> Result<bool> {
    if args == ["service"] {
        // What the demo runs in its container, where there is no workspace.
        return demo::service::serve().map(|()| true);
    }
    std::env::set_current_dir(shell::workspace())?;
    match args {
        ["demo"] => demo::run(&demo::KEY_VALUE),
        ["demo", "redis"] => demo::run(&demo::REDIS),
        ["test"] => suite::run(|_| true),
        ["test", "fast"] => suite::run(|step| step.tier == suite::Tier::Host),
        ["test", "vm"] => suite::run(|step| step.tier == suite::Tier::Vm),
        ["ci"] => {
            suite::list();
            Ok(true)
        }
        ["ci", names @ ..] => suite::run_named(names),
        ["tidy"] => tidy::run(),
        ["contrib"] => {
            let mut test = shell::cargo();
            test.args(["test", "--quiet", "--package", "rtc", "contrib::"]).env("BLESS", "1");
            shell::run(&mut test).map(|()| true)
        }
        ["deb"] => suite::run(|step| step.name == "deb"),
        ["fuzz", rest @ ..] if rest.len() <= 2 => fuzz::run(rest),
        [] | ["help" | "--help" | "-h"] => {
            print!("{USAGE}");
            Ok(true)
        }
        _ => bail!("unknown command: {}\n{USAGE}", args.join(" ")),
    }
}
