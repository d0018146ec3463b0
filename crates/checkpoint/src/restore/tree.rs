//! Makes the processes: every one by its own parent, with its own id, session and memory.
//!
//! A task is always in a ptrace stop, from its first instruction to the last step. Memory is in place before children
//! are made, because they inherit it.

use super::builder::{Builder, Built};
use super::family::{self, Making};
use super::fill::fill;
use super::inherit;
use super::memory::{self, FileNumbers};
use super::transport::Transport;
use crate::error::{Context, Error, Kind, Result};
use crate::files::FileId;
use crate::image::tree::{Live, Mm, MmLayout, State};
use crate::program::{Addr, Arg, Program};
use crate::tracee::{Mode, Stopped, Zone};
use rtc_sys::ptrace::{self, Wait};
use std::os::fd::BorrowedFd;

/// The length of `struct clone_args` with all fields up to `cgroup` (kernel 5.7).
const CLONE_ARGS: usize = 88;
/// `PR_SET_MM`, `PR_SET_MM_MAP` of prctl(2) (kernel 3.18, CONFIG_CHECKPOINT_RESTORE).
const PR_SET_MM: i32 = 35;
const PR_SET_MM_MAP: i32 = 14;

/// Lets a stopped task make a task with the id `tid`; both are stopped afterwards.
pub(super) fn clone(creator: &mut Stopped, zone: Zone, flags: i32, exit_signal: i32, tid: i32) -> Result<Stopped> {
    let mut all = clone_many(creator, zone, flags, exit_signal, &[tid])?;
    all.pop().ok_or_else(|| Error::new(Kind::System, format!("clone3 made no task {tid}")))
}

/// As [`clone`], many at once.
pub(super) fn clone_many(
    creator: &mut Stopped,
    zone: Zone,
    flags: i32,
    exit_signal: i32,
    tids: &[i32],
) -> Result<Vec<Stopped>> {
    let mut program = Program::new();
    for tid in tids {
        let set_tid = program.data(&tid.to_ne_bytes());
        let mut args = [0u8; CLONE_ARGS];
        args[..8].copy_from_slice(&u64::from(flags as u32).to_ne_bytes());
        args[32..40].copy_from_slice(&u64::from(exit_signal as u32).to_ne_bytes());
        args[72..80].copy_from_slice(&1u64.to_ne_bytes());
        let args = program.data(&args);
        program.pointer(args.from_offset(64), set_tid);
        program.call(libc::SYS_clone3, [args.into(), CLONE_ARGS.into()]);
    }
    let ran = creator.run(Mode::Interp, zone, &program).context(|| "make a task").map_err(taken);
    // Those that were made before one failed must be waited for all the same.
    let born = creator.take_born();
    let mut made = Vec::with_capacity(born.len());
    for running in born {
        made.push(running.wait()?);
    }
    ran?;
    Ok(made)
}

fn taken(e: Error) -> Error {
    if e.sys().is_some_and(|s| s.errno() == rtc_sys::Errno::EEXIST) {
        return e.with_hint("the id is taken: restore into a pid namespace of the container's own");
    }
    e
}

/// Ends a stopped task with a wait status; it stays a zombie of its parent.
pub(super) fn end(mut task: Stopped, zone: Zone, status: i32) -> Result<()> {
    let tid = task.tid();
    let mut program = Program::new();
    // No core file is written a second time.
    program.call(libc::SYS_prctl, [libc::PR_SET_DUMPABLE.into(), 0u64.into()]);
    task.run(Mode::Interp, zone, &program)?;
    if libc::WIFSIGNALED(status) {
        let signal = libc::WTERMSIG(status);
        ptrace::set_sigmask(tid, 0)?;
        ptrace::tgkill(tid, tid, signal)?;
        // SIGKILL ends it even while it is stopped; any other signal is first shown to us.
        if signal != libc::SIGKILL {
            ptrace::cont(tid, 0)?;
        }
        loop {
            match ptrace::wait(tid)? {
                Wait::Stopped(s, 0) if s == signal => ptrace::cont(tid, signal)?,
                Wait::Stopped(..) => ptrace::cont(tid, 0)?,
                Wait::Exited(_) | Wait::Killed(_) => return Ok(()),
            }
        }
    }
    let mut program = Program::new();
    program.call(libc::SYS_exit_group, [libc::WEXITSTATUS(status).into()]);
    match task.run(Mode::Interp, zone, &program) {
        Err(_) => Ok(()), // it died, as it should
        Ok(_) => Err(Error::new(Kind::System, format!("task {tid} didn't end"))),
    }
}

