//! Device rules as instructions. Pure.
//!
//! The kernel calls the program with a request: a kind of device, its numbers and a set of accesses (open for reading
//! and writing asks for two at once). Each access is decided by the last rule that matches it, so the program walks the
//! rules backwards and strikes allowed accesses off; it allows when none is left and forbids at the first forbidden one,
//! or when rules run out.
//!
//! Few branches matter: the verifier takes about 3 us for each when the program is loaded, and each create loads one.
//! So both numbers of a device are compared at once, rules for one kind of device share its test, and rules for all
//! accesses jump to their verdict without looking at the accesses.

use rtc_sys::bpf::Insn;

use super::rule::{ALL, Device, Rule};

/// Registers.
const RESULT: u8 = 0;
/// The request; in the prologue only.
const CONTEXT: u8 = 1;
const DEVICE: u8 = 2;
/// The accesses that no rule has allowed yet.
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
/// Both numbers in 32 bits.
const NUMBERS: u8 = 6;

/// Widths of the kernel's device numbers (linux/kdev_t.h).
const MAJOR_BITS: u32 = 12;
const MINOR_BITS: u32 = 20;

/// Operations (linux/bpf.h): class, operation, and operand kind in one byte. JMP32 is of 5.1.
const LOAD_U32: u8 = 0x61; // LDX | MEM | W
const AND: u8 = 0x54; // ALU | AND | K, 32 bits
const SHIFT_RIGHT: u8 = 0x74; // ALU | RSH | K, 32 bits
const SHIFT_LEFT: u8 = 0x64; // ALU | LSH | K, 32 bits
const OR_REGISTER: u8 = 0x4c; // ALU | OR | X, 32 bits
const MOVE: u8 = 0xb7; // ALU64 | MOV | K
const MOVE_REGISTER: u8 = 0xbf; // ALU64 | MOV | X
const JUMP: u8 = 0x05; // JMP | JA
const JUMP_IF: u8 = 0x16; // JMP32 | JEQ | K
const JUMP_IF_NOT: u8 = 0x56; // JMP32 | JNE | K
const JUMP_IF_SET: u8 = 0x46; // JMP32 | JSET | K
const EXIT: u8 = 0x95; // JMP | EXIT

/// Compiles rules, the weightiest last.
pub(super) fn compile(rules: &[Rule]) -> Vec<Insn> {
    let (rules, otherwise) = needed(rules);
    let mut program = Program { code: prologue(), jumps: Vec::new() };
    let mut rest = rules.as_slice();
    while let Some(first) = rest.first() {
        let count = rest.iter().take_while(|rule| rule.device == first.device).count();
        program.group(first.device, &rest[..count]);
        rest = &rest[count..];
    }
    program.finish(otherwise)
}

/// Loads the request: `struct bpf_cgroup_dev_ctx { u32 access_type, major, minor }`, the first of which holds the kind of
/// device in its low 16 bits and the accesses above.
fn prologue() -> Vec<Insn> {
    let load = |register: u8, offset| Insn { code: LOAD_U32, registers: register | CONTEXT << 4, offset, immediate: 0 };
    let both = |code, to: u8, from: u8| Insn { code, registers: to | from << 4, offset: 0, immediate: 0 };
    vec![
        load(DEVICE, 0),
        both(MOVE_REGISTER, ACCESS, DEVICE),
        operation(AND, DEVICE, 0xffff),
        operation(SHIFT_RIGHT, ACCESS, 16),
        load(MAJOR, 4),
        load(MINOR, 8),
        both(MOVE_REGISTER, NUMBERS, MAJOR),
        operation(SHIFT_LEFT, NUMBERS, MINOR_BITS as i32),
        both(OR_REGISTER, NUMBERS, MINOR),
    ]
}

/// The rules that can decide anything, the weightiest first, each with only the accesses that it can decide; and whether
/// what they leave is allowed.
///
/// Engines repeat rules, and a rule for all devices makes those before it void.
fn needed(rules: &[Rule]) -> (Vec<Rule>, bool) {
    let mut result: Vec<Rule> = Vec::new();
    // What is decided for all devices of a kind.
    let (mut of_block, mut of_char) = (0, 0);
    for rule in rules.iter().rev().filter(|rule| is_possible(rule)) {
        let of_kind = match rule.device {
            Some(Device::Block) => of_block,
            Some(Device::Char) => of_char,
            None => of_block & of_char,
        };
        let same = |other: &&Rule| (other.device, other.major, other.minor) == (rule.device, rule.major, rule.minor);
        let access = rule.access & !result.iter().filter(same).fold(of_kind, |bits, other| bits | other.access);
        if access == 0 {
            continue;
        }
        if rule.major.is_none() && rule.minor.is_none() {
            if rule.device.is_none() && access == ALL {
                return (result, rule.allow);
            }
            of_block |= if rule.device == Some(Device::Char) { 0 } else { access };
            of_char |= if rule.device == Some(Device::Block) { 0 } else { access };
        }
        result.push(Rule { access, ..*rule });
        if of_block & of_char == ALL {
            break;
        }
    }
    (result, false)
}

