//! Pages that processes share copy-on-write since a fork.
//!
//! /proc/PID/pagemap names the page frame behind a page, and a frame mapped more than once is shared.
//! Such a page is written once; at restore a child that inherits it from its parent keeps sharing it.

use super::space::{Alias, PageRange, Space};
use crate::error::Result;
use crate::image::pages::Run;
use crate::proc::Proc;
use rtc_sys::pagemap;
use rustix::fs::OFlags;
use std::collections::HashMap;

/// Moves pages that an earlier address space has as well from each space's pages to its aliases.
pub(super) fn find_shared(spaces: &mut [Space]) -> Result<()> {
    let mut first: HashMap<u64, (usize, u64)> = HashMap::new();
    for (place, space) in spaces.iter_mut().enumerate() {
        let file = Proc(space.pid).open("pagemap", OFlags::RDONLY)?;
        let mut own: Vec<PageRange> = Vec::with_capacity(space.pages.len());
        for range in std::mem::take(&mut space.pages) {
            let entries = pagemap::entries(&file, range.page, range.count as usize)?;
            for (page, entry) in (range.page..).zip(entries) {
                let shared = entry.frame().filter(|frame| *frame != 0 && !entry.is_exclusive());
                let known = shared.and_then(|frame| match first.entry(frame) {
                    std::collections::hash_map::Entry::Occupied(e) => Some(*e.get()),
                    std::collections::hash_map::Entry::Vacant(e) => {
                        e.insert((place, page));
                        None
                    }
                });
                match known {
                    Some((of, there)) => push_alias(&mut space.aliases, Alias { page, count: 1, of, there }),
                    None => push_page(&mut own, page),
                }
            }
        }
        space.pages = own;
    }
    Ok(())
}

fn push_page(pages: &mut Vec<PageRange>, page: u64) {
    match pages.last_mut() {
        Some(last) if last.page + last.count == page => last.count += 1,
        _ => pages.push(PageRange { page, count: 1 }),
    }
}

fn push_alias(aliases: &mut Vec<Alias>, alias: Alias) {
    match aliases.last_mut() {
        Some(last)
            if last.page + last.count == alias.page
                && last.of == alias.of
                && last.there + last.count == alias.there =>
        {
            last.count += 1;
        }
        _ => aliases.push(alias),
    }
}

/// Turns aliases into runs once the runs of all address spaces are known. Earlier spaces have no unresolved aliases to
/// pages that are aliased themselves, because a frame is always traced back to where it was first seen.
pub(super) fn resolve(spaces: &mut [Space]) {
    for place in 0..spaces.len() {
        let aliases = std::mem::take(&mut spaces[place].aliases);
        let mut found = Vec::new();
        for alias in aliases {
            let (start, end) = (alias.there, alias.there + alias.count);
            let runs = &spaces[alias.of].runs;
            let from = runs.partition_point(|run| run.end() <= start);
            for run in runs[from..].iter().take_while(|run| run.page < end) {
                found.extend(run.clip(start, end).map(|r| Run { page: r.page - alias.there + alias.page, ..r }));
            }
        }
        let runs = &mut spaces[place].runs;
        runs.extend(found);
        runs.sort_unstable();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(runs: Vec<Run>, aliases: Vec<Alias>) -> Space {
        Space { pid: 0, vmas: Vec::new(), pages: Vec::new(), aliases, may_share: true, runs }
    }

    #[test]
    fn an_alias_becomes_the_parts_of_the_runs_it_covers() {
        let parent = space(vec![Run { page: 10, count: 4, at: 0 }, Run { page: 20, count: 4, at: 4 }], Vec::new());
        let alias = Alias { page: 12, count: 10, of: 0, there: 12 };
        let own = Run { page: 5, count: 1, at: 8 };
        let mut spaces = [parent, space(vec![own], vec![alias])];
        resolve(&mut spaces);
        // Pages 14 to 19 of the parent are zero and have no run.
        let expected = [own, Run { page: 12, count: 2, at: 2 }, Run { page: 20, count: 2, at: 4 }];
        assert_eq!(spaces[1].runs, expected);
    }

    #[test]
    fn neighbours_join() {
        let mut aliases = Vec::new();
        push_alias(&mut aliases, Alias { page: 1, count: 1, of: 0, there: 7 });
        push_alias(&mut aliases, Alias { page: 2, count: 1, of: 0, there: 8 });
        push_alias(&mut aliases, Alias { page: 3, count: 1, of: 0, there: 10 });
        assert_eq!(aliases.len(), 2);
        assert_eq!(aliases[0].count, 2);
    }
}
