//! A virtual machine for tests that need what a developer's machine may lack: cgroup v2 with every controller, podman,
//! containerd, a kernel of Debian's.
//!
//! QEMU emulates it (TCG), so it needs no virtualisation and is slow: about ten times for a program that forks.
//! One VM therefore runs many tests.
//! The VM has no network; files go in on a read-only disk made at start, and commands, their output and small files
//! through a virtio serial port.
//!
//! One image makes several kinds of VM (guests): another init, another kernel. A suite says which it runs on.
//!
//! Left out: snapshots of a booted VM (booting takes about three seconds of processor time) and more than one
//! processor (kernels have crashed under multi-threaded emulation).
#![forbid(unsafe_code)]

pub mod build;
pub mod driver;
pub mod guest;
pub mod host;
pub mod image;
pub mod libtest;
pub mod machine;
mod orphan;
pub mod report;
pub mod schedule;
pub mod share;
pub mod suite;
