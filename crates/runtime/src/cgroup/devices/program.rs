//! Device rules as instructions. Pure.
//!
//! The kernel calls the program with a request: a kind of device, its numbers and a set of accesses (open for reading
//! and writing asks for two at once). Each access is decided by the last rule that matches it, so the program walks the
//! rules backwards and strikes allowed accesses off; it allows when none is left and forbids at the first forbidden one,
//! or when rules run out.

use rtc_sys::bpf::Insn;

use super::rule::{ALL, Rule};

/// Registers: what is left of the request.
const DEVICE: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const RESULT: u8 = 0;
const CONTEXT: u8 = 1;

/// Operations (linux/bpf.h): class, operation, and operand kind in one byte.
const LOAD_U32: u8 = 0x61; // LDX | MEM | W
const AND: u8 = 0x54; // ALU | AND | K, 32 bits
const SHIFT_RIGHT: u8 = 0x74; // ALU | RSH | K, 32 bits
const MOVE: u8 = 0xb7; // ALU64 | MOV | K
const MOVE_REGISTER: u8 = 0xbf; // ALU64 | MOV | X
const JUMP: u8 = 0x05; // JMP | JA
const JUMP_IF_NOT: u8 = 0x55; // JMP | JNE | K
const JUMP_IF_SET: u8 = 0x45; // JMP | JSET | K
const EXIT: u8 = 0x95; // JMP | EXIT

const FORBID: i32 = 0;
const ALLOW: i32 = 1;

/// Compiles rules, the weightiest last.
pub(super) fn compile(rules: &[Rule]) -> Vec<Insn> {
    let mut program = prologue();
    for rule in needed(rules) {
        append(&mut program, &rule);
    }
    program.extend(verdict(FORBID));
    program
}

/// Loads the request: `struct bpf_cgroup_dev_ctx { u32 access_type, major, minor }`, the first of which holds the kind of
/// device in its low 16 bits and the accesses above.
fn prologue() -> Vec<Insn> {
    let load = |register: u8, offset| Insn { code: LOAD_U32, registers: register | CONTEXT << 4, offset, immediate: 0 };
    vec![
        load(DEVICE, 0),
        Insn { code: MOVE_REGISTER, registers: ACCESS | DEVICE << 4, offset: 0, immediate: 0 },
        operation(AND, DEVICE, 0xffff),
        operation(SHIFT_RIGHT, ACCESS, 16),
        load(MAJOR, 4),
        load(MINOR, 8),
    ]
}

/// The rules that can decide anything, the weightiest first, each with only the accesses that it can decide.
///
/// Engines repeat rules, and a rule for all devices makes those before it void.
fn needed(rules: &[Rule]) -> Vec<Rule> {
    let mut result: Vec<Rule> = Vec::new();
    let mut decided_for_all = 0;
    for rule in rules.iter().rev() {
        let same = |other: &&Rule| (other.device, other.major, other.minor) == (rule.device, rule.major, rule.minor);
        let decided = result.iter().filter(same).fold(decided_for_all, |bits, other| bits | other.access);
        let access = rule.access & !decided;
        if access == 0 {
            continue;
        }
        result.push(Rule { access, ..*rule });
        if rule.device.is_none() && rule.major.is_none() && rule.minor.is_none() {
            decided_for_all |= access;
        }
        if decided_for_all == ALL {
            break;
        }
    }
    result
}

/// Appends the test of one rule; where it decides nothing, the next instruction is reached.
fn append(program: &mut Vec<Insn>, rule: &Rule) {
    let mut conditions = Vec::new();
    if let Some(device) = rule.device {
        conditions.push((DEVICE, device as u32));
    }
    conditions.extend(rule.major.map(|major| (MAJOR, major)));
    conditions.extend(rule.minor.map(|minor| (MINOR, minor)));
    let access = i32::from(rule.access);
    let body = if rule.allow {
        vec![operation(AND, ACCESS, !access), jump(JUMP_IF_NOT, ACCESS, 0, 2)]
    } else {
        vec![jump(JUMP_IF_SET, ACCESS, access, 1), jump(JUMP, 0, 0, 2)]
    };
    let mut rest = conditions.len() + body.len() + 2;
    for (register, value) in conditions {
        rest -= 1;
        // The kernel's numbers have 12 and 20 bits: a larger one matches nothing, and this keeps it so.
        let value = i32::try_from(value).unwrap_or(i32::MAX);
        // At most 6 instructions are left of a rule.
        program.push(jump(JUMP_IF_NOT, register, value, rest as i16));
    }
    program.extend(body);
    program.extend(verdict(if rule.allow { ALLOW } else { FORBID }));
}

