//! The program `containerd-shim-rtc-v2`; lib.rs says what it is.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    rtc_shim::main()
}
