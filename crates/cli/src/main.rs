//! The `rtc` binary: arguments, log, output, exit codes.
#![forbid(unsafe_code)]
fn main() {}
