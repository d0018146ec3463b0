//! Memory contents: `pages-N.img` holds pages and nothing else, `pagemap-N.img` says whose they are.
//!
//! No page of zeroes and no page twice: several runs, also of different address spaces, may name the same pages.
//! Every page has a checksum of its own, so any part can be read and checked alone.
//! The byte layout is in docs/image-format.md.

use crate::error::{Context, Result, bad_image};
use rtc_sys::CallExt;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// The size of a page in an image.
pub const PAGE: u64 = 4096;
const MAGIC: [u8; 8] = *b"RTCPMAP1";
const HEADER: usize = 32;
const RUN: usize = 16;

/// A run of pages of one address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Run {
    /// The number of its first page in the address space.
    pub page: u64,
    /// How many pages.
    pub count: u32,
    /// The number of its first page in the page file.
    pub at: u32,
}

impl Run {
    /// The page number behind its last.
    pub fn end(&self) -> u64 {
        self.page + u64::from(self.count)
    }

    /// The part of the run between two page numbers, if any.
    pub fn clip(&self, start: u64, end: u64) -> Option<Run> {
        let (from, to) = (self.page.max(start), self.end().min(end));
        (from < to).then(|| Run { page: from, count: (to - from) as u32, at: self.at + (from - self.page) as u32 })
    }
}

/// Writes pages; many threads may use it at once.
pub struct Writer {
    file: OwnedFd,
    next: AtomicU64,
    checksums: Mutex<Vec<u32>>,
}

impl Writer {
    /// A writer into an empty file.
    pub fn new(file: OwnedFd) -> Self {
        Self { file, next: AtomicU64::new(0), checksums: Mutex::new(Vec::new()) }
    }

    /// Writes the pages of `buffer` that aren't all zero, and gives the runs they make; `pages` are the numbers of the
    /// buffer's pages. The buffer's order is lost.
    ///
    /// # Errors
    /// When the disk is full or the file too large.
    pub fn write(&self, pages: impl Iterator<Item = u64>, buffer: &mut [u8]) -> Result<Vec<Run>> {
        let mut runs: Vec<Run> = Vec::new();
        let mut checksums = Vec::with_capacity(buffer.len() / PAGE as usize);
        let mut kept = 0usize;
        for (i, page) in pages.take(buffer.len() / PAGE as usize).enumerate() {
            let from = i * PAGE as usize;
            if is_zero(&buffer[from..from + PAGE as usize]) {
                continue;
            }
            checksums.push(crc32fast::hash(&buffer[from..from + PAGE as usize]));
            if kept != i {
                buffer.copy_within(from..from + PAGE as usize, kept * PAGE as usize);
            }
            match runs.last_mut() {
                Some(run) if run.end() == page => run.count += 1,
                _ => runs.push(Run { page, count: 1, at: kept as u32 }),
            }
            kept += 1;
        }
        if kept == 0 {
            return Ok(runs);
        }
        let at = self.next.fetch_add(kept as u64, Ordering::Relaxed);
        if at + kept as u64 > u64::from(u32::MAX) {
            return Err(bad_image("more than 16 TiB of memory don't fit in one image"));
        }
        write_at(&self.file, at * PAGE, &buffer[..kept * PAGE as usize])?;
        let mut all = self.checksums.lock().expect("no writer panics");
        if all.len() < at as usize + kept {
            all.resize(at as usize + kept, 0);
        }
        all[at as usize..at as usize + kept].copy_from_slice(&checksums);
        runs.iter_mut().for_each(|run| run.at += at as u32);
        Ok(runs)
    }

    /// How many pages have been written.
    pub fn pages(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// The bytes of the page map for these runs (those of all address spaces, one after another), and the page file.
    pub fn finish(self, runs: &[Run]) -> (Vec<u8>, OwnedFd) {
        let checksums = self.checksums.into_inner().expect("no writer panics");
        let mut map = Vec::with_capacity(HEADER + runs.len() * RUN + checksums.len() * 4);
        map.extend_from_slice(&MAGIC);
        map.extend_from_slice(&(PAGE as u32).to_le_bytes());
        map.extend_from_slice(&0u32.to_le_bytes());
        map.extend_from_slice(&(runs.len() as u64).to_le_bytes());
        map.extend_from_slice(&(checksums.len() as u64).to_le_bytes());
        for run in runs {
            map.extend_from_slice(&run.page.to_le_bytes());
            map.extend_from_slice(&run.count.to_le_bytes());
            map.extend_from_slice(&run.at.to_le_bytes());
        }
        for checksum in checksums {
            map.extend_from_slice(&checksum.to_le_bytes());
        }
        (map, self.file)
    }
}

/// Reads pages back.
pub struct Reader {
    file: OwnedFd,
    runs: Vec<Run>,
    checksums: Vec<u32>,
}

impl Reader {
    /// Reads the page map and checks it against the page file's size.
    ///
    /// # Errors
    /// When the map is truncated or names pages that the file doesn't have.
    pub fn new(map: &[u8], file: OwnedFd) -> Result<Self> {
        let (runs, checksums) = parse_map(map)?;
        let size = rustix::fs::fstat(&file).call("fstat", "pages")?.st_size as u64;
        if size < checksums.len() as u64 * PAGE {
            return Err(bad_image(format!("the page file has {size} bytes, {} pages are missing", {
                checksums.len() as u64 - size / PAGE
            })));
        }
        Ok(Self { file, runs, checksums })
    }

