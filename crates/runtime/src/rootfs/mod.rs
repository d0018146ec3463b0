//! The container's root file system: mounts, devices, and the change of root.
//!
//! Nothing here resolves a path in the container's root twice or by string: see [`path`].

pub(crate) mod copyup;
pub(crate) mod device;
pub(crate) mod inherited;
pub(crate) mod mask;
pub(crate) mod mount;
pub(crate) mod options;
pub(crate) mod path;
pub(crate) mod pivot;
pub(crate) mod procfs;
pub(crate) mod tree;

pub use options::known_mount_options;
