//! Which functions the commands of a container's life execute, in the order of their first use: the linker puts them
//! side by side (crates/cli/order.ld), for a page of code that is touched costs a fault and maps 16.
//!
//! First stands what the processes execute that become containers: they are new, map each page anew, twice when they
//! exchange the file behind their mappings, and leave it all behind at execve. They need a fifth of the whole.
//!
//! `rtc-order MAP RTC LIVING ENDING crates/cli/order.ld` executes RTC's commands one instruction at a time, for a minute.
//! RTC must have been linked with `-Map=MAP` by lld; docs/performance.md has the commands. The program of the bundle
//! LIVING lives until it is killed, that of ENDING ends by itself.
#![forbid(unsafe_code)]

use anyhow::{Context, Result, bail};
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use rtc_sys::clone::{Clone3, Cloned, clone3, exit};
use std::collections::{HashMap, HashSet};
use std::ffi::CString;
use std::process::Command;

/// The container's name.
const ID: &str = "rtc-order";

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let [_, map, rtc, living, ending, script] = args.as_slice() else {
        bail!("usage: rtc-order MAP RTC LIVING ENDING SCRIPT")
    };
    let sections = sections(&std::fs::read_to_string(map).context("the linker's map")?)?;
    let mut seen = Seen { sections: &sections, known: HashMap::new(), order: Vec::new() };
    let create = ["create", "--bundle", living, ID];
    anyhow::ensure!(Command::new(rtc).args(create).status()?.success(), "create failed");
    // What all commands do stands first.
    let commands: [&[&str]; 8] = [
        &["state", ID],
        &["start", ID],
        &["kill", ID, "0"],
        &["exec", ID, "/bin/true"],
        &["kill", ID, "KILL"],
        &["delete", "--force", ID],
        &["run", "--bundle", ending, ID],
        &create,
    ];
    for command in commands {
        follow(rtc, command, &mut seen)?;
    }
    anyhow::ensure!(Command::new(rtc).args(["delete", "--force", ID]).status()?.success(), "delete failed");
    std::fs::write(script, text(&sections, &seen.order())).context("the script")
}

/// A piece of code that the linker can place by itself.
struct Section {
    start: u64,
    size: u64,
    /// `libc.a(malloc.o)`, or an object file.
    object: String,
    /// `.text.NAME`
    name: String,
}

/// The code in lld's map: `VMA LMA SIZE ALIGN OBJECT:(.text…)`, ascending.
fn sections(map: &str) -> Result<Vec<Section>> {
    let mut all = Vec::new();
    for line in map.lines() {
        let Some((front, name)) = line.split_once(":(.text") else { continue };
        let fields: Vec<&str> = front.split_ascii_whitespace().collect();
        let [start, _, size, _, object] = fields.as_slice() else { continue };
        let (start, size) = (u64::from_str_radix(start, 16)?, u64::from_str_radix(size, 16)?);
        all.push(Section {
            start,
            size,
            object: (*object).into(),
            name: format!(".text{}", name.trim_end_matches(')')),
        });
    }
    anyhow::ensure!(!all.is_empty(), "no map of lld's: no code in it");
    all.sort_by_key(|section| section.start);
    Ok(all)
}

/// Who executed a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum By {
    /// A process that a command made.
    Child,
    /// Only commands themselves.
    Command,
}

struct Seen<'a> {
    sections: &'a [Section],
    known: HashMap<usize, By>,
    /// By first use.
    order: Vec<usize>,
}

impl Seen<'_> {
    fn note(&mut self, address: u64, by: By) {
        let at = self.sections.partition_point(|section| section.start <= address);
        let Some(at) = at.checked_sub(1).filter(|at| address - self.sections[*at].start < self.sections[*at].size)
        else {
            return;
        };
        match self.known.insert(at, by) {
            None => self.order.push(at),
            Some(before) => drop(self.known.insert(at, before.min(by))),
        }
    }

    /// What children execute, then the rest, each by first use.
    fn order(&self) -> Vec<usize> {
        let mut order = self.order.clone();
        order.sort_by_key(|at| self.known[at]);
        order
    }
}

