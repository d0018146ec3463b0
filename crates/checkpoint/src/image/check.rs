//! Whether what an image says of a tree can be true. Everything that restore relies on is checked here, once.

use super::pages::{self, PAGE};
use super::tree::{Backing, Live, Mm, Thread, Tree};
use crate::error::{Result, bad_image};
use crate::files::FileId;
use crate::files::kind::Files;
use std::collections::{BTreeMap, BTreeSet};

/// The end of user addresses.
const USER_END: u64 = 0x7fff_ffff_f000;
/// The most instructions of a classic BPF program (BPF_MAXINSNS).
const MAX_FILTER: usize = 4096;
/// How many ancestors a process may have: making it takes a piece of our stack for each.
const DEEPEST: usize = 1000;
/// The length of the kernel's `siginfo_t`.
const SIGINFO: usize = rtc_sys::ptrace::SIGINFO_SIZE;
/// PR_SET_MM_MAP takes no longer auxiliary vector (AT_VECTOR_SIZE words).
const MAX_AUXV: usize = 1024;

/// Checks a tree against its files and pages.
///
/// # Errors
/// Names the first thing that can't be.
pub fn tree(tree: &Tree, files: &Files, pages: &pages::Reader) -> Result<()> {
    let file = |id: FileId| {
        if id.index() < files.files.len() { Ok(()) } else { Err(bad_image(format!("there is no {id}"))) }
    };
    if tree.processes.first().is_none_or(|p| p.ppid != 0 || p.live.is_none()) {
        return Err(bad_image("the first process isn't the container's init"));
    }
    check_family(tree)?;
    for (i, table) in tree.tables.iter().enumerate() {
        let ordered = table.windows(2).all(|w| w[0].fd < w[1].fd) && table.first().is_none_or(|d| d.fd.0 >= 0);
        if !ordered {
            return Err(bad_image(format!("descriptor table {i} is out of order")));
        }
        table.iter().try_for_each(|d| file(d.file))?;
    }
    tree.terminals.iter().try_for_each(|terminal| file(terminal.file))?;
    for mm in &tree.mms {
        check_mm(mm, pages, &file)?;
    }
    if tree.filters.iter().any(|f| f.code.is_empty() || f.code.len() > MAX_FILTER) {
        return Err(bad_image("a seccomp filter has no or too many instructions"));
    }
    for process in &tree.processes {
        let Some(live) = &process.live else { continue };
        check_live(live, process.pid, tree)?;
        file(live.cwd)?;
        file(live.root)?;
    }
    Ok(())
}

fn check_family(tree: &Tree) -> Result<()> {
    let mut ids = BTreeSet::new();
    // How many ancestors each living process has.
    let mut depths = BTreeMap::new();
    for (i, process) in tree.processes.iter().enumerate() {
        let pid = process.pid;
        if pid <= 0 || process.pgid < 0 || process.sid < 0 || !(0..=64).contains(&process.exit_signal) {
            return Err(bad_image(format!("process {pid} has impossible ids")));
        }
        let depth = match depths.get(&process.ppid) {
            _ if i == 0 => 0,
            Some(depth) if *depth < DEEPEST => depth + 1,
            Some(_) => return Err(bad_image(format!("process {pid} has more than {DEEPEST} ancestors"))),
            None => return Err(bad_image(format!("process {pid} has no parent before it"))),
        };
        if process.live.is_some() {
            depths.insert(pid, depth);
        }
        let threads = process.live.iter().flat_map(|l| l.threads.iter().skip(1)).map(|t| t.tid);
        for id in std::iter::once(pid).chain(threads) {
            if id <= 0 || !ids.insert(id) {
                return Err(bad_image(format!("the id {id} is there twice")));
            }
        }
    }
    Ok(())
}

fn check_mm(mm: &Mm, pages: &pages::Reader, file: &dyn Fn(FileId) -> Result<()>) -> Result<()> {
    let mut end = PAGE; // nothing is at the null page
    for vma in &mm.vmas {
        let (from, to) = (vma.start.0, vma.end.0);
        if from < end || to <= from || to > USER_END || from % PAGE != 0 || to % PAGE != 0 {
            return Err(bad_image(format!("the mapping {from:x}-{to:x} is out of place")));
        }
        end = to;
        if let Backing::File { file: id, offset } = vma.backing {
            file(id)?;
            if offset.checked_add(to - from).is_none() {
                return Err(bad_image(format!("the mapping {from:x}-{to:x} ends beyond any file")));
            }
        }
        if vma.huge_page.is_some_and(|size| !size.is_power_of_two()) {
            return Err(bad_image(format!("the mapping {from:x}-{to:x} has impossible pages")));
        }
        if vma.guards.iter().any(|(a, b)| a < &vma.start || b > &vma.end || a >= b) {
            return Err(bad_image(format!("a guard region is outside of {from:x}-{to:x}")));
        }
    }
    if mm.auxv.len() > MAX_AUXV || mm.auxv.len() % 16 != 0 {
        return Err(bad_image("an auxiliary vector has an impossible length"));
    }
    mm.exe.map_or(Ok(()), file)?;
    for run in pages.runs(mm.runs.0, mm.runs.1)? {
        let (from, to) = (run.page * PAGE, run.end() * PAGE);
        let after = mm.vmas.partition_point(|v| v.end.0 <= from);
        let mut at = from;
        for vma in mm.vmas[after..].iter().take_while(|v| v.start.0 < to) {
            if vma.start.0 > at || !vma.is_private_memory() {
                break;
            }
            at = vma.end.0;
        }
        if at < to {
            return Err(bad_image(format!("pages at {from:x}-{to:x} belong to no mapping")));
        }
    }
    Ok(())
}

fn check_live(live: &Live, pid: i32, tree: &Tree) -> Result<()> {
    if live.mm >= tree.mms.len() || live.table >= tree.tables.len() {
        return Err(bad_image(format!("process {pid} has no memory or no descriptors")));
    }
    if live.threads.first().is_none_or(|t| t.tid != pid) {
        return Err(bad_image(format!("process {pid} has no leader")));
    }
    if live.actions.iter().any(|a| !(1..=64).contains(&a.signal) || matches!(a.signal, libc::SIGKILL | libc::SIGSTOP)) {
        return Err(bad_image(format!("process {pid} handles an impossible signal")));
    }
    if live.pending.iter().any(|s| s.0.len() != SIGINFO) {
        return Err(bad_image(format!("process {pid} has a malformed pending signal")));
    }
    live.threads.iter().try_for_each(|t| check_thread(t, tree))
}

fn check_thread(thread: &Thread, tree: &Tree) -> Result<()> {
    let refuse = |what| Err(bad_image(format!("thread {} has {what}", thread.tid)));
    if thread.regs.len() != rtc_sys::regs::WORDS {
        return refuse("no registers");
    }
    if thread.xstate_len > rtc_sys::regs::MAX_XSTATE || thread.xstate.len() > thread.xstate_len {
        return refuse("an impossible extended state");
    }
    if thread.comm.len() > 15 || thread.comm.contains('\0') {
        return refuse("an impossible name");
    }
    if thread.seccomp.filters.iter().any(|f| *f >= tree.filters.len()) {
        return refuse("a seccomp filter that isn't there");
    }
    if thread.creds.groups.len() > 65536 || thread.scheduling.affinity.as_ref().is_some_and(|a| a.len() > 1024) {
        return refuse("more groups or processors than there can be");
    }
    if thread.pending.iter().any(|s| s.0.len() != SIGINFO) {
        return refuse("a malformed pending signal");
    }
    Ok(())
}
