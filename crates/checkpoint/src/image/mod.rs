//! The image: a flat directory of plain files.

pub mod blob;
pub mod path;
