//! Real programs from Debian's packages, each filled with state, saved, gone, brought back and asked,
//! twice over, and once more while they run on.
//!
//! `cargo xtask test` installs the packages. A program that isn't installed fails its test.

#![forbid(unsafe_code)]

mod java;
mod nginx;
mod node;
mod postgres;
mod python;
mod redis;
mod shell;
