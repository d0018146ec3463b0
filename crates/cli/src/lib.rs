//! The program `rtc`: arguments, log, output, exit codes. (main.rs is how it is entered.)
//!
//! What a container is stands in `rtc-runtime`, what a checkpoint is in `rtc-checkpoint`; this crate turns the command
//! lines of runc and crun into calls of the two, and their answers into the output and exit codes that engines parse.
//! Called by the name `criu` it answers the questions that engines have for criu (`criu_front.rs`).
#![forbid(unsafe_code)]

mod argv;
mod checkpointing;
mod cli;
mod clock;
mod commands;
#[cfg(test)]
mod contrib;
mod criu_files;
mod criu_front;
mod foreground;
mod global;
mod log_sink;
mod logger;
mod process_table;
mod session;
mod table;
mod terminal;
mod version;

use std::ffi::OsString;
use std::io::{self, Write};

use clap::FromArgMatches;
use clap::error::ErrorKind;

use cli::{Cli, Command};
use global::Global;
use session::Session;

/// The exit status of a failure, except of `exec`.
const FAILURE: u8 = 1;
/// The exit status of `exec` when it is rtc that fails, so that it is not taken for the process's own.
const EXEC_FAILURE: u8 = 255;

/// The commands that bring a process into a container that stands.
const SEALED: [&str; 2] = ["exec", "restore"];

/// The whole program: its exit status.
pub fn main() -> u8 {
    // Ahead of everything else, or all that is done here would be done twice. A word too much costs an execve; what
    // fails here fails again, and is told, in the command itself.
    if std::env::args_os().skip(1).any(|word| word.to_str().is_some_and(|word| SEALED.contains(&word))) {
        let _ = rtc_runtime::seal::ensure();
    }
    let mut args = std::env::args_os();
    let argv0 = args.next().unwrap_or_default().to_string_lossy().into_owned();
    if argv0.rsplit('/').next() == Some("criu") {
        return criu_front::main(args.collect());
    }
    let program = cli::program_name(&argv0);
    match parse(program, args) {
        Ok(cli) => run(program, cli),
        Err(status) => status,
    }
}

/// Reads the command line. What ends there, help or a complaint, is printed, and its exit status is the error.
fn parse(program: &'static str, args: impl Iterator<Item = OsString>) -> Result<Cli, u8> {
    let mut root = cli::root(program);
    let typed: Vec<OsString> = args.collect();
    let args = argv::normalise(&mut root, typed.iter().cloned(), |name| cli::find(program, name))
        .map_err(|text| complain(program, typed, &text))?;
    let parsed = root.try_get_matches_from_mut(&args).and_then(|matches| Cli::from_arg_matches(&matches));
    parsed.map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp if root.has_subcommands() => print(&error.to_string()),
        ErrorKind::DisplayHelp => print(&cli::complete(program).render_help().to_string()),
        _ => complain(program, args, &argv::complaint(&root, &error)),
    })
}

/// Reports what is wrong with a command line, to the log that it names as far as it can be read.
fn complain(program: &'static str, args: Vec<OsString>, text: &str) -> u8 {
    let matches = cli::root(program).ignore_errors(true).try_get_matches_from(args);
    if let Ok(global) = matches.and_then(|matches| Global::from_arg_matches(&matches)) {
        // Where that fails the complaint goes to stderr.
        let _ = logger::start(global.log.as_deref(), global.log_format, global.level());
    }
    logger::fail(text);
    FAILURE
}

fn run(program: &'static str, cli: Cli) -> u8 {
    if cli.global.version {
        return print(&version::text(program));
    }
    let Some(command) = cli.command else {
        return print(&cli::complete(program).render_help().to_string());
    };
    if let Err(error) = logger::start(cli.global.log.as_deref(), cli.global.log_format, cli.global.level()) {
        logger::fail(&error.to_string());
        return FAILURE;
    }
    let failure = if matches!(command, Command::Exec(_)) { EXEC_FAILURE } else { FAILURE };
    let deed = command.deed();
    log::debug!("{program} {}: {deed}", env!("CARGO_PKG_VERSION"));
    match command.run(&Session::new(&cli.global)) {
        Ok(status) => {
            logger::release();
            status
        }
        Err(error) => {
            logger::fail(&failure_line(&deed, &error));
            failure
        }
    }
}

/// The one line about what went wrong, outermost first, and the remedy where one is known.
fn failure_line(deed: &str, error: &anyhow::Error) -> String {
    let hint = error.chain().find_map(|cause| {
        let runtime = cause.downcast_ref::<rtc_runtime::Error>().and_then(rtc_runtime::Error::hint);
        runtime.or_else(|| cause.downcast_ref::<rtc_checkpoint::error::Error>().and_then(|e| e.hint()))
    });
    let hint = hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
    format!("{deed}: {error:#}{hint}")
}

/// Prints to stdout; a reader who has gone is no failure of ours to report.
fn print(text: &str) -> u8 {
    let written = io::stdout().write_all(text.as_bytes());
    if written.is_ok() { 0 } else { FAILURE }
}
