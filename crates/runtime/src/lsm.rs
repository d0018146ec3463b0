//! Labels of the security modules that take one: AppArmor and SELinux. Where the kernel has neither, they are ignored.

use crate::error::{Context, Result};
use crate::proc::Proc;

/// Sets the label that the next execve takes on.
pub(crate) fn set_exec_label(proc: &Proc, apparmor: Option<&str>, selinux: Option<&str>) -> Result<()> {
    // `attr/apparmor` is there with AppArmor only (Linux 5.8).
    let has_apparmor = || proc.read("self/attr/apparmor/current").is_ok();
    if let Some(profile) = apparmor.filter(|profile| !profile.is_empty() && has_apparmor()) {
        proc.write("self/attr/apparmor/exec", format!("exec {profile}").as_bytes())
            .context(|| format!("apply apparmor profile {profile:?}"))?;
    }
    if let Some(label) = selinux.filter(|label| !label.is_empty() && has_selinux(proc)) {
        proc.write("self/attr/exec", label.as_bytes()).context(|| format!("set selinux label {label:?}"))?;
    }
    Ok(())
}

/// Sets the SELinux label of keys that this process makes; a line end takes it back.
pub(crate) fn set_key_label(proc: &Proc, label: &str) -> Result<()> {
    proc.write("self/attr/keycreate", label.as_bytes()).context(|| format!("set selinux label of keys {label:?}"))
}

/// Whether SELinux is the kernel's security module: its file system is known.
pub(crate) fn has_selinux(proc: &Proc) -> bool {
    proc.read("filesystems").is_ok_and(|list| list.lines().any(|line| line.ends_with("\tselinuxfs")))
}
