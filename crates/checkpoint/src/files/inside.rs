//! A thread of ours inside the container's namespaces.
//!
//! The process stays outside: it keeps its pid namespace, its users, its memory and its descriptors, and the container
//! can't see it. Paths of /proc that the thread uses are the container's; ours are reached by descriptors opened before.

use crate::error::{Context as _, Result};
use crate::procfs::idmap;
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
/// The files it makes belong to the container's root.
///
/// # Errors
/// When the namespaces can't be joined (CAP_SYS_ADMIN in their owners), or the error of `act`.
pub fn inside<T: Send>(init: i32, act: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let open = |(name, flag): &(&str, CloneFlags)| {
        let path = format!("/proc/{init}/ns/{name}");
        Ok((std::fs::File::open(&path).call("open", &path)?.into(), *flag))
    };
    let namespaces: Vec<(OwnedFd, CloneFlags)> = NAMESPACES.iter().map(open).collect::<Result<_>>()?;
    let owner = foreign_root(init).context(|| format!("users of pid {init}"))?;
    own_thread(|| {
        join(&namespaces).context(|| format!("namespaces of pid {init}"))?;
        if let Some((uid, gid)) = owner {
            make_files_as(uid, gid)?;
        }
        act()
    })
}

/// Whom the container's root is for us, if the container has users of its own.
/// A file system that belongs to it takes no files of ours: our root is no user there (`EOVERFLOW`).
fn foreign_root(init: i32) -> Result<Option<(u32, u32)>> {
    let link = |pid: &str| {
        let path = format!("/proc/{pid}/ns/user");
        std::fs::read_link(&path).call("readlink", &path)
    };
    if link("self")? == link(&init.to_string())? {
        return Ok(None);
    }
    let root = |name: &str| {
        let path = format!("/proc/{init}/{name}");
        let text = std::fs::read_to_string(&path).call("read", &path)?;
        Ok::<_, Error>(idmap::parse(&text)?.root())
    };
    Ok(root("uid_map")?.zip(root("gid_map")?))
}

/// Lets the calling thread make files as another user, with all its capabilities kept.
fn make_files_as(uid: u32, gid: u32) -> Result<()> {
    use rustix::thread::{CapabilitiesSecureBits, set_capabilities_secure_bits};
    // Otherwise the kernel takes the capabilities over files away with the user.
    set_capabilities_secure_bits(CapabilitiesSecureBits::NO_SETUID_FIXUP).call("prctl", "PR_SET_SECUREBITS")?;
    let (uid, gid) = (nix::unistd::Uid::from_raw(uid), nix::unistd::Gid::from_raw(gid));
    nix::unistd::setfsgid(gid);
    nix::unistd::setfsuid(uid);
    // setfsuid tells of no error; asked again, it says what is.
    if nix::unistd::setfsuid(uid) == uid {
        return Ok(());
    }
    Err(rtc_sys::Error::new("setfsuid", uid, rtc_sys::Errno::EPERM).into())
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
    fn files_made_in_a_container_with_its_own_users_are_its_roots() {
        use std::os::unix::fs::MetadataExt as _;
        let shell = crate::files::testing::Shell::in_namespaces_with("--user", "");
        for map in ["uid_map", "gid_map"] {
            std::fs::write(format!("/proc/{}/{map}", shell.pid()), "0 100000 1000").unwrap();
        }
        // The mount is the container's own only if its root makes it.
        let pid = shell.pid().to_string();
        let enter = ["-t", &pid, "-U", "-m", "-S", "0", "-G", "0", "mount", "-t", "tmpfs", "none", "/mnt"];
        assert!(std::process::Command::new("nsenter").args(enter).status().unwrap().success());
        let made = inside(shell.pid(), || Ok(std::fs::File::create("/mnt/f")?.metadata()?)).unwrap();
        assert_eq!((made.uid(), made.gid()), (100_000, 100_000));
        assert_eq!(
            std::fs::File::create(std::env::temp_dir().join("files-inside-own")).unwrap().metadata().unwrap().uid(),
            0
        );
        std::fs::remove_file(std::env::temp_dir().join("files-inside-own")).unwrap();
    }

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
