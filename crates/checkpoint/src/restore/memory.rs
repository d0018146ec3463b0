//! Builds an address space in a task: map, fill, and at the very end protect.
//!
//! Private memory with contents is mapped writable, filled from outside, and gets its own protection only after the
//! task's children have been made: they inherit the contents and change what is different for them.

use super::batch::Batch;
use super::inherit::{Plan, Range};
use crate::error::{Context, Error, Kind, Result};
use crate::files::FileId;
use crate::image::pages::{PAGE, Run};
use crate::image::tree::{Backing, Mm, Vma};
use crate::procfs::smaps::VmFlags;
use crate::program::{Arg, Program};
use crate::tracee::{Mode, Stopped, Zone};
use std::collections::BTreeMap;

/// `arch_prctl` operation that maps the vDSO (asm/prctl.h, kernel 4.8 with CONFIG_CHECKPOINT_RESTORE).
const ARCH_MAP_VDSO_64: i32 = 0x2003;
/// `PR_SET_VMA_ANON_NAME` of prctl(2) (kernel 5.17).
const PR_SET_VMA: i32 = 0x5356_4d41;

/// The numbers that the files of mappings have in the task's table while it is built.
pub(super) type FileNumbers = BTreeMap<FileId, i32>;

/// The files behind the mappings that a plan maps.
pub(super) fn files_needed(mm: &Mm, plan: &Plan) -> Vec<FileId> {
    let mut all: Vec<FileId> = plan.map.iter().filter_map(|(i, _)| file_of(&mm.vmas[*i])).collect();
    all.sort_unstable();
    all.dedup();
    all
}

fn file_of(vma: &Vma) -> Option<FileId> {
    match vma.backing {
        Backing::File { file, .. } => Some(file),
        _ => None,
    }
}

/// Carries out a plan but for the contents.
pub(super) fn map(task: &mut Stopped, zone: Zone, mm: &Mm, plan: &Plan, files: &FileNumbers) -> Result<()> {
    let mut batch = Batch::new(task, zone);
    for (start, end) in &plan.unmap {
        batch.call(libc::SYS_munmap, [(*start).into(), (end - start).into()])?;
    }
    batch.finish()?;
    // What is attached for a moment, at a place that the kernel chooses, must not hit what is mapped already.
    let (sysv, others): (Vec<(usize, Range)>, Vec<_>) =
        plan.map.iter().partition(|(i, _)| matches!(mm.vmas[*i].backing, Backing::SysV { .. }));
    for (i, range) in sysv {
        attach(task, zone, &mm.vmas[i], range).context(|| describe(&mm.vmas[i]))?;
    }
    let mut batch = Batch::new(task, zone);
    for (i, range) in others {
        let vma = &mm.vmas[i];
        map_one(&mut batch, vma, early_prot(vma), range, files).context(|| describe(vma))?;
        // Before the contents: it decides how large the pages are that take them.
        for (flag, advice) in HUGE_ADVICE {
            if vma.flags.has(flag) {
                batch.call(libc::SYS_madvise, [range.0.into(), (range.1 - range.0).into(), advice.into()])?;
            }
        }
    }
    map_vdso(&mut batch, mm, plan)?;
    for (i, _, (start, end)) in &plan.keep {
        // What the parent had made read-only must be writable to be changed.
        let vma = &mm.vmas[*i];
        if vma.is_private_memory() && written(&plan.write, *start, *end) {
            batch.call(libc::SYS_mprotect, [(*start).into(), (end - start).into(), early_prot(vma).into()])?;
        }
    }
    for (start, end) in &plan.empty {
        batch.call(libc::SYS_madvise, [(*start).into(), (end - start).into(), libc::MADV_DONTNEED.into()])?;
    }
    batch.finish()
}

fn describe(vma: &Vma) -> String {
    format!("map {:x}-{:x}", vma.start.0, vma.end.0)
}

fn written(runs: &[Run], start: u64, end: u64) -> bool {
    let first = runs.partition_point(|r| r.end() * PAGE <= start);
    runs.get(first).is_some_and(|r| r.page * PAGE < end)
}

/// The protection while contents are filled in.
fn early_prot(vma: &Vma) -> i32 {
    match vma.backing {
        Backing::Anonymous if !vma.shared => vma.prot | libc::PROT_READ | libc::PROT_WRITE,
        // Most mappings of files have no page of their own; they get write permission only if they do.
        _ => vma.prot,
    }
}

/// Attaches a System V segment and keeps the part of it that the mapping shows: shmat(2) can only map all of one.
fn attach(task: &mut Stopped, zone: Zone, vma: &Vma, (start, end): Range) -> Result<()> {
    let Backing::SysV { id, offset } = vma.backing else { return Ok(()) };
    let mut program = Program::new();
    let flags = if vma.prot & libc::PROT_WRITE == 0 { libc::SHM_RDONLY } else { 0 };
    let attached = program.call(libc::SYS_shmat, [id.into(), 0u64.into(), flags.into()]);
    let whole = task.run(Mode::Interp, zone, &program)?.of(attached) as u64;
    let (part, len) = (whole.wrapping_add(offset).wrapping_add(start - vma.start.0), end - start);
    let mut program = Program::new();
    let how = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    program.call(libc::SYS_mremap, [part.into(), len.into(), len.into(), how.into(), start.into()]);
    // The rest; there is none if all of it was moved.
    program.try_call(libc::SYS_shmdt, [whole.into()]);
    task.run(Mode::Interp, zone, &program).map(drop)
}

