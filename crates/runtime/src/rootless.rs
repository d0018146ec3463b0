//! Containers of users without privilege.
//!
//! Such a user may do in a user namespace of its own what root may do elsewhere.
//! So rtc itself enters the container's user namespace first, and a mount namespace with it; from there on all is as for
//! root, and there is one way of making a container, not two.
//! podman does the same before it calls rtc, which then finds itself as root of a namespace with many ids.
//!
//! Ids are mapped by the kernel's own rule where there is one, the caller's, and by newuidmap(1) and newgidmap(1) where
//! there are more: only they may, with the ranges of /etc/subuid and /etc/subgid. They are the only programs that rtc
//! runs.
//!
//! Left out: users with some capabilities but not those that count; checkpoint and restore, which need root.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::Command;

use oci_spec::runtime::{LinuxIdMapping, LinuxNamespaceType};
use rtc_sys::clone::{self, Clone3, Cloned, flags};
use rtc_sys::{CallExt, Errno};

use crate::bundle::Bundle;
use crate::error::{Error, Kind, Result};
use crate::namespaces;
use crate::proc::Proc;

/// The map of the first user namespace of a machine: every id is itself.
const WHOLE: [u64; 3] = [0, 0, 4_294_967_295];

/// Whether this process works for an ordinary user: it isn't root, or it is root of a user namespace that a user's
/// engine has made.
///
/// A machine's root in a container has user namespaces too; told apart by XDG_RUNTIME_DIR, which podman passes on for
/// users and empty for root.
pub fn detect() -> bool {
    if !rustix::process::geteuid().is_root() {
        return true;
    }
    let has_runtime_dir = std::env::var_os("XDG_RUNTIME_DIR").is_some_and(|dir| !dir.is_empty());
    has_runtime_dir && std::fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| !is_whole(&map))
}

fn is_whole(map: &str) -> bool {
    map.split_ascii_whitespace().map(|word| word.parse().ok()).eq(WHOLE.map(Some))
}

/// Whether a user namespace must be entered before anything can be done.
pub(crate) fn lacks_privilege() -> bool {
    !rustix::process::geteuid().is_root()
}

/// Enters the user namespace that a bundle asks for, new or by path, and a new mount namespace; notes it in the bundle.
///
/// # Errors
/// [`Kind::Invalid`] when the configuration has no user namespace or no mappings; or the namespace can't be made or
/// mapped, with what the machine lacks.
pub(crate) fn enter(bundle: &mut Bundle) -> Result<()> {
    let user = rustix::process::getuid().as_raw();
    let linux = bundle.spec.linux().as_ref();
    let namespaces = linux.and_then(|linux| linux.namespaces().as_deref()).unwrap_or_default();
    let Some(namespace) = namespaces.iter().find(|namespace| namespace.typ() == LinuxNamespaceType::User) else {
        return Err(Error::new(Kind::Invalid, "rootless container requires user namespaces")
            .with_hint("config.json needs one with id mappings: rtc spec --rootless writes such a file"));
    };
    let path = namespace.path().as_deref().filter(|path| !path.as_os_str().is_empty());
    // Raised here, for what is born from here: the child isn't ours to look into until it has the namespace's ids.
    if let Some(score) = bundle.spec.process().as_ref().and_then(oci_spec::runtime::Process::oom_score_adj) {
        raise_oom_score(score);
    }
    if let Some(path) = path {
        let opened = namespaces::open_namespace(path)?;
        namespaces::join(opened.as_fd(), flags::NEWUSER, path)?;
        clone::unshare(flags::NEWNS)?;
    } else {
        let uid = linux.and_then(|linux| linux.uid_mappings().as_deref()).unwrap_or_default();
        let gid = linux.and_then(|linux| linux.gid_mappings().as_deref()).unwrap_or_default();
        enter_new(uid, gid)?;
    }
    bundle.entered_by = Some(user);
    Ok(())
}

/// Enters the user namespace of a container's process.
///
/// # Errors
/// setns(2)'s: `EPERM` for a container of another user, or one whose first process still waits for `start`.
pub(crate) fn enter_of(process: &impl AsFd) -> Result<()> {
    clone::setns(process.as_fd(), flags::NEWUSER).map_err(|e| {
        let denied = e.errno() == Errno::EPERM;
        let error = Error::from(e).context("join the container's user namespace");
        let hint = "the container is another user's, or its first process still waits for start";
        if denied { error.with_hint(hint) } else { error }
    })
}

