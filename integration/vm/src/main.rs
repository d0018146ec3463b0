//! `rtc-vm`: builds the test VM, runs commands and suites in it.
#![forbid(unsafe_code)]

use anyhow::{Context, Result, bail, ensure};
use rtc_vm::guest::Guest;
use rtc_vm::image::Image;
use rtc_vm::libtest::Executables;
use rtc_vm::machine::{Machine, Outcome, StartFolder};
use rtc_vm::report::Report;
use rtc_vm::schedule::{self, Job, Vm};
use rtc_vm::share::Share;
use rtc_vm::suite::{self, Suite};
use rtc_vm::{build, driver};
use std::fs;
use std::io::{self, BufRead, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

const USAGE: &str = "\
usage: rtc-vm build
       rtc-vm run [--rtc FILE] [--guest GUEST] COMMAND...
       rtc-vm shell [--rtc FILE] [--guest GUEST]
       rtc-vm test [--rtc FILE] [--guest GUEST] [--own-shim] [FILTER]

build  make the VM's image, if it is not in the cache
run    boot a VM, run one command in it, end with its exit status
shell  boot a VM, run each line of standard input in it
test   boot a VM, run the suites; FILTER is a part of a case's name

FILE is rtc's executable, with its shim beside it; without them the workspace's own are built.
guest:/PATH takes a runtime of the VM's instead, to check the suites themselves.
--own-shim puts rtc's shim where the suites have runc's.
GUEST is shell, systemd, debian12 or selinux; run and shell take the first of them without it, test all, two VMs at a time.";

/// Longest time for a command of `run` and `shell`.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(3600);

/// How many VMs run at a time. Each keeps one processor of the host busy.
const AT_ONCE: usize = 2;

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
    let (command, mut rest) = args.split_first().context(USAGE)?;
    let mut options = Options { rtc: None, guest: None, own_shim: false };
    loop {
        rest = match rest {
            [flag, file, rest @ ..] if flag == "--rtc" => {
                options.rtc = Some(file);
                rest
            }
            [flag, name, rest @ ..] if flag == "--guest" => {
                options.guest = Some(Guest::named(name)?);
                rest
            }
            [flag, rest @ ..] if flag == "--own-shim" => {
                options.own_shim = true;
                rest
            }
            _ => break,
        }
    }
    match (command.as_str(), rest) {
        ("build", []) => Image::prepare().map(|_| 0),
        ("run", [_, ..]) => run(&options, rest),
        ("shell", []) => shell(&options),
        ("test", []) => test(&options, ""),
        ("test", [filter]) => test(&options, filter),
        _ => bail!(USAGE),
    }
}

/// The name that containerd calls rtc's shim by.
const SHIM: &str = "containerd-shim-rtc-v2";

/// What the flags say.
struct Options<'a> {
    rtc: Option<&'a str>,
    guest: Option<Guest>,
    own_shim: bool,
}

/// What VMs of one run have in common.
struct Files {
    image: Image,
    folder: StartFolder,
    agent: PathBuf,
    shim: PathBuf,
    /// rtc's executable, or the path of another runtime in the guest.
    rtc: Result<PathBuf, String>,
    /// Whether rtc's shim stands in for runc's.
    own_shim: bool,
}

impl Files {
    fn prepare(options: &Options) -> Result<Self> {
        let rtc = match options.rtc {
            Some(rtc) => rtc.strip_prefix("guest:").map_or(Ok(PathBuf::from(rtc)), |guest| Err(guest.to_owned())),
            None => Ok(build::program("rtc")?),
        };
        let beside = rtc.as_ref().ok().map(|file| file.with_file_name(SHIM)).filter(|shim| shim.is_file());
        let shim = beside.map_or_else(|| build::program("rtc-shim"), Ok)?;
        let image = Image::prepare()?;
        Ok(Self {
            image,
            folder: StartFolder::new()?,
            agent: build::program("rtc-vm-agent")?,
            shim,
            rtc,
            own_shim: options.own_shim,
        })
    }

    /// Boots a VM with rtc, the agent, the suites and the whole-binary tests in it.
    /// `name` is for its files alone: no two VMs of a run have the same.
    fn boot(&self, guest: Guest, name: &str, tests: &Executables) -> Result<Machine> {
        let folder = self.folder.path().join(name);
        fs::create_dir(&folder).with_context(|| format!("create {}", folder.display()))?;
        let share = Share::new(&folder.join("share"))?;
        share.program(&self.agent, "rtc-vm-agent")?;
        match &self.rtc {
            Ok(file) => share.program(file, "bin/rtc")?,
            Err(guest) => share.link(guest, "bin/rtc")?,
        }
        share.program(&self.shim, &format!("bin/{SHIM}"))?;
        if self.own_shim {
            share.link(&format!("bin/{SHIM}"), "own-shim")?;
        }
        share.folder(&suite::folder(), "suites")?;
        for engine in ["podman", "docker", "containerd"] {
            share.folder(&suite::folder().join("../../contrib").join(engine), &format!("contrib/{engine}"))?;
        }
        tests.share(&share)?;
        Machine::start(&self.image, guest, &share, &folder)
    }
}

