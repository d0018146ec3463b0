//! Ending: killing what is in a cgroup, listing it, removing it.

use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rtc_sys::{CallExt, Errno};

use super::Cgroup;
use super::control::{is_gone, read_at};
use super::tree::{open_parent, remove_below, remove_directory, walk};
use super::wait::{Deadline, flag};
use crate::error::Context;
use crate::{Error, Kind, Result};

/// How long the tasks of a cgroup without `cgroup.kill` may take to freeze before they are signalled unfrozen.
const FREEZE_BEFORE_KILL: Duration = Duration::from_secs(2);

impl Cgroup {
    /// The pids of all processes in it and below it, as this process's pid namespace counts them, ascending.
    ///
    /// Processes of other pid namespaces are left out.
    ///
    /// # Errors
    /// A `cgroup.procs` can't be read. A cgroup that vanishes meanwhile is no error.
    pub fn procs(&self) -> Result<Vec<i32>> {
        let mut pids = Vec::new();
        let mut is_threaded = false;
        walk(self.dirfd(), &mut |dir| match read_at(dir, "cgroup.procs") {
            Ok(text) => {
                pids.extend(numbers(&text));
                Ok(())
            }
            // A threaded cgroup, whose processes stand in the threaded domain above it: if that is above this one too,
            // the threads lead to them.
            Err(e) if e.errno() == Errno::EOPNOTSUPP => {
                is_threaded |= dir.as_raw_fd() == self.dir.as_raw_fd();
                if is_threaded {
                    pids.extend(numbers(&read_at(dir, "cgroup.threads")?).filter_map(process_of));
                }
                Ok(())
            }
            Err(e) if is_gone(&e) => Ok(()),
            Err(e) => Err(e),
        })
        .context(|| self.noun())?;
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }

    /// Whether any process lives in it or below it. Zombies don't count.
    ///
    /// # Errors
    /// `cgroup.events` can't be read; a removed cgroup is not populated.
    pub fn is_populated(&self) -> Result<bool> {
        match read_at(self.dirfd(), "cgroup.events") {
            Ok(text) => Ok(flag(&text, "populated")),
            Err(e) if is_gone(&e) => Ok(false),
            Err(e) => Err(e).context(|| self.noun()),
        }
    }

    /// Sends SIGKILL to all processes in it and below it, also frozen ones, and forks in flight.
    ///
    /// By `cgroup.kill` (5.14), else freeze, signal each, thaw. Doesn't wait for their end.
    ///
    /// # Errors
    /// The write or a signal fails; processes that are gone, and a removed cgroup, are no error.
    pub fn kill(&self) -> Result<()> {
        match super::control::write_at(self.dirfd(), "cgroup.kill", "1") {
            Ok(()) => Ok(()),
            // A threaded cgroup can't be killed as one.
            Err(e) if is_gone(&e) || e.errno() == Errno::EOPNOTSUPP => self.kill_by_signals(),
            Err(e) => Err(e).context(|| self.noun()),
        }
    }

    /// What [`Cgroup::kill`] does before 5.14.
    fn kill_by_signals(&self) -> Result<()> {
        if !self.is_populated()? {
            return Ok(());
        }
        // Frozen tasks can't fork away from the list. If they don't freeze, most are still caught.
        let was_frozen = self.freezer_is_on()?;
        if let Err(e) = self.freeze(FREEZE_BEFORE_KILL) {
            log::debug!("{}: killing unfrozen: {e}", self.noun());
        }
        let mut result = Ok(());
        for pid in self.procs()? {
            match kill(Pid::from_raw(pid), Signal::SIGKILL) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(e) => result = Err(e).call("kill", format_args!("{pid}, SIGKILL")).context(|| self.noun()),
            }
        }
        // A frozen task takes SIGKILL at once since 5.2, so the switch goes back where it was.
        if !was_frozen {
            let _ = self.write("cgroup.freeze", "0");
        }
        result
    }

    /// Waits until no process lives in it or below it.
    ///
    /// # Errors
    /// `timeout` is over.
    pub fn wait_empty(&self, timeout: Duration) -> Result<()> {
        self.wait_empty_until(Deadline::after(timeout), timeout)
    }

    fn wait_empty_until(&self, deadline: Deadline, timeout: Duration) -> Result<()> {
        if self.wait_for("populated", false, deadline)? {
            return Ok(());
        }
        let pids: Vec<String> = self.procs()?.iter().map(i32::to_string).collect();
        let message = format!("{}: not empty after {timeout:?}: pid {}", self.noun(), pids.join(", "));
        Err(Error::new(Kind::System, message))
    }

    /// Removes it and all cgroups below it, which must hold no process or only dying ones, which are waited for.
    ///
    /// Parents stay. A cgroup that is gone already is no error.
    ///
    /// # Errors
    /// Processes are left in it after `timeout`; the message lists them.
    pub fn remove(self, timeout: Duration) -> Result<()> {
        let deadline = Deadline::after(timeout);
        loop {
            match self.remove_now() {
                Ok(()) => return Ok(()),
                Err(e) if e.errno() == Errno::EBUSY => {}
                Err(e) => return Err(e).context(|| self.noun()),
            }
            self.wait_empty_until(deadline, timeout)?;
            if deadline.left().is_zero() {
                // Empty and yet busy: somebody makes cgroups in it as fast as they are removed.
                return self.remove_now().context(|| self.noun());
            }
        }
    }

    /// Removes it if nothing is in it, neither a process nor a cgroup, and says whether that was so.
    ///
    /// # Errors
    /// The directory can't be removed for another reason.
    pub fn remove_if_empty(&self) -> Result<bool> {
        match read_at(self.dirfd(), "cgroup.events") {
            // When it is gone, its name may be another container's by now.
            Err(e) if is_gone(&e) => return Ok(true),
            Ok(text) if !flag(&text, "populated") => {}
            _ => return Ok(false),
        }
        match self.remove_directory() {
            Ok(()) => Ok(true),
            Err(e) if e.errno() == Errno::EBUSY => Ok(false),
            Err(e) => Err(e).context(|| self.noun()),
        }
    }

    /// Removes the tree once, deepest first.
    fn remove_now(&self) -> rtc_sys::Result<()> {
        // When it is gone, its name may be another container's by now.
        if read_at(self.dirfd(), "cgroup.events").is_err_and(|e| is_gone(&e)) {
            return Ok(());
        }
        remove_below(self.dirfd())?;
        self.remove_directory()
    }

    fn remove_directory(&self) -> rtc_sys::Result<()> {
        let name = self.path.file_name().map_or(Path::new("/"), Path::new);
        // The handle's parent, not the path's: a cgroup's directory can't be moved elsewhere.
        let parent = open_parent(self.dirfd())?;
        remove_directory(parent.as_fd(), name)
    }
}

