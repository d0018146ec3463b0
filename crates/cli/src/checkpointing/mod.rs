//! What surrounds the engine in `checkpoint` and `restore`: where things are, and what an administrator's files allow.

pub(crate) mod authority;
mod criu_config;
mod directories;

pub(crate) use criu_config::CriuConfig;
pub(crate) use directories::{Directories, open_plain};
