//! The x86-64 interpreter. rbx is the current call, r12 its flags; nothing else survives a call.

use std::arch::global_asm;

// It stands in assembly because it must run at any address, without a stack, and without the compiler's help.
global_asm!(
    r#"
    .pushsection .rodata.rtc_interp, "a"
    .balign 16
    # Seen from all of the program's objects, and from nowhere else.
    .globl rtc_interp, rtc_interp_end
    .hidden rtc_interp, rtc_interp_end
rtc_interp:
2:
    mov   eax, [rbx]                # number
    cmp   eax, -1                   # end mark
    je    9f
    movzx r12d, word ptr [rbx + 4]  # flags
    mov   rdi, [rbx + 8]
    bt    r12d, 0                   # load argument 0 from memory?
    jnc   1f
    mov   rdi, [rdi]
1:  mov   rsi, [rbx + 16]
    bt    r12d, 1
    jnc   1f
    mov   rsi, [rsi]
1:  mov   rdx, [rbx + 24]
    bt    r12d, 2
    jnc   1f
    mov   rdx, [rdx]
1:  mov   r10, [rbx + 32]
    bt    r12d, 3
    jnc   1f
    mov   r10, [r10]
1:  mov   r8, [rbx + 40]
    bt    r12d, 4
    jnc   1f
    mov   r8, [r8]
1:  mov   r9, [rbx + 48]
    bt    r12d, 5
    jnc   1f
    mov   r9, [r9]
1:  syscall
    mov   [rbx + 56], rax           # result
    bt    r12d, 6                   # allowed to fail?
    jc    3f
    cmp   rax, -4095
    jae   9f
3:  add   rbx, 64                   # next call
    jmp   2b
9:  int3                            # end, or a failed call: the tracer takes over
    jmp   2b
rtc_interp_end:
    .popsection
"#
);

unsafe extern "C" {
    static rtc_interp: u8;
    static rtc_interp_end: u8;
}

/// The interpreter's machine code.
pub fn code() -> &'static [u8] {
    // SAFETY: the two symbols are the bounds of one read-only object defined above.
    unsafe {
        let (start, end) = (&raw const rtc_interp, &raw const rtc_interp_end);
        std::slice::from_raw_parts(start, end as usize - start as usize)
    }
}
