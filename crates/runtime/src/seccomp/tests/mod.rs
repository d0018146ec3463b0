//! Filters against what their profiles say: random ones, podman's, and libseccomp's reading of it.

mod interpreter;
mod libseccomp;
pub(crate) mod podman;
mod reference;

use oci_spec::runtime::LinuxSeccomp;
use serde_json::{Value, json};

use super::abi::{Abi, Machine, X32_BIT};
use super::action::{ALLOW, ERRNO, KILL_THREAD, LOG, NOTIFY};
use super::profile::Profile;
use super::syscalls::{Syscall, names};
use super::{compile, program};
use interpreter::{Call, run};
use rtc_sys::seccomp::Insn;

/// A small generator (xorshift), so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    /// A value near those that rules compare with, and near the halves of a register.
    fn value(&mut self) -> u64 {
        let base = *self.one(&[0, 1, 2, 9, 16, 0x7fff_ffff, 0xffff_ffff, 1 << 32, (1 << 32) | 9, u64::MAX - 1]);
        base.wrapping_add(self.below(3) as u64).wrapping_sub(1)
    }

    fn entry(&mut self, pool: &[&str]) -> Value {
        let action = *self.one(&["ALLOW", "ERRNO", "KILL", "KILL_PROCESS", "TRAP", "TRACE", "LOG"]);
        let names: Vec<&str> = (0..1 + self.below(6)).map(|_| *self.one(pool)).collect();
        let args: Vec<Value> = (0..self.below(4))
            .map(|_| {
                let op = *self.one(&["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"]);
                let (index, value, two) = (self.below(6), self.value(), self.value());
                json!({"index": index, "value": value, "valueTwo": two, "op": format!("SCMP_CMP_{op}")})
            })
            .collect();
        let mut entry = json!({"names": names, "action": format!("SCMP_ACT_{action}"), "args": args});
        if matches!(action, "ERRNO" | "TRACE") && self.below(2) == 0 {
            entry["errnoRet"] = json!(self.below(200));
        }
        entry
    }

    fn profile(&mut self, pool: &[&str]) -> LinuxSeccomp {
        let default = *self.one(&["ALLOW", "ERRNO", "KILL", "LOG", "TRACE"]);
        let archs = ["X86_64", "X86", "X32", "AARCH64", "ARM", "MIPS", "NATIVE"];
        let archs: Vec<String> = (0..self.below(4)).map(|_| format!("SCMP_ARCH_{}", self.one(&archs))).collect();
        let syscalls: Vec<Value> = (0..self.below(40)).map(|_| self.entry(pool)).collect();
        let mut profile =
            json!({"defaultAction": format!("SCMP_ACT_{default}"), "architectures": archs, "syscalls": syscalls});
        if default == "ERRNO" && self.below(2) == 0 {
            profile["defaultErrnoRet"] = json!(*self.one(&[1, 38, 5]));
        }
        serde_json::from_value(profile).unwrap()
    }

    fn call(&mut self, pool: &[&str], machine: Machine) -> Call {
        let abis: &[Abi] = match machine {
            Machine::X86 => &[Abi::X86_64, Abi::X86, Abi::X32],
            Machine::Arm => &[Abi::Aarch64, Abi::Arm, Abi::X86],
        };
        let abi = *self.one(abis);
        let named = Syscall::named(self.one::<&str>(pool)).unwrap().number(abi);
        let other = *self.one(&[0, 1, 102, 117, 350, 500, 600, X32_BIT, X32_BIT + 600, 0xf0003, u32::MAX]);
        let arguments = std::array::from_fn(|_| {
            let value = self.value();
            if abi.is_64_bit() { value } else { u64::from(value as u32) }
        });
        Call { number: named.unwrap_or(other), audit: abi.audit(), arguments }
    }
}

fn compiled(seccomp: &LinuxSeccomp, machine: Machine) -> Vec<Insn> {
    program::compile(&Profile::new(seccomp, machine).unwrap()).unwrap()
}

#[test]
fn random_profiles_are_decided_as_their_rules_say() {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let all: Vec<&str> = names().collect();
    let mut compared = 0;
    for round in 0..400 {
        // Few names make rules meet; many make the search tree large.
        let size = *random.one(&[3, 20, 486]);
        let pool: Vec<&str> = (0..size).map(|_| *random.one(&all)).collect();
        let machine = *random.one(&[Machine::X86, Machine::X86, Machine::Arm]);
        let profile = random.profile(&pool);
        // Chance may make rules that contradict each other.
        let Ok(resolved) = Profile::new(&profile, machine) else { continue };
        let program = program::compile(&resolved).unwrap();
        compared += 1;
        for _ in 0..60 {
            let call = random.call(&pool, machine);
            let (is, ought) = (run(&program, &call).0, reference::decide(&profile, machine, &call));
            assert_eq!(is, ought, "round {round}: {machine:?} {call:x?} under {profile:#?}");
        }
    }
    assert!(compared > 300, "{compared} profiles");
}

