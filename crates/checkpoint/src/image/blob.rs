//! Contents of any length (ghost files, queues, shared memory, tmpfs files) in one append-only file, `data.img`.
//!
//! The file begins with [`MAGIC`]. A blob is its extents' bytes, then its table, both at the end of the file then:
//!
//! | bytes | table |
//! |---|---|
//! | 4 | `BLOB` |
//! | 4 | number of extents, little-endian as everything here |
//! | 8 | length of the contents, holes included |
//! | n × 28 | extents: offset in the contents (8), length (8), offset in `data.img` (8), crc32 of the bytes (4) |
//! | 4 | crc32 of the table up to here |
//!
//! Metadata holds a [`Blob`]: where the table is and how long the contents are.
//! Extents are ascending and do not overlap; what lies between them reads as zeroes.
//! Blocks of 4096 zero bytes are not stored. Nothing is compressed here, and nothing is synced: the commit does that.

use crate::error::{Context as _, Result, bad_image};
use rtc_sys::CallExt as _;
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Write as _;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt as _;

/// The file's name within an image.
pub const FILE_NAME: &str = "data.img";
/// The file's first bytes: name and version.
pub const MAGIC: &[u8; 8] = b"RTCDATA1";
const TABLE_MAGIC: &[u8; 4] = b"BLOB";
/// Contents are copied, and extents limited, by this much.
const PIECE: usize = 1 << 20;
const BLOCK: usize = 4096;
const EXTENT_BYTES: usize = 28;
/// 16 TiB in full extents; a table of this size is 448 MiB, which is the most a hostile image makes us read.
const MAX_EXTENTS: u32 = 1 << 24;

/// Names contents within `data.img`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blob {
    /// Where its table begins.
    table: u64,
    /// Length of the contents in bytes, holes included.
    size: u64,
}

impl Blob {
    /// Length of the contents in bytes, holes included. As the image says: limit it before allocating.
    pub fn size(self) -> u64 {
        self.size
    }
}

/// A run of stored bytes of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Extent {
    /// Where it stands in the contents.
    offset: u64,
    len: u64,
    /// Where it stands in `data.img`.
    at: u64,
    crc: u32,
}

/// Appends contents to `data.img`.
pub struct Writer {
    /// None: everything is counted and thrown away (preflight).
    file: Option<File>,
    end: u64,
    piece: Vec<u8>,
}

impl Writer {
    /// Makes `data.img` in the directory `image`.
    ///
    /// # Errors
    /// When it exists or can't be written.
    pub fn create(image: BorrowedFd<'_>) -> Result<Self> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = rustix::fs::openat(image, FILE_NAME, flags, Mode::from_raw_mode(0o600)).call("openat", FILE_NAME)?;
        Self::new(file.into())
    }

    /// Begins in an empty file.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn new(file: File) -> Result<Self> {
        let mut writer = Self { file: Some(file), end: 0, piece: Vec::new() };
        writer.append(MAGIC)?;
        Ok(writer)
    }

    /// A writer that stores nothing, for a preflight.
    pub fn discard() -> Self {
        Self { file: None, end: MAGIC.len() as u64, piece: Vec::new() }
    }

    /// How many bytes `data.img` has so far.
    pub fn len(&self) -> u64 {
        self.end
    }

    /// Whether no contents were stored yet.
    pub fn is_empty(&self) -> bool {
        self.end <= MAGIC.len() as u64
    }

    /// The file, for the commit to sync; none for [`Writer::discard`].
    ///
    /// # Errors
    /// None at present: every write has been checked already.
    pub fn finish(self) -> Result<Option<File>> {
        Ok(self.file)
    }

    /// Stores bytes that are in memory.
    ///
    /// # Errors
    /// When `data.img` can't be written.
    pub fn bytes(&mut self, contents: &[u8]) -> Result<Blob> {
        let mut blob = self.begin();
        blob.write(contents)?;
        blob.end()
    }

    /// Stores the first `size` bytes of a file that can be read and sought, keeping its holes.
    /// The description's own position is moved and not put back: pass one of ours.
    ///
    /// # Errors
    /// When either file fails, or when the file has become shorter than `size`.
    pub fn file(&mut self, from: &File, size: u64) -> Result<Blob> {
        let mut piece = std::mem::take(&mut self.piece);
        piece.resize(PIECE, 0);
        let mut blob = self.begin();
        let mut at = 0;
        while let Some((data, hole)) = next_data(from, at, size)? {
            blob.skip(data - at)?;
            at = data;
            while at < hole {
                let want = (hole - at).min(PIECE as u64) as usize;
                from.read_exact_at(&mut piece[..want], at).context(|| format!("read {want} bytes at {at}"))?;
                blob.write(&piece[..want])?;
                at += want as u64;
            }
        }
        blob.skip(size - at)?;
        let done = blob.end();
        self.piece = piece;
        done
    }

    /// Begins contents that come piece by piece; nothing else can be stored until it ends.
    pub fn begin(&mut self) -> BlobWriter<'_> {
        BlobWriter { writer: self, extents: Vec::new(), size: 0, crc: crc32fast::Hasher::new() }
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        if let Some(file) = &mut self.file {
            file.write_all(bytes).context(|| format!("write {FILE_NAME}"))?;
        }
        self.end += bytes.len() as u64;
        Ok(())
    }
}

