//! What a thread has of its own.

use super::interned::Interned;
use super::landlock;
use super::{restart, users};
use crate::error::{Context, Result};
use crate::image::tree::{Creds, Filter, Scheduling, Seccomp, Signal, Thread};
use crate::proc::Proc;
use crate::procfs::status::Status;
use crate::program::{CallRef, DataRef, Program};
use crate::tracee::{Mode, Results, Stopped, Zone};
use rtc_sys::{ptrace, regs, sched};

/// Calls that only the thread itself can make, and where their answers are.
pub(super) struct Questions {
    altstack: DataRef,
    clear_child_tid: DataRef,
    parent_death_signal: DataRef,
    securebits: CallRef,
    /// Only where the answer tells anything.
    landlock: Option<CallRef>,
}

/// `PR_GET_TID_ADDRESS` (kernel 3.5, CONFIG_CHECKPOINT_RESTORE).
const PR_GET_TID_ADDRESS: i32 = 40;
/// The size of the kernel's `stack_t`.
const STACK_T: usize = 24;

impl Questions {
    /// Adds the calls to a program.
    pub(super) fn ask(program: &mut Program, about_landlock: bool) -> Self {
        let altstack = program.reserve(STACK_T);
        let clear_child_tid = program.reserve(8);
        let parent_death_signal = program.reserve(8);
        program.call(libc::SYS_sigaltstack, [0u64.into(), altstack.into()]);
        program.call(libc::SYS_prctl, [PR_GET_TID_ADDRESS.into(), clear_child_tid.into()]);
        program.call(libc::SYS_prctl, [libc::PR_GET_PDEATHSIG.into(), parent_death_signal.into()]);
        let securebits = program.call(libc::SYS_prctl, [libc::PR_GET_SECUREBITS.into()]);
        let landlock = about_landlock.then(|| landlock::ask(program));
        Self { altstack, clear_child_tid, parent_death_signal, securebits, landlock }
    }

    /// Whether the thread is in a Landlock domain, as far as that can be told.
    pub(super) fn is_confined(&self, results: &Results) -> bool {
        self.landlock.is_some_and(|call| landlock::is_confined(results, call))
    }
}

/// Runs the thread's questions alone; the leader's are part of its process's program.
pub(super) fn ask(task: &mut Stopped, mode: Mode, zone: Zone, about_landlock: bool) -> Result<(Questions, Results)> {
    let mut program = Program::new();
    let questions = Questions::ask(&mut program, about_landlock);
    let results = task.run(mode, zone, &program);
    // Not a moment longer with foreign registers than needed: the tracer's death would be the task's.
    task.restore()?;
    Ok((questions, results?))
}

/// Everything that can be seen from outside, before any program has run.
pub(super) struct Outside {
    pub(super) status: Status,
    pub(super) regs: regs::Regs,
    xstate: Vec<u8>,
    sigmask: u64,
    pending: Vec<Signal>,
    rseq: ptrace::Rseq,
    robust_list: (u64, u64),
    comm: String,
    scheduling: Scheduling,
    timer_slack: u64,
    filters: Vec<Filter>,
}

/// Looks at a stopped thread. `processors` are those that a thread without a restriction may use.
pub(super) fn look(
    pid: i32,
    task: &mut Stopped,
    shared_pending: &[ptrace::SigInfo],
    processors: Option<&[u64]>,
) -> Result<Outside> {
    let tid = task.tid();
    let proc = Proc(pid);
    let at = |name: &str| format!("task/{tid}/{name}");
    let mut status = crate::procfs::status::parse(&proc.text(&at("status"))?)?;
    users::as_inside(pid, &mut status)?;
    let comm = proc.text(&at("comm"))?.trim_end_matches('\n').to_owned();
    let pending = ptrace::peek_pending(tid, false)?;
    let sigmask = task.sigmask()?;
    let mut regs = task.regs().context(|| format!("registers of task {tid}"))?;
    // An interrupted call whose thread has a signal to handle was interrupted by that; otherwise it was by us.
    let blocked = |signal: i32| sigmask >> (signal - 1) & 1 == 1;
    let undisturbed = pending.iter().chain(shared_pending).all(|s| blocked(s.signal()));
    if undisturbed && is_interrupted(&regs) {
        // Its program must not learn that it was looked at, neither here nor after a restore.
        regs.restart_unless_handled();
        task.set_final(regs, sigmask);
    }
    Ok(Outside {
        regs: restart::restartable(task, regs),
        xstate: regs::get_xstate(tid)?,
        sigmask,
        pending: pending.iter().map(|s| Signal(s.0.to_vec())).collect(),
        rseq: ptrace::rseq(tid)?,
        robust_list: ptrace::robust_list(tid)?,
        comm,
        scheduling: scheduling(tid, processors.unwrap_or(&status.cpus_allowed))?,
        // The file isn't in task/TID, but /proc/TID is there all the same.
        timer_slack: Proc(tid).number("timerslack_ns")?,
        filters: if status.seccomp == 2 { filters(tid)? } else { Vec::new() },
        status,
    })
}

