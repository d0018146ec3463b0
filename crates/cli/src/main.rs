//! The `rtc` binary: arguments, log, output, exit codes.
#![forbid(unsafe_code)]
mod argv;
mod cli;
mod clock;
mod commands;
mod logger;
mod table;

use clap::FromArgMatches;
fn main() {
    let program = "rtc";
    let root = cli::command(program);
    let args = argv::normalise(&root, std::env::args_os().skip(1));
    let m = root.clone().no_binary_name(true).try_get_matches_from(&args);
    match m {
        Ok(m) => println!("{:?}", cli::Cli::from_arg_matches(&m)),
        Err(e) => { println!("{}", argv::complaint(&root, &args, &e)); println!("{e}"); }
    }
}
