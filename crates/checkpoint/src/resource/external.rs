//! Files that were given to the container from outside: its stdio.
//!
//! The caller of restore brings new ones. Of the old ones only the name is saved, and of a terminal its modes, its size
//! and what was typed and not yet read.

use super::tty::{self, Terminal};
use crate::error::{Context as _, Result, bad_image};
use crate::files::dumping::{Dump, Object};
use crate::files::resource::Resource;
use crate::files::restoring::Restore;
use crate::files::{External, FileRef, Probe};
use crate::image::path::ImagePath;
use rtc_sys::CallExt as _;
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd as _, OwnedFd};

/// A file from outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExternalFile {
    /// [`External::name`].
    pub name: String,
    /// Another description of the same file, which somebody inside opened.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub again: bool,
    /// For a terminal, modes and size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminal: Option<Terminal>,
    /// For a terminal, what was typed and nobody read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unread: Option<ImagePath>,
}

/// The external files that `probe` can be, by device, inode and link.
///
/// The link counts because each pipe end and each anonymous inode shares device and inode with others.
fn candidates<'a>(probe: &Probe<'_>, cx: &Dump<'a>) -> impl Iterator<Item = (usize, &'a External)> {
    let (dev, ino, link) = (probe.stat.st_dev, probe.stat.st_ino, probe.link.to_owned());
    let open = probe.flags & libc::O_PATH == 0;
    let same = move |external: &External| external.dev == dev && external.ino == ino && external.link == link;
    cx.externals().iter().enumerate().filter(move |(_, external)| open && same(external))
}

impl Resource for ExternalFile {
    fn recognises(probe: &Probe<'_>, cx: &Dump<'_>) -> bool {
        candidates(probe, cx).next().is_some()
    }

    fn dump(probe: &Probe<'_>, cx: &mut Dump<'_>) -> Result<Option<Self>> {
        let all: Vec<_> = candidates(probe, cx).collect();
        let object = |n: usize| Object { kind: "external", major: n as u64, minor: 0 };
        // One file can be given under several names: the first descriptions take one each.
        let free = all.iter().find(|(n, _)| cx.known_holder(object(*n)).is_none());
        let Some((n, external)) = free.or(all.first()) else { return Ok(None) };
        let again = free.is_none();
        cx.holder(object(*n), probe.id);
        if probe.file_type() == libc::S_IFCHR {
            if let Ok(device) = rtc_sys::tty::device(probe.fd) {
                cx.holder(tty::terminal(device), probe.id);
            }
        }
        let terminal = match probe.file_type() {
            libc::S_IFCHR if !again => Terminal::read(probe.fd)?,
            _ => None,
        };
        Ok(Some(Self { name: external.name.clone(), again, terminal, unread: None }))
    }

    const COMPLETES: bool = true;

    fn complete(&mut self, probe: &Probe<'_>, cx: &mut Dump<'_>) -> Result<()> {
        let Some(number) = tty::number_of_slave(probe.stat.st_rdev).filter(|_| self.terminal.is_some()) else {
            return Ok(());
        };
        let own = Object { kind: "external terminal", major: probe.stat.st_dev, minor: number.into() };
        if cx.holder(own, probe.id) == probe.id {
            self.unread = Some(tty::unread(probe.fd, cx)?).filter(|unread| !unread.as_bytes().is_empty());
        }
        Ok(())
    }

    fn open(&self, file: FileRef, cx: &mut Restore<'_>) -> Result<OwnedFd> {
        let Some(given) = cx.env().externals.get(&self.name) else {
            return Err(bad_image(format!("the image wants the file \"{}\", which was not given", self.name)));
        };
        if let (Some(terminal), true) = (&self.terminal, rustix::termios::isatty(given)) {
            terminal.apply_to_given(given.as_fd()).context(|| format!("terminal {}", self.name))?;
        }
        if self.again {
            // A socket, for instance, can't be opened again.
            if let Ok(again) = cx.reopen_given(given.as_fd(), file.flags) {
                return Ok(again);
            }
        }
        // The same description, not a copy of it: its offset and flags are shared with whoever gave it.
        Ok(given.try_clone().call("dup", &self.name)?)
    }

    const FINISHES: bool = true;

    fn finish(&self, file: FileRef, cx: &mut Restore<'_>) -> Result<()> {
        let given = cx.opened(file.id)?;
        match &self.unread {
            Some(unread) if rustix::termios::isatty(given) && tty::is_own(given, cx)? => {
                tty::put_input(given, unread.as_bytes()).context(|| "unread input of the terminal")
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::kind::FileKind;
    use crate::files::testing::{How, TempDir, dump_with, us};
    use std::os::fd::AsRawFd as _;

    #[test]
    fn descriptions_take_one_name_each_and_the_rest_are_openings_of_the_first() {
        use std::os::unix::fs::MetadataExt as _;
        let dir = TempDir::new();
        let open = || std::fs::File::create(dir.path().join("f")).unwrap();
        let files = [open(), open(), open()];
        let meta = files[0].metadata().unwrap();
        let link = std::fs::read_link(format!("/proc/self/fd/{}", files[0].as_raw_fd())).unwrap();
        let external = |name: &str| External {
            name: name.into(),
            link: link.to_str().unwrap().into(),
            dev: meta.dev(),
            ino: meta.ino(),
        };
        let how = How { externals: vec![external("stdio:1"), external("stdio:2")], ..How::default() };
        let dumped = dump_with(us(), &how, |dumper| {
            for file in &files {
                dumper.add_descriptor_of_ours(file.try_clone().unwrap().into(), us(), "test").unwrap();
            }
        });
        let seen = dumped.files.as_ref().unwrap().files.iter().map(|file| match &file.file {
            FileKind::External(external) => (external.name.as_str(), external.again),
            other => panic!("{other:?}"),
        });
        assert_eq!(seen.collect::<Vec<_>>(), [("stdio:1", false), ("stdio:2", false), ("stdio:1", true)]);
        let error = dumped.restore_in(us()).err().unwrap().to_string();
        assert!(error.ends_with("the image wants the file \"stdio:1\", which was not given"), "{error}");
    }
}
