//! The image's directory: what is in it, and how a checkpoint becomes one.
//!
//! Files are written under names that no finished image uses, synced, and only then named by a new manifest.json that is
//! put in place by one rename. A directory without a manifest is no checkpoint; one that held an earlier checkpoint
//! keeps it until that moment.

use crate::error::{Context, Error, Kind, Result, bad_image};
use rtc_sys::{CallExt, Errno};
use rustix::fs::{AtFlags, Mode, OFlags};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};

/// The version of the format that this program writes. It reads this one alone.
pub const VERSION: u32 = 1;
const FORMAT: &str = "rtc-image";
const MANIFEST: &str = "manifest.json";
/// The most metadata of an image in bytes, however large the machine.
const MAX_METADATA: u64 = 4 << 30;
/// What every machine takes.
const MIN_METADATA: u64 = 64 << 20;
/// The longest manifest in bytes: it has a dozen short lines.
const MAX_MANIFEST: u64 = 1 << 20;

/// A file of the image, by what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// Processes, threads, address spaces.
    Tree,
    /// Open files and the objects behind them.
    Files,
    /// Mounts and System V objects.
    Container,
    /// Contents of memory.
    Pages,
    /// Whose they are.
    Pagemap,
    /// Other contents.
    Data,
}

impl Part {
    fn file_name(self, generation: u32) -> String {
        match self {
            Self::Tree => format!("tree-{generation}.json"),
            Self::Files => format!("files-{generation}.json"),
            Self::Container => format!("container-{generation}.json"),
            Self::Pages => format!("pages-{generation}.img"),
            Self::Pagemap => format!("pagemap-{generation}.img"),
            Self::Data => format!("data-{generation}.img"),
        }
    }

    /// Contents have checksums of their own, in smaller pieces.
    fn is_metadata(self) -> bool {
        !matches!(self, Self::Pages | Self::Data)
    }
}

/// What manifest.json holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Manifest {
    format: String,
    version: u32,
    /// Counts the checkpoints that were written to this directory.
    generation: u32,
    /// The program that wrote it.
    pub program: String,
    /// The container's id.
    pub container: String,
    /// Seconds since 1970 when the container was stopped.
    pub created: i64,
    /// The machine it ran on.
    pub machine: super::machine::Machine,
    parts: BTreeMap<Part, PartFile>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct PartFile {
    name: String,
    size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    crc32: Option<u32>,
}

/// An image that is being written. Unless it is committed and kept, its files vanish with it.
pub struct Writer {
    dir: OwnedFd,
    generation: u32,
    parts: BTreeMap<Part, PartFile>,
    previous: Option<Manifest>,
    committed: bool,
}

impl Writer {
    /// Begins an image in a directory.
    ///
    /// # Errors
    /// When the directory can't be read.
    pub fn new(dir: OwnedFd) -> Result<Self> {
        // An unreadable manifest is no reason not to write a new one: it is left where it is until the commit.
        let previous = read_manifest(&dir).ok();
        let generation = previous.as_ref().map_or(0, |m| m.generation) + 1;
        Ok(Self { dir, generation, parts: BTreeMap::new(), previous, committed: false })
    }

    /// Makes the file of a part, for reading and writing.
    ///
    /// # Errors
    /// When the directory isn't writable.
    pub fn create(&mut self, part: Part) -> Result<OwnedFd> {
        let name = part.file_name(self.generation);
        let fd = make(&self.dir, &name, OFlags::RDWR)?;
        self.parts.insert(part, PartFile { name, size: 0, crc32: None });
        Ok(fd)
    }

    /// Writes a part of metadata.
    ///
    /// # Errors
    /// When the disk is full.
    pub fn write(&mut self, part: Part, bytes: &[u8]) -> Result<()> {
        let fd = self.create(part)?;
        write_all(&fd, bytes).context(|| format!("write {}", part.file_name(self.generation)))?;
        let file = self.parts.get_mut(&part).expect("made above");
        file.crc32 = Some(crc32fast::hash(bytes));
        Ok(())
    }

