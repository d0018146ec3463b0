//! What a process has besides its threads, files and memory.

use super::collect::StoppedProcess;
use super::interned::Interned;
use super::landlock;
use super::namespaces;
use super::thread::{self, Questions};
use crate::error::{Context, Result};
use crate::files::Blocker;
use crate::image::tree::{Action, Filter, Live, MmLayout, Signal, Thread};
use crate::proc::Proc;
use crate::procfs::stat::Stat;
use crate::program::{Addr, CallRef, DataRef, Program};
use crate::resource::timer::{self, Timers};
use crate::tracee::{Mode, Results, Stopped, Zone};
use rtc_sys::{procmem, ptrace, regs};

/// The number of signals.
const SIGNALS: i32 = 64;
/// The size of the kernel's `struct sigaction`: handler, flags, restorer, mask.
const SIGACTION: usize = 32;

/// Everything of a process that only injected calls can tell.
pub(super) struct Answers {
    pub(super) threads: Vec<Thread>,
    /// The thread, as the container counts, that is in a Landlock domain.
    pub(super) confined: Option<i32>,
    pub(super) actions: Vec<Action>,
    pub(super) timers: Timers,
    pub(super) brk: u64,
    pub(super) subreaper: bool,
    pub(super) dumpable: i32,
    pub(super) thp_disable: bool,
}

/// The questions that one thread answers for its process.
struct ProcessQuestions {
    actions: Vec<DataRef>,
    timers: timer::Questions,
    brk: CallRef,
    subreaper: DataRef,
    dumpable: CallRef,
    thp_disable: CallRef,
}

impl ProcessQuestions {
    fn ask(program: &mut Program, timers_text: &str) -> Result<Self> {
        let mut actions = Vec::with_capacity(SIGNALS as usize);
        for signal in 1..=SIGNALS {
            let at = program.reserve(SIGACTION);
            program.call(libc::SYS_rt_sigaction, [signal.into(), 0u64.into(), at.into(), 8u64.into()]);
            actions.push(at);
        }
        let brk = program.call(libc::SYS_brk, [0u64.into()]);
        let subreaper = program.reserve(8);
        program.call(libc::SYS_prctl, [libc::PR_GET_CHILD_SUBREAPER.into(), subreaper.into()]);
        let dumpable = program.call(libc::SYS_prctl, [libc::PR_GET_DUMPABLE.into()]);
        let zero = || 0u64.into();
        let thp_disable =
            program.try_call(libc::SYS_prctl, [libc::PR_GET_THP_DISABLE.into(), zero(), zero(), zero(), zero()]);
        let timers = timer::Questions::ask(program, timers_text)?;
        Ok(Self { actions, timers, brk, subreaper, dumpable, thp_disable })
    }

    fn actions(&self, results: &Results) -> Vec<Action> {
        let mut all = Vec::new();
        for (signal, at) in (1..).zip(&self.actions) {
            let word = |i: usize| results.word(at.from_offset(i * 8));
            let action = Action { signal, handler: word(0), flags: word(1), restorer: word(2), mask: word(3) };
            if action.handler != 0 || action.flags != 0 || action.mask != 0 {
                all.push(action);
            }
        }
        all
    }
}

impl ProcessOutside {
    /// The process's id in the container.
    pub(super) fn inside(&self) -> Option<i32> {
        self.threads.first()?.status.ns_tgid.last().copied()
    }
}

/// Looks at a stopped process from outside. Blockers stand for what couldn't be looked at.
pub(super) fn look(
    process: &mut StoppedProcess,
    processors: Option<&[u64]>,
    own: &namespaces::Common,
    blockers: &mut Vec<Blocker>,
) -> Result<ProcessOutside> {
    let pid = process.pid;
    let pending = ptrace::peek_pending(pid, true)?;
    let mut threads = Vec::with_capacity(process.threads.len());
    let mut blocked = |inside: i32, what: String, why: &str, remedy: &str| {
        blockers.push(Blocker { pid: inside, what, why: why.into(), remedy: remedy.into() });
    };
    for task in &mut process.threads {
        let tid = task.tid();
        if !regs::is_64_bit(tid)? {
            let inside = Proc(pid).status()?.ns_tgid.last().copied().unwrap_or(pid);
            blocked(inside, format!("task {tid}"), "it runs 32-bit code", "use a 64-bit build of the program");
            return Ok(ProcessOutside::default());
        }
        threads.push(thread::look(pid, task, &pending, processors).context(|| format!("task {tid}"))?);
    }
    let outside = ProcessOutside { threads, pending };
    let inside = outside.inside().unwrap_or(pid);
    if process.threads[0].tid() != pid {
        let what = "the process's first thread".to_owned();
        blocked(inside, what, "it has ended while others run", "wait until the process has ended");
    }
    let tids = process.threads.iter().map(Stopped::tid);
    namespaces::check(pid, tids, inside, own, blockers);
    Ok(outside)
}

