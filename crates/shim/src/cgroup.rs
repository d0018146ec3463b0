//! A container's cgroup, as far as the shim watches it: its processes, whether it is frozen, kills for want of memory.

use std::fs::File;
use std::io::{Read, Seek};

use rtc_runtime::cgroup::{Cgroup, Hierarchy};
use rtc_sys::CallExt;
use rustix::fs::{Mode, OFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::AbortHandle;

use crate::fault::Result;
use crate::pump::watch;

/// A cgroup that is watched.
#[derive(Debug)]
pub(crate) struct Watched {
    cgroup: Cgroup,
    /// None without the memory controller.
    watch: Option<AbortHandle>,
}

impl Watched {
    /// The cgroup that a process is in; `tell` is called whenever memory has run out in it.
    ///
    /// # Errors
    /// There is no cgroup2 file system, or the process is gone.
    pub(crate) fn of(pid: i32, tell: impl Fn() + Send + 'static) -> Result<Self> {
        let cgroup = Hierarchy::find()?.open_of(pid)?;
        let mut task = None;
        // The kernel wakes who waits for priority input when a count changes.
        if let Ok(file) = open(&cgroup, "memory.events") {
            let events = watch(file, Interest::PRIORITY).map_err(|(_, error)| error)?;
            task = Some(tokio::spawn(watch_memory(events, tell)).abort_handle());
        }
        Ok(Self { cgroup, watch: task })
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

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(watch) = &self.watch {
            watch.abort();
        }
    }
}

/// Ends when the cgroup is gone.
async fn watch_memory(mut events: AsyncFd<File>, tell: impl Fn()) {
    let Some(mut kills) = count_kills(events.get_mut()) else { return };
    while let Ok(mut ready) = events.ready_mut(Interest::PRIORITY).await {
        // Before the reading: what happens after it wakes again.
        ready.clear_ready();
        let Some(now) = count_kills(ready.get_inner_mut()) else { return };
        if now > kills {
            tell();
        }
        kills = now;
    }
}

fn count_kills(file: &mut File) -> Option<u64> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.read_to_string(&mut text).ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill "))?.parse().ok()
}

fn open(cgroup: &Cgroup, name: &str) -> rtc_sys::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rustix::fs::openat(cgroup.dirfd(), name, flags, Mode::empty()).call("openat", name).map(File::from)
}