/// The next run of data of `from` at or after `at` and before `size`, or none.
/// File systems without holes say that everything is data.
fn next_data(from: &File, at: u64, size: u64) -> Result<Option<(u64, u64)>> {
    use rustix::fs::{SeekFrom, seek};
    if at >= size {
        return Ok(None);
    }
    let data = match seek(from, SeekFrom::Data(at)) {
        Ok(data) if data < size => data,
        Ok(_) | Err(rustix::io::Errno::NXIO) => return Ok(None),
        Err(e) => return Err(e).call("lseek", format_args!("{at}, SEEK_DATA"))?,
    };
    let hole = seek(from, SeekFrom::Hole(data)).call("lseek", format_args!("{data}, SEEK_HOLE"))?;
    Ok(Some((data, hole.min(size))))
}

/// Contents that are being stored piece by piece.
pub struct BlobWriter<'a> {
    writer: &'a mut Writer,
    extents: Vec<Extent>,
    size: u64,
    /// Of the extent being written, which is the last one.
    crc: crc32fast::Hasher,
}

impl BlobWriter<'_> {
    /// Appends bytes to the contents; blocks of zeroes become holes.
    ///
    /// # Errors
    /// When `data.img` can't be written.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let zeroes = rest.chunks_exact(BLOCK).take_while(|block| is_zero(block)).count() * BLOCK;
            self.skip(zeroes as u64)?;
            rest = &rest[zeroes..];
            let stored = rest.chunks(BLOCK).take_while(|block| block.len() < BLOCK || !is_zero(block));
            let len = stored.map(<[u8]>::len).sum();
            self.store(&rest[..len])?;
            rest = &rest[len..];
        }
        Ok(())
    }

    /// Appends `len` zero bytes to the contents without storing them.
    ///
    /// # Errors
    /// When the contents would be longer than a file can be.
    pub fn skip(&mut self, len: u64) -> Result<()> {
        let size = self.size.checked_add(len).filter(|size| i64::try_from(*size).is_ok());
        self.size = size.ok_or_else(|| bad_image("contents of more than 2^63 bytes"))?;
        Ok(())
    }

    /// Stores the table.
    ///
    /// # Errors
    /// When `data.img` can't be written.
    pub fn end(mut self) -> Result<Blob> {
        self.seal();
        let mut table = Vec::with_capacity(20 + self.extents.len() * EXTENT_BYTES);
        table.extend(TABLE_MAGIC);
        table.extend((self.extents.len() as u32).to_le_bytes());
        table.extend(self.size.to_le_bytes());
        for extent in &self.extents {
            for number in [extent.offset, extent.len, extent.at] {
                table.extend(number.to_le_bytes());
            }
            table.extend(extent.crc.to_le_bytes());
        }
        table.extend(crc32fast::hash(&table).to_le_bytes());
        let blob = Blob { table: self.writer.end, size: self.size };
        self.writer.append(&table)?;
        Ok(blob)
    }

    fn store(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let room = match self.extents.last() {
                Some(last) if last.offset + last.len == self.size => PIECE - (last.len as usize).min(PIECE),
                _ => 0,
            };
            if room == 0 {
                self.seal();
                if self.extents.len() as u32 >= MAX_EXTENTS {
                    return Err(crate::Error::new(crate::Kind::Unsupported, "contents in more than 2^24 extents"));
                }
                self.extents.push(Extent { offset: self.size, len: 0, at: self.writer.end, crc: 0 });
            }
            let (now, later) = bytes.split_at(bytes.len().min(if room == 0 { PIECE } else { room }));
            self.writer.append(now)?;
            self.crc.update(now);
            self.extents.last_mut().expect("pushed above, or there was room in it").len += now.len() as u64;
            self.skip(now.len() as u64)?;
            bytes = later;
        }
        Ok(())
    }

    /// Gives the last extent its checksum.
    fn seal(&mut self) {
        let crc = std::mem::take(&mut self.crc);
        if let Some(last) = self.extents.last_mut().filter(|last| last.crc == 0) {
            last.crc = crc.finalize();
        }
    }
}

fn is_zero(block: &[u8]) -> bool {
    // A comparison of slices is memcmp, which is fast.
    block == &[0; BLOCK][..]
}

/// Reads contents back, checked and bounded.
pub struct Reader {
    file: File,
    len: u64,
}

impl Reader {
    /// Opens `data.img` in the directory `image`.
    ///
    /// # Errors
    /// When it is missing, no regular file, or of another version.
    pub fn open(image: BorrowedFd<'_>) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        Self::new(rustix::fs::openat(image, FILE_NAME, flags, Mode::empty()).call("openat", FILE_NAME)?.into())
    }

