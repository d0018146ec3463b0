//! The OCI lifecycle: create, start, kill, delete, exec.
#![forbid(unsafe_code)]

pub mod error;

pub use error::{Error, Kind, Result};
