//! The five capability sets of a process (capabilities(7)).
//!
//! The inheritable set is what the configuration says and never grows by `exec --cap` (CVE-2022-29162,
//! CVE-2025-27612).

use std::collections::HashSet;

use oci_spec::runtime::{Capability, LinuxCapabilities};
use rtc_sys::{CallExt, Result};
use rustix::thread::{self, CapabilitySet, CapabilitySets};

/// The sets to give a process, as bit masks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sets {
    bounding: u64,
    effective: u64,
    permitted: u64,
    inheritable: u64,
    ambient: u64,
}

/// The names in the order of their numbers (linux/capability.h).
const NAMES: &[&str] = &[
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// The names of all capabilities, for `features`.
#[must_use]
pub fn known_capabilities() -> &'static [&'static str] {
    NAMES
}

/// The bit of a capability by its name; `CAP_` may be missing.
fn bit(name: &str) -> Option<u64> {
    let name = name.to_ascii_uppercase();
    let plain = name.strip_prefix("CAP_").unwrap_or(&name);
    NAMES.iter().position(|known| known.strip_prefix("CAP_") == Some(plain)).map(|at| 1 << at)
}

fn mask(set: Option<&HashSet<Capability>>) -> u64 {
    // The type prints itself without CAP_.
    set.into_iter().flatten().filter_map(|capability| bit(&capability.to_string())).fold(0, |mask, bit| mask | bit)
}

impl Sets {
    /// From config.json; without a list all sets are empty.
    pub(crate) fn new(configured: Option<&LinuxCapabilities>) -> Self {
        let Some(configured) = configured else { return Self::default() };
        Self {
            bounding: mask(configured.bounding().as_ref()),
            effective: mask(configured.effective().as_ref()),
            permitted: mask(configured.permitted().as_ref()),
            inheritable: mask(configured.inheritable().as_ref()),
            ambient: mask(configured.ambient().as_ref()),
        }
    }

    /// Adds capabilities for `exec --cap`: to bounding, effective and permitted; to ambient only where the
    /// configuration has it inheritable. Gives the names that don't exist.
    pub(crate) fn add(&mut self, names: &[String]) -> Vec<String> {
        let mut unknown = Vec::new();
        for name in names {
            let Some(bit) = bit(name) else {
                unknown.push(name.clone());
                continue;
            };
            self.bounding |= bit;
            self.effective |= bit;
            self.permitted |= bit;
            self.ambient |= bit & self.inheritable;
        }
        unknown
    }

    /// Takes all others out of the bounding set. It needs CAP_SETPCAP, so it comes before the change of user.
    pub(crate) fn drop_bounding(&self) -> Result<()> {
        for (number, name) in (0u32..).zip(NAMES) {
            let bit = 1 << number;
            if self.bounding & bit == 0 {
                match thread::remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(bit)) {
                    // An older kernel lacks the newest ones; and who has none can drop none.
                    Ok(()) | Err(rustix::io::Errno::INVAL) => {}
                    other => other.call("prctl", format_args!("CAPBSET_DROP, {name}"))?,
                }
            }
        }
        Ok(())
    }

    /// Sets effective, permitted and inheritable, after the change of user.
    ///
    /// What can't be granted is left out: the kernel would refuse the whole call. The specification wants a warning for
    /// each, which this gives: what this process itself lacks, what is effective and not permitted, what is inheritable
    /// and not bounding.
    pub(crate) fn apply(&self) -> Result<Vec<String>> {
        let own = thread::capabilities(None).call("capget", "0")?;
        let permitted = self.permitted & own.permitted.bits();
        let inheritable = self.inheritable & own.permitted.bits() & self.bounding;
        let sets = CapabilitySets {
            effective: CapabilitySet::from_bits_retain(self.effective & permitted),
            permitted: CapabilitySet::from_bits_retain(permitted),
            inheritable: CapabilitySet::from_bits_retain(inheritable),
        };
        thread::set_capabilities(None, sets)
            .call("capset", format_args!("permitted {permitted:#x}, inheritable {inheritable:#x}"))?;
        let refused = [
            ("permitted", self.permitted & !permitted),
            ("effective", self.effective & !permitted),
            ("inheritable", self.inheritable & !inheritable),
        ];
        Ok(refused.into_iter().flat_map(|(set, mask)| warnings(set, mask)).collect())
    }

    /// Sets the ambient set. Gives a line for each that can't be raised; the rest is.
    pub(crate) fn raise_ambient(&self) -> Result<Vec<String>> {
        thread::clear_ambient_capability_set().call("prctl", "CAP_AMBIENT_CLEAR_ALL")?;
        let mut refused = Vec::new();
        for (number, name) in (0u32..).zip(NAMES) {
            let bit = 1 << number;
            if self.ambient & bit != 0 {
                let set = CapabilitySet::from_bits_retain(bit);
                if let Err(e) = thread::configure_capability_in_ambient_set(set, true) {
                    let reason = rtc_sys::Errno::from_raw(e.raw_os_error());
                    refused.push(format!("can't raise ambient capability {name}: {}", reason.desc().to_lowercase()));
                }
            }
        }
        Ok(refused)
    }
}

/// A line for each capability that a set lacks.
fn warnings(set: &str, mask: u64) -> impl Iterator<Item = String> {
    let missing = (0u32..).zip(NAMES).filter(move |(number, _)| mask & (1 << number) != 0);
    missing.map(move |(_, name)| format!("process.capabilities.{set}: {name} can't be granted"))
}

/// Raises all permitted capabilities to effective again, as a change of user away from root drops them.
pub(crate) fn raise_effective() -> Result<()> {
    let mut own = thread::capabilities(None).call("capget", "0")?;
    own.effective = own.permitted;
    thread::set_capabilities(None, own).call("capset", "effective = permitted")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_the_kernels_numbers() {
        assert_eq!(bit("CAP_CHOWN"), Some(1));
        assert_eq!(bit("sys_admin"), Some(1 << 21));
        assert_eq!(bit("CAP_CHECKPOINT_RESTORE"), Some(1 << 40));
        assert_eq!(bit("CAP_NONSENSE"), None);
    }

    #[test]
    fn every_name_of_the_specification_is_known() {
        let text = format!("[{}]", NAMES.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(","));
        let all: HashSet<Capability> = serde_json::from_str(&text).unwrap();
        assert_eq!(mask(Some(&all)), (1 << NAMES.len()) - 1);
    }

    #[test]
    fn exec_never_adds_to_the_inheritable_set() {
        let mut sets = Sets { inheritable: 1, ..Sets::default() };
        assert_eq!(sets.add(&["CAP_CHOWN".into(), "CAP_KILL".into(), "CAP_X".into()]), ["CAP_X"]);
        assert_eq!(sets, Sets { bounding: 0x21, effective: 0x21, permitted: 0x21, inheritable: 1, ambient: 1 });
    }
}
