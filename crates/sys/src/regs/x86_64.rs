//! x86-64: `struct user_regs_struct`, 27 words.

use crate::ptrace::{get_regset, regset, set_regset};
use crate::{Errno, Error, Result};

/// How many words the general registers take.
pub const WORDS: usize = 27;
/// The length of a `syscall` instruction.
pub const SYSCALL_LEN: u64 = 2;
/// The bytes of a `syscall` instruction.
pub const SYSCALL_INSN: [u8; 2] = [0x0f, 0x05];

const R12: usize = 3;
const RBX: usize = 5;
const RAX: usize = 10;
const ORIG_RAX: usize = 15;
const RIP: usize = 16;
const RSP: usize = 19;
/// rdi, rsi, rdx, r10, r8, r9.
const ARGS: [usize; 6] = [14, 13, 12, 7, 9, 8];

/// Whether a stopped task runs 64-bit code: the registers of one that doesn't are fewer.
///
/// # Errors
/// `ESRCH` when it isn't stopped.
pub fn is_64_bit(tid: i32) -> Result<bool> {
    let mut bytes = [0u8; WORDS * 8];
    Ok(get_regset(tid, regset::PRSTATUS, &mut bytes)? == bytes.len())
}

/// General registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Regs([u64; WORDS]);

impl Regs {
    /// The registers of a stopped task.
    ///
    /// # Errors
    /// `ESRCH` when it isn't stopped; `EINVAL` for a 32-bit task's shorter set.
    pub fn get(tid: i32) -> Result<Self> {
        let mut bytes = [0u8; WORDS * 8];
        if get_regset(tid, regset::PRSTATUS, &mut bytes)? != bytes.len() {
            return Err(Error::new("ptrace", format_args!("GETREGSET, {tid}"), Errno::EINVAL));
        }
        let mut words = [0u64; WORDS];
        for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = u64::from_ne_bytes(bytes.try_into().expect("chunks of eight"));
        }
        Ok(Self(words))
    }

    /// Gives a stopped task these registers.
    ///
    /// # Errors
    /// `EIO` when a value isn't allowed in its register.
    pub fn set(&self, tid: i32) -> Result<()> {
        let mut bytes = [0u8; WORDS * 8];
        for (bytes, word) in bytes.chunks_exact_mut(8).zip(self.0) {
            bytes.copy_from_slice(&word.to_ne_bytes());
        }
        set_regset(tid, regset::PRSTATUS, &bytes)
    }

    /// The registers as words, in the kernel's order.
    pub fn words(&self) -> &[u64; WORDS] {
        &self.0
    }

    /// Registers from words in the kernel's order.
    pub fn from_words(words: [u64; WORDS]) -> Self {
        Self(words)
    }

    /// The address of the next instruction.
    pub fn ip(&self) -> u64 {
        self.0[RIP]
    }

    /// The stack pointer.
    pub fn sp(&self) -> u64 {
        self.0[RSP]
    }

    /// The result of a system call, at its exit.
    pub fn result(&self) -> i64 {
        self.0[RAX] as i64
    }

    /// The number of the system call that the task is in, or -1.
    pub fn syscall(&self) -> i64 {
        self.0[ORIG_RAX] as i64
    }

    /// The arguments of the system call that the task is in.
    pub fn arguments(&self) -> [u64; 6] {
        ARGS.map(|register| self.0[register])
    }

    /// Where the interpreter stands: the address of the current call.
    pub fn cursor(&self) -> u64 {
        self.0[RBX]
    }

    /// Registers that make the task run the interpreter at `code` over the program at `program`.
    #[must_use]
    pub fn at_interpreter(mut self, code: u64, program: u64) -> Self {
        self.0[RIP] = code;
        self.0[RBX] = program;
        self.0[R12] = 0;
        self.leave_syscall();
        self
    }

    /// Registers that make the task execute the `syscall` instruction at `ip` with this number and arguments.
    #[must_use]
    pub fn at_syscall(mut self, ip: u64, nr: i64, args: [u64; 6]) -> Self {
        self.0[RIP] = ip;
        self.0[RAX] = nr as u64;
        for (register, arg) in ARGS.iter().zip(args) {
            self.0[*register] = arg;
        }
        self.leave_syscall();
        self
    }

    /// Forgets the system call the task was in, so that the kernel doesn't restart it.
    pub fn leave_syscall(&mut self) {
        self.0[ORIG_RAX] = u64::MAX;
    }

    /// Goes back to the start of the interrupted system call: it will be made again from the beginning.
    pub fn restart_syscall(&mut self) {
        self.0[RAX] = self.0[ORIG_RAX];
        self.0[RIP] -= SYSCALL_LEN;
        self.leave_syscall();
    }

    /// Says which system call the task is in.
    pub fn set_syscall(&mut self, nr: i64) {
        self.0[ORIG_RAX] = nr as u64;
    }

    /// Lets the kernel make the interrupted system call again, unless a signal's handler runs before that.
    pub fn restart_unless_handled(&mut self) {
        /// The kernel's ERESTARTNOHAND (include/linux/errno.h).
        const NO_HANDLER: i64 = 514;
        self.0[RAX] = -NO_HANDLER as u64;
    }

    /// Lets the interrupted system call return -EINTR.
    pub fn interrupt_syscall(&mut self) {
        self.0[RAX] = -(Errno::EINTR as i64) as u64;
        self.leave_syscall();
    }
}

