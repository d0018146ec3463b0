//! Device rules as a program of the kernel's (`BPF_PROG_TYPE_CGROUP_DEVICE`, 4.15).
//!
//! `rule` reads the rules of config.json, `program` turns them into instructions (both pure), `attach` loads them.

mod attach;
mod program;
pub(super) mod rule;
