//! Entering a program without the preparations of Rust's standard library.
//!
//! Before `main`, the library looks for the end of the stack, for which libc reads and parses `/proc/self/maps`, and sets
//! up a second stack on which to tell of an overflow of the first. That is a tenth of what a short command takes, for a
//! message that the kernel's SIGSEGV replaces. What else the library sees to is done here.

use std::io::Write;

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{Mode, OFlags};

/// Makes a function without arguments, which returns an exit status, the program's `main`.
///
/// For a binary with `#![no_main]`, once.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        /// Called by libc.
        // SAFETY: a program has one `main`, and with #![no_main] this is it.
        #[unsafe(no_mangle)]
        pub extern "C" fn main() -> ::std::ffi::c_int {
            $crate::entry::start($main)
        }
    };
}

/// Runs `main` as the standard library would: descriptors 0 to 2 are open, SIGPIPE is ignored, and output is flushed.
pub fn start(main: fn() -> u8) -> i32 {
    if open_standard().is_err() || ignore_sigpipe().is_err() {
        return 1;
    }
    let status = main();
    // Whoever read it may have gone, which is no failure.
    let _ = std::io::stdout().flush();
    status.into()
}

/// Opens those of the descriptors 0 to 2 that are closed, or what is opened next would be taken for them.
fn open_standard() -> rustix::io::Result<()> {
    let [input, output, error] = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
    let mut all = [input, output, error].map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::empty()));
    rustix::event::poll(&mut all, Some(&rustix::time::Timespec::default()))?;
    for _ in all.iter().filter(|fd| fd.revents().contains(PollFlags::NVAL)) {
        // The lowest free number, which is the next that was found closed.
        std::mem::forget(rustix::fs::open("/dev/null", OFlags::RDWR, Mode::empty())?);
    }
    Ok(())
}

fn ignore_sigpipe() -> nix::Result<()> {
    use nix::sys::signal::{SigHandler, Signal, signal};
    // SAFETY: no handler is set that could run.
    unsafe { signal(Signal::SIGPIPE, SigHandler::SigIgn) }.map(drop)
}
