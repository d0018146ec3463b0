//! Device rules as a program of the kernel's (`BPF_PROG_TYPE_CGROUP_DEVICE`, 4.15).

use oci_spec::runtime::LinuxDeviceCgroup;

use super::Cgroup;
use crate::Result;

impl Cgroup {
    /// Allows and forbids devices to the processes in this cgroup, as `linux.resources.devices` of config.json says.
    ///
    /// Rules count in order, the last that matches wins, for each kind of access (read, write, mknod) by itself.
    /// What no rule matches is forbidden; the devices that every container has (null, zero, full, random, urandom, tty,
    /// ptmx, pseudo terminals, and making nodes of any) are allowed by rules added behind the given ones, as runc does.
    /// Rules that are set already are replaced in one step, without a moment of too much or too little.
    ///
    /// # Errors
    /// `Kind::Invalid` for a rule that makes no sense; the kernel refuses the program (needs CAP_BPF or CAP_SYS_ADMIN).
    pub fn set_devices(&self, rules: &[LinuxDeviceCgroup]) -> Result<()> {
        let _ = rules;
        unimplemented!()
    }
}
