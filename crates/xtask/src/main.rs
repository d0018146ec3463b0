//! Developer commands: `cargo xtask demo`, `cargo xtask test`.
#![forbid(unsafe_code)]
fn main() {}