fn map_one(batch: &mut Batch<'_>, vma: &Vma, prot: i32, range: Range, files: &FileNumbers) -> Result<()> {
    let (start, end) = range;
    let mut flags = libc::MAP_FIXED | if vma.shared { libc::MAP_SHARED } else { libc::MAP_PRIVATE };
    if vma.flags.has(VmFlags::GROWS_DOWN) {
        flags |= libc::MAP_GROWSDOWN;
    }
    if vma.flags.has(VmFlags::NO_RESERVE) {
        flags |= libc::MAP_NORESERVE;
    }
    if let (Some(size), Backing::Anonymous) = (vma.huge_page, vma.backing) {
        flags |= libc::MAP_HUGETLB | ((size.trailing_zeros() as i32) << libc::MAP_HUGE_SHIFT);
    }
    let (fd, offset) = match vma.backing {
        Backing::Anonymous => {
            flags |= libc::MAP_ANONYMOUS;
            (-1, 0)
        }
        Backing::File { file, offset } => {
            let fd = files.get(&file).copied().ok_or_else(|| Error::new(Kind::System, format!("{file} isn't open")))?;
            (fd, offset + (start - vma.start.0))
        }
        Backing::SysV { .. } | Backing::Vdso | Backing::Vvar => return Ok(()),
    };
    let args = [start.into(), (end - start).into(), prot.into(), flags.into(), Arg::from(fd), offset.into()];
    batch.call(libc::SYS_mmap, args)
}

/// Maps the vDSO with its data, if the plan doesn't keep the parent's. One call maps all of it.
fn map_vdso(batch: &mut Batch<'_>, mm: &Mm, plan: &Plan) -> Result<()> {
    let special = |i: usize| matches!(mm.vmas[i].backing, Backing::Vdso | Backing::Vvar);
    let first = plan.map.iter().filter(|(i, _)| special(*i)).map(|(_, range)| range.0).min();
    match first {
        Some(start) => batch.call(libc::SYS_arch_prctl, [ARCH_MAP_VDSO_64.into(), start.into()]),
        None => Ok(()),
    }
}

/// Makes private mappings of files writable where the image has pages for them.
pub(super) fn open_for_writing(task: &mut Stopped, zone: Zone, mm: &Mm, runs: &[Run]) -> Result<()> {
    let mut batch = Batch::new(task, zone);
    for vma in mm.vmas.iter().filter(|v| v.is_private_memory() && file_of(v).is_some()) {
        if vma.prot & libc::PROT_WRITE == 0 && written(runs, vma.start.0, vma.end.0) {
            let prot = vma.prot | libc::PROT_READ | libc::PROT_WRITE;
            batch.call(libc::SYS_mprotect, [vma.start.into(), vma.len().into(), prot.into()])?;
        }
    }
    batch.finish()
}

/// Gives all mappings what they may have only when contents and children are there.
pub(super) fn protect(task: &mut Stopped, zone: Zone, mm: &Mm) -> Result<()> {
    let mut batch = Batch::new(task, zone);
    for vma in &mm.vmas {
        let (start, len) = (Arg::from(vma.start), Arg::from(vma.len()));
        if vma.is_private_memory() {
            batch.call(libc::SYS_mprotect, [start, len, vma.prot.into()])?;
        }
        for (flag, advice) in ADVICE {
            if vma.flags.has(flag) {
                batch.call(libc::SYS_madvise, [start, len, advice.into()])?;
            }
        }
        for (from, to) in &vma.guards {
            batch.call(libc::SYS_madvise, [(*from).into(), (to.0 - from.0).into(), MADV_GUARD_INSTALL.into()])?;
        }
        if vma.flags.has(VmFlags::LOCKED) {
            let on_fault = i32::from(vma.flags.has(VmFlags::LOCKED_ON_FAULT));
            batch.call(libc::SYS_mlock2, [start, len, on_fault.into()])?;
        }
        if let Some(name) = &vma.name {
            let mut name = name.clone().into_bytes();
            name.push(0);
            batch.call_with(libc::SYS_prctl, &name, |at| [PR_SET_VMA.into(), 0u64.into(), start, len, at])?;
        }
    }
    batch.finish()
}

/// `MADV_GUARD_INSTALL` (kernel 6.13).
const MADV_GUARD_INSTALL: i32 = 102;
/// Advice about huge pages. A child that keeps its parent's mapping may have other advice, so it is given again below.
const HUGE_ADVICE: [(VmFlags, i32); 2] =
    [(VmFlags::HUGE_PAGE, libc::MADV_HUGEPAGE), (VmFlags::NO_HUGE_PAGE, libc::MADV_NOHUGEPAGE)];
/// Flags of mappings that madvise(2) sets.
const ADVICE: [(VmFlags, i32); 8] = [
    (VmFlags::DONT_COPY, libc::MADV_DONTFORK),
    (VmFlags::WIPE_ON_FORK, libc::MADV_WIPEONFORK),
    (VmFlags::DONT_DUMP, libc::MADV_DONTDUMP),
    (VmFlags::HUGE_PAGE, libc::MADV_HUGEPAGE),
    (VmFlags::NO_HUGE_PAGE, libc::MADV_NOHUGEPAGE),
    (VmFlags::MERGEABLE, libc::MADV_MERGEABLE),
    (VmFlags::SEQUENTIAL, libc::MADV_SEQUENTIAL),
    (VmFlags::RANDOM, libc::MADV_RANDOM),
];