    /// The runs from number `first` on.
    ///
    /// # Errors
    /// When there are fewer.
    pub fn runs(&self, first: usize, count: usize) -> Result<&[Run]> {
        let end = first.checked_add(count).filter(|end| *end <= self.runs.len());
        let runs = &self.runs[first.min(self.runs.len())..end.ok_or_else(|| bad_image("page runs are missing"))?];
        let ordered = runs.windows(2).all(|w| w[0].end() <= w[1].page);
        if ordered { Ok(runs) } else { Err(bad_image("page runs overlap")) }
    }

    /// Reads and checks pages from number `at` of the page file on; `buffer` must hold whole pages.
    ///
    /// # Errors
    /// When the file is shorter or a page isn't what was written.
    pub fn read(&self, at: u32, buffer: &mut [u8]) -> Result<()> {
        let mut done = 0;
        while done < buffer.len() {
            let n = rustix::io::pread(&self.file, &mut buffer[done..], u64::from(at) * PAGE + done as u64)
                .call("pread", "pages")?;
            if n == 0 {
                return Err(bad_image("the page file is too short"));
            }
            done += n;
        }
        for (i, page) in buffer.chunks_exact(PAGE as usize).enumerate() {
            if self.checksums.get(at as usize + i) != Some(&crc32fast::hash(page)) {
                return Err(bad_image(format!("page {} of the page file is altered", at as usize + i)));
            }
        }
        Ok(())
    }

    /// How many pages the page file has.
    pub fn pages(&self) -> u64 {
        self.checksums.len() as u64
    }
}

fn parse_map(map: &[u8]) -> Result<(Vec<Run>, Vec<u32>)> {
    let word = |bytes: &[u8]| u32::from_le_bytes(bytes[..4].try_into().expect("four bytes"));
    let long = |bytes: &[u8]| u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"));
    if map.len() < HEADER || map[..8] != MAGIC || u64::from(word(&map[8..])) != PAGE {
        return Err(bad_image("the page map has no header"));
    }
    let (runs, pages) = (long(&map[16..]), long(&map[24..]));
    let expected = (|| runs.checked_mul(RUN as u64)?.checked_add(pages.checked_mul(4)?)?.checked_add(HEADER as u64))();
    if expected != Some(map.len() as u64) {
        return Err(bad_image("the page map is truncated"));
    }
    let (run_bytes, checksum_bytes) = map[HEADER..].split_at(runs as usize * RUN);
    let mut all = Vec::with_capacity(runs as usize);
    for bytes in run_bytes.chunks_exact(RUN) {
        let run = Run { page: long(bytes), count: word(&bytes[8..]), at: word(&bytes[12..]) };
        // No user address is beyond 2^57.
        if run.count == 0 || run.page >= 1 << 45 || u64::from(run.at) + u64::from(run.count) > pages {
            return Err(bad_image("a page run is out of bounds"));
        }
        all.push(run);
    }
    Ok((all, checksum_bytes.chunks_exact(4).map(word).collect()))
}

/// Whether all bytes are 0.
fn is_zero(page: &[u8]) -> bool {
    // The first bytes decide for nearly every page that isn't zero.
    page[..16] == [0; 16] && page.chunks_exact(64).all(|c| c == [0; 64])
}

fn write_at(file: impl AsFd, at: u64, bytes: &[u8]) -> Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        done += rustix::io::pwrite(file.as_fd(), &bytes[done..], at + done as u64)
            .call("pwrite", format_args!("pages, {} bytes", bytes.len()))
            .context(|| "write the page file")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory_file() -> OwnedFd {
        rustix::fs::memfd_create("pages", rustix::fs::MemfdFlags::CLOEXEC).unwrap()
    }

    #[test]
    fn zero_pages_are_left_out_and_the_rest_comes_back() {
        let writer = Writer::new(memory_file());
        let mut buffer = vec![0u8; 4 * PAGE as usize];
        buffer[PAGE as usize] = 7;
        buffer[3 * PAGE as usize + 5] = 9;
        let original = buffer.clone();
        let runs = writer.write(100.., &mut buffer).unwrap();
        assert_eq!(runs, [Run { page: 101, count: 1, at: 0 }, Run { page: 103, count: 1, at: 1 }]);
        let (map, file) = writer.finish(&runs);
        let reader = Reader::new(&map, file).unwrap();
        assert_eq!(reader.runs(0, 2).unwrap(), runs);
        let mut page = vec![0; PAGE as usize];
        reader.read(1, &mut page).unwrap();
        assert_eq!(page, original[3 * PAGE as usize..]);
    }

    #[test]
    fn altered_and_truncated_images_are_refused() {
        let writer = Writer::new(memory_file());
        let runs = writer.write(1.., &mut vec![1u8; 2 * PAGE as usize]).unwrap();
        let (map, file) = writer.finish(&runs);
        assert!(Reader::new(&map[..map.len() - 1], file.try_clone().unwrap()).is_err());
        let mut wrong = map.clone();
        wrong[HEADER + 12] = 1; // the run begins one page later than there are pages for
        assert!(Reader::new(&wrong, file.try_clone().unwrap()).is_err());
        rustix::io::pwrite(&file, &[2], 17).unwrap();
        let reader = Reader::new(&map, file.try_clone().unwrap()).unwrap();
        assert!(reader.read(0, &mut vec![0; PAGE as usize]).unwrap_err().to_string().contains("altered"));
        rustix::fs::ftruncate(&file, PAGE).unwrap();
        assert!(Reader::new(&map, file).is_err());
    }

    #[test]
    fn a_run_is_clipped_with_its_place_in_the_file() {
        let run = Run { page: 10, count: 5, at: 100 };
        assert_eq!(run.clip(12, 14), Some(Run { page: 12, count: 2, at: 102 }));
        assert_eq!(run.clip(15, 20), None);
    }
}