fn operation(code: u8, register: u8, immediate: i32) -> Insn {
    Insn { code, registers: register, offset: 0, immediate }
}

fn jump(code: u8, register: u8, immediate: i32, offset: i16) -> Insn {
    Insn { code, registers: register, offset, immediate }
}

fn verdict(value: i32) -> [Insn; 2] {
    [operation(MOVE, RESULT, value), operation(EXIT, 0, 0)]
}

#[cfg(test)]
mod tests {
    use super::super::rule::{Device, MKNOD, READ, WRITE};
    use super::*;

    /// A request to the program.
    #[derive(Clone, Copy, Debug)]
    struct Request {
        device: Device,
        major: u32,
        minor: u32,
        access: u8,
    }

    /// Runs the few instructions that the compiler makes, as the kernel does.
    fn run(program: &[Insn], request: Request) -> bool {
        let context = [request.device as u32 | u32::from(request.access) << 16, request.major, request.minor];
        let mut registers = [0u64; 11];
        let mut at = 0;
        loop {
            let insn = program[at];
            let (to, from) = (usize::from(insn.registers & 15), usize::from(insn.registers >> 4));
            // Immediates are sign-extended to 64 bits, and cut for 32-bit operations.
            let value = i64::from(insn.immediate) as u64;
            at += 1;
            match insn.code {
                LOAD_U32 => registers[to] = u64::from(context[insn.offset as usize / 4]),
                MOVE_REGISTER => registers[to] = registers[from],
                AND => registers[to] = u64::from(registers[to] as u32 & value as u32),
                SHIFT_RIGHT => registers[to] = u64::from(registers[to] as u32 >> value),
                MOVE => registers[to] = value,
                JUMP => at = jumped(at, insn.offset),
                JUMP_IF_NOT if registers[to] != value => at = jumped(at, insn.offset),
                JUMP_IF_SET if registers[to] & value != 0 => at = jumped(at, insn.offset),
                JUMP_IF_NOT | JUMP_IF_SET => {}
                EXIT => return registers[0] == 1,
                code => panic!("unknown instruction {code:#x}"),
            }
        }
    }

    fn jumped(at: usize, offset: i16) -> usize {
        at.checked_add_signed(isize::from(offset)).unwrap()
    }

    /// The rules evaluated as the documentation says: for each access, the last rule that matches it.
    fn evaluate(rules: &[Rule], request: Request) -> bool {
        [MKNOD, READ, WRITE].into_iter().filter(|bit| request.access & bit != 0).all(|bit| {
            let matching = rules.iter().rev().find(|rule| {
                rule.device.is_none_or(|device| device == request.device)
                    && rule.major.is_none_or(|major| major == request.major)
                    && rule.minor.is_none_or(|minor| minor == request.minor)
                    && rule.access & bit != 0
            });
            matching.is_some_and(|rule| rule.allow)
        })
    }

    /// A small generator (xorshift) so that a failure can be repeated.
    struct Random(u64);
    impl Random {
        fn below(&mut self, bound: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0 % bound
        }
        fn number(&mut self) -> Option<u32> {
            [None, Some(0), Some(1), Some(5), Some(u32::MAX)][self.below(5) as usize]
        }
        fn device(&mut self) -> Device {
            if self.below(2) == 0 { Device::Block } else { Device::Char }
        }
        fn rule(&mut self) -> Rule {
            Rule {
                allow: self.below(2) == 0,
                device: (self.below(3) != 0).then(|| self.device()),
                major: self.number(),
                minor: self.number(),
                access: 1 + self.below(7) as u8,
            }
        }
    }

    #[test]
    fn programs_decide_as_their_rules_say() {
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        for round in 0..2000 {
            let rules: Vec<Rule> = (0..random.below(12)).map(|_| random.rule()).collect();
            let program = compile(&rules);
            for _ in 0..50 {
                let request = Request {
                    device: random.device(),
                    major: random.number().unwrap_or(9).min(0xfff),
                    minor: random.number().unwrap_or(9).min(0xf_ffff),
                    access: 1 + random.below(7) as u8,
                };
                let (is, ought) = (run(&program, request), evaluate(&rules, request));
                assert_eq!(is, ought, "round {round}: {request:?} under {rules:#?}");
            }
        }
    }

    #[test]
    fn repeated_and_void_rules_cost_nothing() {
        let deny = Rule { allow: false, device: None, major: None, minor: None, access: ALL };
        let null = Rule { allow: true, device: Some(Device::Char), major: Some(1), minor: Some(3), access: ALL };
        let short = compile(&[deny, null]);
        assert_eq!(compile(&[null, null, deny, null, deny, null, null]), short);
        assert_eq!(short.len(), 6 + 7 + 4 + 2);
    }
}
