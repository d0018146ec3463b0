//! `NOTIFY_SOCKET` (sd_notify(3)): a container's program tells the service manager of rtc's caller that it is ready.
//!
//! The container doesn't get the manager's socket but one of its own, in a directory that is bound to `/run/notify`.
//! Who starts the container listens to it, passes the one word `READY=1` on, with `MAINPID` as the host counts, and
//! returns: as runc does it, so `start` and a detached `run` last until the program is ready or has ended.
//! All else that a program may say to a service manager stays where it is.

use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;

use oci_spec::runtime::{Mount, Process, Spec};
use rtc_sys::CallExt;
use rustix::event::{PollFd, PollFlags};
use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType};

use crate::error::{Context, Error, Kind, Result};
use crate::store::Store;

/// The variable.
const VARIABLE: &str = "NOTIFY_SOCKET";
/// Where the directory of the container's own socket is mounted in it.
pub const INSIDE: &str = "/run/notify";
const NAME: &str = "notify.sock";
/// Longest message that is read: sd_notify sends one line per fact.
const MAX: usize = 4096;

/// The socket of the caller's service manager.
fn managers() -> Option<OsString> {
    std::env::var_os(VARIABLE).filter(|path| !path.is_empty())
}

/// Whether the caller has a service manager to tell.
pub(crate) fn is_wanted() -> bool {
    managers().is_some()
}

/// Puts the socket's directory and the variable into the configuration of a container that is being created.
pub(crate) fn offer(spec: &mut Rc<Spec>, process: &mut Process, store: &Store) -> Result<()> {
    let mut mount = Mount::default();
    mount.set_destination(INSIDE.into());
    mount.set_typ(Some("bind".to_owned()));
    mount.set_source(Some(store.make_notify_directory()?));
    mount.set_options(Some(["bind", "nosuid", "noexec", "nodev", "ro"].map(str::to_owned).to_vec()));
    Rc::make_mut(spec).mounts_mut().get_or_insert_with(Vec::new).push(mount);
    process.env_mut().get_or_insert_with(Vec::new).push(format!("{VARIABLE}={INSIDE}/{NAME}"));
    Ok(())
}

/// The socket of a container that is about to be started.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: OwnedFd,
    manager: OsString,
}

/// A container whose program has been started and may say that it is ready.
#[derive(Debug)]
pub struct Readiness {
    listener: Listener,
    init: OwnedFd,
    pid: i32,
}

impl Listener {
    /// Listens, where the container was created with a socket and the caller has a service manager to tell.
    pub(crate) fn open(store: &Store) -> Result<Option<Self>> {
        let (Some(manager), Some(directory)) = (managers(), store.notify_directory()) else { return Ok(None) };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = rustix::fs::open(&directory, flags, Mode::empty()).call("open", directory.display())?;
        let socket = datagram()?;
        // Of a start that went wrong before the program began.
        let _ = rustix::fs::unlinkat(&open, NAME, rustix::fs::AtFlags::empty());
        // By descriptor: a path may be longer than an address.
        let path = format!("/proc/self/fd/{}/{NAME}", open.as_raw_fd());
        let address = SocketAddrUnix::new(path.as_str()).call("bind", &path)?;
        // The program may be anybody's in the container. Not by chmod, which might meet another file under the name.
        let mask = rustix::process::umask(Mode::empty());
        let bound = rustix::net::bind(&socket, &address).call("bind", directory.join(NAME).display());
        rustix::process::umask(mask);
        bound?;
        Ok(Some(Self { socket, manager }))
    }

    /// For the container whose first process is `init`.
    pub(crate) fn of(self, init: impl AsFd, pid: i32) -> Result<Readiness> {
        let init = init.as_fd().try_clone_to_owned().call("dup", "a pidfd")?;
        Ok(Readiness { listener: self, init, pid })
    }

    /// The next message, if there is one.
    fn receive(&self) -> Result<Vec<u8>> {
        let mut buffer = vec![0; MAX];
        match rustix::net::recv(&self.socket, &mut buffer[..], RecvFlags::DONTWAIT) {
            Ok((read, _)) => buffer.truncate(read),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => buffer.clear(),
            Err(e) => return Err(e).call("recv", NAME).map_err(Into::into),
        }
        Ok(buffer)
    }

    fn tell(&self, text: &str) -> Result<()> {
        let name = self.manager.as_bytes();
        let address = match name.strip_prefix(b"@") {
            Some(name) => SocketAddrUnix::new_abstract_name(name),
            None => SocketAddrUnix::new(name),
        };
        let shown = Path::new(&self.manager).display();
        let address = address.call("sendto", &shown)?;
        rustix::net::sendto(datagram()?, text.as_bytes(), SendFlags::empty(), &address).call("sendto", shown)?;
        Ok(())
    }
}

impl Readiness {
    /// Waits until the program says that it is ready, and passes that on; or until it ends.
    ///
    /// # Errors
    /// The caller's service manager can't be told.
    pub fn pass_on(self) -> Result<()> {
        loop {
            let mut fds = [PollFd::new(&self.listener.socket, PollFlags::IN), PollFd::new(&self.init, PollFlags::IN)];
            match rustix::event::poll(&mut fds, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e).call("poll", VARIABLE).map_err(Into::into),
            }
            let ended = !fds[1].revents().is_empty();
            let message = self.listener.receive()?;
            if is_ready(&message) {
                let text = format!("READY=1\nMAINPID={}", self.pid);
                return self.listener.tell(&text).context(|| VARIABLE);
            }
            if ended && message.is_empty() {
                return Ok(());
            }
        }
    }
}

/// Whether a message says that its sender is ready.
fn is_ready(message: &[u8]) -> bool {
    message.split(|byte| *byte == b'\n').any(|line| line == b"READY=1")
}

fn datagram() -> Result<OwnedFd> {
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None);
    socket.call("socket", "UNIX, DGRAM").map_err(|e| Error::from(e).with_kind(Kind::System))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_is_a_line_of_its_own() {
        for (message, ready) in [
            ("READY=1", true),
            ("STATUS=x\nREADY=1\n", true),
            ("READY=10", false),
            ("STATUS=READY=1", false),
            ("", false),
        ] {
            assert_eq!(is_ready(message.as_bytes()), ready, "{message:?}");
        }
    }
}
