//! Puts the pages of the image into a stopped task, by as many threads as there are processors.
//!
//! Two ways. Where a mapping is new and has no page yet, a userfaultfd of the task's takes the pages: the kernel copies
//! each into a fresh frame, at two thirds of what a fault, a zeroed page and a copy cost. Everything else is written by
//! process_vm_writev(2): pages inherited from the parent, private pages of files, and memory that may have huge pages,
//! which only a fault makes.

use super::inherit::{Plan, Range, clip_all, within};
use crate::error::{Context, Result};
use crate::image::pages::{self, PAGE, Run};
use crate::image::tree::{Backing, Mm, Vma};
use crate::procfs::smaps::VmFlags;
use crate::program::Program;
use crate::tracee::{Mode, Stopped, Zone};
use rtc_sys::procmem::{self, RemoteRange};
use rtc_sys::uffd::{self, UserFaultFd};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many pages are written at once: few enough to be still in the processor's cache when they have been checked.
const CHUNK: usize = 64;
/// From how many pages on a userfaultfd is worth its making.
const WORTH: u64 = 128;
/// The size of a transparent huge page on x86-64.
const HUGE: u64 = 2 << 20;

/// Fills a task's memory as planned; gives how many pages that were.
pub(super) fn fill(
    task: &mut Stopped,
    zone: Zone,
    mm: &Mm,
    plan: &Plan,
    huge: Huge,
    pages: &pages::Reader,
) -> Result<u64> {
    let fresh = fresh(mm, plan, huge);
    let many = plan.write.iter().map(|r| u64::from(r.count)).sum::<u64>();
    let uffd = if many >= WORTH && !fresh.is_empty() { userfaultfd(task, zone, &fresh)? } else { None };
    let (by_copy, by_write) = match uffd {
        Some(_) => (inside(&plan.write, &fresh), plan.write.iter().flat_map(|run| clip_all(run, &fresh)).collect()),
        None => (Vec::new(), plan.write.clone()),
    };
    let filler = Filler { tid: task.tid(), pages, uffd };
    filler.run(&chunks(&by_copy), &chunks(&by_write))?;
    Ok(many)
}

/// Whether this machine gives huge pages to a process that doesn't ask for them, or only to one that does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Huge {
    Never,
    Asked,
    Always,
}

impl Huge {
    /// What /sys says; `Always` where that can't be read, which is never wrong, only slower.
    pub(super) fn here() -> Self {
        let text = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled");
        match text {
            Ok(text) if text.contains("[never]") => Self::Never,
            Ok(text) if text.contains("[madvise]") => Self::Asked,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Self::Never,
            _ => Self::Always,
        }
    }

    /// What remains of it for a process that refuses them.
    pub(super) fn unless(self, refused: bool) -> Self {
        if refused { Self::Never } else { self }
    }

    fn may_be_in(self, vma: &Vma) -> bool {
        let room = vma.start.0.next_multiple_of(HUGE).saturating_add(HUGE) <= vma.end.0;
        let wanted = match self {
            Self::Never => false,
            Self::Asked => vma.flags.has(VmFlags::HUGE_PAGE),
            Self::Always => !vma.flags.has(VmFlags::NO_HUGE_PAGE),
        };
        room && wanted
    }
}

/// The new mappings that a userfaultfd may fill, ascending.
fn fresh(mm: &Mm, plan: &Plan, huge: Huge) -> Vec<Range> {
    let fit =
        |vma: &Vma| vma.backing == Backing::Anonymous && !vma.shared && vma.huge_page.is_none() && !huge.may_be_in(vma);
    let mut all: Vec<Range> = plan.map.iter().filter(|(i, _)| fit(&mm.vmas[*i])).map(|(_, range)| *range).collect();
    all.retain(|(start, end)| {
        let first = plan.write.partition_point(|run| run.end() * PAGE <= *start);
        plan.write.get(first).is_some_and(|run| run.page * PAGE < *end)
    });
    all.sort_unstable();
    all
}

