//! One file per command: its flags, and what it asks of the runtime or the engine.

pub(crate) mod check;
pub(crate) mod checkpoint;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod events;
pub(crate) mod exec;
pub(crate) mod features;
pub(crate) mod install_shim;
pub(crate) mod kill;
pub(crate) mod list;
pub(crate) mod mounts;
pub(crate) mod pause;
pub(crate) mod ps;
pub(crate) mod restore;
pub(crate) mod resume;
pub(crate) mod run;
pub(crate) mod spec;
pub(crate) mod start;
pub(crate) mod state;
pub(crate) mod update;
