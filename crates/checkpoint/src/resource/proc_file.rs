//! Open files of /proc and of namespaces.
//!
//! Files of a dead task can't be opened anew. Namespace descriptors are saved if they are those of the container itself.

use super::location::{is_procfs, without_deleted};
use crate::error::{Context as _, Result, bad_image};
use crate::files::dumping::Dump;
use crate::files::resource::Resource;
use crate::files::restoring::Restore;
use crate::files::{FileRef, Probe, Stage};
use crate::image::path::ImagePath;
use rtc_sys::CallExt as _;
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// A description of a file or directory of procfs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcFile {
    /// The path in the container, with the container's pids in it.
    pub path: ImagePath,
    /// File offset.
    pub pos: i64,
}

impl Resource for ProcFile {
    fn recognises(probe: &Probe<'_>, cx: &Dump<'_>) -> bool {
        let types = matches!(probe.file_type(), libc::S_IFREG | libc::S_IFDIR);
        types && cx.view().mount(probe.info.mnt_id).is_some_and(|mount| mount.fs_type == "proc")
    }

    fn dump(probe: &Probe<'_>, cx: &mut Dump<'_>) -> Result<Option<Self>> {
        let path = ImagePath::from(probe.raw_link);
        if without_deleted(probe.raw_link).is_some() || cx.view().stat(&path)?.is_none() {
            cx.block(probe, "it belongs to a task that is gone", "let the program close it before the checkpoint");
            return Ok(None);
        }
        Ok(Some(Self { path, pos: probe.info.pos }))
    }

    const STAGE: Stage = Stage::WithTasks;

    fn open(&self, file: FileRef, cx: &mut Restore<'_>) -> Result<OwnedFd> {
        let found = cx.open_path(&self.path, libc::O_PATH)?;
        if !is_procfs(found.as_fd())? {
            return Err(bad_image(format!("{} is not of procfs here", self.path)));
        }
        check_owner(found.as_fd(), &self.path, cx)?;
        let fd = cx.reopen(found.as_fd(), file.flags)?;
        super::reg_file::seek(&fd, file.flags, self.pos)?;
        Ok(fd)
    }
}

/// Refuses what the container's programs could not have opened: we may open everything, and what a file of procfs shows
/// is decided when it is opened. Those of a task must be of a task of the image, or a container that shares its pid
/// namespace would get the memory of others; those of the machine must be everybody's.
fn check_owner(found: BorrowedFd<'_>, path: &ImagePath, cx: &Restore<'_>) -> Result<()> {
    use std::os::fd::AsRawFd as _;
    let link = cx.host_proc_link(&format!("self/fd/{}", found.as_raw_fd()))?;
    let mut directory = PathBuf::from("/");
    for part in link.components().skip(1) {
        let number = part.as_os_str().to_str().and_then(|name| name.parse::<i32>().ok());
        if let Some(pid) = number.filter(|_| is_root(&directory, cx)) {
            return match cx.host_pid(pid) {
                Some(_) => Ok(()),
                None => Err(bad_image(format!("{path} belongs to a process that is not in the image"))),
            };
        }
        directory.push(part);
    }
    let stat = rustix::fs::fstat(found).call("fstat", path)?;
    let settings = link.components().any(|part| part.as_os_str() == "sys");
    // Addresses of the kernel are shown to whoever opened the file with the right to see them.
    if settings || stat.st_mode & 0o004 != 0 && link.file_name().is_none_or(|name| name != "kallsyms") {
        return Ok(());
    }
    Err(bad_image(format!("{path} is none that an image can ask for")))
}

/// Whether a directory of the container is the root of a procfs (fs/proc/root.c, `PROC_ROOT_INO`).
fn is_root(directory: &Path, cx: &Restore<'_>) -> bool {
    let Ok(fd) = cx.open_path(&ImagePath::from(directory), libc::O_PATH | libc::O_DIRECTORY) else { return false };
    is_procfs(fd.as_fd()).unwrap_or(false) && rustix::fs::fstat(&fd).is_ok_and(|stat| stat.st_ino == 1)
}

