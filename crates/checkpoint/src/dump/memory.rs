//! Address spaces: mappings, and the pages that are nobody's but the process's.
//!
//! Pages are read from outside while the task is in a plain ptrace stop; no code of ours runs in it.
//! Contents of shared memory and files are not here but with the files.

use super::cow;
use super::space::{PageRange, Space};
use crate::error::{Context, Error, Kind, Result};
use crate::files::Blocker;
use crate::files::dump::FileDumper;
use crate::image::pages::{PAGE, Run, Writer};
use crate::image::tree::{Backing, Vma};
use crate::proc::Proc;
use crate::procfs::smaps::{Mapping, VmFlags};
use crate::program::Addr;
use rtc_sys::pagemap::{self, Query, category};
use rtc_sys::procmem::{self, RemoteRange};
use rtc_sys::{CallExt, Errno};
use rustix::fs::OFlags;
use std::os::fd::OwnedFd;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many pages are read and written at once: few enough to stay in the processor's cache between the two.
const CHUNK: usize = 64;

/// Refuses on a kernel that can't tell which pages have contents, before any task is stopped for it.
pub(super) fn check_kernel() -> Result<()> {
    let own = std::fs::File::open("/proc/self/pagemap").context(|| "open /proc/self/pagemap")?;
    let query = Query { any_of: category::PRESENT, report: category::PRESENT, ..Query::default() };
    match pagemap::scan(&own, 0, PAGE, query) {
        Err(error) if error.errno() == Errno::ENOTTY => {
            let why = "this kernel doesn't tell which pages have contents (PAGEMAP_SCAN)";
            Err(Error::new(Kind::Unsupported, why).with_hint("Linux 6.7 or newer is needed"))
        }
        other => other.map(drop).context(|| "look at pages"),
    }
}

/// Looks at the mappings of a process, which is `inside` in the container; what can't be saved goes to the blockers.
pub(super) fn look(pid: i32, inside: i32, files: &mut FileDumper<'_>, blockers: &mut Vec<Blocker>) -> Result<Space> {
    let mut vmas = Vec::new();
    for mapping in Proc(pid).smaps()? {
        if mapping.name == "[vsyscall]" {
            continue; // a place in the kernel's half, the same for all
        }
        match backing(pid, &mapping, files)? {
            Ok(backing) => vmas.push(vma(&mapping, backing)),
            Err((why, remedy)) => blockers.push(Blocker {
                pid: inside,
                what: format!("mapping {:x}-{:x} {}", mapping.start, mapping.end, mapping.name),
                why: why.into(),
                remedy: remedy.into(),
            }),
        }
    }
    Ok(Space { pid, vmas, pages: Vec::new(), aliases: Vec::new(), may_share: false, runs: Vec::new() })
}

type Refusal = (&'static str, &'static str);

/// What is behind a mapping, or why it can't be saved.
fn backing(pid: i32, m: &Mapping, files: &mut FileDumper<'_>) -> Result<std::result::Result<Backing, Refusal>> {
    let refuse = |why, remedy| Ok(Err((why, remedy)));
    if m.name == "[vdso]" {
        return Ok(Ok(Backing::Vdso));
    }
    if m.name.starts_with("[vvar") {
        return Ok(Ok(Backing::Vvar));
    }
    if m.flags.has(VmFlags::UFFD_MISSING) || m.flags.has(VmFlags::UFFD_WP) {
        return refuse("userfaultfd serves it", "stop the program that uses userfaultfd");
    }
    if m.flags.has(VmFlags::SHADOW_STACK) {
        return refuse("a shadow stack can't be rebuilt yet", "start the program without x86 shadow stacks");
    }
    if m.flags.has(VmFlags::SEALED) {
        return refuse("a sealed mapping can't be rebuilt yet", "start the program without mseal");
    }
    if m.name.starts_with("/[aio]") {
        return refuse("a native AIO ring can't be rebuilt yet", "use another I/O engine of the program");
    }
    if m.flags.has(VmFlags::PFN_MAP) || m.flags.has(VmFlags::IO) {
        return refuse("it is memory of a device", "let the program close the device");
    }
    if m.name.starts_with("/SYSV") && m.shared {
        return Ok(Ok(Backing::SysV { id: m.inode as i32, offset: m.offset }));
    }
    // A private mapping of /dev/zero is anonymous memory under another name (zero(4)).
    if m.inode == 0 || (m.name == "/dev/zero" && !m.shared) {
        return Ok(Ok(Backing::Anonymous));
    }
    let writable = m.shared && m.flags.has(VmFlags::MAY_WRITE);
    let file = files
        .add_mapped(pid, m.start, m.end, writable)
        .context(|| format!("mapping {:x}-{:x} {} of process {pid}", m.start, m.end, m.name))?;
    Ok(Ok(Backing::File { file, offset: m.offset }))
}

fn vma(m: &Mapping, backing: Backing) -> Vma {
    let named = m.name.strip_prefix("[anon:").or_else(|| m.name.strip_prefix("[anon_shmem:"));
    Vma {
        start: Addr(m.start),
        end: Addr(m.end),
        prot: m.prot,
        shared: m.shared,
        backing,
        flags: m.flags,
        huge_page: m.flags.has(VmFlags::HUGE_TLB).then_some(m.page_size),
        pkey: m.pkey,
        name: named.map(|n| n.trim_end_matches(']').to_owned()),
        guards: Vec::new(),
    }
}