/// Makes a userfaultfd in the task, registers the ranges, and takes the descriptor. `None` where the kernel has none.
fn userfaultfd(task: &mut Stopped, zone: Zone, ranges: &[Range]) -> Result<Option<UserFaultFd>> {
    let mut program = Program::new();
    let made = program.try_call(libc::SYS_userfaultfd, [(libc::O_CLOEXEC | uffd::USER_MODE_ONLY).into()]);
    let Ok(number) = task.run(Mode::Interp, zone, &program)?.ok(made) else { return Ok(None) };
    let pidfd = rtc_sys::pidfd::open(task.tid())?;
    let ours = rtc_sys::pidfd::get_fd(pidfd.as_fd(), number as i32)?;
    // The last descriptor is ours: closing it ends the registration.
    let mut program = Program::new();
    program.call(libc::SYS_close, [number.into()]);
    task.run(Mode::Interp, zone, &program)?;
    let uffd = UserFaultFd::new(ours)?;
    for (start, end) in ranges {
        uffd.register(*start, end - start).context(|| format!("memory of task {}", task.tid()))?;
    }
    Ok(Some(uffd))
}

/// The parts of the runs that are in one of `ranges` (ordered, apart).
fn inside(runs: &[Run], ranges: &[Range]) -> Vec<Run> {
    let parts = |run: &Run| within((run.page * PAGE, run.end() * PAGE), ranges);
    let clipped =
        |run: &Run| parts(run).into_iter().filter_map(|(start, end)| run.clip(start / PAGE, end / PAGE)).collect();
    runs.iter().flat_map::<Vec<Run>, _>(clipped).collect()
}

/// Runs cut into pieces of at most CHUNK pages; those of one piece need not be neighbours anywhere.
fn chunks(runs: &[Run]) -> Vec<Vec<Run>> {
    let mut all: Vec<Vec<Run>> = Vec::new();
    let mut room = 0;
    for run in runs {
        let mut page = run.page;
        while page < run.end() {
            if room == 0 {
                all.push(Vec::new());
                room = CHUNK as u64;
            }
            let piece = run.clip(page, page + room).expect("within the run");
            room -= u64::from(piece.count);
            page = piece.end();
            all.last_mut().expect("pushed above").push(piece);
        }
    }
    all
}

/// What the threads share.
struct Filler<'a> {
    tid: i32,
    pages: &'a pages::Reader,
    uffd: Option<UserFaultFd>,
}