    /// Reads from a file.
    ///
    /// # Errors
    /// When it is no regular file, or of another version.
    pub fn new(file: File) -> Result<Self> {
        let meta = file.metadata().context(|| format!("stat {FILE_NAME}"))?;
        if !meta.is_file() {
            return Err(bad_image(format!("{FILE_NAME} is not a regular file")));
        }
        let mut magic = [0; MAGIC.len()];
        let read = file.read_exact_at(&mut magic, 0);
        if read.is_err() || magic != *MAGIC {
            return Err(bad_image(format!("{FILE_NAME} does not begin with {}", MAGIC.escape_ascii())));
        }
        Ok(Self { file, len: meta.len() })
    }

    /// Contents as bytes in memory.
    ///
    /// # Errors
    /// When they are longer than `limit`, or damaged.
    pub fn bytes(&self, blob: Blob, limit: usize) -> Result<Vec<u8>> {
        if blob.size > limit as u64 {
            return Err(bad_image(format!("{FILE_NAME}: {} bytes where at most {limit} can be", blob.size)));
        }
        let mut contents = vec![0; blob.size as usize];
        self.each(blob, |offset, bytes| {
            contents[offset as usize..offset as usize + bytes.len()].copy_from_slice(bytes);
            Ok(())
        })?;
        Ok(contents)
    }

    /// Writes contents into a regular file or memory object, which must be empty, and gives it their length.
    ///
    /// # Errors
    /// When they are damaged or `to` can't be written.
    pub fn copy_to(&self, blob: Blob, to: BorrowedFd<'_>) -> Result<()> {
        rustix::fs::ftruncate(to, blob.size).call("ftruncate", blob.size)?;
        let to = File::from(to.try_clone_to_owned().call("dup", "")?);
        self.each(blob, |offset, bytes| {
            to.write_all_at(bytes, offset).context(|| format!("write {} bytes at {offset}", bytes.len()))
        })
    }

    /// Calls `take` with each stored run of bytes and its offset in the contents, ascending;
    /// every run is checked before it is passed on and is at most 1 MiB long.
    ///
    /// # Errors
    /// When the contents are damaged, or the error of `take`.
    pub fn each(&self, blob: Blob, mut take: impl FnMut(u64, &[u8]) -> Result<()>) -> Result<()> {
        let mut piece = Vec::new();
        for extent in self.table(blob)? {
            piece.resize(extent.len as usize, 0);
            self.read(&mut piece, extent.at)?;
            if crc32fast::hash(&piece) != extent.crc {
                return Err(bad_image(format!("{FILE_NAME}: checksum of the extent at {} does not match", extent.at)));
            }
            take(extent.offset, &piece)?;
        }
        Ok(())
    }

    fn table(&self, blob: Blob) -> Result<Vec<Extent>> {
        let bad = |what: &str| bad_image(format!("{FILE_NAME}: table at {}: {what}", blob.table));
        let mut head = [0; 16];
        self.read(&mut head, blob.table)?;
        let count = u32::from_le_bytes(head[4..8].try_into().expect("four bytes"));
        if head[..4] != *TABLE_MAGIC || u64_at(&head, 8) != blob.size || count > MAX_EXTENTS {
            return Err(bad("not the table of these contents"));
        }
        let body = count as usize * EXTENT_BYTES;
        let fits = blob.table.checked_add(20 + body as u64).is_some_and(|end| end <= self.len);
        if !fits {
            return Err(bad("truncated"));
        }
        let mut bytes = vec![0; body + 4];
        self.read(&mut bytes, blob.table + 16)?;
        let mut crc = crc32fast::Hasher::new();
        crc.update(&head);
        crc.update(&bytes[..body]);
        if crc.finalize().to_le_bytes() != bytes[body..] {
            return Err(bad("checksum does not match"));
        }
        let extents: Vec<Extent> = bytes[..body].chunks_exact(EXTENT_BYTES).map(extent).collect();
        check_order(&extents, blob.size).ok_or_else(|| bad("extents out of order or out of bounds"))?;
        Ok(extents)
    }

    fn read(&self, into: &mut [u8], at: u64) -> Result<()> {
        if at.checked_add(into.len() as u64).is_none_or(|end| end > self.len) {
            return Err(bad_image(format!("{FILE_NAME}: truncated: {} bytes at {at} of {}", into.len(), self.len)));
        }
        self.file.read_exact_at(into, at).context(|| format!("read {FILE_NAME} at {at}"))
    }
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

fn extent(bytes: &[u8]) -> Extent {
    let crc = u32::from_le_bytes(bytes[24..28].try_into().expect("four bytes"));
    Extent { offset: u64_at(bytes, 0), len: u64_at(bytes, 8), at: u64_at(bytes, 16), crc }
}

/// Whether extents ascend, do not overlap, are at most 1 MiB long and end within `size`.
fn check_order(extents: &[Extent], size: u64) -> Option<()> {
    let mut end = 0;
    for extent in extents {
        let next = extent.offset.checked_add(extent.len)?;
        (extent.offset >= end && next <= size && (1..=PIECE as u64).contains(&extent.len)).then_some(())?;
        end = next;
    }
    (i64::try_from(size).is_ok()).then_some(())
}

#[cfg(test)]
mod tests;
