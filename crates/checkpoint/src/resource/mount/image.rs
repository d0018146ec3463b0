//! What the image says of mounts.

use super::super::tmpfs::Tmpfs;
use crate::image::path::ImagePath;
use serde::{Deserialize, Serialize};

/// The mounts of an image, parents before what is mounted on them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mounts {
    /// In the order in which they can be made.
    pub mounts: Vec<SavedMount>,
}

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedMount {
    /// Where it is in the container.
    pub mountpoint: ImagePath,
    /// The file system's type.
    pub fs_type: String,
    /// The mount's own options: `ro`, `nosuid`.
    pub options: Vec<String>,
    /// Who makes it.
    pub origin: Origin,
    /// What is in it, for a tmpfs that is the container's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contents: Option<Tmpfs>,
}

/// Who makes a mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The runtime, from config.json.
    Given,
    /// The host: it is below something bound from there, and may come and go.
    Below,
    /// The container: a tmpfs with these options of its file system.
    Tmpfs(Vec<String>),
    /// The container: a bind of what this path leads to.
    Bind(ImagePath),
}