/// What of a process may be shared with another.
type Of = fn(&Live) -> usize;

impl Builder<'_> {
    /// Makes all processes; the first is there already.
    pub(super) fn make_processes(&mut self) -> Result<()> {
        let tree = self.tree;
        // The first process leads its session from the beginning.
        self.take_terminal(0)?;
        for step in family::plan(&tree.processes)? {
            match step {
                Making::Memory { process } => self.make_memory(process),
                Making::SetSid { process } => {
                    self.call(process, libc::SYS_setsid).and_then(|()| self.take_terminal(process))
                }
                Making::Fork { parent, child } => self.fork(parent, child),
                Making::Orphan { through, leader, child } => self.make_orphan(through, leader, child),
            }?;
        }
        Ok(())
    }

    fn call(&mut self, process: usize, nr: i64) -> Result<()> {
        let mut program = Program::new();
        program.call(nr, []);
        let (task, zone) = self.leader(process);
        task.run(Mode::Interp, zone, &program).map(drop)
    }

    fn fork(&mut self, parent: usize, child: usize) -> Result<()> {
        let made = &self.tree.processes[child];
        let flags = self.fork_flags(parent, child)?;
        let (task, zone) = self.leader(parent);
        let task =
            clone(task, zone, flags, made.exit_signal, made.pid).context(|| format!("make process {}", made.pid))?;
        self.has_memory_of[child] = self.tree.processes[parent].live.as_ref().map(|l| l.mm);
        self.settle(child, task)
    }

    /// A child of a session whose leader is dead or not its parent: a helper makes it and ends, and the kernel gives it
    /// to the next reaper, as happened to the original.
    fn make_orphan(&mut self, through: usize, leader: Option<i32>, child: usize) -> Result<()> {
        let made = &self.tree.processes[child];
        let helper_pid = leader.map_or_else(|| self.free_pid(), Ok)?;
        let (task, zone) = self.leader(through);
        let mut helper = clone(task, zone, 0, 0, helper_pid).context(|| "make a helper")?;
        if leader.is_some() {
            let mut program = Program::new();
            program.call(libc::SYS_setsid, []);
            helper.run(Mode::Interp, zone, &program)?;
        }
        let task =
            clone(&mut helper, zone, 0, made.exit_signal, made.pid).context(|| format!("make process {}", made.pid))?;
        end(helper, zone, 0)?;
        self.reap(through, helper_pid)?;
        self.has_memory_of[child] = self.tree.processes[through].live.as_ref().map(|l| l.mm);
        self.settle(child, task)
    }

    /// Lets a task wait for a helper's end.
    pub(super) fn reap(&mut self, process: usize, pid: i32) -> Result<()> {
        let mut program = Program::new();
        program.call(libc::SYS_wait4, [pid.into(), 0u64.into(), libc::__WALL.into(), 0u64.into()]);
        let (task, zone) = self.leader(process);
        task.run(Mode::Interp, zone, &program).context(|| "wait for a helper").map(drop)
    }

    fn settle(&mut self, child: usize, task: Stopped) -> Result<()> {
        let made = &self.tree.processes[child];
        self.pids.insert(made.pid, task.tid());
        if let State::Zombie(status) = made.state {
            return self.zombie(child, task, status);
        }
        self.built[child] = Some(Built { leader: task, threads: Vec::new() });
        Ok(())
    }

    /// A zombie has a session and a group all the same.
    fn zombie(&mut self, child: usize, mut task: Stopped, status: i32) -> Result<()> {
        let made = &self.tree.processes[child];
        let mut program = Program::new();
        if made.sid == made.pid {
            program.call(libc::SYS_setsid, []);
        } else if made.pgid == made.pid {
            program.try_call(libc::SYS_setpgid, [0u64.into(), 0u64.into()]);
        }
        task.run(Mode::Interp, self.zone, &program)?;
        self.zombies.push((task, status));
        Ok(())
    }

    fn fork_flags(&self, parent: usize, child: usize) -> Result<i32> {
        let shared: [(i32, &str, Of); 2] = [
            (libc::CLONE_FILES, "descriptors", |live| live.table),
            (libc::CLONE_FS, "working directory", |live| live.fs),
        ];
        let mut flags = 0;
        for (flag, what, of) in shared {
            let place = |i: usize| self.tree.processes[i].live.as_deref().map(of);
            let Some(own) = place(child) else { continue };
            if place(parent) == Some(own) {
                flags |= flag;
            } else if (0..child).any(|other| place(other) == Some(own)) {
                let pid = self.tree.processes[child].pid;
                let message = format!("process {pid} shares its {what} with one that isn't its parent");
                return Err(Error::new(Kind::Unsupported, message));
            }
        }
        Ok(flags)
    }

    /// An id that no process or thread of the tree has.
    pub(super) fn free_pid(&self) -> Result<i32> {
        let used = |pid: i32| {
            self.tree.processes.iter().any(|p| {
                p.pid == pid
                    || p.sid == pid
                    || p.pgid == pid
                    || p.live.iter().flat_map(|l| &l.threads).any(|t| t.tid == pid)
            })
        };
        (2..i32::MAX).find(|pid| !used(*pid)).ok_or_else(|| Error::new(Kind::System, "no process id is free"))
    }

    /// Gives a process its memory: nothing of the parent's but what is the same stays.
    fn make_memory(&mut self, process: usize) -> Result<()> {
        let Some(live) = self.tree.processes[process].live.as_deref() else { return Ok(()) };
        let pid = self.tree.processes[process].pid;
        self.build_memory(process, live).context(|| format!("memory of process {pid}"))
    }

    fn build_memory(&mut self, process: usize, live: &Live) -> Result<()> {
        let mm = &self.tree.mms[live.mm];
        let runs = self.pages.runs(mm.runs.0, mm.runs.1)?;
        let parent = self.has_memory_of[process].map(|parent| &self.tree.mms[parent]);
        let plan = match parent {
            None => inherit::from_nothing(mm, runs),
            Some(parent) => inherit::from_parent(mm, runs, parent, self.pages.runs(parent.runs.0, parent.runs.1)?),
        };
        // The link can't be set while the old file is mapped, and needn't be when it is the same.
        let exe = mm.exe.filter(|exe| parent.is_none_or(|parent| parent.exe != Some(*exe)));
        let mut needed = memory::files_needed(mm, &plan);
        needed.extend([live.cwd, live.root]);
        needed.extend(mm.exe);
        needed.sort_unstable();
        needed.dedup();
        let zone = self.zone;
        let numbers = self.receive(process, &needed)?;
        let (task, _) = self.leader(process);
        memory::map(task, zone, mm, &plan, &numbers)?;
        set_layout(task, zone, mm, exe.and_then(|exe| numbers.get(&exe)).copied(), live.thp_disable)?;
        set_directories(task, zone, live, &numbers)?;
        memory::open_for_writing(task, zone, mm, &plan.write)?;
        let huge = self.huge.unless(live.thp_disable);
        let pages = self.pages;
        let (task, _) = self.leader(process);
        self.report.pages_restored += fill(task, zone, mm, &plan, huge, pages)?;
        Ok(())
    }

    /// Brings files into the process's table, at the numbers 0, 1, 2, ….
    pub(super) fn receive(&mut self, process: usize, needed: &[FileId]) -> Result<FileNumbers> {
        let fds: Vec<BorrowedFd<'_>> = needed.iter().map(|id| self.open_files.get(*id)).collect::<Result<_>>()?;
        let zone = self.zone;
        let built = self.built[process].as_mut().expect("a process is made before its memory");
        // A shared table has what the parent received; a copied one too, and the numbers must be free.
        let transport: &Transport = self.transport;
        transport.clear(&mut built.leader, zone)?;
        transport.send(&mut built.leader, zone, &fds)?;
        Ok(needed.iter().zip(0..).map(|(id, number)| (*id, number)).collect())
    }
}

