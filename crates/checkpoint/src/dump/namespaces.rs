//! Whether every process is in the container's own namespaces and under its own label: others aren't rebuilt, so they
//! are refused.

use crate::files::Blocker;
use crate::proc::Proc;

/// The kinds, by their names in /proc/PID/ns.
const KINDS: [&str; 7] = ["mnt", "net", "ipc", "uts", "user", "cgroup", "pid_for_children"];

/// What all processes of a container must have in common.
pub(super) struct Common {
    /// A name for each kind of namespace; empty for one that the kernel lacks.
    namespaces: [String; KINDS.len()],
    /// The label of the security module (AppArmor, SELinux) that has one; empty without.
    label: String,
}

impl Common {
    /// What the container's first process has.
    pub(super) fn of(pid: i32) -> Self {
        Self { namespaces: namespaces(pid), label: label(pid, pid) }
    }
}

fn namespaces(pid: i32) -> [String; KINDS.len()] {
    KINDS.map(|kind| Proc(pid).link(&format!("ns/{kind}")).unwrap_or_default())
}

fn label(pid: i32, tid: i32) -> String {
    // EINVAL without a module that labels processes.
    Proc(pid).text(&format!("task/{tid}/attr/current")).unwrap_or_default()
}

/// Refuses a process that differs from the container's first one. `inside` is its id in the container.
pub(super) fn check(pid: i32, tids: impl Iterator<Item = i32>, inside: i32, own: &Common, blockers: &mut Vec<Blocker>) {
    for (kind, (here, first)) in KINDS.iter().zip(namespaces(pid).iter().zip(&own.namespaces)) {
        // Once the namespace that children would be born into is dead or unused, its link reads empty.
        if here != first && !here.is_empty() {
            let kind = kind.trim_end_matches("_for_children");
            blockers.push(Blocker {
                pid: inside,
                what: format!("its {kind} namespace"),
                why: "it isn't the container's, and nested namespaces can't be rebuilt yet".into(),
                remedy: "end the process that made it (unshare, a sandbox, a nested container)".into(),
            });
        }
    }
    // The restored ones get what config.json says, all of them.
    if let Some(other) = tids.map(|tid| label(pid, tid)).find(|label| *label != own.label) {
        blockers.push(Blocker {
            pid: inside,
            what: format!("its security label {:?}", other.trim_end_matches(['\n', '\0'])),
            why: format!("the container's is {:?}", own.label.trim_end_matches(['\n', '\0'])),
            remedy: "end the process that changed its AppArmor profile or SELinux context".into(),
        });
    }
}
