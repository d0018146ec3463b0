//! Sockets through the frame of `files`: made in fresh namespaces, held by a process there, dumped, thrown away,
//! made anew in other fresh namespaces, and asked.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

#[path = "../kernel_objects/image_dir.rs"]
mod image_dir;
mod tcp_inside;
mod tcp_outside;
mod unix_names;
mod unix_queues;
mod unix_streams;
mod world;