impl Filler<'_> {
    fn run(&self, by_copy: &[Vec<Run>], by_write: &[Vec<Run>]) -> Result<()> {
        let count = by_copy.len() + by_write.len();
        let next = AtomicUsize::new(0);
        let work = || -> Result<()> {
            let mut buffer = vec![0; CHUNK * PAGE as usize];
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                match (by_copy.get(i), by_write.get(i.wrapping_sub(by_copy.len()))) {
                    (Some(chunk), _) => self.copy(chunk, &mut buffer),
                    (None, Some(chunk)) => self.write(chunk, &mut buffer),
                    (None, None) => return Ok(()),
                }
                .context(|| format!("fill the memory of task {}", self.tid))?;
            }
        };
        let workers = std::thread::available_parallelism().map_or(1, usize::from).min(8).min(count / 32 + 1);
        std::thread::scope(|scope| {
            // Where no thread can be had, one less does the work.
            let spawn = |_| std::thread::Builder::new().spawn_scoped(scope, work).ok();
            let others: Vec<_> = (1..workers).filter_map(spawn).collect();
            let mine = work();
            others.into_iter().map(|t| t.join().expect("no worker panics")).fold(mine, Result::and)
        })
    }

    fn copy(&self, chunk: &[Run], buffer: &mut [u8]) -> Result<()> {
        let uffd = self.uffd.as_ref().expect("without one nothing is copied");
        let mut contents = self.read(chunk, buffer)?;
        for run in chunk {
            let (now, later) = contents.split_at(run.count as usize * PAGE as usize);
            uffd.copy(run.page * PAGE, now)?;
            contents = later;
        }
        Ok(())
    }

    fn write(&self, chunk: &[Run], buffer: &mut [u8]) -> Result<()> {
        let contents = self.read(chunk, buffer)?;
        let range = |run: &Run| RemoteRange { address: run.page * PAGE, len: u64::from(run.count) * PAGE };
        let ranges: Vec<_> = chunk.iter().map(range).collect();
        Ok(procmem::write_ranges(self.tid, contents, &ranges)?)
    }

    /// Reads the contents of all runs, one after another.
    fn read<'b>(&self, chunk: &[Run], buffer: &'b mut [u8]) -> Result<&'b [u8]> {
        let mut at = 0;
        let mut rest = chunk;
        // Runs that follow each other in the file are read at once.
        while let Some(first) = rest.first() {
            let mut count = first.count;
            let mut n = 1;
            while rest.get(n).is_some_and(|run| run.at == first.at + count) {
                count += rest[n].count;
                n += 1;
            }
            let len = count as usize * PAGE as usize;
            self.pages.read(first.at, &mut buffer[at..at + len])?;
            at += len;
            rest = &rest[n..];
        }
        Ok(&buffer[..at])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::Addr;

    fn vma(start: u64, end: u64) -> Vma {
        Vma {
            start: Addr(start),
            end: Addr(end),
            prot: 3,
            shared: false,
            backing: Backing::Anonymous,
            flags: VmFlags::default(),
            huge_page: None,
            pkey: 0,
            name: None,
            guards: Vec::new(),
        }
    }

    #[test]
    fn huge_pages_are_where_the_machine_allows_them_and_there_is_room() {
        let large = vma(HUGE - PAGE, 2 * HUGE);
        let small = vma(HUGE - PAGE, 2 * HUGE - PAGE);
        assert!(Huge::Always.may_be_in(&large) && !Huge::Always.may_be_in(&small));
        assert!(!Huge::Asked.may_be_in(&large) && !Huge::Always.unless(true).may_be_in(&large));
        let asking = Vma { flags: VmFlags::HUGE_PAGE, ..large.clone() };
        assert!(Huge::Asked.may_be_in(&asking) && !Huge::Never.may_be_in(&asking));
        let refusing = Vma { flags: VmFlags::NO_HUGE_PAGE, ..large };
        assert!(!Huge::Always.may_be_in(&refusing));
    }

    #[test]
    fn only_new_mappings_with_pages_are_filled_by_copy() {
        let vmas = vec![vma(10 * PAGE, 20 * PAGE), vma(30 * PAGE, 40 * PAGE), vma(50 * PAGE, 60 * PAGE)];
        let mm = Mm { vmas, ..Mm::default() };
        let write = vec![Run { page: 15, count: 20, at: 0 }];
        let map = vec![(0, (15 * PAGE, 20 * PAGE)), (1, (30 * PAGE, 40 * PAGE)), (2, (50 * PAGE, 60 * PAGE))];
        let plan = Plan { map, write, ..Plan::default() };
        let fresh = fresh(&mm, &plan, Huge::Never);
        assert_eq!(fresh, [(15 * PAGE, 20 * PAGE), (30 * PAGE, 40 * PAGE)]);
        let expected = [Run { page: 15, count: 5, at: 0 }, Run { page: 30, count: 5, at: 15 }];
        assert_eq!(inside(&plan.write, &fresh), expected);
    }

    #[test]
    fn chunks_cut_long_runs_and_join_short_ones() {
        let runs = [Run { page: 0, count: 60, at: 0 }, Run { page: 100, count: 70, at: 60 }];
        let expected = [
            vec![runs[0], Run { page: 100, count: 4, at: 60 }],
            vec![Run { page: 104, count: 64, at: 64 }],
            vec![Run { page: 168, count: 2, at: 128 }],
        ];
        assert_eq!(chunks(&runs), expected);
    }
}
