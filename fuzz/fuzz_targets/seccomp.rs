//! The seccomp compiler: every program it makes is one that the kernel would take, and returns nothing but what the
//! profile names. That it returns the right thing is compared with libseccomp in the unit tests.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oci_spec::runtime::LinuxSeccomp;
use rtc_sys::seccomp::Insn;

const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const RETURN: u16 = 0x06;

/// What the kernel checks (kernel/seccomp.c, `seccomp_check_filter`; net/core/filter.c, `bpf_check_classic`).
fn verify(program: &[Insn]) {
    assert!(!program.is_empty() && program.len() <= 4096);
    for (at, insn) in program.iter().enumerate() {
        let inside = |distance: usize| assert!(at + 1 + distance < program.len(), "{at}: {insn:?} leads out");
        match insn.code {
            LOAD => assert!(insn.k < 64 && insn.k % 4 == 0, "{at}: {insn:?}"),
            AND | RETURN => {}
            JUMP => inside(insn.k as usize),
            0x15 | 0x25 | 0x35 => {
                inside(insn.jt.into());
                inside(insn.jf.into());
            }
            _ => panic!("{at}: {insn:?}"),
        }
    }
    assert_eq!(program[program.len() - 1].code, RETURN);
}

/// The program's answer to a call, given as the words of `struct seccomp_data`.
fn run(program: &[Insn], data: &[u32; 16]) -> u32 {
    let (mut at, mut a) = (0, 0);
    loop {
        let Insn { code, jt, jf, k } = program[at];
        at += 1;
        let holds = match code {
            RETURN => return k,
            LOAD => {
                a = data[k as usize / 4];
                continue;
            }
            AND => {
                a &= k;
                continue;
            }
            JUMP => {
                at += k as usize;
                continue;
            }
            0x15 => a == k,
            0x25 => a > k,
            _ => a >= k,
        };
        at += usize::from(if holds { jt } else { jf });
    }
}

fuzz_target!(|bytes: &[u8]| {
    // The first bytes are calls, the rest is the profile.
    let Some((calls, profile)) = bytes.split_at_checked(64) else { return };
    let Ok(profile) = serde_json::from_slice::<LinuxSeccomp>(profile) else { return };
    let Ok(filter) = rtc_runtime::seccomp::compile(&profile) else { return };
    verify(filter.program());
    let mut data = [0; 16];
    for (word, bytes) in data.iter_mut().zip(calls.chunks_exact(4)) {
        *word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    }
    for audit in [0xc000_003e, 0x4000_0003, data[1]] {
        data[1] = audit;
        let verdict = run(filter.program(), &data);
        let named = filter.program().iter().any(|insn| insn.code == RETURN && insn.k == verdict);
        assert!(named, "{verdict:#x} is no verdict of the program");
    }
});