    /// Writes a part of metadata as JSON.
    ///
    /// # Errors
    /// When the disk is full.
    pub fn write_json<T: Serialize>(&mut self, part: Part, value: &T) -> Result<()> {
        let bytes = serde_json::to_vec(value).map_err(|e| Error::wrap(Kind::System, e))?;
        self.write(part, &bytes)
    }

    /// Syncs everything and makes the directory a checkpoint. [`Writer::keep`] makes that final.
    ///
    /// # Errors
    /// When the disk is full or broken; then the directory is what it was before.
    pub fn commit(&mut self, container: &str, created: i64) -> Result<()> {
        for file in self.parts.values_mut() {
            let fd = open_regular(&self.dir, &file.name)?;
            file.size = rustix::fs::fstat(&fd).call("fstat", &file.name)?.st_size as u64;
            rustix::fs::fdatasync(&fd).call("fdatasync", &file.name)?;
        }
        let manifest = Manifest {
            format: FORMAT.to_owned(),
            version: VERSION,
            generation: self.generation,
            program: concat!("rtc ", env!("CARGO_PKG_VERSION")).to_owned(),
            container: container.to_owned(),
            created,
            machine: super::machine::Machine::here()?,
            parts: self.parts.clone(),
        };
        let (committed, result) = self.put_manifest(&manifest);
        self.committed = committed;
        result
    }

    /// Removes the earlier checkpoint, which this one has replaced.
    pub fn keep(mut self) {
        debug_assert!(self.committed, "only a checkpoint can be kept");
        self.parts.clear();
        for file in self.previous.iter().flat_map(|m| m.parts.values()) {
            if is_plain(&file.name) {
                let _ = rustix::fs::unlinkat(&self.dir, &file.name, AtFlags::empty());
            }
        }
    }

    /// Puts the earlier manifest back, or none.
    fn take_back(&self) -> Result<()> {
        match &self.previous {
            Some(previous) => self.put_manifest(previous).1,
            None => match rustix::fs::unlinkat(&self.dir, MANIFEST, AtFlags::empty()).call("unlinkat", MANIFEST) {
                Err(e) if e.errno() != Errno::ENOENT => Err(e.into()),
                _ => Ok(()),
            },
        }
    }

    /// Puts a manifest in the place of what is there; says whether it is, and whether it is on disk.
    fn put_manifest(&self, manifest: &Manifest) -> (bool, Result<()>) {
        let temporary = format!("{MANIFEST}.{}", self.generation);
        let written = self.write_manifest(manifest, &temporary).and_then(|()| {
            let renamed = rustix::fs::renameat(&self.dir, &temporary, &self.dir, MANIFEST);
            Ok(renamed.call("renameat", format_args!("{temporary}, {MANIFEST}"))?)
        });
        if written.is_err() {
            let _ = rustix::fs::unlinkat(&self.dir, &temporary, AtFlags::empty());
            return (false, written);
        }
        let synced = rustix::fs::fsync(&self.dir).call("fsync", "the image's directory");
        (true, synced.map_err(Into::into))
    }

    fn write_manifest(&self, manifest: &Manifest, name: &str) -> Result<()> {
        let bytes = serde_json::to_vec_pretty(manifest).map_err(|e| Error::wrap(Kind::System, e))?;
        let fd = make(&self.dir, name, OFlags::WRONLY)?;
        write_all(&fd, &bytes).context(|| "write the manifest")?;
        Ok(rustix::fs::fdatasync(&fd).call("fdatasync", name)?)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // A manifest that can't be taken back needs its files.
        if self.committed && !self.parts.is_empty() && self.take_back().is_err() {
            return;
        }
        for file in self.parts.values() {
            // Nothing can be done about a failure here, and nobody takes the file for a checkpoint.
            let _ = rustix::fs::unlinkat(&self.dir, &file.name, AtFlags::empty());
        }
    }
}

/// An image to read: the manifest is known to be sound, and every part to be there in its full length.
pub struct Reader {
    dir: OwnedFd,
    /// What the manifest says.
    pub manifest: Manifest,
}

impl Reader {
    /// Opens an image.
    ///
    /// # Errors
    /// When it is no image, of another version, truncated, or has more metadata than this machine could ever need.
    pub fn open(dir: OwnedFd) -> Result<Self> {
        let info = rustix::system::sysinfo();
        Self::open_on(dir, info.totalram.saturating_mul(info.mem_unit.into()))
    }

