//! Loading a device program and attaching it to a cgroup.

use std::os::fd::AsFd;

use oci_spec::runtime::LinuxDeviceCgroup;
use rtc_sys::{Errno, bpf};

use super::{program, rule};
use crate::cgroup::Cgroup;
use crate::{Error, Kind, Result};

/// The kernel's limit for programs of the less privileged, and far above what rules need (at most 7 instructions each).
const LONGEST: usize = 4096;

/// What our programs are called; others on the same cgroup (systemd's, a monitor's) are left alone.
const NAME: &str = "rtc_devices";

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
        let program = program::compile(&rule::rules(rules)?);
        if program.len() > LONGEST {
            let message = format!("linux.resources.devices: {} rules are more than one program holds", rules.len());
            return Err(Error::new(Kind::Invalid, message));
        }
        self.attach(&program).map_err(|e| {
            let denied = matches!(e.errno(), Errno::EPERM | Errno::EACCES);
            let error = Error::from(e).context("device rules").context(self.noun());
            if denied {
                error.with_hint("device rules need CAP_BPF or CAP_SYS_ADMIN in the initial user namespace")
            } else {
                error
            }
        })
    }

    fn attach(&self, program: &[bpf::Insn]) -> rtc_sys::Result<()> {
        let new = bpf::load_cgroup_device(program, NAME)?;
        let old = bpf::cgroup_device_programs(self.dirfd(), NAME)?;
        let mut old = old.iter();
        match old.next() {
            None => bpf::attach_cgroup_device(self.dirfd(), &new, None)?,
            Some(first) => {
                match bpf::attach_cgroup_device(self.dirfd(), &new, Some(first.as_fd())) {
                    // Before 5.6: for a moment both hold, which allows no more than either.
                    Err(e) if e.errno() == Errno::EINVAL => {
                        bpf::attach_cgroup_device(self.dirfd(), &new, None)?;
                        bpf::detach_cgroup_device(self.dirfd(), first)?;
                    }
                    other => other?,
                }
            }
        }
        // More than one is left only by an update that was killed between the two steps above.
        old.try_for_each(|program| bpf::detach_cgroup_device(self.dirfd(), program))
    }
}
