//! Our filters beside those that libseccomp makes of the same profiles, called as runc calls it.
//!
//! `testdata/libseccomp/NAME.json` is a profile, `NAME.bpf` what `seccomp_export_bpf` of libseccomp 2.5.4 wrote for it.
//! Where python3 and libseccomp.so.2 are installed, as on every Debian with python3, new random profiles are made and
//! compiled by the library on the spot; `RTC_SECCOMP_PROFILES` says how many, `RTC_SECCOMP_SEED` which.
//! Differences that are meant, and left out of the comparison:
//!
//! - ENOSYS for younger calls, which runc puts before libseccomp's program.
//! - A rule with conditions for `socket` and the like: libseccomp applies them to the registers of `socketcall` too, which
//!   hold other things there.
//! - x32: libseccomp compares the low halves of arguments only, though the kernel uses 64 bits.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use oci_spec::runtime::{Arch, LinuxSeccomp};
use rtc_sys::seccomp::Insn;
use serde_json::{Value, json};

use super::super::abi::{Abi, Machine, X32_BIT};
use super::super::action;
use super::super::syscalls::{Syscall, names};
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

/// The numbers of the calls that rules with conditions name.
fn conditional(profile: &LinuxSeccomp, abi: Abi) -> BTreeSet<u32> {
    let entries = profile.syscalls().iter().flatten();
    let entries = entries.filter(|entry| entry.args().as_ref().is_some_and(|args| !args.is_empty()));
    entries.flat_map(|entry| entry.names()).filter_map(|name| Syscall::named(name)?.number(abi)).collect()
}

fn compare(profile: &Path, random: &mut Random) -> usize {
    let theirs = exported(&profile.with_extension("bpf"));
    let name = profile.display();
    let profile: LinuxSeccomp = serde_json::from_slice(&std::fs::read(profile).unwrap()).unwrap();
    let ours = compiled(&profile, Machine::X86);
    let mut compared = 0;
    let has_x32 = profile.architectures().as_ref().is_some_and(|list| list.contains(&Arch::ScmpArchX32));
    let permissive = action::is_permissive(profile.default_action());
    for abi in [Abi::X86_64, Abi::X86, Abi::X32] {
        let conditional = conditional(&profile, abi);
        let highest = reference::highest(&profile, abi).filter(|_| !permissive).unwrap_or(u32::MAX);
        for number in 0..470 {
            let number = if abi == Abi::X32 { number | X32_BIT } else { number };
            let has_conditions = conditional.contains(&number);
            let multiplexer = abi == Abi::X86 && matches!(number, 102 | 117);
            if number > highest || multiplexer || abi == Abi::X32 && (has_conditions || !has_x32) {
                continue;
            }
            for _ in 0..if has_conditions { 40 } else { 1 } {
                let value = |random: &mut Random| match abi.is_64_bit() {
                    true => random.value(),
                    false => u64::from(random.value() as u32),
                };
                let arguments = std::array::from_fn(|_| value(random));
                let call = Call { number, audit: abi.audit(), arguments };
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

/// Compiles profiles by libseccomp, each beside its file; `false` where python3 or the library is missing.
fn export(profiles: &[PathBuf]) -> bool {
    let available = Command::new("python3").args(["-c", "import ctypes; ctypes.CDLL('libseccomp.so.2')"]).output();
    if !available.is_ok_and(|output| output.status.success()) {
        return false;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/libseccomp/export.py");
    let output = Command::new("python3").arg(script).args(profiles).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    true
}

/// A random profile of the kind that libseccomp gets right: one rule for a call, and no two conditions on one argument
/// but alternatives by equality.
fn profile(random: &mut Random) -> Value {
    const ACTIONS: [&str; 8] = ["ALLOW", "ERRNO", "KILL", "KILL_PROCESS", "TRAP", "TRACE", "LOG", "NOTIFY"];
    const OPERATORS: [&str; 7] = ["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"];
    // Of the calls that libseccomp 2.5 knows; those that multiplex are compared nowhere.
    let known = |name: &&str| {
        let newest = [Abi::X86_64, Abi::X86].into_iter().filter_map(|abi| Syscall::named(name)?.number(abi)).max();
        newest.is_some_and(|number| number <= 448) && !matches!(*name, "socketcall" | "ipc" | "uretprobe" | "uprobe")
    };
    let mut pool: Vec<&str> = names().filter(known).collect();
    let size = *random.one(&[3, 30, 250]);
    let mut syscalls = Vec::new();
    while pool.len() > 1 && syscalls.len() < size {
        let name = pool.swap_remove(random.below(pool.len()));
        let action = *random.one(&ACTIONS);
        if action == "NOTIFY" && name == "write" {
            continue;
        }
        let mut indices: Vec<usize> = (0..6).collect();
        let condition = |random: &mut Random, op: &str, index: usize| json!({"index": index, "value": random.value(), "valueTwo": random.value(), "op": format!("SCMP_CMP_{op}")});
        let args: Vec<Value> = match random.below(4) {
            0 => (0..1 + random.below(3))
                .map(|_| {
                    let index = indices.swap_remove(random.below(indices.len()));
                    let op = *random.one(&OPERATORS);
                    condition(random, op, index)
                })
                .collect(),
            1 => {
                let index = random.below(6);
                (0..2 + random.below(2)).map(|_| condition(random, "EQ", index)).collect()
            }
            _ => Vec::new(),
        };
        let mut entry = json!({"names": [name], "action": format!("SCMP_ACT_{action}"), "args": args});
        if matches!(action, "ERRNO" | "TRACE") && random.below(2) == 0 {
            entry["errnoRet"] = json!(random.below(200));
        }
        syscalls.push(entry);
    }
    let archs = &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"][..random.below(3)];
    let default = *random.one(&["ALLOW", "ERRNO", "KILL", "KILL_PROCESS", "TRAP", "LOG"]);
    json!({"defaultAction": format!("SCMP_ACT_{default}"), "architectures": archs, "syscalls": syscalls,
        "listenerPath": "/agent"})
}

#[test]
fn libseccomp_decides_the_same_of_new_profiles() {
    let number = |name: &str, default: u64| std::env::var(name).ok().map_or(default, |text| text.parse().unwrap());
    let mut random = Random(number("RTC_SECCOMP_SEED", 0x5eed_cafe_f00d_0001));
    let folder = std::env::temp_dir().join(format!("runtime-seccomp-live-{}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    let files: Vec<PathBuf> = (0..number("RTC_SECCOMP_PROFILES", 25))
        .map(|index| {
            let file = folder.join(format!("{index}.json"));
            std::fs::write(&file, profile(&mut random).to_string()).unwrap();
            file
        })
        .collect();
    let compared: usize = match export(&files) {
        true => files.iter().map(|file| compare(file, &mut random)).sum(),
        false => usize::MAX,
    };
    assert!(compared > 10_000, "{compared} calls");
    // Left for a look where a comparison has failed.
    std::fs::remove_dir_all(folder).unwrap();
}