/// Executes one command, and whatever it makes until that executes another program, step by step.
fn follow(rtc: &str, args: &[&str], seen: &mut Seen<'_>) -> Result<()> {
    let words = std::iter::once(rtc).chain(args.iter().copied());
    let words = words.map(CString::new).collect::<Result<Vec<_>, _>>()?;
    let first = match clone3(&Clone3::default())? {
        Cloned::Child => {
            let _ = ptrace::traceme();
            let _ = nix::unistd::execv(&words[0], &words);
            exit(127)
        }
        Cloned::Parent { pid, .. } => Pid::from_raw(pid),
    };
    let mut executed: HashMap<Pid, u32> = HashMap::new();
    loop {
        match waitpid(None, Some(WaitPidFlag::__WALL)) {
            Err(nix::errno::Errno::ECHILD) => return Ok(()),
            Err(e) => return Err(e).context("waitpid"),
            Ok(WaitStatus::Stopped(pid, signal)) => {
                if pid == first && !executed.contains_key(&pid) {
                    let events =
                        Options::PTRACE_O_TRACECLONE | Options::PTRACE_O_TRACEFORK | Options::PTRACE_O_TRACEVFORK;
                    ptrace::setoptions(pid, events | Options::PTRACE_O_TRACEEXEC)?;
                    executed.insert(pid, 0);
                }
                if let Ok(registers) = ptrace::getregs(pid) {
                    seen.note(registers.rip, if pid == first { By::Command } else { By::Child });
                }
                let pass = (!matches!(signal, Signal::SIGTRAP | Signal::SIGSTOP)).then_some(signal);
                let _ = ptrace::step(pid, pass);
            }
            // One that is created waits for its start: it is let go when we end.
            Ok(WaitStatus::Exited(pid, _)) if pid == first => return Ok(()),
            // The container's program.
            Ok(WaitStatus::PtraceEvent(pid, _, event)) if event == ptrace::Event::PTRACE_EVENT_EXEC as i32 => {
                let _ = ptrace::detach(pid, None);
            }
            Ok(WaitStatus::PtraceEvent(pid, ..)) => {
                let _ = ptrace::step(pid, None);
            }
            Ok(_) => {}
        }
    }
}

/// The linker's script.
fn text(sections: &[Section], order: &[usize]) -> String {
    let (mut lines, mut printed) = (Vec::new(), HashSet::new());
    for section in order.iter().map(|at| &sections[*at]) {
        let name = any_build(&section.name);
        // A function of libc's is known by its object: most are alone in theirs.
        let object = match section.object.rsplit_once('(') {
            Some((archive, member)) if !name.contains("_R") => {
                let archive = archive.rsplit('/').next().unwrap_or(archive);
                format!("*{archive}:{}", member.trim_end_matches(')'))
            }
            // Code of no name of its own.
            _ if name == ".text" => continue,
            _ => "*".into(),
        };
        let line = format!("    {object}({name})");
        if printed.insert(line.clone()) {
            lines.push(line);
        }
    }
    let comment = "Made by `rtc-order` (docs/performance.md): code in the order of its first use.";
    let list = lines.join("\n");
    format!("/* {comment} */\nSECTIONS\n{{\n  .text.ordered : {{\n{list}\n  }}\n}}\nINSERT BEFORE .text;\n")
}

/// A section's name with a `*` for what differs from build to build: the crates' disambiguators (`Cs`, digits in base 62,
/// `_`: RFC 2603), which hash versions, features and flags, and the suffix of a function that LLVM has made global.
fn any_build(name: &str) -> String {
    let name = name.split_once(".llvm.").map_or(name, |(front, _)| front);
    let mut parts = name.split("Cs");
    let mut any = String::from(parts.next().unwrap_or_default());
    for part in parts {
        any += "Cs";
        match part.split_once('_') {
            Some((hash, rest)) if hash.len() > 8 && hash.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
                any += "*_";
                any += rest;
            }
            _ => any += part,
        }
    }
    any
}
