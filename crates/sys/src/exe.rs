//! The program file of the running process, exchanged for the same file as another mount shows it.
//!
//! A process refers to its program's file in two ways: by `/proc/PID/exe`, and by the mappings of the file's segments
//! (`/proc/PID/map_files`). Both lead through the mount that the program was executed from. Here both are led through
//! another mount while the program runs, which saves executing it a second time.
//!
//! Left out: position-independent and dynamically linked programs, which would need to know where they were loaded.

use std::ffi::c_void;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::fs::{Mode, OFlags};

use crate::clone::unshare;
use crate::{CallExt, Errno, Error, Result};

/// The page size of every x86-64 machine.
const PAGE: usize = 4096;

/// Makes `file` this process's program file. It must be the file that the program was executed from, as a mount shows it
/// that lets it be executed, opened for reading. The process must have one thread.
///
/// Code and constants are mapped anew; writable data is moved to memory without a file, byte for byte. The link
/// `/proc/PID/exe` is changed by `PR_SET_MM_MAP` (Linux 3.18, CONFIG_CHECKPOINT_RESTORE; unprivileged since 5.9 with
/// CAP_CHECKPOINT_RESTORE, before with CAP_SYS_RESOURCE).
///
/// # Errors
/// `EINVAL` for another file, several threads, or a kernel without the call; `EPERM`; `ENOEXEC` for a program of another
/// kind than described above. The program runs on, whatever fails.
pub fn exchange(file: BorrowedFd<'_>) -> Result<()> {
    // Nothing happens in a process of one thread; in others the kernel refuses (unshare(2), CLONE_THREAD).
    unshare(libc::CLONE_THREAD as u64)?;
    let own = rustix::fs::stat("/proc/self/exe").call("stat", "/proc/self/exe")?;
    let other = rustix::fs::fstat(file).call("fstat", file.as_raw_fd())?;
    if (own.st_dev, own.st_ino) != (other.st_dev, other.st_ino) {
        return Err(Error::new("fstat", "another file than /proc/self/exe", Errno::EINVAL));
    }
    let segments = segments()?;
    let mut map = memory_map()?;
    for segment in &segments {
        segment.exchange(file)?;
    }
    map.exe_fd = file.as_raw_fd() as u32;
    let size = size_of::<MemoryMap>();
    // SAFETY: `map` describes this process's memory as the kernel itself just did, but for the file; the kernel copies it.
    match unsafe { libc::prctl(libc::PR_SET_MM, libc::PR_SET_MM_MAP, &raw const map, size, 0) } {
        0 => Ok(()),
        _ => Err(Error::last("prctl", "SET_MM, MM_MAP")),
    }
}

/// Whether [`exchange`] can succeed here, as far as that can be said without doing it.
#[must_use]
pub fn can_exchange() -> bool {
    let mut size = 0_u32;
    // SAFETY: the kernel writes the size of its structure to the given variable of four bytes.
    let known = unsafe { libc::prctl(libc::PR_SET_MM, libc::PR_SET_MM_MAP_SIZE, &raw mut size, 0, 0) } == 0;
    known && size as usize == size_of::<MemoryMap>() && segments().is_ok()
}

/// A part of the address space that the program's file was mapped to when it was executed.
struct Segment {
    start: usize,
    len: usize,
    offset: usize,
    protection: i32,
    /// What of it has been made read-only after its relocations were applied: start and length.
    relro: Option<(usize, usize)>,
}

/// The loaded segments, as the program headers have them.
fn segments() -> Result<Vec<Segment>> {
    let unsuitable = || Error::new("getauxval", "AT_PHDR: not a static program at a fixed address", Errno::ENOEXEC);
    // SAFETY: getauxval only reads what the kernel gave to the process.
    let (at, count) = unsafe { (libc::getauxval(libc::AT_PHDR) as usize, libc::getauxval(libc::AT_PHNUM) as usize) };
    if at == 0 {
        return Err(unsuitable());
    }
    // SAFETY: the kernel says that the program's headers stand there; they are mapped read-only and never change.
    let headers = unsafe { std::slice::from_raw_parts(at as *const libc::Elf64_Phdr, count) };
    // The headers name their own place; lld says it outright, GNU ld lets them be mapped behind the file's header.
    let names_own_place = |header: &libc::Elf64_Phdr| match header.p_type {
        libc::PT_PHDR => header.p_vaddr as usize == at,
        libc::PT_LOAD => header.p_offset == 0 && header.p_vaddr as usize + size_of::<libc::Elf64_Ehdr>() == at,
        _ => false,
    };
    if !headers.iter().any(names_own_place) || headers.iter().any(|h| h.p_type == libc::PT_INTERP) {
        return Err(unsuitable());
    }
    let relro = headers.iter().find(|header| header.p_type == libc::PT_GNU_RELRO).map(|header| {
        let start = header.p_vaddr as usize;
        // Rounded as libc does it: what shares a page with other data stays writable.
        (down(start), down(start + header.p_memsz as usize) - down(start))
    });
    let loaded = headers.iter().filter(|header| header.p_type == libc::PT_LOAD && header.p_filesz > 0);
    Ok(loaded.map(|header| Segment::new(header, relro)).collect())
}

fn down(address: usize) -> usize {
    address & !(PAGE - 1)
}

