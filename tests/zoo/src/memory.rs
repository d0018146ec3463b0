//! Memory: anonymous and of files, private and shared, copied on write, sealed, locked, named.

use crate::base::{Check, Child, Named, Prepare, Result, check, holds, same, sys, sys_fd};
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

pub(crate) const ZOO: &[(&str, Prepare)] = &[
    ("anonymous", anonymous),
    ("heap_and_stack", heap_and_stack),
    ("shared_anonymous", shared_anonymous),
    ("copy_on_write", copy_on_write),
    ("private_file", private_file),
    ("shared_file", shared_file),
    ("deleted_file_mapping", deleted_file_mapping),
    ("memfd", memfd),
    ("memory_flags", memory_flags),
    ("memory_name", memory_name),
    ("device_zero", device_zero),
];

const PAGE: usize = 4096;

/// A mapping of this process; never unmapped, as the program lives until it is killed.
#[derive(Clone, Copy)]
pub(crate) struct Map {
    pub(crate) at: usize,
    pub(crate) len: usize,
}

impl Map {
    pub(crate) fn new(len: usize, flags: i32, fd: i32) -> Result<Self> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let at = sys!(libc::mmap(std::ptr::null_mut(), len, access, flags, fd, 0))?;
        Ok(Self { at: at as usize, len })
    }

    pub(crate) fn anonymous(len: usize) -> Result<Self> {
        Self::new(len, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1)
    }

    pub(crate) fn get(self, offset: usize) -> u8 {
        assert!(offset < self.len);
        // SAFETY: within the mapping, which is readable.
        unsafe { std::ptr::read_volatile((self.at + offset) as *const u8) }
    }

    pub(crate) fn set(self, offset: usize, value: u8) {
        assert!(offset < self.len);
        // SAFETY: within the mapping, which is writable where this is called.
        unsafe { std::ptr::write_volatile((self.at + offset) as *mut u8, value) }
    }

    /// Writes a different value into each page for each generation.
    pub(crate) fn fill(self, generation: usize) {
        for page in 0..self.len / PAGE {
            self.set(page * PAGE + page % PAGE, pattern(page, generation));
        }
    }

    /// Whether [`Map::fill`] of that generation is still there.
    #[track_caller]
    pub(crate) fn expect(self, generation: usize) -> Result<()> {
        for page in 0..self.len / PAGE {
            let now = self.get(page * PAGE + page % PAGE);
            same(&format!("page {page} of {:#x}", self.at), now, pattern(page, generation))?;
        }
        Ok(())
    }

    pub(crate) fn protect(self, access: i32) -> Result<()> {
        sys!(libc::mprotect(self.at as *mut _, self.len, access)).map(drop)
    }

    pub(crate) fn part(self, page: usize, pages: usize) -> Self {
        Self { at: self.at + page * PAGE, len: pages * PAGE }
    }
}

fn pattern(page: usize, generation: usize) -> u8 {
    (page * 7 + generation * 13 + 1) as u8 | 1
}

/// Pages with content, never touched, zero, read-only after being written, and out of reach.
fn anonymous() -> Result<Check> {
    let whole = Map::anonymous(1024 * PAGE)?;
    let (full, empty, zero) = (whole.part(0, 300), whole.part(300, 300), whole.part(600, 50));
    let (readonly, hidden) = (whole.part(700, 100), whole.part(900, 20));
    full.fill(0);
    (0..50).for_each(|page| zero.set(page * PAGE, 0));
    readonly.fill(3);
    readonly.protect(libc::PROT_READ)?;
    hidden.fill(4);
    hidden.protect(libc::PROT_NONE)?;
    let mut generation = 0;
    check(move || {
        full.expect(generation)?;
        readonly.expect(3)?;
        for map in [empty, zero] {
            holds("zero stays zero", (0..map.len).step_by(PAGE).all(|offset| map.get(offset) == 0))?;
        }
        hidden.protect(libc::PROT_READ)?;
        hidden.expect(4)?;
        hidden.protect(libc::PROT_NONE)?;
        // The next round saves other content.
        generation += 1;
        full.fill(generation);
        Ok(())
    })
}

/// The break can go on growing, the stack too, downwards.
fn heap_and_stack() -> Result<Check> {
    fn deep(level: usize) -> usize {
        let mut frame = [level as u8; 3000];
        std::hint::black_box(&mut frame);
        if level == 0 { 0 } else { deep(level - 1) + usize::from(frame[1500] == level as u8) }
    }
    let start = sys!(libc::sbrk(64 * PAGE as isize))? as usize;
    let heap = Map { at: start, len: 64 * PAGE };
    heap.fill(1);
    same("stack", deep(100), 100)?;
    let mut depth = 100;
    check(move || {
        heap.expect(1)?;
        depth += 200;
        same("stack", deep(depth), depth)?;
        let more = sys!(libc::sbrk(4 * PAGE as isize))? as usize;
        Map { at: more, len: 4 * PAGE }.fill(2);
        heap.expect(1)
    })
}

