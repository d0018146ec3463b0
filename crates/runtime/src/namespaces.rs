//! The namespaces of a container: which are new, which are joined by path, and in what order privilege allows it.
//!
//! New ones are made by the clone3 of init. Those given by path are joined by the *parent*, in the host's user namespace,
//! just for the moment of the clone, and left again: so the child is born in them, even where its own user namespace has
//! no right to enter them (a network namespace that the host's owns), and the pid namespace needs no second fork.
//! The user namespace is last: one that is joined is entered by an intermediate process, which then makes init with all
//! new namespaces owned by it; init becomes the parent's child by `CLONE_PARENT`.
//!
//! The cgroup namespace is the exception: clone3 roots a new one at the cgroup of the *parent* (kernel/cgroup/namespace.c,
//! `copy_cgroup_ns` looks at current), so init makes it itself once it is in its cgroup.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Linux, LinuxNamespaceType};
use rtc_sys::clone::{flags, setns, unshare};
use rtc_sys::{CallExt, Errno};
use rustix::fs::{Mode, OFlags};

use crate::error::{Context, Error, Kind, Result};
use crate::proc::Proc;

/// The namespaces of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Namespaces {
    /// `CLONE_NEW*` of those to make.
    pub(crate) new: u64,
    /// Those to join: flag and path, the user namespace not among them.
    pub(crate) join: Vec<(u64, PathBuf)>,
    /// The user namespace to join.
    pub(crate) join_user: Option<PathBuf>,
    /// The caller is in the container's user namespace already, and so is all that it makes.
    pub(crate) in_user: bool,
    /// What to write to `timens_offsets`; empty without offsets.
    pub(crate) time_offsets: String,
}

/// The flag of each kind, and its file in `/proc/PID/ns`. In the order in which they are joined: the mount namespace
/// last, as it changes what paths mean.
const KINDS: &[(LinuxNamespaceType, u64, &str)] = &[
    (LinuxNamespaceType::User, flags::NEWUSER, "user"),
    (LinuxNamespaceType::Network, flags::NEWNET, "net"),
    (LinuxNamespaceType::Ipc, flags::NEWIPC, "ipc"),
    (LinuxNamespaceType::Uts, flags::NEWUTS, "uts"),
    (LinuxNamespaceType::Cgroup, flags::NEWCGROUP, "cgroup"),
    (LinuxNamespaceType::Time, flags::NEWTIME, "time"),
    (LinuxNamespaceType::Pid, flags::NEWPID, "pid"),
    (LinuxNamespaceType::Mount, flags::NEWNS, "mnt"),
];

/// The name of a kind's file in `/proc/PID/ns`.
fn file_of(kind: u64) -> &'static str {
    KINDS.iter().find(|(_, flag, _)| *flag == kind).map_or("", |(_, _, file)| file)
}

impl Namespaces {
    /// Reads `linux.namespaces` and `linux.timeOffsets`.
    pub(crate) fn plan(linux: &Linux) -> Self {
        let mut plan = Self::default();
        let list = linux.namespaces().as_deref().unwrap_or_default();
        for (kind, flag, _) in KINDS {
            let Some(namespace) = list.iter().find(|namespace| namespace.typ() == *kind) else { continue };
            match namespace.path().as_ref().filter(|path| !path.as_os_str().is_empty()) {
                None => plan.new |= flag,
                Some(path) if *flag == flags::NEWUSER => plan.join_user = Some(path.clone()),
                Some(path) => plan.join.push((*flag, path.clone())),
            }
        }
        for (clock, offset) in linux.time_offsets().iter().flatten() {
            let line = format!("{clock} {} {}\n", offset.secs().unwrap_or(0), offset.nanosecs().unwrap_or(0));
            plan.time_offsets.push_str(&line);
        }
        plan
    }

    /// Notes that the caller has entered the user namespace.
    pub(crate) fn user_is_entered(&mut self) {
        self.new &= !flags::NEWUSER;
        self.join_user = None;
        self.in_user = true;
    }

    /// Whether the container has a namespace of this kind, new or joined.
    pub(crate) fn has(&self, kind: u64) -> bool {
        self.new & kind != 0
            || self.join.iter().any(|(joined, _)| *joined == kind)
            || (kind == flags::NEWUSER && (self.in_user || self.join_user.is_some()))
    }

    /// Whether the container's root is not the host's.
    pub(crate) fn has_user(&self) -> bool {
        self.has(flags::NEWUSER)
    }

    /// What clone3 is to make: all new ones but the cgroup namespace, the time namespace where offsets made the parent
    /// prepare it, and what is for later.
    pub(crate) fn clone_flags(&self) -> u64 {
        let prepared = if self.time_offsets.is_empty() { 0 } else { flags::NEWTIME };
        self.new & !flags::NEWCGROUP & !prepared & !self.after_user()
    }

    /// What is made by the root of a new user namespace, and so is its own: message queues belong to their maker.
    pub(crate) fn after_user(&self) -> u64 {
        if self.new & flags::NEWUSER == 0 { 0 } else { self.new & flags::NEWIPC }
    }

