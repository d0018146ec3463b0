//! Classic BPF as the kernel runs it on `struct seccomp_data`, for the instructions that filters consist of.

use rtc_sys::seccomp::Insn;

/// A call as a filter sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) number: u32,
    pub(super) audit: u32,
    pub(super) arguments: [u64; 6],
}

impl Call {
    /// The 32-bit word at an offset of `struct seccomp_data { int nr; u32 arch; u64 instruction_pointer, args[6]; }`.
    fn word(&self, offset: u32) -> u32 {
        match offset {
            0 => self.number,
            4 => self.audit,
            16..64 if offset % 8 == 0 => self.arguments[(offset as usize - 16) / 8] as u32,
            16..64 if offset % 8 == 4 => (self.arguments[(offset as usize - 16) / 8] >> 32) as u32,
            _ => panic!("load from {offset}"),
        }
    }
}

/// What the program returns, and after how many instructions.
pub(super) fn run(program: &[Insn], call: &Call) -> (u32, usize) {
    let mut accumulator = 0;
    let mut at = 0;
    for steps in 1..=program.len() {
        let Insn { code, jt, jf, k } = program[at];
        at += 1;
        let holds = match code {
            0x20 => {
                accumulator = call.word(k);
                continue;
            }
            0x54 => {
                accumulator &= k;
                continue;
            }
            0x05 => {
                at += k as usize;
                continue;
            }
            0x06 => return (k, steps),
            0x15 => accumulator == k,
            0x25 => accumulator > k,
            0x35 => accumulator >= k,
            0x45 => accumulator & k != 0,
            _ => panic!("unknown instruction {code:#x}"),
        };
        at += usize::from(if holds { jt } else { jf });
    }
    panic!("no return: jumps go forward only, so this many steps are all");
}