impl Segment {
    fn new(header: &libc::Elf64_Phdr, relro: Option<(usize, usize)>) -> Self {
        let start = down(header.p_vaddr as usize);
        let end = down(header.p_vaddr as usize + header.p_filesz as usize + PAGE - 1);
        let flags = [(libc::PF_R, libc::PROT_READ), (libc::PF_W, libc::PROT_WRITE), (libc::PF_X, libc::PROT_EXEC)];
        let protection = flags.iter().filter(|(flag, _)| header.p_flags & flag != 0).fold(0, |all, (_, bit)| all | bit);
        let relro = relro.filter(|(at, len)| *len > 0 && *at >= start && *at + *len <= end);
        Self { start, len: end - start, offset: down(header.p_offset as usize), protection, relro }
    }

    fn exchange(&self, file: BorrowedFd<'_>) -> Result<()> {
        if self.protection & libc::PROT_WRITE == 0 { self.map(file) } else { self.copy() }
    }

    /// Maps what never changes anew.
    fn map(&self, file: BorrowedFd<'_>) -> Result<()> {
        let (flags, offset) = (libc::MAP_PRIVATE | libc::MAP_FIXED, self.offset as i64);
        // SAFETY: the range holds an unchanged private mapping of the same part of the same file (checked by the caller;
        // the kernel lets nobody write to a file that is being executed), so each byte stays what it was.
        let result = unsafe {
            libc::mmap(self.start as *mut c_void, self.len, self.protection, flags, file.as_raw_fd(), offset)
        };
        self.outcome(result, "mmap")
    }

    /// Moves what the program has written to into memory without a file.
    fn copy(&self) -> Result<()> {
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        let place = self.start as *mut c_void;
        // SAFETY: a new mapping of the segment's length gets the segment's bytes and then, in one call, its address. No
        // other thread runs, and between copy and move nothing is done that could write to the segment: errno is thread
        // local and lies elsewhere. Last, what libc has made read-only becomes so again.
        unsafe {
            let copy = libc::mmap(std::ptr::null_mut(), self.len, protection, flags, -1, 0);
            self.outcome(copy, "mmap")?;
            libc::memcpy(copy, place, self.len);
            let moved = libc::mremap(copy, self.len, self.len, libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED, place);
            self.outcome(moved, "mremap")?;
            let (at, len) = self.relro.unwrap_or((self.start, 0));
            if libc::mprotect(at as *mut c_void, len, libc::PROT_READ) != 0 {
                return Err(Error::last("mprotect", format_args!("{at:#x}, {len}, READ")));
            }
        }
        Ok(())
    }

    fn outcome(&self, result: *mut c_void, call: &'static str) -> Result<()> {
        if result == libc::MAP_FAILED {
            return Err(Error::last(call, format_args!("{:#x}, {}", self.start, self.len)));
        }
        Ok(())
    }
}

/// `struct prctl_mm_map` (linux/prctl.h).
#[repr(C)]
struct MemoryMap {
    start_code: u64,
    end_code: u64,
    start_data: u64,
    end_data: u64,
    start_brk: u64,
    brk: u64,
    start_stack: u64,
    arg_start: u64,
    arg_end: u64,
    env_start: u64,
    env_end: u64,
    auxv: u64,
    auxv_size: u32,
    exe_fd: u32,
}

/// This process's memory as it is, for [`exchange`] to change one field of.
fn memory_map() -> Result<MemoryMap> {
    let file = "/proc/self/stat";
    let garbled = || Error::new("read", file, Errno::EINVAL);
    let handle = rustix::fs::open(file, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).call("open", file)?;
    let text = crate::fdio::read_whole(handle.as_fd()).call("read", file)?;
    let text = String::from_utf8_lossy(&text);
    // Fields are counted from the one behind the name, which is the third (proc_pid_stat(5)).
    let rest = text.get(text.rfind(')').ok_or_else(garbled)? + 1..).ok_or_else(garbled)?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3).and_then(|text| text.parse::<u64>().ok()).ok_or_else(garbled);
    // SAFETY: an increment of 0 changes nothing.
    let brk = unsafe { libc::sbrk(0) } as u64;
    Ok(MemoryMap {
        start_code: field(26)?,
        end_code: field(27)?,
        start_data: field(45)?,
        end_data: field(46)?,
        start_brk: field(47)?,
        brk,
        start_stack: field(28)?,
        arg_start: field(48)?,
        arg_end: field(49)?,
        env_start: field(50)?,
        env_end: field(51)?,
        auxv: 0,
        auxv_size: 0,
        exe_fd: u32::MAX,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn another_file_is_refused() {
        let file = std::fs::File::open("/dev/null").unwrap();
        // In a thread of the test harness the first check refuses already.
        assert_eq!(exchange(file.as_fd()).unwrap_err().errno(), Errno::EINVAL);
    }

    #[test]
    fn the_segments_are_those_that_are_mapped() {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let all = segments().unwrap();
        assert!(all.len() >= 2, "code and data");
        for segment in all {
            let start = format!("{:08x}-", segment.start);
            assert!(maps.lines().any(|line| line.starts_with(&start)), "{start} in\n{maps}");
        }
    }

    #[test]
    fn the_memory_map_is_that_of_this_process() {
        let map = memory_map().unwrap();
        let here = the_memory_map_is_that_of_this_process as fn() as usize as u64;
        assert!((map.start_code..map.end_code).contains(&here), "{here:#x}");
        assert!(map.start_brk <= map.brk && map.arg_start < map.arg_end);
    }
}
