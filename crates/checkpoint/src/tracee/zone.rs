//! The zone: a page of code and some pages of data of ours in the target's address space.

use super::Stopped;
use super::mode::Mode;
use crate::error::{Context, Result};
use crate::program::{Addr, Arg, Program};
use rtc_sys::{interp, regs};

const PAGE: u64 = 4096;
/// How many bytes of data a zone has: the longest program with its data.
pub const ZONE_DATA: u64 = 128 * 1024;

/// Where the interpreter and the programs are in a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Zone {
    base: u64,
}

impl Zone {
    /// How much room a zone takes.
    pub const SIZE: u64 = PAGE + ZONE_DATA;

    /// Names a zone at `base`, which must be free in the target.
    pub fn at(base: Addr) -> Self {
        Self { base: base.0 }
    }

    /// Where it begins.
    pub fn base(self) -> Addr {
        Addr(self.base)
    }

    /// Where the interpreter begins.
    pub fn code(self) -> Addr {
        Addr(self.base)
    }

    /// Where programs go.
    pub fn data(self) -> Addr {
        Addr(self.base + PAGE)
    }

    /// Where a `syscall` instruction stands within the zone's code.
    pub fn syscall_insn(self) -> Addr {
        let code = interp::code();
        let at = code.windows(2).position(|w| w == regs::SYSCALL_INSN);
        Addr(self.base + at.expect("the interpreter makes system calls") as u64)
    }

    /// Maps the zone with the help of a `syscall` instruction that the target has, and puts the interpreter in.
    ///
    /// The code page is written while writable and then made executable: neither W+X memory nor a write through
    /// /proc/PID/mem to a read-only page is needed.
    ///
    /// # Errors
    /// When the place isn't free, or the machine's policy refuses new executable memory.
    pub fn map(self, task: &mut Stopped, syscall_insn: Addr) -> Result<()> {
        let step = Mode::Step { syscall_insn };
        let mut program = Program::new();
        program.call(
            libc::SYS_mmap,
            [
                self.base.into(),
                Self::SIZE.into(),
                (libc::PROT_READ | libc::PROT_WRITE).into(),
                (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE).into(),
                Arg::from(-1i32),
                0u64.into(),
            ],
        );
        task.run(step, self, &program).context(|| "map the zone")?;
        task.write(self.code(), interp::code())?;
        let mut program = Program::new();
        let prot = libc::PROT_READ | libc::PROT_EXEC;
        program.call(libc::SYS_mprotect, [self.base.into(), PAGE.into(), prot.into()]);
        task.run(step, self, &program).context(|| "make the zone executable")?;
        Ok(())
    }

    /// Unmaps the zone. It is the last call made with the zone's own code: nothing of ours is left afterwards.
    ///
    /// # Errors
    /// When the task died.
    pub fn unmap(self, task: &mut Stopped, syscall_insn: Addr) -> Result<()> {
        let mut program = Program::new();
        program.call(libc::SYS_munmap, [self.base.into(), Self::SIZE.into()]);
        task.run(Mode::Step { syscall_insn }, self, &program).context(|| "unmap the zone").map(drop)
    }
}

/// The lowest and highest address at which a zone may be: far from the null page, and in 47 bits.
const BOUNDS: (u64, u64) = (0x10_0000, 0x7fff_ffff_f000);

/// Finds a place for a zone outside all the ranges, which may be in any order and overlap.
pub fn find_gap(taken: impl Iterator<Item = (u64, u64)>) -> Option<Addr> {
    let mut taken: Vec<_> = taken.collect();
    taken.sort_unstable();
    let mut at = BOUNDS.0;
    // A guard page on either side: a stack that grows down must not meet us.
    const MARGIN: u64 = 1 << 20;
    for (start, end) in taken.into_iter().chain([(BOUNDS.1, BOUNDS.1)]) {
        if start >= at.saturating_add(Zone::SIZE + 2 * MARGIN) {
            return Some(Addr(at + MARGIN));
        }
        at = at.max(end);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_outside_of_everything() {
        assert_eq!(find_gap([].into_iter()), Some(Addr(0x20_0000)));
        let low = (0, 0x100_0000);
        assert_eq!(find_gap([(0x90_0000, 0x100_0000), low].into_iter()), Some(Addr(0x110_0000)));
        assert_eq!(find_gap([(0, u64::MAX)].into_iter()), None);
        // A gap too small is passed over.
        let gap = find_gap([low, (0x100_0000 + Zone::SIZE, 0x200_0000)].into_iter()).unwrap();
        assert!(gap.0 >= 0x200_0000);
    }
}
