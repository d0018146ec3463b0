//! The kernel's log, for what a cgroup can't tell any more: systemd removes a scope's as soon as it is empty, and the
//! counts in it are gone before anybody else has read them.
//!
//! Each kill for want of memory is in the log before its victim can end (mm/oom_kill.c). The line with the cgroup is left
//! out where there are more than ten kills within five seconds, that with the pid never.
//!
//! Left out: the kill of another process than the first in such a burst, where systemd was the quicker one. The counts of
//! the slice above have it, but don't tell whose it was, and a wrong tale of a container that ended well is worse.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

/// More than a record has (CONSOLE_EXT_LOG_MAX; Documentation/ABI/testing/dev-kmsg).
const RECORD: usize = 8192;

/// The log from some moment on.
#[derive(Debug)]
pub(crate) struct KernelLog(File);

impl KernelLog {
    /// What comes from now on; none where the log is not ours to read.
    pub(crate) fn from_now() -> Option<Self> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::open("/dev/kmsg", flags, Mode::empty()).ok()?);
        file.seek(SeekFrom::End(0)).ok()?;
        Some(Self(file))
    }

    /// Whether it tells that a process in a cgroup, or below it, or the one with this pid was killed for want of memory.
    /// What is told is gone with that.
    pub(crate) fn tells_of_kill(&self, cgroup: &Path, pid: i32) -> bool {
        let mut record = [0; RECORD];
        loop {
            match (&self.0).read(&mut record) {
                Ok(0) => return false,
                Ok(length) if is_kill(&String::from_utf8_lossy(&record[..length]), cgroup, pid) => return true,
                // Records were overwritten before they were read; the next one comes.
                Err(error) if ![ErrorKind::BrokenPipe, ErrorKind::Interrupted].contains(&error.kind()) => return false,
                _ => {}
            }
        }
    }
}

/// `priority,number,time,flags;text`
fn is_kill(record: &str, cgroup: &Path, pid: i32) -> bool {
    let Some((prefix, text)) = record.split_once(';') else { return false };
    // Lines of other programs have a facility; the kernel's is 0, with 8 levels.
    let priority = prefix.split(',').next().and_then(|priority| priority.parse::<u32>().ok());
    if priority.is_none_or(|priority| priority >= 8) {
        return false;
    }
    let text = text.lines().next().unwrap_or_default();
    if text.contains(&format!("Killed process {pid} (")) {
        return true;
    }
    let of_cgroup = text.strip_prefix("oom-kill:").and_then(|text| text.split_once("task_memcg="));
    of_cgroup.is_some_and(|(_, rest)| Path::new(rest.split(",task=").next().unwrap_or_default()).starts_with(cgroup))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of Linux 6.12.
    const KILL: &str = "6,512,81234567,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=cri-abc.scope,\
        mems_allowed=0,oom_memcg=/pods.slice/cri-abc.scope,task_memcg=/pods.slice/cri-abc.scope/init,task=tail,pid=77,uid=0\n";
    const VICTIM: &str = "3,513,81234568,-;Memory cgroup out of memory: Killed process 77 (tail) total-vm:17000kB, \
        anon-rss:16000kB, file-rss:0kB, shmem-rss:0kB, UID:0 pgtables:64kB oom_score_adj:0\n SUBSYSTEM=x\n";

    #[test]
    fn kills_are_known_by_their_cgroup_or_pid() {
        let own = Path::new("/pods.slice/cri-abc.scope");
        assert!(is_kill(KILL, own, 5));
        assert!(!is_kill(KILL, Path::new("/pods.slice/cri-ab"), 77));
        assert!(!is_kill(KILL, Path::new("/pods.slice/cri-abc.scope/other"), 77));
        assert!(is_kill(VICTIM, Path::new("/other"), 77));
        assert!(!is_kill(VICTIM, own, 7));
        // A program has written it.
        assert!(!is_kill(&KILL.replacen('6', "12", 1), own, 5));
        assert!(!is_kill("", own, 5));
    }
}
