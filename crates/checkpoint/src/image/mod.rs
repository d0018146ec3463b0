//! The image: a flat directory of plain files.

pub mod blob;
pub mod check;
pub mod container;
pub mod dir;
mod hex;
pub mod machine;
pub mod pages;
pub mod path;
pub mod tree;
