//! What a profile says about one call, read straight from its rules, with no thought for speed.

use oci_spec::runtime::{Arch, LinuxSeccomp, LinuxSeccompArg, LinuxSeccompOperator as Operator, LinuxSyscall};

use super::super::abi::{ARM_PRIVATE, Abi, Machine, X32_BIT};
use super::super::syscalls::{Syscall, multiplexed};
use super::super::{action, action::KILL_THREAD};
use super::interpreter::Call;

/// The return value that the filter must have for a call.
pub(super) fn decide(seccomp: &LinuxSeccomp, machine: Machine, call: &Call) -> u32 {
    let default = action::value(seccomp.default_action(), seccomp.default_errno_ret()).unwrap();
    let beyond = if action::is_permissive(seccomp.default_action()) { default } else { action::ERRNO | 38 };
    let Some(abi) = abi(seccomp, machine, call) else {
        // x32 of a profile without it has the AUDIT_ARCH of x86-64; a tracer skips a call by -1.
        let skipped = machine == Machine::X86 && call.audit == Abi::X86_64.audit() && call.number == u32::MAX;
        return if skipped { default } else { KILL_THREAD };
    };
    let entries = || seccomp.syscalls().iter().flatten();
    let verdict = |entry: &LinuxSyscall| action::value(entry.action(), entry.errno_ret()).unwrap();
    let active = || entries().filter(|entry| verdict(entry) != default && names(entry, abi, call.number));
    let unconditional = active().find(|entry| entry.args().as_ref().is_none_or(Vec::is_empty));
    if let Some(entry) = unconditional {
        return verdict(entry);
    }
    let matching = entries().filter(|entry| verdict(entry) != default).find(|entry| {
        names(entry, abi, call.number) && holds(entry.args().as_deref().unwrap(), abi, call)
            || selected(entry, abi, call)
    });
    match matching {
        Some(entry) => verdict(entry),
        None if highest(seccomp, abi).is_some_and(|highest| call.number > highest) => {
            let named = active().next().is_some();
            if named { default } else { beyond }
        }
        None => default,
    }
}

fn abi(seccomp: &LinuxSeccomp, machine: Machine, call: &Call) -> Option<Abi> {
    let listed = |arch| seccomp.architectures().as_ref().is_some_and(|list| list.contains(&arch));
    match (machine, call.audit) {
        (Machine::X86, 0xc000_003e) if call.number < X32_BIT => Some(Abi::X86_64),
        (Machine::X86, 0xc000_003e) => listed(Arch::ScmpArchX32).then_some(Abi::X32),
        (Machine::X86, 0x4000_0003) => listed(Arch::ScmpArchX86).then_some(Abi::X86),
        (Machine::Arm, 0xc000_00b7) => Some(Abi::Aarch64),
        (Machine::Arm, 0x4000_0028) => listed(Arch::ScmpArchArm).then_some(Abi::Arm),
        _ => None,
    }
}

pub(super) fn names(entry: &LinuxSyscall, abi: Abi, number: u32) -> bool {
    entry.names().iter().any(|name| Syscall::named(name).and_then(|call| call.number(abi)) == Some(number))
}

/// Whether a call of socketcall or ipc does what an unconditional rule names.
fn selected(entry: &LinuxSyscall, abi: Abi, call: &Call) -> bool {
    let first = u64::from(call.arguments[0] as u32);
    abi == Abi::X86
        && entry.args().as_ref().is_none_or(Vec::is_empty)
        && entry.names().iter().any(|name| multiplexed(name) == Some((call.number, first)))
}

pub(super) fn highest(seccomp: &LinuxSeccomp, abi: Abi) -> Option<u32> {
    let names = seccomp.syscalls().iter().flatten().flat_map(|entry| entry.names());
    let numbers = names.filter_map(|name| Syscall::named(name)?.number(abi));
    numbers.filter(|number| abi != Abi::Arm || *number < ARM_PRIVATE).max()
}

fn holds(args: &[LinuxSeccompArg], abi: Abi, call: &Call) -> bool {
    let one = |arg: &LinuxSeccompArg| {
        let cut = |value: u64| if abi.is_64_bit() { value } else { u64::from(value as u32) };
        let (is, value, two) = (cut(call.arguments[arg.index()]), cut(arg.value()), cut(arg.value_two().unwrap_or(0)));
        match arg.op() {
            Operator::ScmpCmpNe => is != value,
            Operator::ScmpCmpLt => is < value,
            Operator::ScmpCmpLe => is <= value,
            Operator::ScmpCmpEq => is == value,
            Operator::ScmpCmpGe => is >= value,
            Operator::ScmpCmpGt => is > value,
            // Bits of the expected value outside of the mask don't count, as in libseccomp.
            Operator::ScmpCmpMaskedEq => is & value == two & value,
        }
    };
    let mut indices: Vec<usize> = args.iter().map(LinuxSeccompArg::index).collect();
    indices.sort_unstable();
    if indices.windows(2).any(|pair| pair[0] == pair[1]) { args.iter().any(one) } else { args.iter().all(one) }
}