/// Whether a device with these numbers can exist.
fn is_possible(rule: &Rule) -> bool {
    rule.major.is_none_or(|major| major >> MAJOR_BITS == 0) && rule.minor.is_none_or(|minor| minor >> MINOR_BITS == 0)
}

/// Code with jumps to the verdicts behind its end.
struct Program {
    code: Vec<Insn>,
    /// Positions of those jumps, with the verdict.
    jumps: Vec<(usize, bool)>,
}

impl Program {
    /// Appends rules for one kind of device; where they decide nothing, the next instruction is reached.
    fn group(&mut self, device: Option<Device>, rules: &[Rule]) {
        let test = self.code.len();
        if let Some(device) = device {
            self.code.push(jump(JUMP_IF_NOT, DEVICE, device as i32));
        }
        for rule in rules {
            self.rule(rule);
        }
        if device.is_some() {
            self.code[test].offset = distance(test, self.code.len());
        }
    }

    fn rule(&mut self, rule: &Rule) {
        let place = match (rule.major, rule.minor) {
            // `is_possible` holds: the halves don't meet.
            (Some(major), Some(minor)) => Some((NUMBERS, major << MINOR_BITS | minor)),
            (Some(major), None) => Some((MAJOR, major)),
            (None, Some(minor)) => Some((MINOR, minor)),
            (None, None) => None,
        };
        if rule.access == ALL {
            return match place {
                Some((register, value)) => self.verdict(jump(JUMP_IF, register, value as i32), rule.allow),
                None => self.verdict(jump(JUMP, 0, 0), rule.allow),
            };
        }
        let test = self.code.len();
        if let Some((register, value)) = place {
            self.code.push(jump(JUMP_IF_NOT, register, value as i32));
        }
        let access = i32::from(rule.access);
        if rule.allow {
            self.code.push(operation(AND, ACCESS, !access));
            self.verdict(jump(JUMP_IF, ACCESS, 0), true);
        } else {
            self.verdict(jump(JUMP_IF_SET, ACCESS, access), false);
        }
        if place.is_some() {
            self.code[test].offset = distance(test, self.code.len());
        }
    }

    /// Appends a jump to a verdict.
    fn verdict(&mut self, jump: Insn, allow: bool) {
        self.jumps.push((self.code.len(), allow));
        self.code.push(jump);
    }

    /// Appends the verdicts: first the one for what no rule decides, then the other if a jump leads there (the verifier
    /// refuses code that can't be reached).
    fn finish(mut self, otherwise: bool) -> Vec<Insn> {
        for allow in [otherwise, !otherwise] {
            let here = self.code.len();
            let jumps = self.jumps.iter().filter(|(_, verdict)| *verdict == allow);
            let mut reached = allow == otherwise;
            for (from, _) in jumps {
                self.code[*from].offset = distance(*from, here);
                reached = true;
            }
            if reached {
                self.code.extend([operation(MOVE, RESULT, i32::from(allow)), operation(EXIT, 0, 0)]);
            }
        }
        self.code
    }
}

/// The offset of a jump; the caller of [`compile`] refuses programs that are too long for it.
fn distance(from: usize, to: usize) -> i16 {
    i16::try_from(to - from - 1).unwrap_or(i16::MAX)
}

fn operation(code: u8, register: u8, immediate: i32) -> Insn {
    Insn { code, registers: register, offset: 0, immediate }
}

fn jump(code: u8, register: u8, immediate: i32) -> Insn {
    Insn { code, registers: register, offset: 0, immediate }
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
                SHIFT_LEFT => registers[to] = u64::from((registers[to] as u32) << value),
                OR_REGISTER => registers[to] = u64::from(registers[to] as u32 | registers[from] as u32),
                JUMP => at = jumped(at, insn.offset),
                JUMP_IF if registers[to] as u32 == value as u32 => at = jumped(at, insn.offset),
                JUMP_IF_NOT if registers[to] as u32 != value as u32 => at = jumped(at, insn.offset),
                JUMP_IF_SET if registers[to] as u32 & value as u32 != 0 => at = jumped(at, insn.offset),
                JUMP_IF | JUMP_IF_NOT | JUMP_IF_SET => {}
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
            [None, Some(0), Some(1), Some(5), Some(0xfff), Some(u32::MAX)][self.below(6) as usize]
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
            // The verifier's opinion, of a part: it refuses what can't be reached or might not end.
            if round % 10 == 0 {
                rtc_sys::bpf::load_cgroup_device(&program, "rtc_test").unwrap_or_else(|e| panic!("{e}: {rules:#?}"));
            }
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
        assert_eq!(short.len(), prologue().len() + 2 + 4);
    }
}
