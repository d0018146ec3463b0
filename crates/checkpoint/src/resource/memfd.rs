//! Memory objects without a path: memfd_create(2) files, and memory shared by `MAP_SHARED | MAP_ANONYMOUS`.
//!
//! Several descriptions and mappings can have one object; the first that dump meets carries the contents.
//! System V segments are `sysv_ipc`'s. Objects of huge pages are refused: hugetlbfs files can't be written to.

use super::attributes::Attributes;
use super::location::without_deleted;
use crate::error::{Context as _, Result, bad_image};
use crate::files::dumping::{Dump, Object};
use crate::files::resource::Resource;
use crate::files::restoring::Restore;
use crate::files::{FileId, FileRef, Probe};
use crate::image::blob::Blob;
use crate::image::path::ImagePath;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use rtc_sys::{CallExt as _, Errno};
use rustix::fs::{MemfdFlags, OFlags};
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

/// Where an object's contents are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Contents {
    /// In the image.
    Saved(Blob),
    /// The object is that of the description named.
    SameAs(FileId),
}

/// The link of an object on the kernel's own mount, which no container has: "/memfd:NAME", "/dev/zero".
fn internal_name(probe: &Probe<'_>, cx: &Dump<'_>) -> Option<ImagePath> {
    if probe.file_type() != libc::S_IFREG || cx.view().mount(probe.info.mnt_id).is_some() {
        return None;
    }
    without_deleted(probe.raw_link)
}

/// Saves an object's contents, unless another description carries them already.
fn save(probe: &Probe<'_>, cx: &mut Dump<'_>) -> Result<Contents> {
    let object = Object { kind: "memory", major: probe.stat.st_dev, minor: probe.stat.st_ino };
    let holder = cx.holder(object, probe.id);
    if holder != probe.id {
        return Ok(Contents::SameAs(holder));
    }
    if cx.check_only() {
        return Ok(Contents::Saved(cx.blobs().bytes(&[])?));
    }
    let file = cx.reopen(probe.fd, OFlags::RDONLY)?.into();
    Ok(Contents::Saved(cx.blobs().file(&file, probe.stat.st_size as u64)?))
}

/// Notes that huge pages can't be saved; whether it did.
fn refuse_huge(probe: &Probe<'_>, cx: &mut Dump<'_>) -> bool {
    let fs = rustix::fs::fstatfs(probe.fd);
    let huge = fs.is_ok_and(|fs| fs.f_type == libc::HUGETLBFS_MAGIC);
    if huge {
        cx.block(probe, "it is made of reserved huge pages", "configure the program not to use huge pages");
    }
    huge
}

/// The description `made`, or another of the same file where that has the wrong access mode.
fn with_flags(made: OwnedFd, flags: i32, cx: &Restore<'_>) -> Result<OwnedFd> {
    if flags & (libc::O_ACCMODE | libc::O_PATH) == libc::O_RDWR { Ok(made) } else { cx.reopen(made.as_fd(), flags) }
}

/// A description of a memfd.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memfd {
    /// What was given to memfd_create.
    pub name: ImagePath,
    /// File offset.
    pub pos: i64,
    /// `F_SEAL_*` bits.
    pub seals: i32,
    /// Owner, mode, times.
    pub attributes: Attributes,
    /// Its bytes.
    pub contents: Contents,
}

impl Resource for Memfd {
    fn recognises(probe: &Probe<'_>, cx: &Dump<'_>) -> bool {
        internal_name(probe, cx).is_some_and(|name| name.as_bytes().starts_with(b"/memfd:"))
    }

    fn dump(probe: &Probe<'_>, cx: &mut Dump<'_>) -> Result<Option<Self>> {
        if refuse_huge(probe, cx) {
            return Ok(None);
        }
        let link = internal_name(probe, cx).unwrap_or_default();
        let name = link.as_bytes().strip_prefix(b"/memfd:").unwrap_or_default().to_vec().into();
        let readable = cx.reopen(probe.fd, OFlags::RDONLY)?;
        let seals = fcntl(&readable, FcntlArg::F_GET_SEALS).call("fcntl", "F_GET_SEALS")?;
        let attributes = Attributes::read(readable.as_fd())?;
        Ok(Some(Self { name, pos: probe.info.pos, seals, attributes, contents: save(probe, cx)? }))
    }

