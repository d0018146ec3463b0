//! Real containers of busybox, made through the crate's own interface. Needs root.
//!
//! The crate wants a process of one thread, so this is no libtest: every test is a fork of this program, in a pid and a
//! mount namespace of its own with a fresh `/proc` and a tmpfs for its files. Whatever a test leaves, or loses when it
//! is killed, ends with its namespaces.
//!
//! `cargo test -p rtc-runtime --test containers [NAME...]` runs those whose name contains one of the words.

#![forbid(unsafe_code)]
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stderr)]

mod agent;
mod bundle;
mod console;
mod exec;
mod harness;
mod hold;
mod hooks;
mod lifecycle;
mod mounts;
mod namespaces;
mod process;
mod security;

fn main() {
    // As a program in a container: see security.rs.
    if std::env::args().nth(1).as_deref() == Some(security::STAY) {
        loop {
            rustix::event::pause();
        }
    }
    rtc_runtime::seal::ensure().unwrap();
    let tests = [
        lifecycle::TESTS,
        process::TESTS,
        exec::TESTS,
        mounts::TESTS,
        security::TESTS,
        agent::TESTS,
        namespaces::TESTS,
        hooks::TESTS,
        console::TESTS,
        hold::TESTS,
    ];
    std::process::exit(harness::run(&tests.concat()));
}
