//! Our filters beside those that libseccomp makes of the same profiles, called as runc calls it.
//!
//! `testdata/libseccomp/NAME.json` is a profile, `NAME.bpf` what `seccomp_export_bpf` of libseccomp 2.5.4 wrote for it.
//! Where python3 and libseccomp.so.2 are installed, as on every Debian with python3, new random profiles are made and
//! compiled by the library on the spot; `RTC_SECCOMP_PROFILES` says how many, `RTC_SECCOMP_SEED` which.
//! `testdata/runc` has profiles with the filters that runc 1.1.5 loaded for them: libseccomp's, and before it what
//! answers calls that are younger than the profile with ENOSYS.
//! Differences that are meant, and left out of the comparison:
//!
//! - runc gives ENOSYS on architectures that the profile lists; ours counts as listed here.
//! - A rule with conditions for `socket` and the like: libseccomp applies them to the registers of `socketcall` too, which
//!   hold other things there.
//! - x32: libseccomp compares the low halves of arguments only, though the kernel uses 64 bits. So a rule with conditions
//!   is compared with what ours says of the low halves.

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

/// The profile with conditions on the low halves of registers alone.
fn low_halves(profile: &LinuxSeccomp) -> LinuxSeccomp {
    let mut json = serde_json::to_value(profile).unwrap();
    let entries = json["syscalls"].as_array_mut().into_iter().flatten();
    for arg in entries.filter_map(|entry| entry["args"].as_array_mut()).flatten() {
        for value in ["value", "valueTwo"] {
            arg[value] = json!(arg[value].as_u64().unwrap_or(0) as u32);
        }
    }
    serde_json::from_value(json).unwrap()
}

/// The numbers of the calls that rules with conditions name.
fn conditional(profile: &LinuxSeccomp, abi: Abi) -> BTreeSet<u32> {
    let entries = profile.syscalls().iter().flatten();
    let entries = entries.filter(|entry| entry.args().as_ref().is_some_and(|args| !args.is_empty()));
    entries.flat_map(|entry| entry.names()).filter_map(|name| Syscall::named(name)?.number(abi)).collect()
}

/// Whose filter it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Peer {
    /// It knows nothing of calls younger than the profile.
    Libseccomp,
    Runc,
}

/// Compares what the program beside a profile decides with what ours does, over all calls; says how many.
fn compare(peer: Peer, profile: &Path, random: &mut Random) -> usize {
    let theirs = exported(&profile.with_extension("bpf"));
    let name = profile.display();
    let profile: LinuxSeccomp = serde_json::from_slice(&std::fs::read(profile).unwrap()).unwrap();
    let ours = compiled(&profile, Machine::X86);
    let ours_of_low_halves = compiled(&low_halves(&profile), Machine::X86);
    let decide = |abi: Abi, call: &Call| match abi {
        Abi::X32 => run(&ours_of_low_halves, &Call { arguments: call.arguments.map(low), ..*call }).0,
        _ => run(&ours, call).0,
    };
    let mut compared = 0;
    let listed = |arch: Arch| profile.architectures().as_ref().is_some_and(|list| list.contains(&arch));
    let has_x32 = listed(Arch::ScmpArchX32);
    let permissive = action::is_permissive(profile.default_action());
    for abi in [Abi::X86_64, Abi::X86, Abi::X32] {
        let conditional = conditional(&profile, abi);
        let highest = reference::highest(&profile, abi).filter(|_| !permissive).unwrap_or(u32::MAX);
        for number in (0..700).chain([X32_BIT - 1, u32::MAX]) {
            let number = if abi == Abi::X32 { number | X32_BIT } else { number };
            let is_younger = number > highest || abi == Abi::X32 && !has_x32;
            let multiplexer = abi == Abi::X86 && matches!(number, 102 | 117);
            let answered = peer == Peer::Runc && (abi == Abi::X86 || listed(Arch::ScmpArchX86_64));
            if multiplexer || is_younger && !answered {
                continue;
            }
            for _ in 0..if conditional.contains(&number) { 40 } else { 1 } {
                let mut arguments = std::array::from_fn(|_| random.value());
                if abi == Abi::X86 {
                    arguments = arguments.map(low);
                }
                let call = Call { number, audit: abi.audit(), arguments };
                assert_eq!(decide(abi, &call), run(&theirs, &call).0, "{name}: {abi:?} {call:x?}");
                compared += 1;
            }
        }
    }
    compared
}

fn low(value: u64) -> u64 {
    u64::from(value as u32)
}

/// Compares all profiles of a folder, and says how many there are.
fn compare_stored(peer: Peer, folder: &str) -> usize {
    let mut random = Random(0x0123_4567_89ab_cdef);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(folder);
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let profiles = paths.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    profiles
        .map(|path| {
            let compared = compare(peer, &path, &mut random);
            assert!(compared > 100, "{}: {compared} calls", path.display());
        })
        .count()
}

#[test]
fn libseccomp_decides_the_same() {
    assert!(compare_stored(Peer::Libseccomp, "libseccomp") >= 10);
}

#[test]
fn runc_decides_the_same_of_younger_calls_too() {
    assert!(compare_stored(Peer::Runc, "runc") >= 10);
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
    let mut archs = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"][..random.below(3)].to_vec();
    let mut size = *random.one(&[3, 30, 250]);
    // Without optimization, as runc leaves short profiles, libseccomp may compare x32's number before it is loaded.
    if size > 8 && random.below(2) == 0 {
        archs.push("SCMP_ARCH_X32");
        // The kernel takes no more for three tables.
        size = size.min(120);
    }
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
        true => files.iter().map(|file| compare(Peer::Libseccomp, file, &mut random)).sum(),
        false => usize::MAX,
    };
    assert!(compared > 10_000, "{compared} calls");
    // Left for a look where a comparison has failed.
    std::fs::remove_dir_all(folder).unwrap();
}
