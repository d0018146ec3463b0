//! Resource limits of config.json and `update`, as cgroup2 files.

use oci_spec::runtime::LinuxResources;

use super::Cgroup;
use crate::Result;

impl Cgroup {
    /// Sets the limits of a container: memory, cpu, pids, blockIO, hugepageLimits, rdma, cpuset, then `unified`, which
    /// overrides the typed ones. Device rules are not among them: see [`Cgroup::set_devices`].
    ///
    /// Also what `update` calls: a property that is absent (or zero, where zero means unset) keeps its value.
    ///
    /// # Errors
    /// A limit whose controller is missing names controller and property; `Kind::Invalid` for values that make no
    /// sense; with `memory.checkBeforeUpdate`, `rejecting memory limit` or `rejecting memory+swap limit` before anything
    /// is written; otherwise the write that the kernel refused.
    pub fn apply(&self, resources: &LinuxResources) -> Result<()> {
        let _ = resources;
        unimplemented!()
    }
}