/// One memory under two processes.
fn shared_anonymous() -> Result<Check> {
    let map = Map::new(64 * PAGE, libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1)?;
    map.fill(0);
    let mut theirs = 0;
    let mut child = Child::fork(|| {
        check(move || {
            map.expect(theirs)?;
            theirs += 1;
            map.fill(theirs);
            Ok(())
        })
    })?;
    let mut generation = 0;
    check(move || {
        map.expect(generation)?;
        child.check()?;
        // What the child wrote is seen here at once.
        generation += 1;
        map.expect(generation)
    })
}

/// Pages that parent and child have in common until one writes stay common over a restore.
fn copy_on_write() -> Result<Check> {
    let map = Map::anonymous(512 * PAGE)?;
    map.fill(0);
    let own = map.part(0, 16);
    let mut child = Child::fork(|| {
        own.fill(5);
        check(move || {
            own.expect(5)?;
            map.part(16, 496).expect_as(16, 0)
        })
    })?;
    check(move || {
        child.check()?;
        map.expect(0)?;
        let common = smaps(map.at)?.kilobytes(&["Shared_Dirty", "Shared_Clean"])?;
        holds(&format!("{common} kB of 1984 are common with the child"), common >= 1900)
    })
}

impl Map {
    /// [`Map::expect`] for a part that begins at page `first` of the map that was filled.
    fn expect_as(self, first: usize, generation: usize) -> Result<()> {
        Map { at: self.at - first * PAGE, len: self.len + first * PAGE }.expect_from(first, generation)
    }

    fn expect_from(self, first: usize, generation: usize) -> Result<()> {
        for page in first..self.len / PAGE {
            same(&format!("page {page}"), self.get(page * PAGE + page % PAGE), pattern(page, generation))?;
        }
        Ok(())
    }
}

/// The lines of /proc/self/smaps about one mapping.
pub(crate) struct Smaps(String);

pub(crate) fn smaps(at: usize) -> Result<Smaps> {
    let text = fs::read_to_string("/proc/self/smaps").named("smaps")?;
    let start = format!("{at:x}-");
    let from = text.lines().skip_while(|line| !line.starts_with(&start));
    let mut lines: Vec<&str> = Vec::new();
    for line in from {
        lines.push(line);
        if line.starts_with("VmFlags") {
            break;
        }
    }
    holds(&format!("a mapping begins at {at:#x}"), !lines.is_empty())?;
    Ok(Smaps(lines.join("\n")))
}

impl Smaps {
    fn kilobytes(&self, names: &[&str]) -> Result<usize> {
        let mut sum = 0;
        for name in names {
            let line = self.0.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let value = line.ok_or("smaps")?.trim().trim_end_matches(" kB");
            sum += value.parse::<usize>().named(name)?;
        }
        Ok(sum)
    }

    fn flags(&self) -> String {
        self.0.lines().find_map(|line| line.strip_prefix("VmFlags: ")).unwrap_or_default().to_owned()
    }

    fn first_line(&self) -> &str {
        self.0.lines().next().unwrap_or_default()
    }
}

fn file(path: &str, pages: usize) -> Result<File> {
    let file = File::options().read(true).write(true).create(true).truncate(true).open(path).named(path)?;
    for page in 0..pages {
        file.write_all_at(&[pattern(page, 0); PAGE], (page * PAGE) as u64).named(path)?;
    }
    Ok(file)
}

/// A private mapping of a file: some pages are the file's, some are our own.
fn private_file() -> Result<Check> {
    let file = file("/var/private", 64)?;
    let map = Map::new(64 * PAGE, libc::MAP_PRIVATE, file.as_raw_fd())?;
    let own = map.part(0, 8);
    own.fill(9);
    check(move || {
        own.expect(9)?;
        map.expect_from(8, 0)?;
        // A write to the file is seen where the page is still the file's, and only there.
        file.write_all_at(&[pattern(20, 0)], 20 * PAGE as u64 + 100).named("write")?;
        same("own page", map.get(7 * PAGE + 100), pattern(7, 0))?;
        let flags = smaps(map.at)?;
        holds("the mapping names its file", flags.first_line().ends_with("/var/private"))
    })
}

/// A shared mapping of a file: what is written to one is seen in the other.
fn shared_file() -> Result<Check> {
    let file = file("/var/shared", 16)?;
    let map = Map::new(16 * PAGE, libc::MAP_SHARED, file.as_raw_fd())?;
    let mut generation = 0;
    check(move || {
        map.expect(generation)?;
        generation += 1;
        map.fill(generation);
        let mut byte = [0];
        file.read_exact_at(&mut byte, 3 * PAGE as u64 + 3).named("read")?;
        same("the file", byte[0], pattern(3, generation))
    })
}

