//! A resolved profile as a program of classic BPF.
//!
//! The program finds the interface, then the number by binary search over ranges that share a verdict: about seven
//! comparisons for a profile of 400 names, and short enough that the kernel's own cache of allowed calls can follow it.

use rtc_sys::seccomp::Insn;

use super::abi::{Abi, X32_BIT};
use super::action::KILL_THREAD;
use super::arguments;
use super::profile::{LONGEST, Profile, Table};
use crate::{Error, Kind, Result};

/// Operations of linux/bpf_common.h: class, size or operation, and mode in one number.
const LOAD: u16 = 0x20; // LD | W | ABS
const JUMP: u16 = 0x05; // JMP | JA
const JUMP_IF_EQUAL: u16 = 0x15; // JMP | JEQ | K
const JUMP_IF_NOT_BELOW: u16 = 0x35; // JMP | JGE | K
const RETURN: u16 = 0x06; // RET | K

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;

/// Calls from this number on, up to the next range, are decided this way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    start: u32,
    decision: Decision,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decision {
    Verdict(u32),
    /// By the arguments of the call: entries FROM..TO of the table with this index.
    Arguments {
        table: usize,
        from: usize,
        to: usize,
    },
}

/// Compiles a profile.
///
/// # Errors
/// `Kind::Invalid` when it is too long for the kernel.
pub(super) fn compile(profile: &Profile) -> Result<Vec<Insn>> {
    let mut program = vec![statement(LOAD, ARCHITECTURE)];
    let mut rest = profile.tables.as_slice();
    let mut first = 0;
    while let Some(table) = rest.first() {
        let audit = table.abi.audit();
        let count = rest.iter().take_while(|table| table.abi.audit() == audit).count();
        let mut section = vec![statement(LOAD, NUMBER)];
        let ranges = ranges(profile, &rest[..count], first);
        section.extend(search(profile, &ranges)?);
        program.push(Insn { code: JUMP_IF_EQUAL, jt: 1, jf: 0, k: audit });
        program.push(statement(JUMP, length(&section)));
        program.extend(section);
        rest = &rest[count..];
        first += count;
    }
    program.push(statement(RETURN, KILL_THREAD));
    if program.len() > LONGEST {
        let message = format!("seccomp: the filter needs {} instructions, the kernel takes {LONGEST}", program.len());
        return Err(Error::new(Kind::Invalid, message));
    }
    Ok(program)
}

/// Divides all numbers among the rules of the tables that share an architecture; the first has index `first`.
fn ranges(profile: &Profile, tables: &[Table], first: usize) -> Vec<Range> {
    let mut ranges = Ranges(Vec::new());
    for (at, table) in tables.iter().enumerate() {
        let base = if table.abi == Abi::X32 { X32_BIT } else { 0 };
        add_table(&mut ranges, profile, table, first + at, base);
    }
    let x32_missing = tables.iter().all(|table| table.abi != Abi::X32);
    if x32_missing && tables.iter().any(|table| table.abi == Abi::X86_64) {
        // Another architecture, though not by its AUDIT_ARCH. -1 is what a tracer sets to skip a call.
        ranges.push(X32_BIT, Decision::Verdict(KILL_THREAD));
        ranges.push(u32::MAX, Decision::Verdict(profile.default));
    }
    ranges.0
}

fn add_table(ranges: &mut Ranges, profile: &Profile, table: &Table, index: usize, base: u32) {
    // The first number that is younger than the profile.
    let beyond = table.highest.map_or(u32::MAX, |number| number + 1);
    let unnamed = |ranges: &mut Ranges, start: u32| {
        let verdict = if start >= beyond { profile.beyond } else { profile.default };
        ranges.push(start, Decision::Verdict(verdict));
    };
    unnamed(ranges, base);
    let mut from = 0;
    while let Some((number, _)) = table.entries.get(from) {
        let to = from + table.entries[from..].iter().take_while(|(other, _)| other == number).count();
        if ranges.end() < beyond && beyond < *number {
            unnamed(ranges, beyond);
        }
        ranges.push(*number, decide(profile, table, index, from, to));
        unnamed(ranges, number + 1);
        from = to;
    }
    if table.highest.is_some() && ranges.end() < beyond {
        unnamed(ranges, beyond);
    }
}

/// What the rules `from..to` make of a number: the first without conditions wins over all others.
fn decide(profile: &Profile, table: &Table, index: usize, from: usize, to: usize) -> Decision {
    let rules = table.entries[from..to].iter().map(|(_, rule)| &profile.rules[*rule]);
    match rules.filter(|rule| rule.conditions.is_empty()).map(|rule| rule.verdict).next() {
        Some(verdict) => Decision::Verdict(verdict),
        None => Decision::Arguments { table: index, from, to },
    }
}

/// Ranges in ascending order, without neighbours that share a decision.
struct Ranges(Vec<Range>);

impl Ranges {
    fn push(&mut self, start: u32, decision: Decision) {
        // What begins where the last began replaces it.
        if self.0.last().is_some_and(|last| last.start == start) {
            self.0.pop();
        }
        if self.0.last().is_none_or(|last| last.decision != decision) {
            self.0.push(Range { start, decision });
        }
    }

    fn end(&self) -> u32 {
        self.0.last().map_or(0, |last| last.start)
    }
}

/// A binary search for the range that holds the loaded number, ending in its decision.
fn search(profile: &Profile, ranges: &[Range]) -> Result<Vec<Insn>> {
    let [range] = ranges else {
        let (left, right) = ranges.split_at(ranges.len() / 2);
        // A profile divides the numbers into at least one range.
        let Some(middle) = right.first() else { return Ok(vec![statement(RETURN, profile.default)]) };
        let below = search(profile, left)?;
        let mut program = match u8::try_from(below.len()) {
            Ok(jt) => vec![Insn { code: JUMP_IF_NOT_BELOW, jt, jf: 0, k: middle.start }],
            // Too far for a condition.
            Err(_) => {
                vec![Insn { code: JUMP_IF_NOT_BELOW, jt: 0, jf: 1, k: middle.start }, statement(JUMP, length(&below))]
            }
        };
        program.extend(below);
        program.extend(search(profile, right)?);
        return Ok(program);
    };
    match range.decision {
        Decision::Verdict(verdict) => Ok(vec![statement(RETURN, verdict)]),
        Decision::Arguments { table, from, to } => {
            let table = &profile.tables[table];
            let mut program = Vec::new();
            for (_, rule) in &table.entries[from..to] {
                let rule = &profile.rules[*rule];
                program.extend(arguments::compile(&rule.conditions, table.abi, rule.verdict)?);
            }
            program.push(statement(RETURN, profile.default));
            Ok(program)
        }
    }
}

fn statement(code: u16, k: u32) -> Insn {
    Insn { code, jt: 0, jf: 0, k }
}

/// The number of instructions to jump over; far below the limit of the type in any program that can be loaded.
fn length(program: &[Insn]) -> u32 {
    u32::try_from(program.len()).unwrap_or(u32::MAX)
}
