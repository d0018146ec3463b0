//! What a thread gets last: everything of its own that its programs don't need any more.
//!
//! Order within the program: what needs privilege first, then seccomp filters, then credentials. The filters don't act
//! yet, because the tracer has suspended them.

use super::label::Label;
use crate::error::{Result, bad_image};
use crate::image::tree::{Creds, Filter, Scheduling, Thread};
use crate::program::{Addr, Program};
use crate::tracee::{Mode, Stopped, Zone};
use log::warn;
use rtc_sys::regs::{self, Regs, WORDS};

const PR_CAP_AMBIENT_RAISE: u64 = 2;
const PR_CAP_AMBIENT_CLEAR_ALL: u64 = 4;
/// `SECBIT_KEEP_CAPS` together with `SECBIT_NO_SETUID_FIXUP`: ids change, capabilities don't.
const SECUREBITS_WHILE_CHANGING: u64 = 1 << 4 | 1 << 2;
const CAP_LAST: u32 = 63;
/// `_LINUX_CAPABILITY_VERSION_3`.
const CAPABILITY_VERSION: u32 = 0x2008_0522;
const IOPRIO_WHO_PROCESS: i32 = 1;

/// The flag of rseq(2) that ends a registration.
const RSEQ_FLAG_UNREGISTER: u64 = 1;

/// Unregisters the rseq area that a task got by fork from us; it must be gone before the memory is.
pub(super) fn forget_rseq(program: &mut Program, rseq: &rtc_sys::ptrace::Rseq) {
    if rseq.address != 0 {
        let (at, len, signature) = (rseq.address.into(), rseq.size.into(), rseq.signature.into());
        program.call(libc::SYS_rseq, [at, len, RSEQ_FLAG_UNREGISTER.into(), signature]);
    }
}

/// Where in `struct rseq` (linux/rseq.h) the address of the critical section stands that the thread is in.
const RSEQ_SECTION: u64 = 8;

/// Takes the address of the critical section out of the thread's rseq area, before the area is registered.
///
/// From then on the kernel would lead the thread to the section's abort handler at its next stop, which is the image's
/// code, and the thread has all privileges. (Since Linux 6.14 it clears the field itself when the area is registered.)
pub(super) fn take_section(task: &Stopped, thread: &Thread) -> Result<Option<u64>> {
    let Some(at) = section_of(thread)? else { return Ok(None) };
    let mut section = [0; 8];
    task.read(at, &mut section)?;
    if section == [0; 8] {
        return Ok(None);
    }
    task.write(at, &[0; 8])?;
    Ok(Some(u64::from_ne_bytes(section)))
}

/// Puts it back, when the thread will run nothing but its own code.
pub(super) fn put_section(task: &Stopped, thread: &Thread, section: u64) -> Result<()> {
    match section_of(thread)? {
        Some(at) => task.write(at, &section.to_ne_bytes()),
        None => Ok(()),
    }
}

fn section_of(thread: &Thread) -> Result<Option<Addr>> {
    let (area, ..) = thread.rseq;
    let at = area.checked_add(RSEQ_SECTION).ok_or_else(|| bad_image("an rseq area is out of place"))?;
    Ok((area != 0).then_some(Addr(at)))
}

/// What a thread sets of itself while it still has all privileges.
pub(super) fn identity(thread: &Thread) -> Program {
    let mut program = Program::new();
    let mut name = thread.comm.clone().into_bytes();
    name.push(0);
    let name = program.data(&name);
    program.call(libc::SYS_prctl, [libc::PR_SET_NAME.into(), name.into()]);
    let (head, len) = thread.robust_list;
    if len != 0 {
        program.call(libc::SYS_set_robust_list, [head.into(), len.into()]);
    }
    program.call(libc::SYS_set_tid_address, [thread.clear_child_tid.into()]);
    let (at, flags, size) = thread.altstack;
    let mut stack = [0u8; 24];
    stack[..8].copy_from_slice(&at.to_ne_bytes());
    // SS_ONSTACK says where the thread is, not what to do.
    stack[8..12].copy_from_slice(&(flags & !libc::SS_ONSTACK).to_ne_bytes());
    stack[16..].copy_from_slice(&size.to_ne_bytes());
    let stack = program.data(&stack);
    program.call(libc::SYS_sigaltstack, [stack.into(), 0u64.into()]);
    let (at, len, signature) = thread.rseq;
    if at != 0 {
        program.call(libc::SYS_rseq, [at.into(), len.into(), 0u64.into(), signature.into()]);
    }
    program.call(libc::SYS_prctl, [libc::PR_SET_TIMERSLACK.into(), thread.timer_slack.into()]);
    program
}