    fn open(&self, file: FileRef, cx: &mut Restore<'_>) -> Result<OwnedFd> {
        let fd = match self.contents {
            Contents::SameAs(holder) => cx.reopen(cx.opened(holder)?, file.flags)?,
            Contents::Saved(contents) => {
                let made = self.make()?;
                cx.env().blobs.copy_to(contents, made.as_fd()).context(|| format!("memfd \"{}\"", self.name))?;
                self.attributes.apply(made.as_fd())?;
                with_flags(made, file.flags, cx)?
            }
        };
        super::reg_file::seek(&fd, file.flags, self.pos)?;
        Ok(fd)
    }

    const FINISHES: bool = true;

    /// Seals come when all mappings are in place: a sealed memfd can keep writable mappings but not get new ones.
    fn finish(&self, file: FileRef, cx: &mut Restore<'_>) -> Result<()> {
        if matches!(self.contents, Contents::SameAs(_)) || self.seals == 0 {
            return Ok(());
        }
        // Sealing wants a description that can write.
        let fd = cx.reopen(cx.opened(file.id)?, libc::O_RDWR)?;
        let seals = SealFlag::from_bits_retain(self.seals);
        fcntl(&fd, FcntlArg::F_ADD_SEALS(seals)).call("fcntl", format_args!("F_ADD_SEALS, {seals:?}"))?;
        Ok(())
    }
}

impl Memfd {
    /// Makes the object, empty and open to seals.
    fn make(&self) -> Result<OwnedFd> {
        let plain = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        // Said explicitly, so that vm.memfd_noexec does not decide; kernels before 6.3 know neither flag.
        let executable = self.attributes.mode & 0o111 != 0;
        let how = plain | if executable { MemfdFlags::EXEC } else { MemfdFlags::NOEXEC_SEAL };
        let made = match rustix::fs::memfd_create(self.name.as_path(), how) {
            Err(rustix::io::Errno::INVAL) => rustix::fs::memfd_create(self.name.as_path(), plain),
            made => made,
        };
        Ok(made.call("memfd_create", format_args!("\"{}\", {how:?}", self.name))?)
    }
}

/// A description of memory that processes share by inheriting a mapping.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedAnonymous {
    /// Length in bytes.
    pub size: u64,
    /// Its bytes.
    pub contents: Contents,
}

impl Resource for SharedAnonymous {
    fn recognises(probe: &Probe<'_>, cx: &Dump<'_>) -> bool {
        const NAMES: [&[u8]; 2] = [b"/dev/zero", b"/anon_hugepage"];
        internal_name(probe, cx).is_some_and(|name| NAMES.contains(&name.as_bytes()))
    }

    fn dump(probe: &Probe<'_>, cx: &mut Dump<'_>) -> Result<Option<Self>> {
        if refuse_huge(probe, cx) {
            return Ok(None);
        }
        Ok(Some(Self { size: probe.stat.st_size as u64, contents: save(probe, cx)? }))
    }

    fn open(&self, file: FileRef, cx: &mut Restore<'_>) -> Result<OwnedFd> {
        match self.contents {
            Contents::SameAs(holder) => cx.reopen(cx.opened(holder)?, file.flags),
            Contents::Saved(contents) => {
                let made = self.make(cx)?;
                self.fill(contents, made.as_fd(), cx).context(|| "shared memory")?;
                with_flags(made, file.flags, cx)
            }
        }
    }
}

impl SharedAnonymous {
    fn make(&self, cx: &Restore<'_>) -> Result<OwnedFd> {
        let size = usize::try_from(self.size).ok().filter(|size| *size > 0 && size % 4096 == 0);
        let size = size.ok_or_else(|| bad_image(format!("shared memory of {} bytes", self.size)))?;
        let made = rtc_sys::shm::shared_anonymous(size, |range| {
            cx.open_host_proc(&format!("self/map_files/{:x}-{:x}", range.start, range.end), OFlags::RDWR)
        });
        match made {
            // Without CAP_CHECKPOINT_RESTORE in the first user namespace; it works the same and is named otherwise.
            Err(e) if e.sys().is_some_and(|e| e.errno() == Errno::EPERM) => {
                let fd = rustix::fs::memfd_create("dev/zero", MemfdFlags::CLOEXEC).call("memfd_create", "dev/zero")?;
                rustix::fs::ftruncate(&fd, self.size).call("ftruncate", self.size)?;
                Ok(fd)
            }
            made => made,
        }
    }

