//! File watches (inotify(7)): numbers, masks, and what is watched, which the kernel shows only as an inode.
//!
//! `inode_search` finds the path. At restore the watches are added when all files are open, so that opening
//! them is not seen; the next watch of the program gets the number behind the highest.
//!
//! Events that nobody has read yet can be read once only, and are left where they are: a container that runs on gets
//! them; a restored one does not, and the log of the dump says so.

use super::inode_search::{Search, Watched};
use crate::error::{Context as _, Kind, Result};
use crate::files::dumping::Dump;
use crate::files::resource::Resource;
use crate::files::restoring::Restore;
use crate::files::{FileId, FileRef, Probe};
use crate::image::path::ImagePath;
use crate::procfs::fdinfo;
use log::warn;
use rtc_sys::{CallExt as _, Errno, events};
use rustix::fs::OFlags;
use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};
use serde::{Deserialize, Serialize};
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};

/// What a program can ask for and the kernel shows: all events, `IN_EXCL_UNLINK`, `IN_ONESHOT`.
const MASK: u32 = 0x8400_0fff;

/// An inotify instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inotify {
    /// By number, ascending.
    pub watches: Vec<Watch>,
    /// How many bytes of events nobody had read; they are lost.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unread: u64,
    /// What fdinfo showed, until the last look finds out what it is.
    #[serde(skip)]
    seen: Vec<fdinfo::InotifyWatch>,
}

/// One watch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watch {
    /// Its number.
    pub number: i32,
    /// `IN_*` bits.
    pub mask: u32,
    /// What is watched.
    #[serde(flatten)]
    pub target: Target,
}

/// What is watched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// What this path of the container leads to; a symbolic link at its end is the thing itself.
    Path(ImagePath),
    /// What this description has open: a deleted file.
    File(FileId),
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl Resource for Inotify {
    fn recognises(probe: &Probe<'_>, _cx: &Dump<'_>) -> bool {
        matches!(probe.link, "anon_inode:inotify" | "anon_inode:[inotify]")
    }

    fn dump(probe: &Probe<'_>, cx: &mut Dump<'_>) -> Result<Option<Self>> {
        let unread = rustix::io::ioctl_fionread(probe.fd).call("ioctl", "inotify, FIONREAD")?;
        if unread > 0 && !cx.check_only() {
            warn!(
                "pid {}: {}: {unread} bytes of inotify events that the program hasn't read are not in the checkpoint",
                probe.pid, probe.place
            );
        }
        Ok(Some(Self { watches: Vec::new(), unread, seen: fdinfo::inotify(probe.fdinfo)? }))
    }

    fn conclude(all: &mut [(FileId, &mut Self)], cx: &mut Dump<'_>) -> Result<()> {
        let mut search = Search::default();
        for (id, instance) in all {
            for watch in std::mem::take(&mut instance.seen) {
                let target = match search.find(&watch, cx).context(|| format!("{id}: inotify watch {}", watch.wd))? {
                    Some(Watched::Path(path)) => Target::Path(path),
                    Some(Watched::File(file)) => Target::File(file),
                    None if cx.check_only() && !is_still_watched(*id, watch.wd, cx) => continue,
                    None => {
                        let (major, minor) = watch.device();
                        let why = format!(
                            "inotify watch {} is on inode {} of device {major}:{minor}, to which no path was found",
                            watch.wd, watch.ino
                        );
                        cx.block_file(*id, why, "let the program remove the watch, or watch another file system")?;
                        continue;
                    }
                };
                instance.watches.push(Watch { number: watch.wd, mask: watch.mask & MASK, target });
            }
            instance.watches.sort_by_key(|watch| watch.number);
        }
        Ok(())
    }

    fn open(&self, _file: FileRef, _cx: &mut Restore<'_>) -> Result<OwnedFd> {
        Ok(init(CreateFlags::CLOEXEC).call("inotify_init1", "IN_CLOEXEC")?)
    }

    const FINISHES: bool = true;

    fn finish(&self, file: FileRef, cx: &mut Restore<'_>) -> Result<()> {
        if self.unread > 0 {
            warn!("{}: {} bytes of inotify events are lost, which nobody had read before", file.id, self.unread);
        }
        // inotify_add_watch takes a path and no descriptor. /proc of the container can't show our descriptors; the
        // working directory of this thread, which nobody shares, can be the host's.
        let own_fds = cx.open_host_proc("self/fd", OFlags::PATH | OFlags::DIRECTORY)?;
        rustix::process::fchdir(&own_fds).call("fchdir", "/proc/self/fd")?;
        let added = self.add_all(file, cx);
        rustix::process::chdir("/").call("chdir", "/")?;
        added
    }
}

impl Inotify {
    fn add_all(&self, file: FileRef, cx: &Restore<'_>) -> Result<()> {
        let instance = cx.opened(file.id)?;
        let mut watches: Vec<&Watch> = self.watches.iter().collect();
        watches.sort_by_key(|watch| watch.number);
        for watch in watches {
            let opened: OwnedFd;
            let (number, name): (RawFd, String) = match &watch.target {
                Target::Path(path) => {
                    opened = cx.open_path(path, libc::O_PATH | libc::O_NOFOLLOW)?;
                    (opened.as_raw_fd(), path.to_string())
                }
                Target::File(file) => (cx.opened(*file)?.as_raw_fd(), file.to_string()),
            };
            events::inotify_set_next_watch(instance, watch.number)?;
            let mask = WatchFlags::from_bits_retain(watch.mask & MASK);
            let given = add_watch(instance, number.to_string(), mask)
                .call("inotify_add_watch", format_args!("{name}, {mask:?}"))
                .map_err(|e| explain(e, &name))?;
            if given != watch.number {
                // The kernel gives a file that is watched already its old number.
                let why = format!("{name} can't have the inotify watch {}: it has {given}", watch.number);
                return Err(crate::Error::new(Kind::Incompatible, why));
            }
        }
        Ok(())
    }
}

fn explain(error: rtc_sys::Error, name: &str) -> crate::Error {
    match error.errno() {
        Errno::ENOSPC => crate::Error::from(error).with_hint("raise fs.inotify.max_user_watches"),
        Errno::ENOENT => crate::Error::from(error).with_kind(Kind::Incompatible).context(format!("{name} is missing")),
        _ => error.into(),
    }
}

/// In a preflight, watches come and go with the files.
fn is_still_watched(id: FileId, number: i32, cx: &Dump<'_>) -> bool {
    let Some((pid, fd)) = cx.handle(id) else { return false };
    let text = cx.read_proc(&format!("{pid}/fdinfo/{fd}")).unwrap_or_default();
    fdinfo::inotify(&text).is_ok_and(|all| all.iter().any(|watch| watch.wd == number))
}