fn enter_new(uid: &[LinuxIdMapping], gid: &[LinuxIdMapping]) -> Result<()> {
    if uid.is_empty() || gid.is_empty() {
        return Err(Error::new(Kind::Invalid, "rootless containers require at least one uid and one gid mapping")
            .with_hint("linux.uidMappings and linux.gidMappings of config.json: rtc spec --rootless writes them"));
    }
    let own = is_own(uid, rustix::process::geteuid().as_raw()) && is_own(gid, rustix::process::getegid().as_raw());
    let mapper = if own { None } else { Some(Mapper::start(uid, gid)?) };
    clone::unshare(flags::NEWUSER | flags::NEWNS).map_err(|e| {
        let denied = matches!(e.errno(), Errno::EPERM | Errno::ENOSPC | Errno::EUSERS);
        let error = Error::from(e).context("user namespace");
        let hint = "this machine doesn't let users make user namespaces: see user.max_user_namespaces and \
                    kernel.unprivileged_userns_clone, or kernel.apparmor_restrict_unprivileged_userns";
        if denied { error.with_hint(hint) } else { error }
    })?;
    match mapper {
        Some(mapper) => mapper.finish(),
        None => {
            // The caller's groups could be dropped otherwise, and with them what denies them access
            // (user_namespaces(7), "The /proc/PID/setgroups file").
            write_own("setgroups", "deny")?;
            write_own("uid_map", &crate::idmap::lines(uid))?;
            write_own("gid_map", &crate::idmap::lines(gid))
        }
    }
}

/// Whether a map is of one id, the caller's own: the kernel lets everyone write such a map.
fn is_own(map: &[LinuxIdMapping], id: u32) -> bool {
    matches!(map, [one] if one.host_id() == id && one.size() == 1)
}

fn write_own(file: &str, text: &str) -> Result<()> {
    Ok(Proc::open()?.write(format!("self/{file}"), text.as_bytes())?)
}

/// A process outside of the new user namespace that has it mapped: it is made before, and waits.
struct Mapper {
    socket: UnixStream,
    pidfd: std::os::fd::OwnedFd,
}

impl Mapper {
    fn start(uid: &[LinuxIdMapping], gid: &[LinuxIdMapping]) -> Result<Self> {
        let (ours, mut theirs) = UnixStream::pair().call("socketpair", "UNIX, STREAM")?;
        let target = std::process::id();
        match clone::clone3(&Clone3::default())? {
            Cloned::Parent { pidfd, .. } => Ok(Self { socket: ours, pidfd }),
            Cloned::Child => {
                drop(ours);
                // Without an answer the caller is gone.
                if theirs.read_exact(&mut [0; 1]).is_ok() {
                    let done = map_by("newuidmap", target, uid).and_then(|()| map_by("newgidmap", target, gid));
                    if let Err(text) = done {
                        let _ = theirs.write_all(text.as_bytes());
                    }
                }
                clone::exit(0)
            }
        }
    }

    fn finish(mut self) -> Result<()> {
        self.socket.write_all(b"g").call("write", "the process that maps ids")?;
        let mut text = String::new();
        self.socket.read_to_string(&mut text).call("read", "the process that maps ids")?;
        crate::process::wait_status(&self.pidfd)?;
        if text.is_empty() {
            return Ok(());
        }
        Err(Error::new(Kind::System, text).with_hint(
            "package uidmap has newuidmap and newgidmap; /etc/subuid and /etc/subgid say which ids a user may map",
        ))
    }
}

/// Runs newuidmap or newgidmap; what went wrong, as one line.
fn map_by(program: &str, target: u32, map: &[LinuxIdMapping]) -> std::result::Result<(), String> {
    let numbers = map.iter().flat_map(|entry| [entry.container_id(), entry.host_id(), entry.size()]);
    let output = Command::new(program).arg(target.to_string()).args(numbers.map(|n| n.to_string())).output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let said = said.trim().replace('\n', "; ");
            Err(if said.is_empty() { format!("{program}: {}", output.status) } else { said })
        }
        Err(e) => Err(format!("{program}: {e}")),
    }
}

/// Sets this process's score by which it is chosen when memory runs out, where that raises it: everyone may.
fn raise_oom_score(score: i32) {
    let written = Proc::open().and_then(|proc| Ok(proc.write("self/oom_score_adj", score.to_string().as_bytes())?));
    if let Err(e) = written {
        log::debug!("process.oomScoreAdj stays as it is: {e}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_own_map_is_known() {
        assert!(is_whole("         0          0 4294967295\n"));
        assert!(!is_whole("         0       1000          1\n         1     100000      65536\n"));
        assert!(!is_whole(""));
    }

    #[test]
    fn only_the_callers_own_id_needs_no_program() {
        let map = |text: &str| -> Vec<LinuxIdMapping> { serde_json::from_str(text).unwrap() };
        let one = map(r#"[{"containerID":0,"hostID":1000,"size":1}]"#);
        assert!(is_own(&one, 1000) && !is_own(&one, 1001));
        assert!(!is_own(&map(r#"[{"containerID":0,"hostID":1000,"size":2}]"#), 1000));
        assert!(!is_own(&[], 1000));
    }
}
