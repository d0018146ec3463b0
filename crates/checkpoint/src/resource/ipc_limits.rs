//! The limits of an IPC namespace that /proc/sys shows (kernel.shmmax, fs.mqueue.msg_max and their like).
//!
//! Each thread sees those of its own namespace, whatever /proc it looks at (for kernel.* as for fs.mqueue.*).
//! Only what differs from a new namespace's is kept: another kernel may have reasons for other defaults.

use crate::error::{Context as _, Result};
use crate::files::inside::own_thread;
use nix::sched::{CloneFlags, unshare};
use rtc_sys::CallExt as _;
use serde::{Deserialize, Serialize};
use std::sync::OnceLock;

/// Those of ipc_namespaces(7), but `*_next_id`, which isn't a limit.
const NAMES: [&str; 13] = [
    "kernel/shmmax",
    "kernel/shmall",
    "kernel/shmmni",
    SHM_RMID_FORCED,
    "kernel/msgmax",
    "kernel/msgmnb",
    "kernel/msgmni",
    "kernel/sem",
    "fs/mqueue/queues_max",
    "fs/mqueue/msg_max",
    "fs/mqueue/msgsize_max",
    "fs/mqueue/msg_default",
    "fs/mqueue/msgsize_default",
];
/// Not a limit, but set like one; last, for it destroys segments that nobody has attached.
const SHM_RMID_FORCED: &str = "kernel/shm_rmid_forced";

/// A limit, by its name below /proc/sys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// Its name: `kernel/shmmax`.
    pub name: String,
    /// Its numbers.
    pub values: Vec<u64>,
}

impl Limit {
    /// Reads it for the calling thread's namespace.
    fn of(name: &str) -> Result<Self> {
        let text = read(name)?;
        let values = text.split_ascii_whitespace().map(str::parse).collect::<std::result::Result<_, _>>();
        let values = values.map_err(|_| crate::procfs::Malformed("sys")).context(|| name.to_owned())?;
        Ok(Self { name: name.to_owned(), values })
    }

    /// Sets it in the calling thread's namespace.
    ///
    /// # Errors
    /// When the kernel refuses it, or when it isn't one of an IPC namespace.
    pub(super) fn write(&self) -> Result<()> {
        // The image must not reach other settings of the machine.
        if !NAMES.contains(&self.name.as_str()) {
            return Err(crate::error::bad_image(format!("{} is no limit of an IPC namespace", self.name)));
        }
        let text = self.values.iter().map(u64::to_string).collect::<Vec<_>>().join(" ");
        let path = format!("/proc/sys/{}", self.name);
        Ok(std::fs::write(&path, &text).call("write", format_args!("{path}, {text}"))?)
    }
}

/// The text of a limit in the calling thread's namespace.
pub(super) fn read(name: &str) -> Result<String> {
    let path = format!("/proc/sys/{name}");
    Ok(std::fs::read_to_string(&path).call("read", &path)?)
}

/// All limits of the calling thread's namespace that this kernel has.
fn all() -> Result<Vec<Limit>> {
    let present = NAMES.iter().filter(|name| std::path::Path::new("/proc/sys").join(name).exists());
    present.map(|name| Limit::of(name)).collect()
}

/// Those limits of the calling thread's namespace that differ from a new one's.
///
/// # Errors
/// When they can't be read.
pub(super) fn changed() -> Result<Vec<Limit>> {
    let defaults = defaults()?;
    Ok(all()?.into_iter().filter(|limit| !defaults.contains(limit)).collect())
}

/// Those of a new namespace, which is made once: that takes the kernel a millisecond.
fn defaults() -> Result<&'static [Limit]> {
    static KNOWN: OnceLock<Vec<Limit>> = OnceLock::new();
    if let Some(known) = KNOWN.get() {
        return Ok(known);
    }
    let limits = own_thread(|| {
        unshare(CloneFlags::CLONE_NEWIPC).call("unshare", "CLONE_NEWIPC")?;
        all()
    })?;
    Ok(KNOWN.get_or_init(|| limits))
}

/// Raises limits of the calling thread's namespace where they are lower; gives those as they were.
pub(super) fn raise(wanted: &[(&str, u64)]) -> Result<Vec<Limit>> {
    let mut before = Vec::new();
    for (name, value) in wanted {
        let limit = Limit::of(name)?;
        if limit.values.first().is_some_and(|now| now < value) {
            Limit { name: limit.name.clone(), values: vec![*value] }.write()?;
            before.push(limit);
        }
    }
    Ok(before)
}

/// Makes each limit at least as high as it is to be: objects may be about to need it.
pub(super) fn raise_to(limits: &[Limit]) -> Result<()> {
    for limit in limits.iter().filter(|limit| limit.name != SHM_RMID_FORCED) {
        let now = Limit::of(&limit.name)?;
        let values = now.values.iter().zip(&limit.values).map(|(now, wanted)| *now.max(wanted)).collect();
        if values != now.values {
            Limit { name: limit.name.clone(), values }.write()?;
        }
    }
    Ok(())
}

/// Sets limits as they were: objects that need more keep what they have.
pub(super) fn set(limits: &[Limit]) -> Result<()> {
    let (last, first): (Vec<_>, Vec<_>) = limits.iter().partition(|limit| limit.name == SHM_RMID_FORCED);
    first.into_iter().chain(last).try_for_each(Limit::write)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_changed_is_found_and_set_in_another_namespace() {
        let found = own_thread(|| {
            unshare(CloneFlags::CLONE_NEWIPC).unwrap();
            assert_eq!(changed().unwrap(), []);
            std::fs::write("/proc/sys/kernel/msgmax", "12345").unwrap();
            std::fs::write("/proc/sys/kernel/sem", "100 200 300 40").unwrap();
            std::fs::write("/proc/sys/fs/mqueue/msg_max", "77").unwrap();
            changed()
        });
        let found = found.unwrap();
        let limit = |name: &str, values: &[u64]| Limit { name: name.to_owned(), values: values.to_vec() };
        let wanted = [
            limit("kernel/msgmax", &[12345]),
            limit("kernel/sem", &[100, 200, 300, 40]),
            limit("fs/mqueue/msg_max", &[77]),
        ];
        assert_eq!(found, wanted);
        own_thread(|| {
            unshare(CloneFlags::CLONE_NEWIPC).unwrap();
            raise_to(&found)?;
            // The number of sets is lower than the default; the others are not.
            assert_eq!(Limit::of("kernel/sem")?.values, [32000, 1_024_000_000, 500, 32000]);
            set(&found)?;
            assert_eq!(changed()?, wanted);
            Ok(())
        })
        .unwrap();
    }

    #[test]
    fn other_settings_are_out_of_reach() {
        for name in ["kernel/hostname", "kernel/../kernel/msgmax", "/tmp/x"] {
            let limit = Limit { name: name.to_owned(), values: vec![1] };
            assert_eq!(limit.write().unwrap_err().kind(), &crate::Kind::BadImage);
        }
    }
}