    /// Opens an image on a machine with that much memory, in bytes.
    fn open_on(dir: OwnedFd, memory: u64) -> Result<Self> {
        let manifest = read_manifest(&dir)?;
        let reader = Self { dir, manifest };
        for (part, file) in &reader.manifest.parts {
            reader.file(*part).context(|| file.name.clone())?;
        }
        let metadata = reader.manifest.parts.iter().filter(|(part, _)| part.is_metadata());
        let size = metadata.fold(0_u64, |sum, (_, file)| sum.saturating_add(file.size));
        let most = most_metadata(memory);
        if size > most {
            return Err(bad_image(format!("{size} bytes of metadata are more than this machine takes: {most}")));
        }
        Ok(reader)
    }

    /// Opens a part's file for reading.
    ///
    /// # Errors
    /// When it isn't there or has another length than the manifest says.
    pub fn file(&self, part: Part) -> Result<OwnedFd> {
        let file = self.part(part)?;
        let fd = open_regular(&self.dir, &file.name)?;
        let size = rustix::fs::fstat(&fd).call("fstat", &file.name)?.st_size as u64;
        if size == file.size { Ok(fd) } else { Err(bad_image(format!("it has {size} bytes instead of {}", file.size))) }
    }

    /// Reads a part of metadata and checks it.
    ///
    /// # Errors
    /// When it isn't what was written.
    pub fn bytes(&self, part: Part) -> Result<Vec<u8>> {
        let file = self.part(part)?;
        let bytes = read_all(self.file(part)?, file.size).context(|| file.name.clone())?;
        if part.is_metadata() && file.crc32 != Some(crc32fast::hash(&bytes)) {
            return Err(bad_image("its checksum is wrong").context(file.name.clone()));
        }
        Ok(bytes)
    }

    /// Reads a part of metadata in JSON.
    ///
    /// # Errors
    /// When it isn't what was written.
    pub fn json<T: DeserializeOwned>(&self, part: Part) -> Result<T> {
        let bytes = self.bytes(part)?;
        serde_json::from_slice(&bytes)
            .map_err(|e| Error::wrap(Kind::BadImage, e))
            .context(|| self.manifest.parts[&part].name.clone())
    }

    /// The length of all files together, in bytes.
    pub fn size(&self) -> u64 {
        self.manifest.parts.values().map(|p| p.size).sum()
    }

    fn part(&self, part: Part) -> Result<&PartFile> {
        self.manifest.parts.get(&part).ok_or_else(|| bad_image(format!("the manifest names no {part:?} file")))
    }
}

fn read_manifest(dir: &OwnedFd) -> Result<Manifest> {
    let fd = open_regular(dir, MANIFEST).map_err(|e| match e.sys().map(rtc_sys::Error::errno) {
        Some(Errno::ENOENT) => bad_image("there is no checkpoint in this directory: it has no manifest.json"),
        _ => e,
    })?;
    let size = rustix::fs::fstat(&fd).call("fstat", MANIFEST)?.st_size as u64;
    if size > MAX_MANIFEST {
        return Err(bad_image(format!("manifest.json has {size} bytes")));
    }
    let bytes = read_all(fd, size)?;
    let value: serde_json::Value =
        serde_json::from_slice(&bytes).map_err(|e| Error::wrap(Kind::BadImage, e)).context(|| MANIFEST)?;
    if value["format"] != FORMAT {
        return Err(bad_image("manifest.json is not that of an rtc image"));
    }
    if value["version"] != VERSION {
        let version = &value["version"];
        return Err(bad_image(format!("the image has format version {version}, this rtc reads version {VERSION}"))
            .with_hint("restore it with the version of rtc that wrote it"));
    }
    let manifest: Manifest =
        serde_json::from_value(value).map_err(|e| Error::wrap(Kind::BadImage, e)).context(|| MANIFEST)?;
    match manifest.parts.values().find(|p| !is_plain(&p.name)) {
        Some(part) => Err(bad_image(format!("the manifest names {:?}, which is no plain file name", part.name))),
        None => Ok(manifest),
    }
}

