//! The system calls that rustix and nix lack, behind safe functions.
//!
//! This is the only crate of the workspace that contains unsafe code.
//! It knows nothing of containers or images: each module wraps one family of kernel interfaces,
//! turns an errno into an [`Error`] that prints as the call it was, and does nothing else.
//! ([`chain`] is here because the two crates above, which share it, share nothing else.)

#![deny(unsafe_op_in_unsafe_fn)]
#![deny(clippy::undocumented_unsafe_blocks)]

pub mod bpf;
pub mod chain;
pub mod clone;
pub mod entry;
pub mod error;
pub mod events;
pub mod exe;
pub mod fdio;
pub mod guard;
pub mod handle;
pub mod identity;
pub mod interp;
pub mod ipc;
pub mod kcmp;
pub mod message;
pub mod mount;
pub mod mqueue;
pub mod net;
pub mod netlink;
pub mod pagemap;
pub mod pidfd;
pub mod process;
pub mod procmem;
pub mod ptrace;
pub mod regex;
pub mod regs;
pub mod sched;
pub mod seccomp;
pub mod shm;
pub mod socket;
pub mod socket_maker;
#[cfg(all(target_arch = "x86_64", target_env = "gnu"))]
pub mod start;
pub mod tty;
pub mod uffd;
pub mod usage;
pub mod worker;

pub use error::{CallExt, Errno, Error, Result};