/// The length of `mov eax, number; syscall`.
pub const NUMBERED_SYSCALL_LEN: usize = 7;

/// The number in `mov eax, number; syscall`, if that is what the code is.
pub fn syscall_number(code: &[u8; NUMBERED_SYSCALL_LEN]) -> Option<i64> {
    let number = u32::from_le_bytes([code[1], code[2], code[3], code[4]]);
    (code[0] == 0xb8 && code[5..] == SYSCALL_INSN).then_some(i64::from(number))
}

/// The largest xsave area the kernel hands out through ptrace (AVX-512 and AMX included).
pub const MAX_XSTATE: usize = 16 * 1024;

/// The whole extended state (x87, SSE, AVX, …, PKRU) of a stopped task, as the kernel's uncompacted xsave area.
///
/// # Errors
/// `ENODEV` on a CPU without xsave.
pub fn get_xstate(tid: i32) -> Result<Vec<u8>> {
    let mut area = vec![0u8; MAX_XSTATE];
    let n = get_regset(tid, regset::X86_XSTATE, &mut area)?;
    area.truncate(n);
    Ok(area)
}

/// Gives a stopped task its extended state.
///
/// # Errors
/// `EINVAL` when the area has features this CPU or kernel lacks.
pub fn set_xstate(tid: i32, area: &[u8]) -> Result<()> {
    set_regset(tid, regset::X86_XSTATE, area)
}

/// The extended state features that the kernel has enabled (XCR0); 3 (x87 and SSE) on a CPU without xsave.
pub fn xfeatures() -> u64 {
    use std::arch::x86_64::{__cpuid, _xgetbv};
    const OSXSAVE: u32 = 1 << 27;
    /// # Safety
    /// The processor has xsave and the kernel has enabled it. (A safe function with a target feature needs Rust 1.86.)
    #[target_feature(enable = "xsave")]
    unsafe fn xcr0() -> u64 {
        // SAFETY: called only after CPUID said that the kernel has enabled xsave.
        unsafe { _xgetbv(0) }
    }
    #[allow(unused_unsafe, reason = "CPUID became safe after our oldest compiler")]
    // SAFETY: every x86-64 processor has CPUID.
    let has_xsave = unsafe { __cpuid(1) }.ecx & OSXSAVE != 0;
    if has_xsave {
        // SAFETY: the processor has xsave and the kernel has enabled it.
        unsafe { xcr0() }
    } else {
        3
    }
}
