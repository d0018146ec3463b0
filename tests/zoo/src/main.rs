//! The zoo: small programs, each of which holds one kind of kernel state and can say whether it is still whole.
//!
//! `rtc-zoo NAME` runs one as a container's first process.
//! It prepares its state and creates `/ctl/ready`; then, for each byte it reads from the FIFO `/ctl/go`,
//! it checks the state and writes `ok` or `bad: REASON` to `/ctl/result`.
//! A check leaves the state as it found it, or changes it in a way that the next check expects,
//! so a program can be saved and brought back any number of times.
//!
//! Unlike the rest of the workspace this crate makes raw system calls, as its state must be exactly what it says.

mod base;
mod cpu;
mod datagrams;
mod events;
mod files;
mod identity;
mod layout;
mod locks;
mod memory;
mod pipes;
mod sharing;
mod signals;
mod sockets;
mod sysv;
mod tcp;
mod terminals;
mod threads;
mod timers;
mod tmpfs;
mod tree;
mod waits;

use base::{Prepare, Result};
use std::fs::{self, File};
use std::io::Read;

/// Every program with its name, by subject.
const ZOO: &[&[(&str, Prepare)]] = &[
    cpu::ZOO,
    datagrams::ZOO,
    events::ZOO,
    files::ZOO,
    identity::ZOO,
    layout::ZOO,
    locks::ZOO,
    memory::ZOO,
    pipes::ZOO,
    sharing::ZOO,
    signals::ZOO,
    sockets::ZOO,
    sysv::ZOO,
    tcp::ZOO,
    terminals::ZOO,
    threads::ZOO,
    timers::ZOO,
    tmpfs::ZOO,
    tree::ZOO,
    waits::ZOO,
];

fn main() {
    let name = std::env::args().nth(1).unwrap_or_default();
    let mut all = ZOO.iter().copied().flatten();
    match all.find(|(known, _)| *known == name) {
        Some((_, prepare)) => live(*prepare).unwrap_or_else(|e| panic!("{name}: {e}")),
        None => ZOO.iter().copied().flatten().for_each(|(name, _)| println!("{name}")),
    }
}

/// Prepares, and then checks whenever asked, until killed.
fn live(prepare: Prepare) -> Result<()> {
    // Held for writing as well: a writer that leaves must not mean the end.
    let mut go = File::options().read(true).write(true).open("/ctl/go").map_err(|e| format!("/ctl/go: {e}"))?;
    let mut check = prepare()?;
    fs::write("/ctl/ready", "ready\n").map_err(|e| format!("/ctl/ready: {e}"))?;
    loop {
        let mut byte = [0];
        go.read_exact(&mut byte).map_err(|e| format!("the wait for /ctl/go was disturbed: {e}"))?;
        let verdict = match check() {
            Ok(()) => "ok\n".to_owned(),
            Err(reason) => format!("bad: {reason}\n"),
        };
        // Renamed into place, so that the reader never sees half of it.
        fs::write("/ctl/result.new", verdict).map_err(|e| format!("/ctl/result: {e}"))?;
        fs::rename("/ctl/result.new", "/ctl/result").map_err(|e| format!("/ctl/result: {e}"))?;
    }
}
