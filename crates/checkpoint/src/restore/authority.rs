//! What config.json allows the restored processes. An image may claim less, but not more.
//!
//! What a claim beyond would take, a hostile image must not get; so some claims are refused, and others, which another
//! machine may have had reasons for, are cut down to what config.json gives.

use super::Checkpoint;
use crate::error::{Error, Kind, Result, bad_image};
use crate::files::kind::FileKind;
use crate::image::tree::{Backing, Filter, Live, Scheduling, Thread};
use crate::resource::mount::{Given, Origin};
use crate::resource::socket::Privilege;
use std::collections::BTreeMap;

// linux/capability.h
const CAP_SETGID: u32 = 6;
const CAP_SETUID: u32 = 7;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_SYS_NICE: u32 = 23;
const CAP_SYS_RESOURCE: u32 = 24;
/// `IOPRIO_CLASS_RT` and where the class stands (linux/ioprio.h).
const IO_REALTIME: i32 = 1;
const IO_CLASS_SHIFT: u32 = 13;

/// What config.json allows the restored processes.
#[derive(Clone, Debug, Default)]
pub struct Authority {
    /// The capabilities of the bounding set.
    pub bounding: u64,
    /// Those of the first program.
    pub permitted: u64,
    /// Whether `no_new_privs` must be set.
    pub no_new_privs: bool,
    /// The filter that every thread must be under.
    pub filter: Option<Filter>,
    /// The first program's user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its supplementary groups; `None` for those of whoever calls.
    pub groups: Option<Vec<u32>>,
    /// Whether the container has an IPC namespace of its own.
    pub own_ipc: bool,
    /// The mounts that the runtime makes.
    pub given: Vec<Given>,
    /// Resource limits that are set, by `RLIMIT_*`, the hard ones.
    pub limits: BTreeMap<usize, u64>,
    /// The lowest nice value.
    pub nice: i32,
    /// The lowest `oom_score_adj`.
    pub oom_score_adj: i32,
    /// Whether realtime scheduling is allowed, of processor time and of input and output.
    pub realtime: (bool, bool),
}

impl Authority {
    fn has(&self, capability: u32) -> bool {
        self.bounding >> capability & 1 == 1
    }
}

impl Checkpoint {
    /// Checks that the image claims no more than config.json allows, and cuts down what it may claim on another machine.
    ///
    /// # Errors
    /// Names what it claims.
    pub fn authorize(&mut self, authority: Authority) -> Result<()> {
        for thread in self.tree.processes.iter().flat_map(|p| &p.live).flat_map(|l| &l.threads) {
            thread_may(thread, &authority)
                .map_err(|what| refusal(format!("thread {} of the image {what}", thread.tid)))?;
        }
        self.objects_may(&authority).map_err(refusal)?;
        self.check_segments()?;
        if let Some(filter) = &authority.filter {
            self.put_under(filter);
        }
        for live in self.tree.processes.iter_mut().filter_map(|process| process.live.as_deref_mut()) {
            cut_down(live, &authority);
        }
        self.given = authority.given;
        Ok(())
    }

    /// Mounts, sockets, and objects of the IPC namespace.
    fn objects_may(&self, authority: &Authority) -> std::result::Result<(), String> {
        let own = |origin: &Origin| matches!(origin, Origin::Tmpfs(_) | Origin::Bind(_));
        let mount = self.container.mounts.mounts.iter().find(|mount| own(&mount.origin));
        if let Some(mount) = mount.filter(|_| !authority.has(CAP_SYS_ADMIN)) {
            return Err(format!("the image mounts {}, which takes CAP_SYS_ADMIN", mount.mountpoint));
        }
        for file in &self.files.files {
            let FileKind::Socket(socket) = &file.file else { continue };
            let beyond = |privilege: &Privilege| !privilege.any_of.iter().any(|one| authority.has(*one));
            if let Some(Privilege { what, capability, .. }) = socket.privileges().find(beyond) {
                return Err(format!("the image's {} {what}, which takes {capability}", file.id));
            }
        }
        if !authority.own_ipc && !self.container.ipc.is_empty() {
            return Err("the image has IPC objects, and the container no IPC namespace of its own".into());
        }
        Ok(())
    }

    /// Shared memory that is attached must be the image's: another's might have its number.
    fn check_segments(&self) -> Result<()> {
        let segments = &self.container.ipc.sysv.segments;
        for vma in self.tree.mms.iter().flat_map(|mm| &mm.vmas) {
            if let Backing::SysV { id, .. } = vma.backing {
                if !segments.iter().any(|segment| segment.id == id) {
                    return Err(bad_image(format!("shared memory segment {id} is not in the image")));
                }
            }
        }
        Ok(())
    }

    /// Puts a filter below those of each thread, unless it is there.
    fn put_under(&mut self, filter: &Filter) {
        let place = self.tree.filters.iter().position(|known| known.code == filter.code);
        let place = place.unwrap_or_else(|| {
            self.tree.filters.push(filter.clone());
            self.tree.filters.len() - 1
        });
        for live in self.tree.processes.iter_mut().filter_map(|process| process.live.as_deref_mut()) {
            for thread in &mut live.threads {
                let filters = &mut thread.seccomp.filters;
                if filters.first().is_none_or(|first| self.tree.filters[*first].code != filter.code) {
                    filters.insert(0, place);
                }
            }
        }
    }
}

fn refusal(what: String) -> Error {
    Error::new(Kind::BadImage, what)
        .with_hint("config.json decides: allow it there, or restore with the config of the checkpoint")
}

