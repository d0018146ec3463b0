//! Attacks on rtc, none of which may succeed: one for each fault that other runtimes have had (docs/security.md has the
//! table), and rtc killed wherever it can be.

#![forbid(unsafe_code)]

mod authority;
mod calls;
mod descriptors;
#[path = "../lifecycle/harness.rs"]
#[allow(dead_code, reason = "shared with the tests of commands")]
mod harness;
mod host;
mod hostile_images;
mod images;
mod races;
mod steps;
mod trace;
