//! Making cgroups: the directories, the controllers on the way, the checks that nobody else uses the target.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path};
use std::time::Duration;

use rtc_sys::{CallExt, Errno};
use rustix::fs::{AtFlags, Gid, Mode, Uid};

use super::control::{read_at, write_at};
use super::hierarchy::open_beneath;
use super::wait::flag;
use super::{Cgroup, Hierarchy, Placement};
use crate::error::Context;
use crate::{Error, Kind, Result};

/// What a delegate may write, on kernels that don't list it in /sys/kernel/cgroup/delegate (before 4.15).
const DELEGATE: &str = "cgroup.procs cgroup.subtree_control cgroup.threads";

impl Hierarchy {
    /// Makes the cgroup of a new container, with its parents, and hands every available controller down to it.
    ///
    /// A directory that is there already is taken over if no process is in it or below it and it isn't frozen.
    /// Call [`Cgroup::remove`] when the container can't be created after all.
    ///
    /// # Errors
    /// `container's cgroup is not empty`, `container's cgroup unexpectedly frozen` (an ancestor counts too), or a
    /// directory can't be made.
    /// A controller that can't be handed down is no error here: [`Cgroup::apply`] names it if a limit needs it.
    pub fn create(&self, placement: &Placement) -> Result<Cgroup> {
        let path = self.below(&placement.path)?;
        let (dir, is_new) = make(self.root().as_fd(), path, Controllers::HandDown)
            .context(|| format!("cgroup {}", placement.path.display()))?;
        let cgroup = Cgroup { dir, path: placement.path.clone() };
        let typed = if is_new { cgroup.join_threaded() } else { Ok(()) };
        if let Err(error) = typed.and_then(|()| cgroup.check_unused()) {
            if is_new {
                // Best effort: the first error is the one to tell.
                let _ = cgroup.remove(Duration::ZERO);
            }
            return Err(error);
        }
        Ok(cgroup)
    }
}

impl Cgroup {
    /// Makes the cgroup a threaded one where it could hold no processes otherwise: below a threaded one
    /// (cgroups(7), "Thread mode").
    fn join_threaded(&self) -> Result<()> {
        match self.read_optional("cgroup.type")? {
            Some(kind) if kind.trim() == "domain invalid" => self.write("cgroup.type", "threaded"),
            _ => Ok(()),
        }
    }

    fn check_unused(&self) -> Result<()> {
        let events = self.read("cgroup.events")?;
        if flag(&events, "populated") {
            let count = self.procs()?.len();
            let message = format!("container's cgroup is not empty: {count} process(es) found in {}", self.noun());
            return Err(
                Error::new(Kind::WrongState, message).with_hint("give the container a linux.cgroupsPath of its own")
            );
        }
        // An empty cgroup is frozen as soon as its switch, or an ancestor's, is on.
        if flag(&events, "frozen") {
            let message = format!("container's cgroup unexpectedly frozen: {}", self.noun());
            return Err(Error::new(Kind::WrongState, message)
                .with_hint("thaw it: write 0 to cgroup.freeze there, or in the ancestor that is frozen"));
        }
        Ok(())
    }
}

/// What becomes of the controllers of cgroups on the way to one that is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Controllers {
    /// They are handed down: no processes can live on the way.
    HandDown,
    /// They stay where they are.
    Stay,
}

/// Makes the directories of `path` below `root`; opens the last, and says whether it is new.
fn make(root: BorrowedFd<'_>, path: &Path, controllers: Controllers) -> rtc_sys::Result<(OwnedFd, bool)> {
    let mut made: Option<(OwnedFd, bool)> = None;
    for component in path.components() {
        let Component::Normal(name) = component else { continue };
        let parent = made.as_ref().map_or(root, |(dir, _)| dir.as_fd());
        if controllers == Controllers::HandDown {
            hand_down(parent)?;
        }
        let is_new = match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755)) {
            Ok(()) => true,
            Err(rustix::io::Errno::EXIST) => false,
            Err(e) => return Err(e).call("mkdirat", path.display()),
        };
        made = Some((open_beneath(parent, Path::new(name))?, is_new));
    }
    match made {
        Some(made) => Ok(made),
        None => Ok((open_beneath(root, Path::new(""))?, false)),
    }
}

/// Makes the cgroup `path` below another; where it is already, only hands controllers down on the way, if that is wanted.
pub(super) fn descend(above: &Cgroup, path: &Path, controllers: Controllers) -> Result<Cgroup> {
    let full = above.path.join(path);
    let (dir, _) = make(above.dirfd(), path, controllers).context(|| format!("cgroup {}", full.display()))?;
    Ok(Cgroup { dir, path: full })
}

/// Enables, for the children of a cgroup, every controller that it has and they don't.
///
/// Not in a cgroup with processes of its own: most controllers can't be enabled there, and those that can, the threaded
/// ones, would make it the root of a threaded tree, whose children hold no processes (cgroups(7), "Thread mode").
/// Each by itself: one that can't be enabled (EINVAL: real-time tasks with `cpu`) must not keep the others away.
fn hand_down(dir: BorrowedFd<'_>) -> rtc_sys::Result<()> {
    let available = read_at(dir, "cgroup.controllers")?;
    if available.trim().is_empty() {
        return Ok(());
    }
    let enabled = read_at(dir, "cgroup.subtree_control")?;
    let missing: Vec<&str> = missing(&available, &enabled).collect();
    if !missing.is_empty() && may_hand_down(dir)? {
        enable(dir, missing.into_iter());
    }
    Ok(())
}

