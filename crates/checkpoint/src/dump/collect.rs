//! Finds and stops every task of the tree.
//!
//! Nothing is frozen by a cgroup: tasks are seized and interrupted one by one, and the walk is repeated until it finds
//! nobody new. A task made meanwhile is attached by the kernel before its first instruction, because the tracer asks
//! for fork and clone events. If the tracer dies at any time here, the kernel lets every task go on.

use crate::error::{Context, Result};
use crate::proc::Proc;
use crate::tracee::{DUMP_OPTIONS, Running, Stopped};
use rtc_sys::Errno;
use std::collections::BTreeSet;

/// A process with all its threads stopped, or a zombie.
#[derive(Debug)]
pub(crate) struct StoppedProcess {
    /// Its id as the host counts.
    pub(crate) pid: i32,
    /// The place of its parent in the list; `None` for the root.
    pub(crate) parent: Option<usize>,
    /// Its threads, the leader first; none if it is a zombie.
    pub(crate) threads: Vec<Stopped>,
}

/// Stops the tree below `root`; parents stand before their children. What is in the list is stopped already.
pub(crate) fn stop_tree(root: i32, tree: &mut Vec<StoppedProcess>) -> Result<()> {
    if tree.is_empty() {
        tree.push(StoppedProcess { pid: root, parent: None, threads: Vec::new() });
    }
    let mut known: BTreeSet<i32> = tree.iter().map(|process| process.pid).collect();
    loop {
        let mut changed = false;
        let mut i = 0;
        while i < tree.len() {
            changed |= stop_threads(&mut tree[i])?;
            for child in Proc(tree[i].pid).children()? {
                if known.insert(child) {
                    tree.push(StoppedProcess { pid: child, parent: Some(i), threads: Vec::new() });
                    changed = true;
                }
            }
            i += 1;
        }
        // Orphans move to another parent while others are being stopped: only a walk without news is the last.
        if !changed {
            *tree = reparented(std::mem::take(tree))?;
            return Ok(());
        }
    }
}

/// Seizes the threads of a process that aren't yet; tells whether there were any.
fn stop_threads(process: &mut StoppedProcess) -> Result<bool> {
    let proc = Proc(process.pid);
    let mut changed = false;
    loop {
        let mut new = Vec::new();
        for tid in proc.numbers("task")? {
            if process.threads.iter().all(|t| t.tid() != tid) {
                new.extend(seize(process.pid, tid)?);
            }
        }
        if new.is_empty() {
            break;
        }
        changed = true;
        for running in &new {
            running.interrupt()?;
        }
        for running in new {
            process.threads.extend(running.wait_if_alive()?);
        }
    }
    // The leader's id is the process's.
    process.threads.sort_by_key(|t| (t.tid() != process.pid, t.tid()));
    Ok(changed)
}

/// Seizes a thread; `None` when it is dead or was just about to be.
fn seize(pid: i32, tid: i32) -> Result<Option<Running>> {
    let error = match Running::seize(tid, DUMP_OPTIONS) {
        Ok(running) => return Ok(Some(running)),
        Err(e) => e,
    };
    match error.sys().map(rtc_sys::Error::errno) {
        Some(Errno::ESRCH) => Ok(None),
        // A zombie can't be seized, and a task that a tracee of ours made is ours already.
        Some(Errno::EPERM) => {
            let thread = format!("task/{tid}");
            let stat = crate::procfs::stat::parse(&Proc(pid).text(&format!("{thread}/stat"))?)?;
            if matches!(stat.state, 'Z' | 'X') {
                return Ok(None);
            }
            let status = crate::procfs::status::parse(&Proc(pid).text(&format!("{thread}/status"))?)?;
            let ours = status.tracer != 0 && Proc(status.tracer).text("status").is_ok() && is_us(status.tracer)?;
            if ours { Ok(Some(Running::attached(tid))) } else { Err(error) }
        }
        _ => Err(error),
    }
}

/// Whether a tracer's id is that of a thread of ours.
fn is_us(tracer: i32) -> Result<bool> {
    let own = Proc(std::process::id() as i32).numbers("task").context(|| "list own threads")?;
    Ok(own.contains(&tracer))
}

/// Sets each process's parent by what /proc says now that nothing moves, and puts parents first.
fn reparented(tree: Vec<StoppedProcess>) -> Result<Vec<StoppedProcess>> {
    let mut pending = tree;
    let mut ordered: Vec<StoppedProcess> = Vec::with_capacity(pending.len());
    let mut queue = vec![(pending.remove(0), None)];
    while let Some((mut process, parent)) = queue.pop() {
        process.parent = parent;
        let children = Proc(process.pid).children()?;
        let place = ordered.len();
        ordered.push(process);
        for child in children.iter().rev() {
            if let Some(i) = pending.iter().position(|p| p.pid == *child) {
                queue.push((pending.swap_remove(i), Some(place)));
            }
        }
    }
    Ok(ordered)
}
