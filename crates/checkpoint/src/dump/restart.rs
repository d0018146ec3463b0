//! What an interrupted system call must look like in a task that never made it.
//!
//! The kernel restarts by itself what it can when the restored task leaves its stop (-ERESTARTSYS and the like stand in
//! the result register). Only a call that would go on with a block of the kernel's memory (`struct restart_block`:
//! poll, nanosleep, clock_nanosleep, a futex with a time-out) has lost that block: it is made again from the beginning.
//! It ends late, never early.
//!
//! A task that is interrupted a second time is in restart_syscall(2), and nothing says which call that goes on with.
//! The program's code does, where it loads the number right before the instruction; otherwise the arguments do, which
//! the kernel leaves alone: few calls have such a block, and they look different. Where even that fails, the program
//! sees EINTR, which signal(7) allows for all of them.

use crate::program::Addr;
use crate::tracee::Stopped;
use rtc_sys::regs::{self, Regs};

/// The kernel's code for an interrupted system call that goes on with `restart_syscall` (include/linux/errno.h).
const ERESTART_RESTARTBLOCK: i64 = 516;

/// The registers to restore.
pub(super) fn restartable(task: &Stopped, mut regs: Regs) -> Regs {
    if regs.syscall() < 0 || -regs.result() != ERESTART_RESTARTBLOCK {
        return regs;
    }
    if regs.syscall() == libc::SYS_restart_syscall {
        match number_in_code(task, &regs).or_else(|| call_by_arguments(task, regs.arguments())) {
            Some(nr) => regs.set_syscall(nr),
            None => {
                log::debug!("task {} sees its system call interrupted: nothing says which one it is", task.tid());
                regs.interrupt_syscall();
                return regs;
            }
        }
    }
    regs.restart_syscall();
    regs
}

fn number_in_code(task: &Stopped, regs: &Regs) -> Option<i64> {
    let mut code = [0; regs::NUMBERED_SYSCALL_LEN];
    let at = Addr(regs.ip().wrapping_sub(code.len() as u64));
    task.read(at, &mut code).ok()?;
    regs::syscall_number(&code)
}

/// What the arguments of a call can be asked about the memory they point to.
trait Look {
    /// Whether there is memory from here on, so many bytes.
    fn has(&self, at: u64, len: u64) -> bool;
    /// Whether here is a `struct timespec` that a call would take.
    fn is_time(&self, at: u64) -> bool;
}

impl Look for Stopped {
    fn has(&self, at: u64, len: u64) -> bool {
        let reads = |at| self.read(Addr(at), &mut [0]).is_ok();
        at.checked_add(len - 1).is_some_and(|last| reads(at) && reads(last))
    }

    fn is_time(&self, at: u64) -> bool {
        let mut time = [[0; 8]; 2];
        if self.read(Addr(at), time.as_flattened_mut()).is_err() {
            return false;
        }
        let [seconds, nanos] = time.map(i64::from_ne_bytes);
        seconds >= 0 && (0..1_000_000_000).contains(&nanos)
    }
}

type Fits = fn(&dyn Look, [u64; 6]) -> bool;

/// The calls with a restart block, by what sets their arguments apart; the stricter ones first.
///
/// nanosleep(2) isn't here: C libraries make it of clock_nanosleep(2), others load its number in front of the call.
const WITH_BLOCK: [(i64, Fits); 3] = [
    // A clock is a small number, or a negative `int` for those of processes; absolute sleeps have no block.
    (libc::SYS_clock_nanosleep, |memory, [clock, flags, time, ..]| {
        let is_clock = clock < 16 || ((clock as i32) < 0 && matches!(clock >> 32, 0 | 0xffff_ffff));
        is_clock && flags as u32 == 0 && memory.is_time(time)
    }),
    // FUTEX_WAIT and FUTEX_WAIT_BITSET, with FUTEX_PRIVATE_FLAG and FUTEX_CLOCK_REALTIME or without.
    (libc::SYS_futex, |memory, [word, operation, _, time, ..]| {
        let operation = operation as i32 & !(libc::FUTEX_PRIVATE_FLAG | libc::FUTEX_CLOCK_REALTIME);
        let waits = [libc::FUTEX_WAIT, libc::FUTEX_WAIT_BITSET].contains(&operation);
        waits && word % 4 == 0 && memory.has(word, 4) && memory.is_time(time)
    }),
    // With a time-out of 0 it doesn't wait.
    (libc::SYS_poll, |memory, [files, count, timeout, ..]| {
        let count = u64::from(count as u32);
        timeout as i32 != 0 && (count == 0 || memory.has(files, count * size_of::<libc::pollfd>() as u64))
    }),
];

fn call_by_arguments(memory: &dyn Look, arguments: [u64; 6]) -> Option<i64> {
    WITH_BLOCK.iter().find(|(_, fits)| fits(memory, arguments)).map(|(number, _)| *number)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A page of memory at 0x1000, with a time at 0x1010.
    struct Page;

    impl Look for Page {
        fn has(&self, at: u64, len: u64) -> bool {
            at >= 0x1000 && at + len <= 0x2000
        }
        fn is_time(&self, at: u64) -> bool {
            at == 0x1010
        }
    }

    #[test]
    fn calls_are_known_by_their_arguments() {
        let clock = |number: i64| number as u64;
        for (arguments, expected) in [
            ([clock(libc::CLOCK_MONOTONIC.into()), 0, 0x1010, 0, 0, 0], Some(libc::SYS_clock_nanosleep)),
            // The clock of process 100, as an `int` that was extended with and without its sign.
            ([clock(!100 << 3 | 2), 0, 0x1010, 0x1010, 0, 0], Some(libc::SYS_clock_nanosleep)),
            ([clock(!100 << 3 | 2) & 0xffff_ffff, 0, 0x1010, 0, 0, 0], Some(libc::SYS_clock_nanosleep)),
            ([0x1004, 128, 7, 0x1010, 0, u64::MAX], Some(libc::SYS_futex)),
            ([0x1004, 9 | 128 | 256, 7, 0x1010, 0, u64::MAX], Some(libc::SYS_futex)),
            // FUTEX_LOCK_PI has no block; the same as a poll of six files.
            ([0x1004, 6, 7, 0x1010, 0, 0], Some(libc::SYS_poll)),
            ([0x1008, 1, u64::from(u32::MAX), 0, 0, 0], Some(libc::SYS_poll)),
            ([0x1008, 128, 5000, 0, 0, 0], Some(libc::SYS_poll)),
            ([0, 0, 5000, 0, 0, 0], Some(libc::SYS_poll)),
            // More files than there is memory.
            ([0x1ff8, 2, 5000, 0, 0, 0], None),
            ([0x5000, 0, 0, 0, 0, 0], None),
        ] {
            assert_eq!(call_by_arguments(&Page, arguments), expected, "{arguments:x?}");
        }
    }
}
