//! Labels of the security modules that take one: AppArmor and SELinux.
//!
//! A process that is to be confined by a module that the kernel lacks is refused; labels of files are left out there.

use oci_spec::runtime::Process;

use crate::error::{Context, Error, Kind, Result};
use crate::proc::Proc;

/// AppArmor's word for no profile.
const UNCONFINED: &str = "unconfined";

/// Checks that the kernel has what is to confine a process.
///
/// # Errors
/// [`Kind::Invalid`]: `process.apparmorProfile` or `selinuxLabel` is set, and the kernel has no such module.
pub(crate) fn check(proc: &Proc, process: &Process) -> Result<()> {
    let lacks = |what: &str, module: &str| {
        let message = format!("process.{what} is set, but the kernel runs without {module}");
        Err(Error::new(Kind::Invalid, message).with_hint("leave it out"))
    };
    let profile = process.apparmor_profile().as_deref().unwrap_or_default();
    if !profile.is_empty() && profile != UNCONFINED && !has_apparmor(proc) {
        return lacks("apparmorProfile", "AppArmor");
    }
    let label = process.selinux_label().as_deref().unwrap_or_default();
    if label.is_empty() || has_selinux(proc) { Ok(()) } else { lacks("selinuxLabel", "SELinux") }
}

/// Whether AppArmor is one of the kernel's security modules: `attr/apparmor` is there with it only (Linux 5.8).
fn has_apparmor(proc: &Proc) -> bool {
    proc.read("self/attr/apparmor/current").is_ok()
}

/// Sets the label that the next execve takes on.
pub(crate) fn set_exec_label(proc: &Proc, apparmor: Option<&str>, selinux: Option<&str>) -> Result<()> {
    if let Some(profile) = apparmor.filter(|profile| !profile.is_empty() && has_apparmor(proc)) {
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
