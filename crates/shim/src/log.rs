//! The shim's own log: lines for containerd's, through the fifo `log` in the bundle.
//!
//! The crate's logger opens the fifo in a way that waits for a reader, and writes to it in a way that waits for one that
//! doesn't keep up: with one thread, that is the end of everything else.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use log::{LevelFilter, Log, Metadata, Record};
use rtc_sys::CallExt;
use rustix::fs::{Mode, OFlags};

/// Where lines go.
struct Fifo(File);

/// Logs to the fifo of a bundle, of ttrpc and of this program what is at least a warning, or with `debug` all that is no
/// trace. Without containerd at its other end nothing is logged.
pub(crate) fn init(bundle: &Path, debug: bool) {
    // Not blocking: neither for a reader, nor when a reader doesn't keep up.
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = rustix::fs::open(bundle.join("log"), flags, Mode::empty()).call("open", "log");
    let Ok(file) = file else { return };
    // There is no logger yet: this is called once.
    if log::set_boxed_logger(Box::new(Fifo(file.into()))).is_ok() {
        log::set_max_level(if debug { LevelFilter::Debug } else { LevelFilter::Warn });
    }
}

impl Log for Fifo {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let level = record.level().as_str().to_lowercase();
        let message = record.args().to_string();
        // One write per line; nobody could be told that it failed.
        let _ = (&self.0).write_all(format!("level={level} msg={message:?}\n").as_bytes());
    }

    fn flush(&self) {}
}