/// The controllers in one list that are not in another.
fn missing<'a>(available: &'a str, enabled: &str) -> impl Iterator<Item = &'a str> {
    available.split_ascii_whitespace().filter(|name| !enabled.split_ascii_whitespace().any(|c| c == *name))
}

fn enable<'a>(dir: BorrowedFd<'_>, controllers: impl Iterator<Item = &'a str>) {
    for controller in controllers {
        if let Err(e) = write_at(dir, "cgroup.subtree_control", &format!("+{controller}")) {
            log::debug!("controller {controller} is not handed down: {e}");
        }
    }
}

/// Whether a cgroup has no processes of its own, or is the root, or threaded: those may have both.
fn may_hand_down(dir: BorrowedFd<'_>) -> rtc_sys::Result<bool> {
    match read_at(dir, "cgroup.type") {
        Ok(kind) if kind.trim() == "domain" => Ok(read_at(dir, "cgroup.procs")?.trim().is_empty()),
        Ok(_) => Ok(true),
        Err(e) if e.errno() == Errno::ENOENT => Ok(true),
        Err(e) => Err(e),
    }
}

impl Hierarchy {
    /// Has the controllers in a list handed down from the root to a cgroup, as far as they go; best effort.
    ///
    /// For those that systemd doesn't know (hugetlb, rdma, misc): it leaves them as they are, on and off.
    pub(super) fn hand_down_to(&self, cgroup: &Cgroup, controllers: &[&str]) -> Result<()> {
        let here = cgroup.read("cgroup.controllers")?;
        let wanted: Vec<&str> = controllers.iter().flat_map(|name| missing(name, &here)).collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let path = self.below(&cgroup.path)?;
        for above in path.ancestors().skip(1).collect::<Vec<_>>().into_iter().rev() {
            let dir = open_beneath(self.root(), above).context(|| format!("cgroup {}", above.display()))?;
            enable(dir.as_fd(), wanted.iter().copied());
        }
        Ok(())
    }
}

impl Cgroup {
    /// Opens a cgroup below this one, for `exec --cgroup`; "" is this one.
    ///
    /// # Errors
    /// `bad sub cgroup path` for one that leads above this cgroup; ENOENT when it doesn't exist.
    pub fn sub(&self, path: &Path) -> Result<Cgroup> {
        if path.components().any(|c| c == Component::ParentDir) {
            return Err(Error::new(Kind::Invalid, format!("bad sub cgroup path: {}", path.display())));
        }
        let path: std::path::PathBuf = path.components().filter(|c| matches!(c, Component::Normal(_))).collect();
        let full = self.path.join(&path);
        let dir = open_beneath(&self.dir, &path).map_err(|e| match e.errno() {
            Errno::ENOENT => Error::new(Kind::Invalid, format!("cgroup {}: no such file or directory", full.display())),
            _ => Error::from(e).context(format!("cgroup {}", full.display())),
        })?;
        Ok(Cgroup { dir, path: full })
    }

    /// Gives a user the right to make cgroups below this one and to move processes between them: the directory and the
    /// files that `/sys/kernel/cgroup/delegate` lists change their owner (cgroups(7), "Delegation").
    ///
    /// # Errors
    /// A file can't be changed. Files that this kernel lacks are left out.
    pub fn delegate(&self, uid: u32, gid: u32) -> Result<()> {
        let owner = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        rustix::fs::fchown(&self.dir, owner.0, owner.1)
            .call("fchown", format_args!("{}, {uid}, {gid}", self.path.display()))
            .context(|| self.noun())?;
        let list = fs::read_to_string("/sys/kernel/cgroup/delegate").unwrap_or_else(|_| DELEGATE.to_owned());
        for file in list.split_ascii_whitespace() {
            match rustix::fs::chownat(&self.dir, file, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW) {
                // A controller that isn't enabled here.
                Ok(()) | Err(rustix::io::Errno::NOENT) => {}
                Err(e) => {
                    return Err(e).call("fchownat", format_args!("{file}, {uid}, {gid}")).context(|| self.noun());
                }
            }
        }
        Ok(())
    }

    /// Moves a process here by writing to `cgroup.procs`.
    ///
    /// This waits for an RCU grace period, 8 ms on an idle machine: use `CLONE_INTO_CGROUP` with [`Cgroup::dirfd`]
    /// wherever the process is still to be made.
    ///
    /// # Errors
    /// EBUSY when the cgroup has children with controllers; ESRCH when the process is gone.
    pub fn add(&self, pid: i32) -> Result<()> {
        self.write("cgroup.procs", &pid.to_string())
    }

    /// As [`Self::add`], with the kernel's refusal in runc's words, which callers look for.
    ///
    /// # Errors
    /// `adding pid N to cgroups: CGROUP: device or resource busy` when the cgroup hands controllers down.
    pub fn add_named(&self, pid: i32) -> Result<()> {
        self.add(pid).map_err(|e| {
            let reason = e.sys().map_or_else(|| e.to_string(), |e| e.errno().desc().to_lowercase());
            Error::new(Kind::WrongState, format!("adding pid {pid} to cgroups: {}: {reason}", self.path.display()))
                .with_hint("a cgroup that hands controllers down holds no processes: name one below it")
        })
    }
}
