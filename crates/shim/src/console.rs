//! The way a terminal's master comes from rtc: a socket that it connects to.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rtc_sys::CallExt;
use rtc_sys::message::{self, Control};

use crate::fault::{Fault, Result};
use crate::sockets;

/// A socket in the file system that goes away with this.
#[derive(Debug)]
pub(crate) struct ConsoleSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl ConsoleSocket {
    pub(crate) fn new() -> Result<Self> {
        // A bundle's path can be too long for a socket.
        let path = sockets::new_path(".pty")?;
        let listener = sockets::bind(&path)?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, path })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the master that a call which has ended well has left in the socket.
    pub(crate) fn receive(&self) -> Result<OwnedFd> {
        let (stream, _) = self.listener.accept().call("accept", self.path.display())?;
        stream.set_nonblocking(true)?;
        let received = message::receive(stream.as_fd(), &mut [0; 4096], 0)?;
        let fds = received.control.into_iter().filter_map(|control| match control {
            Control::Rights(fds) => Some(fds),
            _ => None,
        });
        fds.flatten().next().ok_or_else(|| Fault::unknown("rtc has sent no terminal"))
    }
}

impl Drop for ConsoleSocket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}