/// Scheduling; a wish that this machine refuses (fewer processors, no realtime) is worth a warning, not a failure.
pub(super) fn schedule(task: &mut Stopped, zone: Zone, thread: &Thread) -> Result<()> {
    let wanted = &thread.scheduling;
    if *wanted == Scheduling::default() {
        return Ok(());
    }
    let mut program = Program::new();
    let mut attributes = [0u8; 48];
    attributes[..4].copy_from_slice(&48u32.to_ne_bytes());
    attributes[4..8].copy_from_slice(&wanted.policy.to_ne_bytes());
    attributes[16..20].copy_from_slice(&wanted.nice.to_ne_bytes());
    attributes[20..24].copy_from_slice(&wanted.priority.to_ne_bytes());
    let attributes = program.data(&attributes);
    let mut calls = vec![(
        "scheduling policy",
        program.try_call(libc::SYS_sched_setattr, [0u64.into(), attributes.into(), 0u64.into()]),
    )];
    let io =
        program.try_call(libc::SYS_ioprio_set, [IOPRIO_WHO_PROCESS.into(), 0u64.into(), wanted.io_priority.into()]);
    calls.push(("I/O priority", io));
    if let Some(affinity) = &wanted.affinity {
        let bytes: Vec<u8> = affinity.iter().flat_map(|w| w.to_ne_bytes()).collect();
        let mask = program.data(&bytes);
        let call = program.try_call(libc::SYS_sched_setaffinity, [0u64.into(), bytes.len().into(), mask.into()]);
        calls.push(("processor affinity", call));
    }
    let results = task.run(Mode::Interp, zone, &program)?;
    for (what, call) in calls {
        if let Err(errno) = results.ok(call) {
            warn!("thread {}: its {what} can't be set here: {errno}", thread.tid);
        }
    }
    Ok(())
}

/// Signals that were pending for the thread, and for its process if `shared` are given. All are blocked meanwhile.
pub(super) fn pending(thread: &Thread, pid: i32, shared: &[crate::image::tree::Signal]) -> Program {
    let mut program = Program::new();
    for signal in &thread.pending {
        let number = signal_number(&signal.0);
        let info = program.data(&signal.0);
        let (pid, tid) = (pid.into(), thread.tid.into());
        program.call(libc::SYS_rt_tgsigqueueinfo, [pid, tid, number.into(), info.into()]);
    }
    for signal in shared {
        let number = signal_number(&signal.0);
        let info = program.data(&signal.0);
        program.call(libc::SYS_rt_sigqueueinfo, [pid.into(), number.into(), info.into()]);
    }
    program
}

fn signal_number(info: &[u8]) -> i32 {
    info.first_chunk().map_or(0, |bytes| i32::from_ne_bytes(*bytes))
}