/// A descriptor of a namespace of the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespaceFile {
    /// The name in /proc/PID/ns.
    pub name: String,
}

const NAMESPACES: [&str; 8] = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];

impl Resource for NamespaceFile {
    fn recognises(probe: &Probe<'_>, _cx: &Dump<'_>) -> bool {
        let name = probe.link.split_once(":[").map(|(name, _)| name);
        probe.file_type() == libc::S_IFREG && name.is_some_and(|name| NAMESPACES.contains(&name))
    }

    fn dump(probe: &Probe<'_>, cx: &mut Dump<'_>) -> Result<Option<Self>> {
        let name = probe.link.split_once(":[").map_or("", |(name, _)| name);
        let path = format!("/proc/{}/ns/{name}", cx.init());
        let own = nix::sys::stat::stat(path.as_str()).call("stat", &path)?;
        if (own.st_dev, own.st_ino) == (probe.stat.st_dev, probe.stat.st_ino) {
            return Ok(Some(Self { name: name.to_owned() }));
        }
        let remedy = "let the program close it before the checkpoint";
        cx.block(probe, "the namespace is not that of the container's first task", remedy);
        Ok(None)
    }

    fn open(&self, file: FileRef, cx: &mut Restore<'_>) -> Result<OwnedFd> {
        if !NAMESPACES.contains(&self.name.as_str()) {
            return Err(bad_image(format!("there are no namespaces named \"{}\"", self.name)));
        }
        let flags = OFlags::from_bits_retain((file.flags & libc::O_PATH) as u32);
        cx.open_host_proc(&format!("{}/ns/{}", cx.env().init, self.name), flags)
            .context(|| "namespace of the container")
    }
}

#[cfg(test)]
mod tests {
    use crate::files::testing::{How, Shell, TempDir, dump_ours, dump_with};
    use std::fs::File;
    use std::io::{Read as _, Seek as _};
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn a_file_of_proc_goes_on_where_it_was() {
        let mut file = File::open("/proc/self/mountinfo").unwrap();
        file.seek(std::io::SeekFrom::Start(10)).unwrap();
        let dumped = dump_ours(&[&file]);
        let mut restored = File::from(dumped.restore().copy(dumped.added[0]));
        let (mut a, mut b) = ([0; 40], [0; 40]);
        file.read_exact(&mut a).unwrap();
        restored.read_exact(&mut b).unwrap();
        assert_eq!(a, b);
    }

    #[test]
    fn the_containers_own_namespace_is_that_of_the_new_container() {
        let (old, new) = (Shell::in_namespaces(""), Shell::in_namespaces(""));
        let ns = |shell: &Shell| File::open(format!("/proc/{}/ns/net", shell.pid())).unwrap();
        let dumped = dump_with(old.pid(), &How::default(), |dumper| {
            dumper.add_descriptor_of_ours(ns(&old).into(), old.pid(), "test").unwrap()
        });
        let restored = File::from(dumped.restore_in(new.pid()).unwrap().copy(dumped.added));
        assert_eq!(restored.metadata().unwrap().ino(), ns(&new).metadata().unwrap().ino());
        let foreign = dump_ours(&[&ns(&old)]);
        assert!(foreign.blockers[0].why.contains("not that of the container"), "{:?}", foreign.blockers);
    }

    #[test]
    fn a_path_that_only_looks_like_proc_is_refused() {
        let dir = TempDir::new();
        std::fs::write(dir.path().join("f"), "").unwrap();
        let mut dumped = dump_ours(&[&File::open("/proc/uptime").unwrap()]);
        let path = crate::image::path::ImagePath::from(&dir.path().join("f"));
        let files = &mut dumped.files.as_mut().unwrap().files;
        files[0].file = crate::files::kind::FileKind::ProcFile(super::ProcFile { path, pos: 0 });
        let error = dumped.restore_in(crate::files::testing::us()).err().unwrap().to_string();
        assert!(error.ends_with("f is not of procfs here"), "{error}");
    }
}
