//! A thread of ours inside the container's namespaces.
//!
//! The process stays outside: it keeps its pid namespace, its users, its memory and its descriptors, and the container
//! can't see it. Paths of /proc that the thread uses are the container's; ours are reached by descriptors opened before.

use crate::error::{Context as _, Result};
use crate::{Error, Kind};
use nix::sched::{CloneFlags, setns, unshare};
use rtc_sys::CallExt as _;
use std::os::fd::{AsFd, OwnedFd};

/// The namespaces that files are opened in, with their names in /proc/PID/ns.
/// The mount namespace is last: after it, /proc is another one.
const NAMESPACES: [(&str, CloneFlags); 4] = [
    ("net", CloneFlags::CLONE_NEWNET),
    ("ipc", CloneFlags::CLONE_NEWIPC),
    ("uts", CloneFlags::CLONE_NEWUTS),
    ("mnt", CloneFlags::CLONE_NEWNS),
];

/// Runs `act` in a thread that has joined the mount, network, IPC and UTS namespaces of the process `init`,
/// with the mount namespace's root as its root and working directory, and umask 0.
///
/// # Errors
/// When the namespaces can't be joined (CAP_SYS_ADMIN in their owners), or the error of `act`.
pub fn inside<T: Send>(init: i32, act: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let open = |(name, flag): &(&str, CloneFlags)| {
        let path = format!("/proc/{init}/ns/{name}");
        Ok((std::fs::File::open(&path).call("open", &path)?.into(), *flag))
    };
    let namespaces: Vec<(OwnedFd, CloneFlags)> = NAMESPACES.iter().map(open).collect::<Result<_>>()?;
    own_thread(|| {
        join(&namespaces).context(|| format!("namespaces of pid {init}"))?;
        act()
    })
}

fn join(namespaces: &[(OwnedFd, CloneFlags)]) -> Result<()> {
    // Joining a mount namespace changes root and working directory, which threads share at first.
    unshare(CloneFlags::CLONE_FS).call("unshare", "CLONE_FS")?;
    for (namespace, flag) in namespaces {
        setns(namespace.as_fd(), *flag).call("setns", format_args!("{flag:?}"))?;
    }
    nix::unistd::chdir("/").call("chdir", "/")?;
    nix::sys::stat::umask(nix::sys::stat::Mode::empty());
    Ok(())
}

/// Runs `act` in a thread of its own, whose end takes with it whatever the thread unshared.
///
/// # Errors
/// When no thread can be made, or the error of `act`.
pub fn own_thread<T: Send>(act: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("inside".into()).spawn_scoped(scope, act);
        let thread = thread.context(|| "make a thread")?;
        thread.join().unwrap_or_else(|_| Err(Error::new(Kind::System, "a thread of rtc panicked")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thread_sees_the_containers_names_and_the_process_keeps_its_own() {
        let script = "hostname files-inside; mount -t tmpfs none /mnt && echo in > /mnt/mark";
        let shell = crate::files::testing::Shell::in_namespaces(script);
        let seen = inside(shell.pid(), || {
            let name = nix::sys::utsname::uname().unwrap().nodename().to_owned();
            Ok((name, std::fs::read_to_string("/mnt/mark").unwrap()))
        });
        assert_eq!(seen.unwrap(), ("files-inside".into(), "in\n".to_owned()));
        assert!(!std::path::Path::new("/mnt/mark").exists());
        assert_ne!(nix::sys::utsname::uname().unwrap().nodename(), "files-inside");
    }
}
