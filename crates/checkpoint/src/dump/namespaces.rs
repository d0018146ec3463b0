//! Whether every process is in the container's own namespaces: others aren't rebuilt, so they are refused.

use crate::files::Blocker;
use crate::proc::Proc;

/// The kinds, by their names in /proc/PID/ns.
const KINDS: [&str; 7] = ["mnt", "net", "ipc", "uts", "user", "cgroup", "pid_for_children"];

/// A name for each kind.
pub(super) type Names = [String; KINDS.len()];

/// The namespaces of one process; an empty name for a kind that the kernel lacks.
pub(super) fn of(pid: i32) -> Names {
    KINDS.map(|kind| Proc(pid).link(&format!("ns/{kind}")).unwrap_or_default())
}

/// Refuses a process in namespaces other than those of the container's first one. `inside` is its id in the container.
pub(super) fn check(pid: i32, inside: i32, own: &Names, blockers: &mut Vec<Blocker>) {
    for (kind, (here, first)) in KINDS.iter().zip(of(pid).iter().zip(own)) {
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
}
