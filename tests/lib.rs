//! Shared pieces of the whole-binary tests: bundles, containers, and talking to what runs in them.
//!
//! The binary under test is named by the environment variable `RTC`, with global flags where wanted
//! (`RTC="crun --cgroup-manager=disabled"`), or by `RUNTIME_UNDER_TEST` as one of rtc, runc, crun;
//! without them, the workspace's own build is taken.
//!
//! Failures panic: every function here is a step of a test.
//! Nothing sleeps: waiting is for a file to change (inotify) or a process to end (pidfd), with a deadline.
//! Leaves out: any knowledge of rtc's insides.

#![forbid(unsafe_code)]

pub mod bundle;
pub mod command;
pub mod container;
pub mod debian;
pub mod scratch;
pub mod session;
pub mod watch;

pub use bundle::Bundle;
pub use container::{Container, Image};
pub use session::Session;
