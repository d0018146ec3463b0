//! The kinds of kernel objects: one file per kind, with its image structure, dump and restore in that order.

pub mod external;
pub mod timer;