/// A shared mapping whose file has no name and no descriptor any more.
fn deleted_file_mapping() -> Result<Check> {
    let file = file("/var/deleted", 16)?;
    let map = Map::new(16 * PAGE, libc::MAP_SHARED, file.as_raw_fd())?;
    fs::remove_file("/var/deleted").named("unlink")?;
    drop(file);
    let mut theirs = 0;
    let mut child = Child::fork(|| {
        check(move || {
            theirs += 1;
            map.expect(theirs)
        })
    })?;
    let mut generation = 0;
    check(move || {
        map.expect(generation)?;
        generation += 1;
        map.fill(generation);
        child.check()
    })
}

/// A memfd with content, a hole, a name, seals and a mapping.
fn memfd() -> Result<Check> {
    let fd = sys_fd!(libc::memfd_create(c"zoo".as_ptr(), libc::MFD_ALLOW_SEALING | libc::MFD_CLOEXEC))?;
    let file = File::from(fd);
    file.set_len(256 * PAGE as u64).named("ftruncate")?;
    file.write_all_at(b"first", 10).named("write")?;
    file.write_all_at(b"last", 255 * PAGE as u64).named("write")?;
    let map = Map::new(256 * PAGE, libc::MAP_SHARED, file.as_raw_fd())?;
    let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW;
    sys!(libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals))?;
    check(move || {
        same("seals", sys!(libc::fcntl(file.as_raw_fd(), libc::F_GET_SEALS))?, seals)?;
        let link = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).named("readlink")?;
        same("name", link.to_string_lossy().into_owned(), "/memfd:zoo (deleted)".into())?;
        same("first", (10..15).map(|at| map.get(at)).collect(), b"first".to_vec())?;
        let mut last = [0; 4];
        file.read_exact_at(&mut last, 255 * PAGE as u64).named("read")?;
        same("last", &last, b"last")?;
        let bump = map.get(100).wrapping_add(1);
        map.set(100, bump);
        let mut byte = [0];
        file.read_exact_at(&mut byte, 100).named("read")?;
        same("the descriptor sees what the mapping wrote", byte[0], bump)
    })
}

/// madvise and mlock, as /proc/self/smaps shows them.
fn memory_flags() -> Result<Check> {
    let advices = [libc::MADV_DONTFORK, libc::MADV_DONTDUMP, libc::MADV_WIPEONFORK, libc::MADV_SEQUENTIAL];
    let mut maps = Vec::new();
    for advice in advices {
        let map = Map::anonymous(8 * PAGE)?;
        map.fill(0);
        sys!(libc::madvise(map.at as *mut _, map.len, advice))?;
        maps.push(map);
    }
    let locked = Map::anonymous(4 * PAGE)?;
    sys!(libc::mlock(locked.at as *const _, locked.len))?;
    locked.fill(0);
    maps.push(locked);
    let norereserve = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    maps.push(Map::new(1 << 30, norereserve, -1)?);
    let flags = move |map: &Map| -> Result<String> { Ok(smaps(map.at)?.flags()) };
    // Neighbours of one kind are one mapping to the kernel: only those that begin one can be asked.
    maps.retain(|map| flags(map).is_ok());
    let before: Vec<String> = maps.iter().map(flags).collect::<Result<_>>()?;
    check(move || {
        for (map, before) in maps.iter().zip(&before) {
            same("VmFlags", &flags(map)?, before)?;
        }
        maps[0].expect(0)
    })
}

/// A name given to anonymous memory.
fn memory_name() -> Result<Check> {
    let map = Map::anonymous(8 * PAGE)?;
    let name = libc::PR_SET_VMA_ANON_NAME;
    if sys!(libc::prctl(libc::PR_SET_VMA, name, map.at, map.len, c"zoo".as_ptr())).is_err() {
        // A kernel without CONFIG_ANON_VMA_NAME: there is nothing to keep.
        return check(|| Ok(()));
    }
    map.fill(0);
    check(move || {
        holds("[anon:zoo]", smaps(map.at)?.first_line().ends_with("[anon:zoo]"))?;
        map.expect(0)
    })
}

/// Shared memory that came from mapping /dev/zero.
fn device_zero() -> Result<Check> {
    let zero = File::options().read(true).write(true).open("/dev/zero").named("/dev/zero")?;
    let shared = Map::new(8 * PAGE, libc::MAP_SHARED, zero.as_raw_fd())?;
    let private = Map::new(8 * PAGE, libc::MAP_PRIVATE, zero.as_raw_fd())?;
    shared.fill(0);
    private.fill(1);
    check(move || {
        shared.expect(0)?;
        private.expect(1)
    })
}