impl Space {
    /// Finds the private pages and the guard regions.
    pub(super) fn scan(&mut self) -> Result<()> {
        let file = Proc(self.pid).open("pagemap", OFlags::RDONLY)?;
        for vma in self.vmas.iter_mut().filter(|v| v.is_private_memory()) {
            for region in scan_vma(&file, vma)? {
                if region.categories & category::GUARD != 0 {
                    vma.guards.push((Addr(region.start), Addr(region.end)));
                } else if region.categories & (category::FILE | category::PFNZERO) == 0 {
                    let (page, end) = (region.start / PAGE, region.end / PAGE);
                    match self.pages.last_mut() {
                        Some(last) if last.page + last.count == page => last.count += end - page,
                        _ => self.pages.push(PageRange { page, count: end - page }),
                    }
                }
            }
        }
        Ok(())
    }
}

fn scan_vma(pagemap: &OwnedFd, vma: &Vma) -> Result<Vec<pagemap::Region>> {
    let seen = category::PRESENT | category::SWAPPED;
    let query = |any_of| Query { without: 0, any_of, report: any_of | category::FILE | category::PFNZERO };
    let regions = pagemap::scan(pagemap, vma.start.0, vma.end.0, query(seen | category::GUARD));
    match regions {
        // Before kernel 6.15 there is no category for guard regions.
        Err(e) if e.errno() == Errno::EINVAL => Ok(pagemap::scan(pagemap, vma.start.0, vma.end.0, query(seen))?),
        regions => Ok(regions?),
    }
}

/// A piece of work: pages of one address space that fit in one buffer.
struct Chunk {
    space: usize,
    ranges: Vec<PageRange>,
}

/// Writes the private pages of all address spaces, each page once, by as many threads as there are processors.
pub(super) fn write(spaces: &mut [Space], writer: &Writer) -> Result<()> {
    if spaces.len() > 1 {
        spaces.iter_mut().for_each(|s| s.may_share = true);
        cow::find_shared(spaces)?;
    }
    let chunks = chunks(spaces);
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, Vec<Run>)>> = Mutex::new(Vec::new());
    let shared: &[Space] = spaces;
    let work = || -> Result<()> {
        let mut buffer = vec![0; CHUNK * PAGE as usize];
        while let Some(chunk) = chunks.get(next.fetch_add(1, Ordering::Relaxed)) {
            let runs = write_chunk(&shared[chunk.space], chunk, writer, &mut buffer)?;
            done.lock().expect("no worker panics").push((chunk.space, runs));
        }
        Ok(())
    };
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(8).min(chunks.len() / 32 + 1);
    std::thread::scope(|scope| {
        // Where no thread can be had, one less does the work.
        let spawn = |_| std::thread::Builder::new().spawn_scoped(scope, work).ok();
        let others: Vec<_> = (1..workers).filter_map(spawn).collect();
        let mine = work();
        others.into_iter().map(|t| t.join().expect("no worker panics")).fold(mine, Result::and)
    })?;
    for (space, runs) in done.into_inner().expect("no worker panics") {
        spaces[space].runs.extend(runs);
    }
    spaces.iter_mut().for_each(|s| s.runs.sort_unstable());
    cow::resolve(spaces);
    Ok(())
}

fn chunks(spaces: &[Space]) -> Vec<Chunk> {
    let mut all = Vec::new();
    for (space, s) in spaces.iter().enumerate() {
        let mut ranges = Vec::new();
        let mut room = CHUNK as u64;
        for range in &s.pages {
            let mut rest = *range;
            while rest.count > 0 {
                let count = rest.count.min(room);
                ranges.push(PageRange { page: rest.page, count });
                rest = PageRange { page: rest.page + count, count: rest.count - count };
                room -= count;
                if room == 0 {
                    all.push(Chunk { space, ranges: std::mem::take(&mut ranges) });
                    room = CHUNK as u64;
                }
            }
        }
        if !ranges.is_empty() {
            all.push(Chunk { space, ranges });
        }
    }
    all
}

fn write_chunk(space: &Space, chunk: &Chunk, writer: &Writer, buffer: &mut [u8]) -> Result<Vec<Run>> {
    let len = chunk.ranges.iter().map(|r| r.count * PAGE).sum::<u64>() as usize;
    let ranges: Vec<_> =
        chunk.ranges.iter().map(|r| RemoteRange { address: r.page * PAGE, len: r.count * PAGE }).collect();
    // process_vm_readv is the faster way, but it gives the task a copy of its own of every page that it shares
    // copy-on-write (the pages are pinned, and a pinned page may not be shared). Nor does it read what the process
    // itself may not read. /proc/PID/mem does neither.
    let read = (!space.may_share).then(|| procmem::read_ranges(space.pid, &mut buffer[..len], &ranges));
    if !matches!(read, Some(Ok(n)) if n == len) {
        read_by_force(space.pid, &ranges, &mut buffer[..len])?;
    }
    let pages = chunk.ranges.iter().flat_map(|r| r.page..r.page + r.count);
    writer.write(pages, &mut buffer[..len])
}

fn read_by_force(pid: i32, ranges: &[RemoteRange], buffer: &mut [u8]) -> Result<()> {
    let file = Proc(pid).open("mem", OFlags::RDONLY)?;
    let mut rest = buffer;
    for range in ranges {
        let (mut piece, tail) = rest.split_at_mut(range.len as usize);
        let mut at = range.address;
        while !piece.is_empty() {
            let n = rustix::io::pread(&file, &mut *piece, at)
                .call("pread", format_args!("/proc/{pid}/mem, {at:#x}"))
                .context(|| format!("read memory of process {pid}"))?;
            piece = &mut piece[n..];
            at += n as u64;
        }
        rest = tail;
    }
    Ok(())
}