    /// Enters what is joined, and prepares a time namespace with offsets, until the guard is dropped.
    ///
    /// # Errors
    /// The path names no namespace of its kind.
    pub(crate) fn enter(&self, proc: &Proc) -> Result<Entered> {
        let mut entered = Entered::default();
        // Opened before the first is entered: they are paths of the host.
        let mut opened = Vec::with_capacity(self.join.len());
        for (kind, path) in &self.join {
            opened.push((*kind, path, open_namespace(path)?));
        }
        if !self.time_offsets.is_empty() {
            entered.remember(proc, flags::NEWTIME)?;
            unshare(flags::NEWTIME).context(|| "time namespace")?;
            // The offsets of a time namespace can be set until the first process is born into it.
            proc.write("self/timens_offsets", self.time_offsets.as_bytes()).context(|| "time namespace offsets")?;
        }
        for (kind, path, namespace) in opened {
            if kind == flags::NEWCGROUP && !self.has_user() {
                entered.cgroup = Some((path.clone(), namespace));
                continue;
            }
            entered.remember(proc, kind)?;
            join(namespace.as_fd(), kind, path)?;
        }
        Ok(entered)
    }
}

/// Opens a namespace file.
pub(crate) fn open_namespace(path: &Path) -> Result<OwnedFd> {
    // Non-blocking: whatever it is, nobody is to wait for a FIFO.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let namespace =
        rustix::fs::open(path, flags, Mode::empty()).call("open", path.display()).context(|| "namespace")?;
    Ok(namespace)
}

/// Enters a namespace that was opened from `path`.
pub(crate) fn join(namespace: BorrowedFd<'_>, kind: u64, path: &Path) -> Result<()> {
    setns(namespace, kind).map_err(|e| match e.errno() {
        Errno::EINVAL => Error::new(Kind::Invalid, format!("{} is not a {} namespace", path.display(), file_of(kind))),
        _ => Error::from(e).context(format!("join {} namespace {}", file_of(kind), path.display())),
    })
}

/// The way back from the namespaces that the parent has entered.
#[derive(Debug, Default)]
pub(crate) struct Entered {
    back: Vec<(u64, OwnedFd)>,
    /// Root and working directory: joining a mount namespace changes them.
    directories: Option<(OwnedFd, OwnedFd)>,
    /// The cgroup namespace, for init to join: where cgroup2 is mounted with `nsdelegate`, as systemd mounts it, a
    /// process inside can't clone into a cgroup outside. With a user namespace init may not be allowed to join it.
    pub(crate) cgroup: Option<(PathBuf, OwnedFd)>,
}

impl Entered {
    fn remember(&mut self, proc: &Proc, kind: u64) -> Result<()> {
        if kind == flags::NEWNS {
            let open = |path: &str| {
                rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                    .call("open", path)
            };
            self.directories = Some((open("/")?, open(".")?));
        }
        let own = proc.open_namespace(file_of(kind))?;
        self.back.push((kind, own));
        Ok(())
    }

    /// Makes the pid namespace of a process the one of future children.
    pub(crate) fn pid_namespace_of(proc: &Proc, pidfd: &impl AsFd) -> Result<Self> {
        let mut entered = Self::default();
        entered.remember(proc, flags::NEWPID)?;
        setns(pidfd.as_fd(), flags::NEWPID).context(|| "join the container's pid namespace")?;
        Ok(entered)
    }

    /// Enters the network namespace of a process.
    pub(crate) fn network_of(proc: &Proc, pidfd: &impl AsFd) -> Result<Self> {
        let mut entered = Self::default();
        entered.remember(proc, flags::NEWNET)?;
        setns(pidfd.as_fd(), flags::NEWNET).context(|| "enter the container's network namespace")?;
        Ok(entered)
    }

    fn leave(&mut self) -> Result<()> {
        while let Some((kind, namespace)) = self.back.pop() {
            match setns(namespace.as_fd(), kind) {
                // In a user's namespace there is no way back to what is the host's, and nothing more to do there.
                Err(e) if e.errno() == Errno::EPERM && kind != flags::NEWNS => {}
                other => other.context(|| format!("return to the own {} namespace", file_of(kind)))?,
            }
        }
        if let Some((root, cwd)) = self.directories.take() {
            rustix::process::fchdir(&root).call("fchdir", "/")?;
            rustix::process::chroot(".").call("chroot", ".")?;
            rustix::process::fchdir(&cwd).call("fchdir", ".")?;
        }
        Ok(())
    }

    /// Leaves them.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.leave()
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        // Only on the way out with another error, which is the one to tell.
        let _ = self.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(text: &str) -> Namespaces {
        Namespaces::plan(&serde_json::from_str(text).unwrap())
    }

    #[test]
    fn new_and_joined_namespaces_are_told_apart() {
        let plan = plan(
            r#"{"namespaces":[{"type":"mount"},{"type":"pid","path":"/proc/1/ns/pid"},{"type":"cgroup"},
                {"type":"user","path":"/u"},{"type":"network","path":""}]}"#,
        );
        assert_eq!(plan.new, flags::NEWNS | flags::NEWCGROUP | flags::NEWNET);
        assert_eq!(plan.join, [(flags::NEWPID, PathBuf::from("/proc/1/ns/pid"))]);
        assert_eq!(plan.join_user, Some("/u".into()));
        assert_eq!(plan.clone_flags(), flags::NEWNS | flags::NEWNET);
        assert!(plan.has_user() && plan.has(flags::NEWPID) && !plan.has(flags::NEWUTS));
    }

    #[test]
    fn offsets_keep_the_time_namespace_out_of_clone3() {
        let plan = plan(
            r#"{"namespaces":[{"type":"mount"},{"type":"time"}],"timeOffsets":{"boottime":{"secs":7,"nanosecs":5}}}"#,
        );
        assert_eq!(plan.time_offsets, "boottime 7 5\n");
        assert_eq!(plan.clone_flags(), flags::NEWNS);
    }
}
