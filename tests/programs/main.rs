//! Real programs from Debian's packages, each filled with state, saved, gone, brought back and asked,
//! twice over, and once more while they run on.

#![forbid(unsafe_code)]

mod redis;
mod shell;