fn boot_one(options: &Options) -> Result<Machine> {
    Files::prepare(options)?.boot(options.guest.unwrap_or(Guest::Shell), "one", &Executables::default())
}

fn run(options: &Options, argv: &[String]) -> Result<u8> {
    let mut machine = boot_one(options)?;
    let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
    let outcome = machine.run(&argv, &[], COMMAND_TIMEOUT)?;
    pass_on(&outcome)
}

fn shell(options: &Options) -> Result<u8> {
    let mut machine = boot_one(options)?;
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

fn test(options: &Options, filter: &str) -> Result<u8> {
    let plan = Plan::new(options, filter)?;
    let jobs = plan.jobs();
    ensure!(!jobs.is_empty(), "no case's name contains {filter:?}");
    let files = Files::prepare(options)?;
    let report = Report::default();
    let lanes = schedule::lanes(jobs, AT_ONCE);
    let good = std::thread::scope(|scope| {
        // A VM belongs to the thread that started it: it dies with it.
        let work = |lane: usize| {
            let mut good = true;
            for (index, vm) in lanes[lane].iter().enumerate() {
                if let Err(error) = plan.run(vm, &format!("{lane}-{index}"), &files, &report) {
                    let _ = writeln!(io::stderr(), "rtc-vm: guest {}: stopped early: {error:#}", vm.guest);
                    good = false;
                }
            }
            good
        };
        let workers: Vec<_> = (0..lanes.len()).map(|lane| scope.spawn(move || work(lane))).collect();
        workers.into_iter().all(|worker| worker.join().unwrap_or(false))
    });
    let good = report.finish() && good;
    Ok(u8::from(!good))
}

/// A part of a run.
#[derive(Clone, Copy)]
enum Work<'a> {
    /// The checks of the driver itself.
    Checks,
    /// A suite of `integration/suites`.
    Suite(&'a Suite),
    /// The whole-binary tests.
    Tests,
}

/// About how long the driver's checks and the whole-binary tests take, in seconds.
const CHECKS_SECONDS: u32 = 10;
const TESTS_SECONDS: u32 = 140;

/// What a run is to do.
struct Plan<'a> {
    filter: &'a str,
    suites: Vec<Suite>,
    checks: Vec<&'static driver::Case>,
    tests: Executables,
}

impl<'a> Plan<'a> {
    fn new(options: &Options, filter: &'a str) -> Result<Self> {
        let mut suites = suite::all()?;
        suites.iter_mut().for_each(|suite| suite.keep(filter));
        suites.retain(|suite| !suite.is_empty() && options.guest.is_none_or(|guest| guest == suite.guest()));
        let mut plan = Self { filter, suites, checks: Vec::new(), tests: Executables::default() };
        if options.guest.is_none_or(|guest| guest == Guest::Shell) {
            plan.checks = driver::matching(filter);
            plan.tests = Executables::build(filter)?;
        }
        Ok(plan)
    }

    /// The driver's checks and the whole-binary tests run on the first guest.
    fn jobs<'b>(&'b self) -> Vec<Job<Work<'b>>> {
        let suite = |suite: &'b Suite| Job { guest: suite.guest(), seconds: suite.seconds(), work: Work::Suite(suite) };
        let mut jobs: Vec<_> = self.suites.iter().map(suite).collect();
        if !self.checks.is_empty() {
            jobs.insert(0, Job { guest: Guest::Shell, seconds: CHECKS_SECONDS, work: Work::Checks });
        }
        if !self.tests.is_empty() {
            jobs.push(Job { guest: Guest::Shell, seconds: TESTS_SECONDS, work: Work::Tests });
        }
        jobs
    }

    /// Runs what is for this VM. One that dies fails the case it died in; the rest goes unrun, which is the error.
    fn run(&self, vm: &Vm<Work<'_>>, name: &str, files: &Files, report: &Report) -> Result<()> {
        let began = Instant::now();
        let none = Executables::default();
        let has_tests = vm.jobs.iter().any(|job| matches!(job.work, Work::Tests));
        let mut machine = files.boot(vm.guest, name, if has_tests { &self.tests } else { &none })?;
        report.note(&format!("boot of guest {}", vm.guest), began.elapsed());
        for job in &vm.jobs {
            match job.work {
                Work::Checks => driver::run(&self.checks, &mut machine, report),
                Work::Suite(suite) => suite.run(&mut machine, report)?,
                Work::Tests => self.tests.run(&mut machine, self.filter, report)?,
            }
        }
        report.note(&format!("guest {}, VM {name}", vm.guest), began.elapsed());
        Ok(())
    }
}