/// Runs the programs of a process and its threads, each put back at once.
///
/// `outside` is what was seen of each thread, in the same order.
pub(super) fn ask(
    threads: &mut [Stopped],
    outside: Vec<thread::Outside>,
    zone: Zone,
    filters: &mut Interned<Filter>,
) -> Result<Answers> {
    let (leader, others) = threads.split_first_mut().expect("a living process has threads");
    let pid = leader.tid();
    let timers_text = Proc(pid).text("timers").unwrap_or_default();
    // A handler that ignores SIGTRAP would be lost to the interpreter's trap.
    let trap_ignored = outside[0].status.sig_ignored & (1 << (libc::SIGTRAP - 1)) != 0;
    let insn = find_syscall(pid)?;
    let about_landlock = landlock::can_be_asked(pid);

    let asked = with_zone(leader, zone, insn, trap_ignored, |leader, mode| {
        let mut program = Program::new();
        let process = ProcessQuestions::ask(&mut program, &timers_text)?;
        let questions = Questions::ask(&mut program, about_landlock);
        let results = leader.run(mode, zone, &program)?;
        let mut answers = vec![(questions, results.clone())];
        for thread in others.iter_mut() {
            answers.push(thread::ask(thread, mode, zone, about_landlock).context(|| format!("task {}", thread.tid()))?);
        }
        Ok((process, results, answers))
    });
    let (process, results, answers) = asked.context(|| format!("look into process {pid}"))?;

    let threads: Vec<Thread> = outside.into_iter().zip(&answers).map(|(o, (q, r))| o.thread(q, r, filters)).collect();
    let confined = threads.iter().zip(&answers).find(|(_, (q, r))| q.is_confined(r)).map(|(thread, _)| thread.tid);
    Ok(Answers {
        threads,
        confined,
        actions: process.actions(&results),
        timers: process.timers.answers(&results)?,
        brk: results.of(process.brk) as u64,
        subreaper: results.word(process.subreaper) as u32 != 0,
        dumpable: results.of(process.dumpable) as i32,
        thp_disable: results.of(process.thp_disable) == 1,
    })
}

/// Maps the zone around `work`, and leaves the task as it was whatever happens.
fn with_zone<T>(
    task: &mut Stopped,
    zone: Zone,
    insn: Addr,
    step_only: bool,
    work: impl FnOnce(&mut Stopped, Mode) -> Result<T>,
) -> Result<T> {
    let step = Mode::Step { syscall_insn: insn };
    let mapped = zone.map(task, insn);
    let mode = if step_only { step } else { Mode::Interp };
    let worked = mapped.and_then(|()| work(task, mode));
    let unmapped = zone.unmap(task, insn);
    let restored = task.restore();
    let value = worked?;
    unmapped?;
    restored?;
    Ok(value)
}

/// Finds a `syscall` instruction in the process's vDSO, or else in any code it has.
pub(crate) fn find_syscall(pid: i32) -> Result<Addr> {
    let mut maps = Proc(pid).maps()?;
    maps.retain(|m| m.prot & libc::PROT_EXEC != 0 && m.name != "[vsyscall]");
    maps.sort_by_key(|m| m.name != "[vdso]");
    for mapping in maps {
        let mut code = vec![0; (mapping.end - mapping.start).min(1 << 20) as usize];
        if procmem::read(pid, mapping.start, &mut code).is_err() {
            continue;
        }
        if let Some(at) = code.windows(2).position(|w| w == regs::SYSCALL_INSN) {
            return Ok(Addr(mapping.start + at as u64));
        }
    }
    let kind = crate::Kind::Unsupported;
    Err(crate::Error::new(kind, format!("process {pid} has no system call instruction in its memory")))
}

/// The bounds that the kernel keeps of the address space, with the heap's end as the process told it.
pub(super) fn layout(stat: &Stat, brk: u64) -> MmLayout {
    MmLayout {
        code: stat.code,
        data: stat.data,
        brk: (stat.start_brk, brk),
        start_stack: stat.start_stack,
        args: stat.args,
        env: stat.env,
    }
}

/// What is not in [`Answers`], read from outside; places of files and memory are filled in by the caller.
pub(super) fn live(
    pid: i32,
    answers: Answers,
    pending: &[ptrace::SigInfo],
    umask: u32,
    files: ProcessFiles,
) -> Result<Live> {
    let proc = Proc(pid);
    Ok(Live {
        mm: files.mm,
        table: files.table,
        fs: files.fs,
        cwd: files.cwd,
        root: files.root,
        umask,
        actions: answers.actions,
        pending: pending.iter().map(|s| Signal(s.0.to_vec())).collect(),
        timers: answers.timers,
        limits: crate::procfs::limits::parse(&proc.text("limits")?)?,
        subreaper: answers.subreaper,
        dumpable: answers.dumpable,
        thp_disable: answers.thp_disable,
        oom_score_adj: proc.number("oom_score_adj")?,
        coredump_filter: proc.hex("coredump_filter").unwrap_or(0x33) as u32,
        personality: proc.hex("personality")? as u32,
        threads: answers.threads,
    })
}

/// Where a process's files and memory are in the image.
pub(super) struct ProcessFiles {
    pub(super) mm: usize,
    pub(super) table: usize,
    pub(super) fs: usize,
    pub(super) cwd: crate::files::FileId,
    pub(super) root: crate::files::FileId,
}

/// What is seen of a process before any program has run.
#[derive(Default)]
pub(super) struct ProcessOutside {
    /// Its threads, in order; none of a zombie.
    pub(super) threads: Vec<thread::Outside>,
    /// Signals pending for all of it.
    pub(super) pending: Vec<ptrace::SigInfo>,
}
