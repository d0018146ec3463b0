//! The probe: work to be timed inside a container and outside, and the peak memory of a command.
//!
//! `rtc-probe work` times system calls, page faults, a pipe and loopback TCP, each several times over, and prints the
//! least nanoseconds of each. `rtc-probe filtered-work` does so under a seccomp filter of one instruction that allows
//! everything: no filter can cost less. `rtc-probe peak PROGRAM ARGS…` prints the peak of the program's memory in KiB;
//! it is small itself, for a child begins with its parent's peak.
//!
//! All work is done by one thread: on a loaded machine the scheduler would be measured otherwise.
#![forbid(unsafe_code)]

use anyhow::{Context, Result, bail};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Instant;

/// `RET | K` with SECCOMP_RET_ALLOW.
const ALLOW: rtc_sys::seccomp::Insn = rtc_sys::seccomp::Insn { code: 0x06, jt: 0, jf: 0, k: 0x7fff_0000 };

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["work"] => work(),
        ["filtered-work"] => {
            rustix::thread::set_no_new_privs(true)?;
            rtc_sys::seccomp::load(&[ALLOW], rtc_sys::seccomp::FLAG_SPEC_ALLOW)?;
            work()
        }
        ["peak", program, rest @ ..] => peak(program, rest),
        _ => bail!("usage: rtc-probe work|filtered-work|peak PROGRAM…"),
    }
}

fn peak(program: &str, args: &[&str]) -> Result<()> {
    // A container's process would keep our caller's pipe open.
    let mut command = Command::new(program);
    command.args(args).stdout(Stdio::null()).stderr(Stdio::null());
    let child = command.spawn().with_context(|| program.to_owned())?;
    let ended = rtc_sys::usage::wait(i32::try_from(child.id())?)?;
    anyhow::ensure!(ended.status == Some(0), "{program}: {:?}", ended.status);
    println!("{}", ended.peak_memory / 1024);
    Ok(())
}

fn work() -> Result<()> {
    // Once to warm up, then the least of several: what disturbs only adds.
    for (name, times, per, one) in WORK {
        let mut least = f64::INFINITY;
        for _ in 0..*times {
            let start = Instant::now();
            one(*per)?;
            least = least.min(start.elapsed().as_secs_f64() * 1e9 / f64::from(*per));
        }
        println!("{name} {least:.2}");
    }
    Ok(())
}

type Work = (&'static str, u32, u32, fn(u32) -> Result<()>);

/// Name, how often, how many at once, and what.
const WORK: &[Work] = &[
    ("system call", 30, 100_000, system_calls),
    ("page fault", 20, 8192, page_faults),
    ("pipe, 4 KiB", 20, 20_000, pipe),
    ("loopback, 64 KiB", 20, 2_000, loopback),
];

fn system_calls(count: u32) -> Result<()> {
    for _ in 0..count {
        std::hint::black_box(rustix::process::getppid());
    }
    Ok(())
}

fn page_faults(count: u32) -> Result<()> {
    let pages = usize::try_from(count)?;
    // Zeroed memory of this size comes from mmap, untouched.
    let mut memory = vec![0_u8; pages * 4096];
    for page in 0..pages {
        memory[page * 4096] = 1;
    }
    std::hint::black_box(&memory);
    Ok(())
}

fn pipe(count: u32) -> Result<()> {
    let (read, write) = rustix::pipe::pipe()?;
    let mut block = [0; 4096];
    for _ in 0..count {
        rustix::io::write(&write, &block)?;
        rustix::io::read(&read, &mut block)?;
    }
    Ok(())
}

fn loopback(count: u32) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut near = TcpStream::connect(listener.local_addr()?)?;
    let (mut far, _) = listener.accept()?;
    let mut block = vec![0; 65536];
    for _ in 0..count {
        near.write_all(&block)?;
        far.read_exact(&mut block)?;
    }
    Ok(())
}
