//! The shim's own log: lines for containerd's, through the fifo `log` in the bundle.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use rtc_sys::CallExt;
use rustix::fs::{Mode, OFlags};

/// Where lines go.
#[derive(Debug)]
pub(crate) struct Log(Option<File>);

impl Log {
    /// Opens the fifo of a bundle. Without containerd at its other end nothing is logged.
    pub(crate) fn open(bundle: &Path) -> Self {
        // Not blocking: neither for a reader, nor when a reader doesn't keep up.
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = rustix::fs::open(bundle.join("log"), flags, Mode::empty()).call("open", "log");
        Self(file.ok().map(File::from))
    }

    pub(crate) fn error(&self, message: &str) {
        if let Some(mut file) = self.0.as_ref() {
            // One write per line; nobody could be told that it failed.
            let _ = file.write_all(format!("level=error msg={message:?}\n").as_bytes());
        }
    }
}
