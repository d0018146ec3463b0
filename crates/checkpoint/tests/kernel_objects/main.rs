//! Kernel objects through the frame of `files`: held by a child, dumped, thrown away, made anew, and asked.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

mod counters;
mod fifos;
mod holder;
mod image_dir;
mod inotify;
mod ipc;
mod pipes;
mod watchers;