#[test]
fn rules_may_overlap_but_not_contradict_each_other() {
    let rule = |errno: u32, args: Value| json!({"names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno, "args": args});
    let profile = |rules: Value| json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"], "syscalls": rules});
    let condition =
        |index: u32, op: &str, value: u64| json!({"index": index, "value": value, "op": format!("SCMP_CMP_{op}")});
    let (one, other) = (condition(0, "EQ", 1), condition(1, "EQ", 2));
    let overlapping =
        profile(json!([rule(6, json!([condition(0, "LE", 1)])), rule(7, json!([one])), rule(8, json!([]))]));
    assert_eq!(verdict(overlapping, "socket", [1, 0, 0, 0, 0, 0]), ERRNO | 8);
    let overlapping = profile(json!([rule(6, json!([condition(0, "LE", 1)])), rule(7, json!([one]))]));
    assert_eq!(verdict(overlapping, "socket", [1, 0, 0, 0, 0, 0]), ERRNO | 6);
    // Twice for socketcall(2) on 32-bit x86.
    let twice = profile(json!([rule(6, json!([])), rule(7, json!([]))]));
    assert_eq!(verdict(twice, "socket", [1, 0, 0, 0, 0, 0]), ERRNO | 6);
    let again = profile(json!([rule(6, json!([one, other])), rule(6, json!([other, one]))]));
    assert_eq!(verdict(again, "socket", [1, 2, 0, 0, 0, 0]), ERRNO | 6);
    let contradicting = profile(json!([rule(6, json!([one, other])), rule(7, json!([other, one]))]));
    let error = compile(&parsed(contradicting)).unwrap_err().to_string();
    assert!(error.starts_with("linux.seccomp.syscalls[1]: same call and args as in syscalls[0]"), "{error}");
}

#[test]
fn every_number_of_podmans_profile_is_decided_as_it_says() {
    let profile = podman::profile(&podman::DEFAULT_CAPABILITIES);
    let program = compiled(&profile, Machine::X86);
    let mut random = Random(88_172_645_463_325_252);
    for audit in [Abi::X86_64.audit(), Abi::X86.audit(), Abi::Arm.audit()] {
        for number in (0..700).chain(X32_BIT..X32_BIT + 700).chain([u32::MAX]) {
            // Only the calls whose rules have arguments need more than one try.
            let tries = if [41, 135, 102, 136, 359].contains(&(number & !X32_BIT)) { 50 } else { 1 };
            for _ in 0..tries {
                let mut arguments = std::array::from_fn(|_| random.value());
                if audit == Abi::X86.audit() {
                    arguments = arguments.map(|value| u64::from(value as u32));
                }
                let call = Call { number, audit, arguments };
                let ought = reference::decide(&profile, Machine::X86, &call);
                assert_eq!(run(&program, &call).0, ought, "{call:x?}");
            }
        }
    }
}

#[test]
fn podmans_profile_is_short_to_load_and_to_run() {
    let program = compiled(&podman::profile(&podman::DEFAULT_CAPABILITIES), Machine::X86);
    assert!(program.len() < 700, "{} instructions", program.len());
    let longest = (0..450)
        .map(|number| run(&program, &Call { number, audit: Abi::X86_64.audit(), arguments: [16, 0, 9, 0, 0, 0] }).1);
    let longest = longest.max().unwrap();
    assert!(longest < 50, "{longest} steps");
}

fn parsed(json: Value) -> LinuxSeccomp {
    serde_json::from_value(json).unwrap()
}

fn verdict(json: Value, name: &str, arguments: [u64; 6]) -> u32 {
    let number = Syscall::named(name).unwrap().number(Abi::X86_64).unwrap();
    run(&compiled(&parsed(json), Machine::X86), &Call { number, audit: Abi::X86_64.audit(), arguments }).0
}

#[test]
fn conditions_on_one_argument_are_alternatives() {
    let profile = |args: Value| {
        json!({"defaultAction": "SCMP_ACT_ERRNO",
               "syscalls": [{"names": ["personality", "uname"], "action": "SCMP_ACT_ALLOW", "args": args}]})
    };
    let either = json!([{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}, {"index": 0, "value": 2, "op": "SCMP_CMP_EQ"}]);
    assert_eq!(verdict(profile(either.clone()), "personality", [1, 0, 0, 0, 0, 0]), ALLOW);
    assert_eq!(verdict(profile(either.clone()), "personality", [2, 0, 0, 0, 0, 0]), ALLOW);
    assert_eq!(verdict(profile(either), "personality", [3, 0, 0, 0, 0, 0]), ERRNO | 1);
    let both = json!([{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}, {"index": 1, "value": 2, "op": "SCMP_CMP_EQ"}]);
    assert_eq!(verdict(profile(both.clone()), "personality", [1, 2, 0, 0, 0, 0]), ALLOW);
    assert_eq!(verdict(profile(both), "personality", [1, 3, 0, 0, 0, 0]), ERRNO | 1);
}

#[test]
fn younger_calls_give_enosys_unless_the_default_is_permissive() {
    let profile = |default: &str| json!({"defaultAction": default, "syscalls": [{"names": ["mount", "nosuchcall"], "action": "SCMP_ACT_LOG"}]});
    assert_eq!(verdict(profile("SCMP_ACT_ERRNO"), "acct", [0; 6]), ERRNO | 1);
    assert_eq!(verdict(profile("SCMP_ACT_ERRNO"), "mount", [0; 6]), LOG);
    assert_eq!(verdict(profile("SCMP_ACT_ERRNO"), "mseal", [0; 6]), ERRNO | 38);
    assert_eq!(verdict(profile("SCMP_ACT_KILL"), "mseal", [0; 6]), ERRNO | 38);
    assert_eq!(verdict(profile("SCMP_ACT_ALLOW"), "mseal", [0; 6]), ALLOW);
}

#[test]
fn other_architectures_are_killed() {
    let program = compiled(&parsed(json!({"defaultAction": "SCMP_ACT_ALLOW"})), Machine::X86);
    let call = |audit, number| run(&program, &Call { number, audit, arguments: [0; 6] }).0;
    assert_eq!(call(Abi::X86_64.audit(), 0), ALLOW);
    assert_eq!(call(Abi::X86.audit(), 3), KILL_THREAD);
    assert_eq!(call(Abi::X86_64.audit(), X32_BIT), KILL_THREAD);
    assert_eq!(call(Abi::X86_64.audit(), u32::MAX), ALLOW);
}

#[test]
fn flags_are_those_of_runc() {
    let flags = |json: Value| compile(&parsed(json)).unwrap().flags();
    assert_eq!(flags(json!({"defaultAction": "SCMP_ACT_ALLOW"})), 4);
    assert_eq!(flags(json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": []})), 0);
    let listed = |flag: &str| flags(json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": [flag]}));
    assert_eq!(listed("SECCOMP_FILTER_FLAG_TSYNC"), 0);
    assert_eq!(listed("SECCOMP_FILTER_FLAG_LOG"), 2);
    assert_eq!(listed("SECCOMP_FILTER_FLAG_SPEC_ALLOW"), 4);
    let notify = json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/agent",
        "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
        "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]});
    assert_eq!(flags(notify.clone()), 32 + 8);
    assert_eq!(verdict(notify, "mkdir", [0; 6]), NOTIFY);
}

#[test]
fn profiles_that_make_no_sense() {
    let error = |json: Value| compile(&parsed(json)).unwrap_err().to_string();
    let rule = |rule: Value| error(json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}));
    assert_eq!(
        rule(json!({"names": ["read", "write"], "action": "SCMP_ACT_NOTIFY"})),
        "linux.seccomp.syscalls[0]: SCMP_ACT_NOTIFY cannot be used for the write syscall"
    );
    assert_eq!(
        rule(json!({"names": ["read"], "action": "SCMP_ACT_NOTIFY"})),
        "linux.seccomp.listenerPath is not set, but SCMP_ACT_NOTIFY is used"
    );
    assert_eq!(
        error(json!({"defaultAction": "SCMP_ACT_NOTIFY", "listenerPath": "/a"})),
        "SCMP_ACT_NOTIFY cannot be used as default action"
    );
    let args = json!([{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}]);
    assert_eq!(
        rule(json!({"names": ["read"], "action": "SCMP_ACT_ERRNO", "args": args})),
        "linux.seccomp.syscalls[0]: seccomp: a call has no argument 6"
    );
    let many: Vec<Value> = (0..900)
        .map(|value| {
            json!({"names": ["ioctl"], "action": "SCMP_ACT_ERRNO",
                            "args": [{"index": 1, "value": value, "op": "SCMP_CMP_EQ"}]})
        })
        .collect();
    let error = error(json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": many}));
    assert!(error.starts_with("seccomp: the filter needs 4"), "{error}");
}