fn scheduling(tid: i32, processors: &[u64]) -> Result<Scheduling> {
    let attributes = sched::attributes(tid)?;
    let affinity = sched::affinity(tid)?;
    Ok(Scheduling {
        policy: attributes.policy,
        priority: attributes.priority,
        nice: attributes.nice,
        io_priority: sched::io_priority(tid)?,
        affinity: (affinity != processors).then_some(affinity),
    })
}

/// The processors that a thread without a restriction may use: those of pid 1 of the host.
pub(super) fn processors() -> Option<Vec<u64>> {
    Proc(1).status().ok().map(|status| status.cpus_allowed)
}

fn filters(tid: i32) -> Result<Vec<Filter>> {
    let mut all = Vec::new();
    while let Some((code, flags)) = ptrace::seccomp_filter(tid, all.len() as u64).context(|| "read seccomp filters")? {
        all.push(Filter { flags, code });
    }
    Ok(all)
}

impl Outside {
    /// Joins what was seen and what was answered.
    pub(super) fn thread(self, questions: &Questions, results: &Results, filters: &mut Interned<Filter>) -> Thread {
        let status = self.status;
        let word = |at| results.word(at);
        let stack = results.data(questions.altstack);
        let int = |at: usize| i32::from_ne_bytes(stack[at..at + 4].try_into().expect("four bytes"));
        let long = |at: usize| u64::from_ne_bytes(stack[at..at + 8].try_into().expect("eight bytes"));
        let xstate_len = self.xstate.len();
        let used = self.xstate.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
        Thread {
            tid: *status.ns_tid.last().expect("checked by the parser"),
            comm: self.comm,
            regs: self.regs.words().to_vec(),
            xstate: self.xstate[..used].to_vec(),
            xstate_len,
            sigmask: self.sigmask,
            pending: self.pending,
            altstack: (long(0), int(8), long(16)),
            robust_list: self.robust_list,
            clear_child_tid: word(questions.clear_child_tid),
            rseq: (self.rseq.address, self.rseq.size, self.rseq.signature),
            creds: Creds {
                uid: status.uid,
                gid: status.gid,
                groups: status.groups,
                caps: status.caps,
                securebits: results.of(questions.securebits) as u32,
                no_new_privs: status.no_new_privs,
            },
            seccomp: Seccomp {
                strict: status.seccomp == 1,
                filters: self.filters.into_iter().map(|f| filters.place(f)).collect(),
            },
            parent_death_signal: word(questions.parent_death_signal) as i32,
            timer_slack: self.timer_slack,
            scheduling: self.scheduling,
        }
    }
}

/// io_pgetevents(2), which the libc crate doesn't name on x86-64.
const SYS_IO_PGETEVENTS: i64 = 333;
/// System calls that fail with EINTR when their task is stopped for a moment, though no signal came.
/// The kernel restarts all others by itself (signal(7), "Interruption of system calls … by stop signals").
const NOT_RESTARTED: [i64; 16] = [
    libc::SYS_epoll_wait,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_semop,
    libc::SYS_semtimedop,
    libc::SYS_io_getevents,
    SYS_IO_PGETEVENTS,
    // Sockets with a time-out.
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_write,
    libc::SYS_sendto,
    libc::SYS_accept,
    libc::SYS_accept4,
];

/// Whether a thread is on its way out of such a call.
fn is_interrupted(regs: &regs::Regs) -> bool {
    regs.result() == -i64::from(libc::EINTR) && NOT_RESTARTED.contains(&regs.syscall())
}
