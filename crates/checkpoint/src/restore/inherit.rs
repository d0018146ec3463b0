//! What a child keeps of the memory it gets from its parent by fork.
//!
//! A page that both had copy-on-write is the same page of the image in both; the child keeps it untouched and goes on
//! sharing it. Everything else is unmapped, mapped anew, emptied or written.

use crate::image::pages::{PAGE, Run};
use crate::image::tree::{Backing, Mm, Vma};
use crate::procfs::smaps::VmFlags;

/// A range of addresses.
pub(super) type Range = (u64, u64);

/// What is to be done to make a child's memory of its parent's.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Ranges to unmap.
    pub(super) unmap: Vec<Range>,
    /// Ranges to map, with the place of their mapping.
    pub(super) map: Vec<(usize, Range)>,
    /// Ranges that stay mapped, with the place of their mapping in the child and in the parent.
    pub(super) keep: Vec<(usize, usize, Range)>,
    /// Ranges of kept memory whose pages go.
    pub(super) empty: Vec<Range>,
    /// Pages to write.
    pub(super) write: Vec<Run>,
}

/// The plan for a task without any memory.
pub(super) fn from_nothing(mm: &Mm, runs: &[Run]) -> Plan {
    let all = mm.vmas.iter().enumerate().map(|(i, v)| (i, (v.start.0, v.end.0)));
    Plan { map: all.collect(), write: runs.to_vec(), ..Plan::default() }
}

/// The plan for a task that has its parent's memory.
pub(super) fn from_parent(mm: &Mm, runs: &[Run], parent: &Mm, parent_runs: &[Run]) -> Plan {
    let keep = kept(&mm.vmas, &parent.vmas);
    let kept_ranges: Vec<Range> = keep.iter().map(|k| k.2).collect();
    let unmap = parent.vmas.iter().flat_map(|v| without((v.start.0, v.end.0), &kept_ranges)).collect();
    let map = mm
        .vmas
        .iter()
        .enumerate()
        .flat_map(|(i, v)| without((v.start.0, v.end.0), &kept_ranges).into_iter().map(move |range| (i, range)));
    let map = map.collect();
    let shared = equal_pages(runs, parent_runs, &kept_ranges);
    let write = runs.iter().flat_map(|run| clip_all(run, &shared)).collect();
    let own: Vec<Range> = runs.iter().map(|r| (r.page * PAGE, r.end() * PAGE)).collect();
    let mut empty = Vec::new();
    for run in parent_runs {
        for range in within((run.page * PAGE, run.end() * PAGE), &kept_ranges) {
            empty.extend(without(range, &own));
        }
    }
    Plan { unmap, map, keep, empty, write }
}

/// Whether two mappings differ in nothing that a fork and later calls can't mend.
fn alike(a: &Vma, b: &Vma) -> bool {
    let fixed = |v: &Vma| (v.shared, v.huge_page, v.flags.has(VmFlags::GROWS_DOWN), v.flags.has(VmFlags::NO_RESERVE));
    let backing = match (a.backing, b.backing) {
        (Backing::File { file: f, offset: o }, Backing::File { file: g, offset: p }) => {
            f == g && o.wrapping_sub(a.start.0) == p.wrapping_sub(b.start.0)
        }
        (Backing::SysV { .. }, _) | (_, Backing::SysV { .. }) => a == b,
        (Backing::Vdso | Backing::Vvar, _) => a.backing == b.backing && a.start == b.start && a.end == b.end,
        (x, y) => x == y,
    };
    backing && fixed(a) == fixed(b)
}

/// The parts of the child's mappings that are alike in the parent.
fn kept(child: &[Vma], parent: &[Vma]) -> Vec<(usize, usize, Range)> {
    let mut all = Vec::new();
    let (mut i, mut j) = (0, 0);
    while let (Some(a), Some(b)) = (child.get(i), parent.get(j)) {
        let (start, end) = (a.start.0.max(b.start.0), a.end.0.min(b.end.0));
        if start < end && alike(a, b) {
            all.push((i, j, (start, end)));
        }
        if a.end <= b.end { i += 1 } else { j += 1 }
    }
    // The vDSO and its data come and go together: one call maps them all.
    let special = |v: &Vma| matches!(v.backing, Backing::Vdso | Backing::Vvar);
    let count = |vmas: &[Vma]| vmas.iter().filter(|v| special(v)).count();
    let same = all.iter().filter(|(i, _, _)| special(&child[*i])).count();
    if same != count(child) || same != count(parent) {
        all.retain(|(i, _, _)| !special(&child[*i]));
    }
    all
}

