//! Processor state: vector registers across a blocking call, a thread that never enters the kernel.

use crate::base::{Check, Named, Prepare, Result, check, holds, pipe, same, write};
use std::arch::asm;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};

pub(crate) const ZOO: &[(&str, Prepare)] = &[
    ("sse_registers", sse_registers),
    ("avx_registers", avx_registers),
    ("x87_and_mxcsr", x87_and_mxcsr),
    ("running", running),
];

/// A thread that holds a pattern in its registers while it waits in `read`, over and over.
fn held(hold: impl Fn(&OwnedFd) -> Result<()> + Send + 'static) -> Result<Check> {
    let (end, wake) = pipe(0)?;
    let (tell, answers): (_, Receiver<Result<()>>) = channel();
    std::thread::spawn(move || {
        loop {
            if tell.send(hold(&end)).is_err() {
                return;
            }
        }
    });
    check(move || {
        write(&wake, b"!")?;
        answers.recv().named("the thread's answer")?
    })
}

/// xmm0..15 with the base instructions that every x86-64 has.
fn sse_registers() -> Result<Check> {
    held(|fd| {
        let pattern: [[u64; 2]; 16] = std::array::from_fn(|at| [0x1111 * at as u64 + 1, !(at as u64)]);
        let mut after = [[0_u64; 2]; 16];
        let mut byte = 0_u8;
        let result: i64;
        // SAFETY: reads one byte into `byte`; both arrays hold sixteen registers.
        unsafe {
            asm!(
                "movups xmm0, [r12]", "movups xmm1, [r12+16]", "movups xmm2, [r12+32]", "movups xmm3, [r12+48]",
                "movups xmm4, [r12+64]", "movups xmm5, [r12+80]", "movups xmm6, [r12+96]", "movups xmm7, [r12+112]",
                "movups xmm8, [r12+128]", "movups xmm9, [r12+144]", "movups xmm10, [r12+160]",
                "movups xmm11, [r12+176]", "movups xmm12, [r12+192]", "movups xmm13, [r12+208]",
                "movups xmm14, [r12+224]", "movups xmm15, [r12+240]",
                "syscall",
                "movups [r13], xmm0", "movups [r13+16], xmm1", "movups [r13+32], xmm2", "movups [r13+48], xmm3",
                "movups [r13+64], xmm4", "movups [r13+80], xmm5", "movups [r13+96], xmm6", "movups [r13+112], xmm7",
                "movups [r13+128], xmm8", "movups [r13+144], xmm9", "movups [r13+160], xmm10",
                "movups [r13+176], xmm11", "movups [r13+192], xmm12", "movups [r13+208], xmm13",
                "movups [r13+224], xmm14", "movups [r13+240], xmm15",
                in("r12") pattern.as_ptr(), in("r13") after.as_mut_ptr(),
                inlateout("rax") libc::SYS_read => result,
                in("rdi") fd.as_raw_fd(), in("rsi") &raw mut byte, in("rdx") 1,
                lateout("rcx") _, lateout("r11") _,
                out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _, out("xmm5") _,
                out("xmm6") _, out("xmm7") _, out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
                out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
            );
        }
        same("read", result, 1)?;
        same("xmm0..15", after, pattern)
    })
}

/// The upper halves of ymm0..15 too; on a machine without AVX there is nothing to hold.
fn avx_registers() -> Result<Check> {
    if !std::arch::is_x86_feature_detected!("avx") {
        return check(|| Ok(()));
    }
    held(|fd| {
        let pattern: [[u64; 4]; 4] = std::array::from_fn(|at| [at as u64, !0, 0x55 << at, 0xabcd_ef01 * at as u64 + 7]);
        let mut after = [[0_u64; 4]; 4];
        let mut byte = 0_u8;
        let result: i64;
        // SAFETY: reads one byte into `byte`; both arrays hold four registers; AVX is there.
        unsafe {
            asm!(
                "vmovups ymm0, [r12]", "vmovups ymm5, [r12+32]", "vmovups ymm10, [r12+64]", "vmovups ymm15, [r12+96]",
                "syscall",
                "vmovups [r13], ymm0", "vmovups [r13+32], ymm5", "vmovups [r13+64], ymm10", "vmovups [r13+96], ymm15",
                "vzeroupper",
                in("r12") pattern.as_ptr(), in("r13") after.as_mut_ptr(),
                inlateout("rax") libc::SYS_read => result,
                in("rdi") fd.as_raw_fd(), in("rsi") &raw mut byte, in("rdx") 1,
                lateout("rcx") _, lateout("r11") _,
                out("xmm0") _, out("xmm5") _, out("xmm10") _, out("xmm15") _,
            );
        }
        same("read", result, 1)?;
        same("ymm0, 5, 10, 15", after, pattern)
    })
}

/// Control words: rounding towards zero, and a precision that is not the default.
fn x87_and_mxcsr() -> Result<Check> {
    held(|fd| {
        let (control, mxcsr) = (0x0f7f_u16, 0x7f80_u32);
        let (mut control_after, mut mxcsr_after, mut top) = (0_u16, 0_u32, 0_f64);
        let (usual_control, usual_mxcsr) = (0x037f_u16, 0x1f80_u32);
        let mut byte = 0_u8;
        let result: i64;
        // SAFETY: reads one byte into `byte`; pushes one value and pops it; the usual control words are put back.
        unsafe {
            asm!(
                "fldcw [r12]", "ldmxcsr [r13]", "fldpi",
                "syscall",
                "fstp qword ptr [r14]", "fnstcw [r15]", "stmxcsr [r8]", "fldcw [r9]", "ldmxcsr [r10]",
                in("r12") &raw const control, in("r13") &raw const mxcsr, in("r14") &raw mut top,
                in("r15") &raw mut control_after, in("r8") &raw mut mxcsr_after,
                in("r9") &raw const usual_control, in("r10") &raw const usual_mxcsr,
                inlateout("rax") libc::SYS_read => result,
                in("rdi") fd.as_raw_fd(), in("rsi") &raw mut byte, in("rdx") 1,
                lateout("rcx") _, lateout("r11") _,
                out("st(0)") _, out("st(1)") _, out("st(2)") _, out("st(3)") _,
                out("st(4)") _, out("st(5)") _, out("st(6)") _, out("st(7)") _,
            );
        }
        same("read", result, 1)?;
        same("x87 control word", control_after, control)?;
        same("MXCSR", mxcsr_after, mxcsr)?;
        holds("the value on the x87 stack", (top - std::f64::consts::PI).abs() < 1e-9)
    })
}

/// A thread that computes without a system call is caught anywhere and goes on from there.
fn running() -> Result<Check> {
    let count = Arc::new(AtomicU64::new(0));
    let wrong = Arc::new(AtomicU64::new(0));
    let (theirs, errors) = (count.clone(), wrong.clone());
    std::thread::spawn(move || {
        let mut sum = 0.0_f64;
        loop {
            for step in 0..1000_u32 {
                sum += f64::from(step) * 0.5;
            }
            // The sum is exact in binary, so any lost register shows.
            if sum != 249_750.0 {
                errors.fetch_add(1, Ordering::Relaxed);
            }
            sum = 0.0;
            theirs.fetch_add(1, Ordering::Relaxed);
        }
    });
    let progress = move |from: u64| {
        while count.load(Ordering::Relaxed) == from {
            std::thread::yield_now();
        }
        count.load(Ordering::Relaxed)
    };
    let mut last = progress(0);
    check(move || {
        last = progress(last);
        same("wrong sums", wrong.load(Ordering::Relaxed), 0)
    })
}
