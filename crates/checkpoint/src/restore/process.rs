//! What a process gets when its memory, files and threads are there.

use super::actions::actions;
use super::builder::Builder;
use super::thread;
use crate::error::{Context, Result};
use crate::image::tree::{Live, Process, State};
use crate::program::Program;
use crate::resource::timer;
use crate::tracee::Mode;
use log::warn;
use rtc_sys::CallExt;

impl Builder<'_> {
    /// Threads of every process.
    pub(super) fn make_threads(&mut self) -> Result<()> {
        let flags = libc::CLONE_VM
            | libc::CLONE_FS
            | libc::CLONE_FILES
            | libc::CLONE_SIGHAND
            | libc::CLONE_THREAD
            | libc::CLONE_SYSVSEM;
        for (process, live) in self.living() {
            let tids: Vec<i32> = live.threads.iter().skip(1).map(|t| t.tid).collect();
            for tids in tids.chunks(THREADS_AT_ONCE) {
                let (leader, zone) = self.leader(process);
                let made = super::tree::clone_many(leader, zone, flags, 0, tids)
                    .context(|| format!("threads of process {}", self.tree.processes[process].pid))?;
                for (task, tid) in made.iter().zip(tids) {
                    self.pids.insert(*tid, task.tid());
                }
                self.built[process].as_mut().expect("made").threads.extend(made);
            }
        }
        Ok(())
    }

    /// Process groups, leaders first.
    pub(super) fn make_groups(&mut self) -> Result<()> {
        let tree = self.tree;
        let mut order: Vec<usize> = self.living().map(|(i, _)| i).collect();
        order.sort_by_key(|i| tree.processes[*i].pgid != tree.processes[*i].pid);
        for place in order {
            let process = &tree.processes[place];
            // A session's leader leads its group, and a group from outside is inherited.
            if process.sid == process.pid || process.pgid == 0 {
                continue;
            }
            if self.join_group(place, process.pgid).is_err() {
                self.join_dead_group(place, process).context(|| format!("process group {}", process.pgid))?;
            }
        }
        Ok(())
    }

    fn join_group(&mut self, place: usize, pgid: i32) -> Result<()> {
        let mut program = Program::new();
        program.call(libc::SYS_setpgid, [0u64.into(), pgid.into()]);
        let (task, zone) = self.leader(place);
        task.run(Mode::Interp, zone, &program).map(drop)
    }

    /// The group's leader is gone: a helper with its id begins the group and ends when it has another member.
    fn join_dead_group(&mut self, place: usize, process: &Process) -> Result<()> {
        let (task, zone) = self.leader(place);
        let mut helper = super::tree::clone(task, zone, 0, 0, process.pgid)?;
        let mut program = Program::new();
        program.call(libc::SYS_setpgid, [0u64.into(), 0u64.into()]);
        helper.run(Mode::Interp, zone, &program)?;
        let joined = self.join_group(place, process.pgid);
        super::tree::end(helper, zone, 0)?;
        self.reap(place, process.pgid)?;
        joined
    }

    /// Zombies end now, when nobody needs their groups any more.
    pub(super) fn end_zombies(&mut self) -> Result<()> {
        for (task, status) in std::mem::take(&mut self.zombies) {
            super::tree::end(task, self.zone, status)?;
        }
        Ok(())
    }

    /// Descriptor tables, and what only the task with the table can do.
    pub(super) fn fill_tables(&mut self) -> Result<()> {
        let mut filled = vec![false; self.tree.tables.len()];
        for (process, live) in self.living() {
            if std::mem::replace(&mut filled[live.table], true) {
                continue;
            }
            let pid = self.tree.processes[process].pid;
            self.fill_table(process, live.table, pid).context(|| format!("descriptors of process {pid}"))?;
        }
        Ok(())
    }

    fn fill_table(&mut self, process: usize, table: usize, pid: i32) -> Result<()> {
        let table = &self.tree.tables[table];
        let zone = self.zone;
        let mut fds = Vec::with_capacity(table.len());
        for descriptor in table {
            fds.push(self.open_files.get(descriptor.file)?);
        }
        let leader = &mut self.built[process].as_mut().expect("made").leader;
        self.transport.fill(leader, zone, table, &fds)?;
        let program = self.open_files.after_table(self.files, table, pid)?;
        let leader = &mut self.built[process].as_mut().expect("made").leader;
        leader.run(Mode::Interp, zone, &program).map(drop)
    }

    /// Everything of the process that its leader sets.
    pub(super) fn set_processes(&mut self) -> Result<()> {
        for (process, live) in self.living() {
            let pid = self.tree.processes[process].pid;
            self.set_process(process, live).context(|| format!("process {pid}"))?;
        }
        Ok(())
    }

    fn set_process(&mut self, process: usize, live: &Live) -> Result<()> {
        let mm = &self.tree.mms[live.mm];
        let semaphores = self.container.ipc.sysv.changed_by(self.tree.processes[process].pid);
        let (task, zone) = self.leader(process);
        super::memory::protect(task, zone, mm)?;
        let program = actions(&live.actions);
        task.run(Mode::Interp, zone, &program).context(|| "signal handlers")?;
        timer::restore(task, zone, &live.timers).context(|| "timers")?;
        for program in semaphores {
            task.run(Mode::Interp, zone, &program).context(|| "semaphores")?;
        }
        let mut program = Program::new();
        let prctl = |program: &mut Program, option: i32, value: i32| {
            program.call(libc::SYS_prctl, [option.into(), value.into(), 0u64.into(), 0u64.into(), 0u64.into()]);
        };
        prctl(&mut program, libc::PR_SET_CHILD_SUBREAPER, i32::from(live.subreaper));
        program.call(libc::SYS_personality, [live.personality.into()]);
        let limits: Vec<_> = live
            .limits
            .iter()
            .zip(0u64..)
            .map(|((soft, hard), resource)| {
                let limit = program.data(&[soft.to_ne_bytes(), hard.to_ne_bytes()].concat());
                (
                    resource,
                    program.try_call(libc::SYS_prlimit64, [0u64.into(), resource.into(), limit.into(), 0u64.into()]),
                )
            })
            .collect();
        let tid = task.tid();
        let results = task.run(Mode::Interp, zone, &program)?;
        for (resource, call) in limits {
            if let Err(errno) = results.ok(call) {
                warn!("process {}: resource limit {resource} can't be set here: {errno}", process + 1);
            }
        }
        set_by_proc(tid, live);
        Ok(())
    }

    /// What each thread sets while it has all privileges.
    pub(super) fn set_threads(&mut self) -> Result<()> {
        for (process, live) in self.living() {
            let pid = self.tree.processes[process].pid;
            for (i, wanted) in live.threads.iter().enumerate() {
                let (task, zone) = self.thread(process, i);
                let section = thread::take_section(task, wanted).context(|| format!("thread {}", wanted.tid))?;
                task.run(Mode::Interp, zone, &thread::identity(wanted))
                    .and_then(|_| thread::schedule(task, zone, wanted))
                    .context(|| format!("thread {}", wanted.tid))?;
                let shared = if i == 0 { live.pending.as_slice() } else { &[] };
                task.run(Mode::Interp, zone, &thread::pending(wanted, pid, shared))
                    .context(|| format!("pending signals of thread {}", wanted.tid))?;
                self.sections.extend(section.map(|section| ((process, i), section)));
            }
        }
        Ok(())
    }

    /// Filters and credentials of every thread.
    pub(super) fn drop_privileges(&mut self) -> Result<()> {
        let filters = &self.tree.filters;
        let last_cap = last_cap()?;
        for (process, live) in self.living() {
            for (i, wanted) in live.threads.iter().enumerate() {
                let program = thread::privileges(wanted, filters, self.labels, last_cap);
                let (task, zone) = self.thread(process, i);
                task.run(Mode::Interp, zone, &program).context(|| format!("credentials of thread {}", wanted.tid))?;
            }
            let mut program = Program::new();
            // Changing ids has changed it. 2, which nobody but the kernel can set, is nearer to 0: others may not look.
            let dumpable = i32::from(live.dumpable == 1);
            program.call(libc::SYS_prctl, [libc::PR_SET_DUMPABLE.into(), dumpable.into()]);
            let (task, zone) = self.leader(process);
            task.run(Mode::Interp, zone, &program)?;
        }
        Ok(())
    }

    /// Registers of every thread; then the last trace of ours goes, and everybody runs.
    pub(super) fn release(&mut self) -> Result<()> {
        for (process, live) in self.living() {
            for (i, wanted) in live.threads.iter().enumerate() {
                let task = self.thread(process, i).0;
                thread::cpu_state(task, wanted).context(|| format!("registers of thread {}", wanted.tid))?;
            }
            let (leader, zone) = self.leader(process);
            zone.unmap(leader, zone.syscall_insn())?;
            for (i, wanted) in live.threads.iter().enumerate() {
                let Some(section) = self.sections.remove(&(process, i)) else { continue };
                thread::put_section(self.thread(process, i).0, wanted, section)?;
            }
            if let State::Stopped(signal) = self.tree.processes[process].state {
                self.leader(process).0.stop_when_detached(signal);
            }
        }
        // Children first: whoever sees its parent run is running already.
        for built in self.built.iter_mut().rev().filter_map(Option::take) {
            for task in built.threads {
                task.detach()?;
            }
            built.leader.detach()?;
        }
        Ok(())
    }
}

/// How many threads are made by one program.
const THREADS_AT_ONCE: usize = 200;

/// The number of the last capability that the kernel knows.
fn last_cap() -> Result<u32> {
    let path = "/proc/sys/kernel/cap_last_cap";
    let text = std::fs::read_to_string(path).call("read", path)?;
    text.trim().parse().map_err(|_| crate::procfs::Malformed("cap_last_cap").into())
}

/// What only /proc sets. A value that this machine refuses (lowering without CAP_SYS_RESOURCE) is worth a warning.
fn set_by_proc(tid: i32, live: &Live) {
    let values = [
        ("oom_score_adj", live.oom_score_adj.to_string()),
        ("coredump_filter", format!("{:#x}", live.coredump_filter)),
    ];
    for (name, value) in values {
        let path = format!("/proc/{tid}/{name}");
        if std::fs::read_to_string(&path).is_ok_and(|now| now.trim() == value) {
            continue;
        }
        if let Err(e) = std::fs::write(&path, &value) {
            warn!("{name} {value} can't be set here: {e}");
        }
    }
}
