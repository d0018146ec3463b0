//! `rtc-vm`: builds the test VM, runs commands and suites in it.
#![forbid(unsafe_code)]

use anyhow::{Result, bail};
use rtc_vm::image::Image;
use rtc_vm::machine::{Machine, Outcome, StartFolder};
use rtc_vm::share::Share;
use std::io::{self, BufRead, Write};
use std::process::ExitCode;
use std::time::Duration;

const USAGE: &str = "usage: rtc-vm build | run [--rtc FILE] COMMAND… | shell [--rtc FILE] | test [--rtc FILE] [FILTER]

build  make the VM's image, if it is not in the cache
run    boot a VM, run one command in it, end with its exit status
shell  boot a VM, run each line of standard input in it
test   boot a VM, run the suites; FILTER is a part of a case's name";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match start(&args) {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(io::stderr(), "rtc-vm: {error:#}");
            ExitCode::FAILURE
        }
    }
}
fn start(args: &[String]) -> Result<ExitCode> {
    let _ = (args, Duration::ZERO);
    bail!("{USAGE}")
}
