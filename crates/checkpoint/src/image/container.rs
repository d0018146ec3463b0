//! What `container.json` holds: state that is nobody's but the container's.

use crate::resource::ipc::Ipc;
use crate::resource::mount::Mounts;
use serde::{Deserialize, Serialize};

/// Mounts and IPC objects.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ContainerState {
    /// The mounts of the first process's namespace, with the contents of tmpfs.
    pub mounts: Mounts,
    /// What the IPC namespace holds.
    pub ipc: Ipc,
}