/// The ids in a list of processes or threads. 0 is one of another pid namespace.
fn numbers(text: &str) -> impl Iterator<Item = i32> {
    text.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|id| *id != 0)
}

/// The process that a thread belongs to; `None` when it is gone.
fn process_of(thread: i32) -> Option<i32> {
    let status = std::fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Tgid:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, Stdio};

    use super::super::{CgroupManager, Hierarchy, Placement};
    use super::*;

    /// Kernels before 5.14 are no longer at hand; their way must still work.
    #[test]
    fn signals_reach_what_is_below_and_the_switch_goes_back() {
        const LONG: Duration = Duration::from_secs(30);
        let hierarchy = Hierarchy::find().unwrap();
        let path = format!("/cgroup-eng-signals-{}", std::process::id());
        let placement = Placement::resolve(CgroupManager::Cgroupfs, Some(path.as_ref()), "x").unwrap().unwrap();
        let cgroup = hierarchy.create(&placement).unwrap();
        let below = format!("{path}/below");
        let placement = Placement::resolve(CgroupManager::Cgroupfs, Some(below.as_ref()), "x").unwrap().unwrap();
        // Ends with its standard input, at the latest with this test.
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let result = hierarchy.create(&placement).and_then(|below| below.add(child.id() as i32));
        let result = result.and_then(|()| cgroup.kill_by_signals());
        let switch = cgroup.freezer_is_on();
        child.stdin.take();
        let status = child.wait().unwrap();
        cgroup.remove(LONG).unwrap();
        result.unwrap();
        assert!(!switch.unwrap());
        assert_eq!(status.signal(), Some(Signal::SIGKILL as i32));
    }

    /// Below a threaded cgroup there is no other kind: a container's is made one, and is killed and listed all the same.
    #[test]
    fn a_cgroup_below_a_threaded_one_works() {
        const LONG: Duration = Duration::from_secs(30);
        let hierarchy = Hierarchy::find().unwrap();
        let path = format!("/cgroup-eng-threaded-{}", std::process::id());
        let place =
            |path: &str| Placement::resolve(CgroupManager::Cgroupfs, Some(path.as_ref()), "x").unwrap().unwrap();
        let domain = hierarchy.create(&place(&path)).unwrap();
        let threaded = hierarchy.create(&place(&format!("{path}/threaded"))).unwrap();
        // With controllers that count by processes there is no thread mode.
        for controller in domain.read("cgroup.subtree_control").unwrap().split_ascii_whitespace() {
            domain.write("cgroup.subtree_control", &format!("-{controller}")).unwrap();
        }
        threaded.write("cgroup.type", "threaded").unwrap();
        let container = hierarchy.create(&place(&format!("{path}/threaded/container")));
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let pid = child.id() as i32;
        let result = domain.add(pid).and_then(|()| container.as_ref().unwrap().add(pid));
        let listed = container.as_ref().unwrap().procs();
        let killed = container.as_ref().unwrap().kill();
        child.stdin.take();
        let status = child.wait().unwrap();
        domain.remove(LONG).unwrap();
        result.unwrap();
        assert_eq!(listed.unwrap(), [pid]);
        killed.unwrap();
        assert_eq!(status.signal(), Some(Signal::SIGKILL as i32));
    }
}
