//! Resource limits of config.json and `update`, as cgroup2 files.
//!
//! Two halves: `plan` turns `linux.resources` into a list of writes without looking at the machine; [`Cgroup::apply`](crate::cgroup::Cgroup::apply)
//! checks that every file is there, then writes. So nothing is touched when a controller is missing.

mod block;
mod cpu;
mod memory;
mod plan;
mod setting;
mod write;

pub(crate) use memory::{keep_memory_and_swap, memory_and_swap};
pub(super) use plan::plan;
pub(super) use setting::{Missing, Setting, Value};
