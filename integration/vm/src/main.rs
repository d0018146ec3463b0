//! `rtc-vm`: builds the test VM, runs commands and suites in it.
#![forbid(unsafe_code)]

use anyhow::{Context, Result, bail, ensure};
use rtc_vm::image::Image;
use rtc_vm::libtest::Executables;
use rtc_vm::machine::{Machine, Outcome, StartFolder};
use rtc_vm::report::Report;
use rtc_vm::share::Share;
use rtc_vm::{build, driver, suite};
use std::io::{self, BufRead, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

const USAGE: &str = "\
usage: rtc-vm build
       rtc-vm run [--rtc FILE] COMMAND...
       rtc-vm shell [--rtc FILE]
       rtc-vm test [--rtc FILE] [FILTER]

build  make the VM's image, if it is not in the cache
run    boot a VM, run one command in it, end with its exit status
shell  boot a VM, run each line of standard input in it
test   boot a VM, run the suites; FILTER is a part of a case's name

FILE is rtc's executable, with its shim beside it; without them the workspace's own are built.
guest:/PATH takes a runtime of the VM's instead, to check the suites themselves.";

/// Longest time for a command of `run` and `shell`.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(3600);

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&args) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let _ = writeln!(io::stderr(), "rtc-vm: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(args: &[String]) -> Result<u8> {
    let (command, rest) = args.split_first().context(USAGE)?;
    let (rtc, rest) = match rest {
        [flag, file, rest @ ..] if flag == "--rtc" => (Some(file.as_str()), rest),
        rest => (None, rest),
    };
    match (command.as_str(), rest) {
        ("build", []) => Image::prepare().map(|_| 0),
        ("run", [_, ..]) => run(rtc, rest),
        ("shell", []) => shell(rtc),
        ("test", []) => test(rtc, ""),
        ("test", [filter]) => test(rtc, filter),
        _ => bail!(USAGE),
    }
}

/// The name that containerd calls rtc's shim by.
const SHIM: &str = "containerd-shim-rtc-v2";

/// Boots a VM with rtc, the agent, the suites and the whole-binary tests in it.
fn boot(rtc: Option<&str>, tests: &Executables) -> Result<Machine> {
    let image = Image::prepare()?;
    let folder = StartFolder::new()?;
    let share = Share::new(&folder.path().join("share"))?;
    share.program(&build::program("rtc-vm-agent")?, "rtc-vm-agent")?;
    match rtc.and_then(|rtc| rtc.strip_prefix("guest:")) {
        Some(guest) => share.link(guest, "bin/rtc")?,
        None => match rtc {
            Some(file) => share.program(Path::new(file), "bin/rtc")?,
            None => share.program(&build::program("rtc")?, "bin/rtc")?,
        },
    }
    let beside = rtc.map(|file| Path::new(file).with_file_name(SHIM)).filter(|shim| shim.is_file());
    let shim = beside.map_or_else(|| build::program("rtc-shim"), Ok)?;
    share.program(&shim, &format!("bin/{SHIM}"))?;
    share.folder(&suite::folder(), "suites")?;
    share.folder(&suite::folder().join("../../contrib/podman"), "contrib/podman")?;
    tests.share(&share)?;
    Machine::start(&image, &share, folder.path())
}

fn run(rtc: Option<&str>, argv: &[String]) -> Result<u8> {
    let mut machine = boot(rtc, &Executables::default())?;
    let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
    let outcome = machine.run(&argv, &[], COMMAND_TIMEOUT)?;
    pass_on(&outcome)
}

fn shell(rtc: Option<&str>) -> Result<u8> {
    let mut machine = boot(rtc, &Executables::default())?;
    let mut last = 0;
    for line in io::stdin().lock().lines() {
        let outcome = machine.shell(&line?, COMMAND_TIMEOUT)?;
        last = pass_on(&outcome)?;
        writeln!(io::stdout(), "[{}]", outcome.code)?;
    }
    Ok(last)
}

fn pass_on(outcome: &Outcome) -> Result<u8> {
    io::stdout().write_all(&outcome.stdout)?;
    io::stdout().flush()?;
    io::stderr().write_all(&outcome.stderr)?;
    u8::try_from(outcome.code).context("the command's exit status")
}

fn test(rtc: Option<&str>, filter: &str) -> Result<u8> {
    let mut suites = suite::all()?;
    suites.iter_mut().for_each(|suite| suite.keep(filter));
    suites.retain(|suite| !suite.is_empty());
    let checks = driver::matching(filter);
    let tests = Executables::build(filter)?;
    ensure!(!suites.is_empty() || !checks.is_empty() || !tests.is_empty(), "no case's name contains {filter:?}");
    let mut machine = boot(rtc, &tests)?;
    let mut report = Report::default();
    driver::run(&checks, &mut machine, &mut report);
    // A VM that dies fails the case it died in; the rest goes unrun, and the exit status says so.
    let mut ran = Ok(());
    for suite in &suites {
        ran = ran.and_then(|()| suite.run(&mut machine, &mut report));
    }
    ran = ran.and_then(|()| tests.run(&mut machine, filter, &mut report));
    if let Err(error) = &ran {
        let _ = writeln!(io::stderr(), "rtc-vm: stopped early: {error:#}");
    }
    let good = report.finish() && ran.is_ok();
    Ok(u8::from(!good))
}
