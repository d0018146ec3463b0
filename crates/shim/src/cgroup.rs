//! A container's cgroup, as far as the shim watches it: its processes, whether it is frozen, kills for want of memory.

use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::{AsFd, BorrowedFd};

use rtc_runtime::cgroup::{Cgroup, Hierarchy};
use rtc_sys::CallExt;
use rustix::fs::{Mode, OFlags};

use crate::fault::Result;

/// A cgroup that is watched.
#[derive(Debug)]
pub(crate) struct Watched {
    cgroup: Cgroup,
    /// memory.events. The kernel wakes who polls it for priority input when a count changes; none without the
    /// controller.
    events: Option<File>,
    kills: u64,
}

impl Watched {
    /// The cgroup that a process is in.
    ///
    /// # Errors
    /// There is no cgroup2 file system, or the process is gone.
    pub(crate) fn of(pid: i32) -> Result<Self> {
        let cgroup = Hierarchy::find()?.open_of(pid)?;
        let events = open(&cgroup, "memory.events").ok();
        let mut watched = Self { cgroup, events, kills: 0 };
        watched.kills = watched.count_kills().unwrap_or(0);
        Ok(watched)
    }

    /// What to poll for priority input.
    pub(crate) fn events(&self) -> Option<BorrowedFd<'_>> {
        self.events.as_ref().map(AsFd::as_fd)
    }

    /// Looks at the counts anew: whether a process has been killed since. Once the cgroup is gone it is watched no more.
    pub(crate) fn was_out_of_memory(&mut self) -> bool {
        let Some(kills) = self.count_kills() else {
            self.events = None;
            return false;
        };
        let more = kills > self.kills;
        self.kills = kills;
        more
    }

    fn count_kills(&mut self) -> Option<u64> {
        let file = self.events.as_mut()?;
        let mut text = String::new();
        file.rewind().ok()?;
        file.read_to_string(&mut text).ok()?;
        text.lines().find_map(|line| line.strip_prefix("oom_kill "))?.parse().ok()
    }

    /// The pids of all processes in it and below.
    pub(crate) fn processes(&self) -> Result<Vec<i32>> {
        Ok(self.cgroup.procs()?)
    }

    pub(crate) fn is_frozen(&self) -> bool {
        self.cgroup.is_frozen().unwrap_or(false)
    }

    /// A control file's text; none if it isn't there.
    pub(crate) fn read(&self, name: &str) -> Option<String> {
        let mut text = String::new();
        open(&self.cgroup, name).ok()?.read_to_string(&mut text).ok()?;
        Some(text)
    }

    /// Names of control files that begin with `prefix`.
    pub(crate) fn names(&self, prefix: &str) -> Vec<String> {
        let Ok(directory) = rustix::fs::Dir::read_from(self.cgroup.dirfd()) else { return Vec::new() };
        let names = directory.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter(|name| name.starts_with(prefix)).collect()
    }
}

fn open(cgroup: &Cgroup, name: &str) -> rtc_sys::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rustix::fs::openat(cgroup.dirfd(), name, flags, Mode::empty()).call("openat", name).map(File::from)
}
