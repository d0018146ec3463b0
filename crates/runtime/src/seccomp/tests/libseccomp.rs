//! Our filters beside those that libseccomp makes of the same profiles, called as runc calls it.
//!
//! `testdata/libseccomp/NAME.json` is a profile, `NAME.bpf` what `seccomp_export_bpf` of libseccomp 2.5.4 wrote for it.
//! Differences that are meant, and left out of the comparison:
//!
//! - ENOSYS for younger calls, which runc puts before libseccomp's program.
//! - A rule with conditions for `socket` and the like: libseccomp applies them to the registers of `socketcall` too, which
//!   hold other things there.
//! - x32: libseccomp compares the low halves of arguments only, though the kernel uses 64 bits.

use std::path::Path;

use oci_spec::runtime::{Arch, LinuxSeccomp};
use rtc_sys::seccomp::Insn;

use super::super::abi::{Abi, Machine, X32_BIT};
use super::super::action;
use super::interpreter::{Call, run};
use super::{Random, compiled, reference};

/// Reads the array of `struct sock_filter` that libseccomp wrote.
fn exported(file: &Path) -> Vec<Insn> {
    let bytes = std::fs::read(file).unwrap();
    let insn = |b: &[u8]| Insn {
        code: u16::from_le_bytes([b[0], b[1]]),
        jt: b[2],
        jf: b[3],
        k: u32::from_le_bytes([b[4], b[5], b[6], b[7]]),
    };
    bytes.chunks_exact(8).map(insn).collect()
}

/// Whether both must agree on a call.
fn comparable(profile: &LinuxSeccomp, call: &Call, abi: Abi) -> bool {
    let permissive = action::is_permissive(profile.default_action());
    let younger = reference::highest(profile, abi).is_some_and(|highest| call.number > highest);
    let named = profile.syscalls().iter().flatten().filter(|entry| reference::names(entry, abi, call.number));
    let conditional = named.clone().any(|entry| entry.args().as_ref().is_some_and(|args| !args.is_empty()));
    let multiplexer = abi == Abi::X86 && matches!(call.number, 102 | 117);
    let stubbed = younger && !permissive;
    !(stubbed || multiplexer || abi == Abi::X32 && conditional)
}

fn compare(profile: &Path, random: &mut Random) -> usize {
    let theirs = exported(&profile.with_extension("bpf"));
    let name = profile.display();
    let profile: LinuxSeccomp = serde_json::from_slice(&std::fs::read(profile).unwrap()).unwrap();
    let ours = compiled(&profile, Machine::X86);
    let mut compared = 0;
    let has_x32 = profile.architectures().as_ref().is_some_and(|list| list.contains(&Arch::ScmpArchX32));
    for abi in [Abi::X86_64, Abi::X86, Abi::X32] {
        for number in 0..470 {
            let number = if abi == Abi::X32 { number | X32_BIT } else { number };
            for _ in 0..2 {
                let value = |random: &mut Random| match abi.is_64_bit() {
                    true => random.value(),
                    false => u64::from(random.value() as u32),
                };
                let arguments = std::array::from_fn(|_| value(random));
                let call = Call { number, audit: abi.audit(), arguments };
                if !comparable(&profile, &call, abi) || abi == Abi::X32 && !has_x32 {
                    continue;
                }
                assert_eq!(run(&ours, &call).0, run(&theirs, &call).0, "{name}: {call:x?}");
                compared += 1;
            }
        }
    }
    compared
}

#[test]
fn libseccomp_decides_the_same() {
    let mut random = Random(0x0123_4567_89ab_cdef);
    let mut profiles = 0;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/libseccomp");
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let compared = compare(&path, &mut random);
            assert!(compared > 100, "{}: {compared} calls", path.display());
            profiles += 1;
        }
    }
    assert!(profiles >= 10, "{profiles} profiles");
}
