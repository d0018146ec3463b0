//! A container's cgroup, as far as the shim watches it: its processes, whether it is frozen, kills for want of memory.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rtc_runtime::cgroup::{Cgroup, Hierarchy};
use rtc_sys::CallExt;
use rustix::fs::{Mode, OFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::AbortHandle;

use crate::fault::Result;
use crate::kernel_log::KernelLog;
use crate::pump::watch;

/// A cgroup that is watched.
#[derive(Debug)]
pub(crate) struct Watched {
    cgroup: Cgroup,
    /// None without the memory controller.
    memory: Option<(Arc<Memory>, AbortHandle)>,
}

impl Watched {
    /// The cgroup that a process is in; `tell` is called whenever memory has run out in it. With `may_vanish`, somebody
    /// else removes it when it is empty.
    ///
    /// # Errors
    /// There is no cgroup2 file system, or the process is gone.
    pub(crate) fn of(pid: i32, may_vanish: bool, tell: impl Fn() + Send + Sync + 'static) -> Result<Self> {
        let cgroup = Hierarchy::find()?.open_of(pid)?;
        let mut memory = None;
        // The kernel wakes who waits for priority input when a count changes.
        if let Ok(file) = open(&cgroup, "memory.events") {
            let log = may_vanish.then(KernelLog::from_now).flatten();
            let seen = AtomicU64::new(count_kills(&file).unwrap_or(0));
            let events = watch(file, Interest::PRIORITY).map_err(|(_, error)| error)?;
            let state = Memory { events, seen, has_told: AtomicBool::new(false), log, tell: Box::new(tell) };
            let state = Arc::new(state);
            let task = tokio::spawn(watch_memory(state.clone()));
            memory = Some((state, task.abort_handle()));
        }
        Ok(Self { cgroup, memory })
    }

    /// Looks now whether memory has run out: a process in it has ended, and the end is to be told after that. `init` is
    /// the first process, whose number nobody else has had in the meantime.
    pub(crate) fn look_for_kills(&self, init: i32) {
        let Some((memory, _)) = &self.memory else { return };
        if memory.look() || memory.has_told.load(Ordering::Relaxed) {
            return;
        }
        if memory.log.as_ref().is_some_and(|log| log.tells_of_kill(self.cgroup.path(), init)) {
            log::debug!("{} was gone: the kernel's log tells of a kill", self.cgroup.path().display());
            memory.tell();
        }
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
        if let Some((_, watch)) = &self.memory {
            watch.abort();
        }
    }
}

/// The kills for want of memory in a cgroup.
struct Memory {
    events: AsyncFd<File>,
    /// How many there were when it was last looked.
    seen: AtomicU64,
    has_told: AtomicBool,
    /// From the beginning on, where the cgroup may vanish before it has been looked at.
    log: Option<KernelLog>,
    tell: Box<dyn Fn() + Send + Sync>,
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("seen", &self.seen).field("log", &self.log).finish_non_exhaustive()
    }
}

impl Memory {
    /// Tells of what is new; whether the cgroup is still there.
    fn look(&self) -> bool {
        let Some(now) = count_kills(self.events.get_ref()) else { return false };
        if self.seen.swap(now, Ordering::Relaxed) < now {
            self.tell();
        }
        true
    }

    fn tell(&self) {
        self.has_told.store(true, Ordering::Relaxed);
        (self.tell)();
    }
}

/// Ends when the cgroup is gone.
async fn watch_memory(memory: Arc<Memory>) {
    while let Ok(mut ready) = memory.events.ready(Interest::PRIORITY).await {
        // Before the reading: what happens after it wakes again.
        ready.clear_ready();
        if !memory.look() {
            return;
        }
    }
}

fn count_kills(file: &File) -> Option<u64> {
    let mut text = [0; 1024];
    let length = file.read_at(&mut text, 0).ok()?;
    let text = std::str::from_utf8(&text[..length]).ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill "))?.parse().ok()
}

fn open(cgroup: &Cgroup, name: &str) -> rtc_sys::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rustix::fs::openat(cgroup.dirfd(), name, flags, Mode::empty()).call("openat", name).map(File::from)
}