/// Seccomp filters, then credentials: the end of all privileges.
pub(super) fn privileges(thread: &Thread, filters: &[Filter], labels: &[Label], last_cap: u32) -> Program {
    let mut program = Program::new();
    for place in &thread.seccomp.filters {
        let filter = &filters[*place];
        let bytes: Vec<u8> = filter.code.iter().flat_map(|w| w.to_ne_bytes()).collect();
        let code = program.data(&bytes);
        let mut header = [0u8; 16];
        header[..2].copy_from_slice(&(filter.code.len() as u16).to_ne_bytes());
        let header = program.data(&header);
        program.pointer(header.from_offset(8), code);
        let operation = u64::from(libc::SECCOMP_SET_MODE_FILTER);
        program.call(libc::SYS_seccomp, [operation.into(), filter.flags.into(), header.into()]);
    }
    credentials(&mut program, &thread.creds, last_cap);
    // After all that a profile might forbid, before what would forbid the change.
    labels.iter().for_each(|label| label.set(&mut program));
    if thread.creds.no_new_privs {
        let zero = || 0u64.into();
        program.call(libc::SYS_prctl, [libc::PR_SET_NO_NEW_PRIVS.into(), 1u64.into(), zero(), zero(), zero()]);
    }
    // After the ids: changing them clears it. And if it is none, ours must go: the held process dies with rtc.
    program.call(libc::SYS_prctl, [libc::PR_SET_PDEATHSIG.into(), thread.parent_death_signal.into()]);
    if thread.seccomp.strict {
        let operation = u64::from(libc::SECCOMP_SET_MODE_STRICT);
        program.call(libc::SYS_seccomp, [operation.into(), 0u64.into(), 0u64.into()]);
    }
    program
}

fn credentials(program: &mut Program, creds: &Creds, last_cap: u32) {
    let [inheritable, permitted, effective, bounding, ambient] = creds.caps;
    let prctl = |program: &mut Program, option: i32, a: u64, b: u64| {
        program.call(libc::SYS_prctl, [option.into(), a.into(), b.into(), 0u64.into(), 0u64.into()]);
    };
    for cap in 0..=last_cap.min(CAP_LAST) {
        if bounding >> cap & 1 == 0 {
            prctl(program, libc::PR_CAPBSET_DROP, u64::from(cap), 0);
        }
    }
    let groups: Vec<u8> = creds.groups.iter().flat_map(|g| g.to_ne_bytes()).collect();
    let list = program.data(&groups);
    program.call(libc::SYS_setgroups, [creds.groups.len().into(), list.into()]);
    prctl(program, libc::PR_SET_SECUREBITS, SECUREBITS_WHILE_CHANGING, 0);
    let [r, e, s, f] = creds.gid;
    program.call(libc::SYS_setresgid, [r.into(), e.into(), s.into()]);
    program.call(libc::SYS_setfsgid, [f.into()]);
    let [r, e, s, f] = creds.uid;
    program.call(libc::SYS_setresuid, [r.into(), e.into(), s.into()]);
    program.call(libc::SYS_setfsuid, [f.into()]);
    prctl(program, libc::PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0);
    // Ambient capabilities must be inheritable and permitted when they are raised; the bits that forbid raising come
    // last, but for them CAP_SETPCAP is needed: it stays effective until the final capset.
    capset(program, inheritable, permitted | CAP_SETPCAP, effective | CAP_SETPCAP);
    for cap in (0..=last_cap.min(CAP_LAST)).filter(|cap| ambient >> cap & 1 == 1) {
        prctl(program, libc::PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, u64::from(cap));
    }
    prctl(program, libc::PR_SET_SECUREBITS, u64::from(creds.securebits), 0);
    capset(program, inheritable, permitted, effective);
}

const CAP_SETPCAP: u64 = 1 << 8;

fn capset(program: &mut Program, inheritable: u64, permitted: u64, effective: u64) {
    let mut header = [0u8; 8];
    header[..4].copy_from_slice(&CAPABILITY_VERSION.to_ne_bytes());
    let header = program.data(&header);
    let mut sets = Vec::with_capacity(24);
    for shift in [0, 32] {
        for set in [effective, permitted, inheritable] {
            sets.extend_from_slice(&((set >> shift) as u32).to_ne_bytes());
        }
    }
    let sets = program.data(&sets);
    program.call(libc::SYS_capset, [header.into(), sets.into()]);
}

/// Registers, extended state and mask: what the thread goes on with when it is let go.
pub(super) fn cpu_state(task: &mut Stopped, thread: &Thread) -> Result<()> {
    let words: [u64; WORDS] = thread.regs.as_slice().try_into().expect("checked with the image");
    let mut area = thread.xstate.clone();
    area.resize(thread.xstate_len, 0);
    regs::set_xstate(task.tid(), &area)?;
    task.set_final(Regs::from_words(words), thread.sigmask);
    Ok(())
}