/// The kernel's bounds of the address space, the auxiliary vector, the link to the executable, and whether pages may
/// be huge, before any comes.
fn set_layout(task: &mut Stopped, zone: Zone, mm: &Mm, exe: Option<i32>, thp_disable: bool) -> Result<()> {
    let MmLayout { code, data, brk, start_stack, args, env } = mm.layout;
    let mut program = Program::new();
    let zero = || Arg::from(0u64);
    let disable = i32::from(thp_disable).into();
    program.call(libc::SYS_prctl, [libc::PR_SET_THP_DISABLE.into(), disable, zero(), zero(), zero()]);
    let auxv = program.data(&mm.auxv);
    let words = [code.0, code.1, data.0, data.1, brk.0, brk.1, start_stack, args.0, args.1, env.0, env.1, 0]
        .map(u64::to_ne_bytes);
    let mut map = words.concat();
    map.extend_from_slice(&(mm.auxv.len() as u32).to_ne_bytes());
    map.extend_from_slice(&exe.unwrap_or(-1).to_ne_bytes());
    let map = program.data(&map);
    if !mm.auxv.is_empty() {
        program.pointer(map.from_offset(88), auxv);
    }
    program.call(libc::SYS_prctl, [PR_SET_MM.into(), PR_SET_MM_MAP.into(), map.into(), map.len().into(), 0u64.into()]);
    task.run(Mode::Interp, zone, &program).context(|| "set the bounds of the address space").map(drop)
}