    fn fill(&self, contents: Blob, to: BorrowedFd<'_>, cx: &Restore<'_>) -> Result<()> {
        if contents.size() != self.size {
            return Err(bad_image(format!("{} bytes of contents for {} bytes of memory", contents.size(), self.size)));
        }
        cx.env().blobs.copy_to(contents, to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::kind::FileKind;
    use crate::files::testing::{dump_ours, us};
    use std::fs::File;
    use std::io::{Seek as _, Write as _};
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::FileExt as _;

    fn link(fd: &impl AsRawFd) -> String {
        std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap().to_str().unwrap().to_owned()
    }

    fn seals(fd: &File) -> i32 {
        fcntl(fd, FcntlArg::F_GET_SEALS).unwrap()
    }

    #[test]
    fn a_memfd_comes_back_with_name_holes_seals_and_openings() {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let mut memfd = File::from(rustix::fs::memfd_create("some name (deleted)", flags).unwrap());
        memfd.set_len(64 << 20).unwrap();
        memfd.write_all(b"start").unwrap();
        memfd.write_all_at(b"end", (64 << 20) - 3).unwrap();
        let read_only = File::open(format!("/proc/self/fd/{}", memfd.as_raw_fd())).unwrap();
        fcntl(&memfd, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_WRITE)).unwrap();
        let dumped = dump_ours(&[&read_only, &memfd]);
        let open = dumped.restore();
        let (read2, mut memfd2) = (File::from(open.copy(dumped.added[0])), File::from(open.copy(dumped.added[1])));
        assert_eq!(link(&memfd2), "/memfd:some name (deleted) (deleted)");
        assert_eq!(seals(&memfd2), seals(&memfd));
        assert_eq!(memfd2.stream_position().unwrap(), 5);
        use std::os::unix::fs::MetadataExt as _;
        assert_eq!(memfd2.metadata().unwrap().ino(), read2.metadata().unwrap().ino(), "two openings of one object");
        assert!(memfd2.metadata().unwrap().blocks() <= 16, "holes are kept");
        let mut end = [0; 4];
        read2.read_exact_at(&mut end, (64 << 20) - 4).unwrap();
        assert_eq!(&end, b"\0end");
        assert!(memfd2.write_all_at(b"x", 0).is_err(), "sealed");
        let flags = |fd: &File| fcntl(fd, FcntlArg::F_GETFL).unwrap();
        assert_eq!((flags(&read2), flags(&memfd2)), (flags(&read_only), flags(&memfd)));
    }

    #[test]
    fn shared_anonymous_memory_keeps_its_contents_and_its_link() {
        let made = rtc_sys::shm::shared_anonymous::<crate::Error>(1 << 20, |range| {
            let path = format!("/proc/self/map_files/{:x}-{:x}", range.start, range.end);
            Ok(File::options().read(true).write(true).open(path)?.into())
        });
        let made = File::from(made.unwrap());
        made.write_all_at(b"shared", 70_000).unwrap();
        let dumped = dump_ours(&[&made]);
        let restored = File::from(dumped.restore().copy(dumped.added[0]));
        let mut bytes = [0; 6];
        restored.read_exact_at(&mut bytes, 70_000).unwrap();
        assert_eq!((&bytes, link(&restored).as_str()), (b"shared", "/dev/zero (deleted)"));
        assert_eq!(restored.metadata().unwrap().len(), 1 << 20);
    }

    #[test]
    fn sizes_and_references_of_an_image_are_checked() {
        let mut dumped = dump_ours(&[&rustix::fs::memfd_create("x", MemfdFlags::CLOEXEC).unwrap()]);
        let files = &dumped.files.as_ref().unwrap().files;
        let FileKind::Memfd(Memfd { contents: Contents::Saved(blob), .. }) = files[0].file else { panic!() };
        for (size, contents, says) in [
            (0, Contents::Saved(blob), "shared memory of 0 bytes"),
            (4097, Contents::Saved(blob), "shared memory of 4097 bytes"),
            (1 << 62, Contents::Saved(blob), "ENOMEM"),
            (4096, Contents::Saved(blob), "0 bytes of contents for 4096 bytes of memory"),
            (4096, Contents::SameAs(FileId(0)), "no such file"),
            (4096, Contents::SameAs(FileId(7)), "no such file"),
        ] {
            dumped.files.as_mut().unwrap().files[0].file =
                FileKind::SharedAnonymous(SharedAnonymous { size, contents });
            let error = dumped.restore_in(us()).err().unwrap().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
