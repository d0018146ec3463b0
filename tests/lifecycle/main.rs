//! The commands of the lifecycle, as engines and people call them.
//!
//! Runs against rtc, and against runc and crun (`RUNTIME_UNDER_TEST`), whose known differences are named in the tests.
//! Left out: what can be checkpointed and restored, which has tests of its own (`programs`, `zoo`).

#![forbid(unsafe_code)]

mod annotations;
mod bad_images;
mod cgroups;
mod checkpoint;
mod execs;
mod failures;
mod harness;
mod hot_mounts;
mod killed;
mod life;
mod net_devices;
mod no_mount_namespace;
mod output;
mod processes;
mod pty;
mod refused;
mod rootless;
mod services;
mod terminal;