fn set_directories(task: &mut Stopped, zone: Zone, live: &Live, files: &FileNumbers) -> Result<()> {
    let mut program = Program::new();
    let dot = program.data(b".\0");
    let number = |id: FileId| files.get(&id).copied().unwrap_or(-1);
    program.call(libc::SYS_fchdir, [number(live.root).into()]);
    program.call(libc::SYS_chroot, [dot.into()]);
    program.call(libc::SYS_fchdir, [number(live.cwd).into()]);
    program.call(libc::SYS_umask, [live.umask.into()]);
    task.run(Mode::Interp, zone, &program).context(|| "set the working directory").map(drop)
}

/// Unmaps everything but the zone in the task that becomes the first process, and forgets what pointed there.
pub(super) fn strip(task: &mut Stopped, zone: Zone, rseq: &ptrace::Rseq) -> Result<()> {
    let mut program = Program::new();
    super::thread::forget_rseq(&mut program, rseq);
    program.call(libc::SYS_set_robust_list, [0u64.into(), 24u64.into()]);
    program.call(libc::SYS_set_tid_address, [0u64.into()]);
    let Addr(base) = zone.base();
    let end = base + Zone::SIZE;
    program.call(libc::SYS_munmap, [0u64.into(), base.into()]);
    program.call(libc::SYS_munmap, [end.into(), (USER_END - end).into()]);
    super::actions::default_actions(&mut program);
    task.run(Mode::Interp, zone, &program).context(|| "empty the first process").map(drop)
}

/// The end of user addresses with four-level page tables; beyond, nothing is mapped unless asked for.
const USER_END: u64 = 0x7fff_ffff_f000;
