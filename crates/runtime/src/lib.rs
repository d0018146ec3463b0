//! The OCI lifecycle: create, start, kill, delete, exec.
//!
//! A container is made by one `clone3` that enters all new namespaces and the cgroup at once; the child is a fork of
//! the caller, walks a table of named steps ([`init`]) and ends in a [`Payload`]: it executes the configured program,
//! or holds still so that the caller can turn it into something else (restore).
//!
//! The calling process must have one thread when it calls [`create`], [`run`] or [`Container::exec`]: the child goes on
//! as a copy of it.
//!
//! Left out: checkpoint and restore (crate `rtc-checkpoint`), the command line, exit codes of the command.
//!
//! Kernel: 5.12 and newer (`mount_setattr`); see docs/kernel-features.md for the rest.
#![forbid(unsafe_code)]

mod bundle;
mod capabilities;
pub mod cgroup;
mod console;
pub mod container;
mod dbus;
pub mod error;
pub mod exec;
pub mod features;
mod hooks;
pub mod host;
mod hot_mounts;
mod idmap;
pub mod init;
mod lsm;
mod namespaces;
mod net_devices;
mod notify_socket;
pub mod options;
pub mod overrides;
mod proc;
mod process;
mod rdt;
mod rootfs;
pub mod rootless;
pub mod seal;
pub mod seccomp;
mod signals;
pub mod spec;
pub mod state;
mod store;

pub use bundle::read_config;
pub use capabilities::known_capabilities;

pub use container::Container;
pub use error::{Error, Kind, Result};
pub use exec::{ExecOptions, Executed};
pub use host::{CgroupManager, Host};
pub use idmap::user_namespace;
pub use init::{create, run};
pub use notify_socket::{INSIDE as NOTIFY_MOUNT, Readiness};
pub use options::{CreateOptions, Held, HoldError, Payload, Saved};
pub use overrides::{ExecProcess, Overrides, User};
pub use rootfs::known_mount_options;
pub use signals::parse_signal;
pub use state::{OciState, Status, Stdio};