/// The parts of a range that are in none of `holes` (ordered, apart).
fn without(range: Range, holes: &[Range]) -> Vec<Range> {
    let mut rest = Vec::new();
    let mut at = range.0;
    let first = holes.partition_point(|h| h.1 <= range.0);
    for hole in holes[first..].iter().take_while(|h| h.0 < range.1) {
        if hole.0 > at {
            rest.push((at, hole.0));
        }
        at = hole.1;
    }
    if at < range.1 {
        rest.push((at, range.1));
    }
    rest
}

/// The parts of a range that are in one of `ranges` (ordered, apart).
pub(super) fn within(range: Range, ranges: &[Range]) -> Vec<Range> {
    let first = ranges.partition_point(|r| r.1 <= range.0);
    let near = ranges[first..].iter().take_while(|r| r.0 < range.1);
    near.map(|r| (r.0.max(range.0), r.1.min(range.1))).collect()
}

/// Ranges of kept memory in which both have the same pages of the image.
fn equal_pages(child: &[Run], parent: &[Run], kept: &[Range]) -> Vec<Range> {
    let mut all = Vec::new();
    let (mut i, mut j) = (0, 0);
    while let (Some(a), Some(b)) = (child.get(i), parent.get(j)) {
        let (start, end) = (a.page.max(b.page), a.end().min(b.end()));
        if start < end && u64::from(a.at).wrapping_sub(a.page) == u64::from(b.at).wrapping_sub(b.page) {
            all.extend(within((start * PAGE, end * PAGE), kept));
        }
        if a.end() <= b.end() { i += 1 } else { j += 1 }
    }
    all
}

/// The parts of a run outside of `ranges` (ordered, apart).
pub(super) fn clip_all(run: &Run, ranges: &[Range]) -> Vec<Run> {
    let rest = without((run.page * PAGE, run.end() * PAGE), ranges);
    rest.iter().filter_map(|(start, end)| run.clip(start / PAGE, end / PAGE)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::Addr;

    fn vma(start: u64, end: u64, backing: Backing) -> Vma {
        Vma {
            start: Addr(start * PAGE),
            end: Addr(end * PAGE),
            prot: 3,
            shared: false,
            backing,
            flags: VmFlags::default(),
            huge_page: None,
            pkey: 0,
            name: None,
            guards: Vec::new(),
        }
    }

    fn mm(vmas: Vec<Vma>) -> Mm {
        Mm { vmas, ..Mm::default() }
    }

    #[test]
    fn a_grown_heap_keeps_its_beginning() {
        let parent = mm(vec![vma(10, 20, Backing::Anonymous)]);
        let child = mm(vec![vma(10, 30, Backing::Anonymous)]);
        let parent_runs = [Run { page: 10, count: 8, at: 0 }];
        // The child has written page 12, dropped page 17, and has a new page 25.
        let child_runs = [
            Run { page: 10, count: 2, at: 0 },
            Run { page: 12, count: 1, at: 50 },
            Run { page: 13, count: 4, at: 3 },
            Run { page: 25, count: 1, at: 51 },
        ];
        let plan = from_parent(&child, &child_runs, &parent, &parent_runs);
        assert_eq!(plan.keep, [(0, 0, (10 * PAGE, 20 * PAGE))]);
        assert_eq!(plan.map, [(0, (20 * PAGE, 30 * PAGE))]);
        assert_eq!(plan.unmap, []);
        assert_eq!(plan.empty, [(17 * PAGE, 18 * PAGE)]);
        assert_eq!(plan.write, [child_runs[1], child_runs[3]]);
    }

    #[test]
    fn another_program_keeps_nothing() {
        let file = |n| Backing::File { file: crate::files::FileId(n), offset: 0 };
        let parent = mm(vec![vma(10, 20, file(1)), vma(30, 40, Backing::Anonymous)]);
        let child = mm(vec![vma(10, 15, file(2)), vma(50, 60, Backing::Anonymous)]);
        let runs = [Run { page: 50, count: 1, at: 9 }];
        let plan = from_parent(&child, &runs, &parent, &[Run { page: 30, count: 1, at: 0 }]);
        assert_eq!(plan.unmap, [(10 * PAGE, 20 * PAGE), (30 * PAGE, 40 * PAGE)]);
        assert_eq!(plan.map, [(0, (10 * PAGE, 15 * PAGE)), (1, (50 * PAGE, 60 * PAGE))]);
        assert_eq!((plan.keep, plan.empty, plan.write), (vec![], vec![], runs.to_vec()));
    }

    #[test]
    fn the_same_page_number_with_other_contents_is_written() {
        let both = mm(vec![vma(10, 20, Backing::Anonymous)]);
        let plan =
            from_parent(&both, &[Run { page: 10, count: 2, at: 7 }], &both, &[Run { page: 10, count: 2, at: 0 }]);
        assert_eq!(plan.write, [Run { page: 10, count: 2, at: 7 }]);
        assert_eq!(plan.empty, []);
    }
}
