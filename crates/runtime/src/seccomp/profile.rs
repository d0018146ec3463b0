//! A profile as rules by number, for each system call interface.

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSyscall};

use super::abi::{ARM_PRIVATE, Abi, Machine};
use super::action::{self, ERRNO};
use super::arguments::Condition;
use super::syscalls::{Syscall, multiplexed};
use crate::{Error, Kind, Result};

/// The longest program that the kernel takes (BPF_MAXINSNS).
pub(super) const LONGEST: usize = 4096;

/// A profile, resolved for one machine.
#[derive(Debug)]
pub(super) struct Profile {
    /// Returned where no rule matches.
    pub(super) default: u32,
    /// Returned for numbers above the highest that is named.
    pub(super) beyond: u32,
    pub(super) rules: Vec<Rule>,
    pub(super) tables: Vec<Table>,
}

/// One rule: what it returns where all its conditions hold.
#[derive(Debug)]
pub(super) struct Rule {
    /// Its place in `syscalls`; none for what follows from a rule for another call.
    entry: Option<usize>,
    pub(super) conditions: Vec<Condition>,
    pub(super) verdict: u32,
}

/// The rules of one interface.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) abi: Abi,
    /// The highest number that the profile names; `None` when it names none.
    pub(super) highest: Option<u32>,
    /// Numbers with the index of a rule, in order of both.
    pub(super) entries: Vec<(u32, usize)>,
}

impl Profile {
    pub(super) fn new(seccomp: &LinuxSeccomp, machine: Machine) -> Result<Self> {
        let default = action::value(seccomp.default_action(), seccomp.default_errno_ret())?;
        if seccomp.default_action() == LinuxSeccompAction::ScmpActNotify {
            return Err(Error::new(Kind::Invalid, "SCMP_ACT_NOTIFY cannot be used as default action"));
        }
        let permissive = action::is_permissive(seccomp.default_action());
        let beyond = if permissive { default } else { ERRNO | libc::ENOSYS as u32 };
        let listed = seccomp.architectures().as_deref().unwrap_or_default();
        let tables = Abi::covered(machine, listed).into_iter();
        let tables = tables.map(|abi| Table { abi, highest: None, entries: Vec::new() }).collect();
        let mut profile = Self { default, beyond, rules: Vec::new(), tables };
        for (index, entry) in seccomp.syscalls().iter().flatten().enumerate() {
            profile.add(index, entry).map_err(|e| e.context(format!("linux.seccomp.syscalls[{index}]")))?;
        }
        for table in &mut profile.tables {
            table.entries.sort_unstable();
        }
        profile.check_contradictions()?;
        Ok(profile)
    }

    /// Refuses rules of one call that have the same conditions and other actions, as libseccomp does.
    fn check_contradictions(&self) -> Result<()> {
        for table in &self.tables {
            // More than the kernel takes are refused by their number.
            let mut left = LONGEST;
            for of_number in table.entries.chunk_by(|one, next| one.0 == next.0).filter(|rules| rules.len() > 1) {
                let Some(rest) = left.checked_sub(of_number.len()) else { break };
                left = rest;
                self.check_of_number(of_number)?;
            }
        }
        Ok(())
    }

    fn check_of_number(&self, entries: &[(u32, usize)]) -> Result<()> {
        let rules: Vec<&Rule> = entries.iter().map(|(_, rule)| &self.rules[*rule]).collect();
        if rules.iter().any(|rule| rule.conditions.is_empty()) {
            return Ok(());
        }
        for (at, rule) in rules.iter().enumerate() {
            let Some(entry) = rule.entry else { continue };
            let contradicts = |other: &&Rule| other.conditions == rule.conditions && other.verdict != rule.verdict;
            if let Some(other) = rules[..at].iter().copied().find(contradicts).and_then(|other| other.entry) {
                let message = format!(
                    "linux.seccomp.syscalls[{entry}]: same call and args as in syscalls[{other}], and another action"
                );
                return Err(Error::new(Kind::Invalid, message));
            }
        }
        Ok(())
    }

    /// Whether any rule hands calls to an agent.
    pub(super) fn notifies(&self) -> bool {
        self.rules.iter().any(|rule| rule.verdict == action::NOTIFY)
    }

    fn add(&mut self, place: usize, entry: &LinuxSyscall) -> Result<()> {
        let verdict = action::value(entry.action(), entry.errno_ret())?;
        let notifies = verdict == action::NOTIFY;
        if notifies && entry.names().iter().any(|name| name == "write") {
            // Between loading the filter and handing over the listener, init has to tell its parent by a write.
            return Err(Error::new(Kind::Invalid, "SCMP_ACT_NOTIFY cannot be used for the write syscall"));
        }
        let alternatives = alternatives(entry)?;
        let calls: Vec<(&str, Syscall)> =
            entry.names().iter().filter_map(|name| Some((name.as_str(), Syscall::named(name)?))).collect();
        for table in &mut self.tables {
            table.note_highest(&calls);
        }
        if verdict == self.default {
            return Ok(());
        }
        for conditions in alternatives {
            if conditions.is_empty() {
                self.add_multiplexed(entry.names(), verdict);
            }
            let index = self.rules.len();
            self.rules.push(Rule { entry: Some(place), conditions, verdict });
            for table in &mut self.tables {
                let numbers = calls.iter().filter_map(|(_, call)| call.number(table.abi));
                table.entries.extend(numbers.map(|number| (number, index)));
            }
        }
        Ok(())
    }

    /// Lets a rule for `socket` hold for `socketcall(SYS_SOCKET)` too, and so on, on 32-bit x86.
    ///
    /// Not a rule with conditions: the arguments are in memory there, where a filter can't look.
    fn add_multiplexed(&mut self, names: &[String], verdict: u32) {
        let Some(table) = self.tables.iter_mut().find(|table| table.abi == Abi::X86) else { return };
        for (number, selector) in names.iter().filter_map(|name| multiplexed(name)) {
            table.entries.push((number, self.rules.len()));
            self.rules.push(Rule { entry: None, conditions: vec![Condition::first_is(selector)], verdict });
        }
    }
}

impl Table {
    fn note_highest(&mut self, calls: &[(&str, Syscall)]) {
        let numbers = calls.iter().filter_map(|(_, call)| call.number(self.abi));
        // ARM's private calls say nothing of the profile's age.
        let numbers = numbers.filter(|number| self.abi != Abi::Arm || *number < ARM_PRIVATE);
        self.highest = self.highest.max(numbers.max());
    }
}

/// The lists of conditions of which one must hold whole.
///
/// libseccomp can't take two conditions on one argument in one rule; runc then makes each condition a rule by itself.
fn alternatives(entry: &LinuxSyscall) -> Result<Vec<Vec<Condition>>> {
    let mut conditions = entry.args().iter().flatten().map(Condition::parse).collect::<Result<Vec<_>>>()?;
    conditions.sort_by_key(|condition| condition.index);
    let repeated = conditions.iter().enumerate().any(|(at, c)| conditions[..at].iter().any(|d| d.index == c.index));
    if repeated { Ok(conditions.into_iter().map(|condition| vec![condition]).collect()) } else { Ok(vec![conditions]) }
}
