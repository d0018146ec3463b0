//! The checkpoint engine: a debugger that saves and builds processes.
//!
//! It knows nothing of OCI: dump takes a process tree and writes an image,
//! restore takes an image and one held process and makes that process the tree's root.
#![forbid(unsafe_code)]

pub mod diag;
pub mod dump;
pub mod error;
pub mod files;
pub mod image;
pub mod links;
pub mod netlink;
pub mod netlock;
pub mod netns;
pub mod proc;
pub mod procfs;
pub mod program;
pub mod resource;
pub mod restore;
pub mod tracee;

pub use error::{Error, Kind, Result};