/// Whether a name is that of a file in the directory itself.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\0']) && name.len() < 256
}

/// Makes a file that is ours alone, in place of one that an earlier call has left: what somebody else has put there could
/// be open elsewhere, and memory holds secrets.
fn make(dir: &OwnedFd, name: &str, access: OFlags) -> Result<OwnedFd> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()).call("unlinkat", name) {
        Err(e) if e.errno() != Errno::ENOENT => return Err(e.into()),
        _ => {}
    }
    let flags = access | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR).call("openat", name)?)
}

fn open_regular(dir: &OwnedFd, name: &str) -> Result<OwnedFd> {
    // NONBLOCK: opening a FIFO that somebody put there must not wait.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(dir, name, flags, Mode::empty()).call("openat", name)?;
    let mode = rustix::fs::fstat(&fd).call("fstat", name)?.st_mode;
    if mode & libc::S_IFMT == libc::S_IFREG { Ok(fd) } else { Err(bad_image(format!("{name} is no regular file"))) }
}

/// The most metadata that is read into memory, all files of it together.
///
/// What it describes takes more of the kernel's memory than the description: a mapping, a task or an open file is a line
/// of a hundred bytes or two, and of a page of contents there are 4 to 20 bytes in the page map. An eighth of the
/// machine's memory describes more than it could hold.
fn most_metadata(memory: u64) -> u64 {
    (memory / 8).clamp(MIN_METADATA, MAX_METADATA)
}

fn read_all(fd: OwnedFd, size: u64) -> Result<Vec<u8>> {
    let mut bytes = vec![0; size as usize];
    let mut done = 0;
    while done < bytes.len() {
        match rustix::io::read(&fd, &mut bytes[done..]).call("read", "image")? {
            0 => return Err(bad_image("it is truncated")),
            n => done += n,
        }
    }
    Ok(bytes)
}

fn write_all(fd: impl AsFd, bytes: &[u8]) -> Result<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let n = rustix::io::write(fd.as_fd(), rest).call("write", format_args!("{} bytes", rest.len()))?;
        rest = &rest[n..];
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    /// A file that is long and takes no room on disk is refused before it takes room in memory.
    #[test]
    fn metadata_for_a_larger_machine_is_not_read() {
        let folder = std::env::temp_dir().join(format!("image-dir-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let open = || OwnedFd::from(File::open(&folder).unwrap());
        let mut writer = Writer::new(open()).unwrap();
        for part in [Part::Tree, Part::Files, Part::Pagemap] {
            writer.write(part, b"{}").unwrap();
        }
        // Contents don't count.
        let pages = File::from(writer.create(Part::Pages).unwrap());
        pages.set_len(1 << 40).unwrap();
        writer.commit("web", 0).unwrap();
        writer.keep();
        Reader::open_on(open(), 1 << 30).unwrap();
        let manifest = folder.join(MANIFEST);
        let text = std::fs::read_to_string(&manifest).unwrap();
        let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
        for (part, size) in [("tree", 100_u64 << 20), ("pagemap", 100 << 20)] {
            let file = &mut value["parts"][part];
            file["size"] = size.into();
            File::options()
                .write(true)
                .open(folder.join(file["name"].as_str().unwrap()))
                .unwrap()
                .set_len(size)
                .unwrap();
        }
        std::fs::write(&manifest, value.to_string()).unwrap();
        Reader::open_on(open(), 2 << 30).unwrap();
        let refused = |reader: Result<Reader>| reader.err().unwrap().to_string();
        let error = refused(Reader::open_on(open(), 1 << 30));
        assert!(error.contains("bytes of metadata are more than this machine takes: 134217728"), "{error}");
        // However large the machine, and whatever the manifest says.
        value["parts"]["files"]["size"] = u64::MAX.into();
        std::fs::write(&manifest, value.to_string()).unwrap();
        let error = refused(Reader::open_on(open(), u64::MAX));
        assert!(error.contains("bytes instead of 18446744073709551615"), "{error}");
        File::options().write(true).open(&manifest).unwrap().set_len(2 << 20).unwrap();
        let error = refused(Reader::open_on(open(), 1 << 30));
        assert!(error.contains("manifest.json has 2097152 bytes"), "{error}");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