/// Whether a thread's credentials are within what config.json gives.
fn thread_may(thread: &Thread, authority: &Authority) -> std::result::Result<(), String> {
    let creds = &thread.creds;
    // The bounding set as well: a program with file capabilities would get them from it.
    let extra = creds.caps.iter().fold(0, |all, set| all | set) & !authority.bounding;
    if extra != 0 {
        return Err(format!("has capabilities that config.json doesn't allow ({extra:#x})"));
    }
    if authority.filter.is_some() && thread.seccomp.filters.is_empty() {
        return Err("has no seccomp filter, which config.json asks for".into());
    }
    if !authority.no_new_privs {
        return Ok(());
    }
    if !creds.no_new_privs {
        return Err("lacks no_new_privs, which config.json asks for".into());
    }
    // From here on: what no program can gain under it.
    let [_, permitted, effective, ..] = creds.caps;
    let extra = (permitted | effective) & !authority.permitted;
    if extra != 0 {
        return Err(format!("has capabilities that config.json gives no program ({extra:#x})"));
    }
    if !authority.has(CAP_SETUID) && creds.uid != [authority.uid; 4] {
        return Err(format!("is of users {:?}, not of config.json's {}", creds.uid, authority.uid));
    }
    let Some(groups) = authority.groups.as_ref().filter(|_| !authority.has(CAP_SETGID)) else { return Ok(()) };
    let known = |group: &u32| *group == authority.gid || groups.contains(group);
    if creds.gid != [authority.gid; 4] || !creds.groups.iter().all(known) {
        return Err(format!("is of groups that config.json doesn't name: {:?}, {:?}", creds.gid, creds.groups));
    }
    Ok(())
}

/// Takes from a process what it could only have with a privilege that it doesn't have here.
fn cut_down(live: &mut Live, authority: &Authority) {
    if !authority.has(CAP_SYS_RESOURCE) {
        live.oom_score_adj = live.oom_score_adj.max(authority.oom_score_adj);
        for (resource, hard) in &authority.limits {
            if let Some(limit) = live.limits.get_mut(*resource) {
                *limit = (limit.0.min(*hard), limit.1.min(*hard));
            }
        }
    }
    if !authority.has(CAP_SYS_NICE) {
        live.threads.iter_mut().for_each(|thread| calm(&mut thread.scheduling, authority));
    }
}

fn calm(scheduling: &mut Scheduling, authority: &Authority) {
    scheduling.nice = scheduling.nice.max(authority.nice);
    let realtime = matches!(scheduling.policy as i32, libc::SCHED_FIFO | libc::SCHED_RR | libc::SCHED_DEADLINE);
    if realtime && !authority.realtime.0 {
        (scheduling.policy, scheduling.priority) = (libc::SCHED_OTHER as u32, 0);
    }
    if scheduling.io_priority >> IO_CLASS_SHIFT == IO_REALTIME && !authority.realtime.1 {
        scheduling.io_priority = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thread(creds: serde_json::Value) -> Thread {
        let mut whole = serde_json::json!({ "uid": [5, 5, 5, 5], "gid": [6, 6, 6, 6], "groups": [],
            "caps": [0, 0, 0, 0, 0], "securebits": 0, "no_new_privs": true });
        creds.as_object().unwrap().iter().for_each(|(key, value)| whole[key] = value.clone());
        serde_json::from_value(serde_json::json!({
            "tid": 1, "comm": "", "regs": [], "xstate": "", "xstate_len": 0, "sigmask": 0, "altstack": [0, 0, 0],
            "robust_list": [0, 0], "clear_child_tid": 0, "rseq": [0, 0, 0], "creds": whole, "seccomp": {},
            "parent_death_signal": 0, "timer_slack": 0,
            "scheduling": { "policy": 1, "priority": 99, "nice": -20, "io_priority": 1 << 13 },
        }))
        .unwrap()
    }

    #[test]
    fn under_no_new_privs_nobody_becomes_another() {
        let strict = Authority {
            no_new_privs: true,
            uid: 5,
            gid: 6,
            groups: Some(vec![7]),
            bounding: 3,
            ..Authority::default()
        };
        let claims = [
            (serde_json::json!({}), None),
            (serde_json::json!({ "groups": [6, 7] }), None),
            (serde_json::json!({ "uid": [5, 0, 5, 5] }), Some("users")),
            (serde_json::json!({ "gid": [6, 6, 6, 0] }), Some("groups")),
            (serde_json::json!({ "groups": [0] }), Some("groups")),
            (serde_json::json!({ "caps": [0, 1, 0, 3, 0] }), Some("gives no program")),
            (serde_json::json!({ "caps": [0, 0, 0, 4, 0] }), Some("doesn't allow")),
            (serde_json::json!({ "no_new_privs": false }), Some("no_new_privs")),
        ];
        for (creds, refused) in claims {
            let outcome = thread_may(&thread(creds.clone()), &strict);
            assert_eq!(outcome.is_err(), refused.is_some(), "{creds}: {outcome:?}");
            assert!(outcome.is_ok_and(|()| true) || refused.is_some(), "{creds}");
        }
        let loose = Authority { bounding: 3, ..Authority::default() };
        thread_may(&thread(serde_json::json!({ "uid": [0, 0, 0, 0], "caps": [0, 3, 3, 3, 0] })), &loose).unwrap();
    }

    #[test]
    fn what_takes_privilege_is_cut_down() {
        let of = |authority: &Authority| {
            let mut thread = thread(serde_json::json!({}));
            calm(&mut thread.scheduling, authority);
            let Scheduling { policy, priority, nice, io_priority, .. } = thread.scheduling;
            (policy, priority, nice, io_priority)
        };
        assert_eq!(of(&Authority { nice: -3, ..Authority::default() }), (0, 0, -3, 0));
        assert_eq!(of(&Authority { nice: -20, realtime: (true, true), ..Authority::default() }), (1, 99, -20, 1 << 13));
    }
}
