//! Annotations that change what a runtime does, as crun defined them (`run.oci.*`); all others are for other readers.
//!
//! Left out: those about cgroups, which are the cgroup managers' to read, and `run.oci.handler`, which is refused:
//! rtc runs a container's program in no other way than by executing it.

use std::collections::HashMap;
use std::path::Path;

use oci_spec::runtime::Spec;

use crate::error::Result;
use crate::seccomp::Filter;

/// Another program than the configured one runs the container: a virtual machine, an interpreter of WebAssembly.
const HANDLER: &str = "run.oci.handler";
/// The caller's supplementary groups stay.
const KEEP_GROUPS: &str = "run.oci.keep_original_groups";
/// The key of `linux.mountLabel` among a mount's options.
const LABEL_KEY: &str = "run.oci.mount_context_type";
/// The values of [`LABEL_KEY`] (mount(8), "context=").
const LABEL_KEYS: [&str; 4] = ["context", "fscontext", "defcontext", "rootcontext"];
/// A socket that gets init's pidfd, as with `--pidfd-socket`.
pub(crate) const PIDFD_RECEIVER: &str = "run.oci.pidfd_receiver";
/// A file that hooks' output is appended to.
pub(crate) const HOOKS_STDOUT: &str = "run.oci.hooks.stdout";
/// The same for their standard error.
pub(crate) const HOOKS_STDERR: &str = "run.oci.hooks.stderr";
/// Another way to say `linux.seccomp.listenerPath`.
const SECCOMP_RECEIVER: &str = "run.oci.seccomp.receiver";
/// A system call in the profile that nobody knows is an error.
const SECCOMP_STRICT: &str = "run.oci.seccomp_fail_unknown_syscall";
/// A program of instructions, in base64, in place of the profile.
const SECCOMP_PROGRAM: &str = "run.oci.seccomp_bpf_data";

/// The value of an annotation; an empty one is none.
pub(crate) fn value<'a>(annotations: Option<&'a HashMap<String, String>>, name: &str) -> Option<&'a str> {
    annotations?.get(name).map(String::as_str).filter(|value| !value.is_empty())
}

/// Whether an annotation says yes.
fn is_set(spec: &Spec, name: &str) -> bool {
    value(spec.annotations().as_ref(), name).is_some_and(|value| !matches!(value, "0" | "false"))
}

/// Puts into the configuration what annotations say in another way.
pub(super) fn apply(spec: &mut Spec) {
    let receiver = value(spec.annotations().as_ref(), SECCOMP_RECEIVER).map(str::to_owned);
    let Some(receiver) = receiver else { return };
    let seccomp = spec.linux_mut().as_mut().and_then(|linux| linux.seccomp_mut().as_mut());
    if let Some(seccomp) = seccomp {
        if seccomp.listener_path().as_ref().is_none_or(|path| path.as_os_str().is_empty()) {
            seccomp.set_listener_path(Some(receiver.into()));
        }
    }
}

/// Whether the process keeps the caller's supplementary groups.
#[must_use]
pub fn keeps_groups(spec: &Spec) -> bool {
    is_set(spec, KEEP_GROUPS)
}

/// The filter that an annotation gives in place of `linux.seccomp`.
pub(crate) fn filter(spec: &Spec) -> Result<Option<Filter>> {
    value(spec.annotations().as_ref(), SECCOMP_PROGRAM).map(Filter::from_base64).transpose()
}

/// The option that gives a mount its SELinux label: `context="LABEL"`.
pub(crate) fn label_option(spec: &Spec, label: &str) -> String {
    let key = value(spec.annotations().as_ref(), LABEL_KEY).unwrap_or("context");
    format!("{key}={label}")
}

/// What annotations must not say.
pub(super) fn check(spec: &Spec, known: impl Fn(&str) -> bool) -> std::result::Result<(), String> {
    let value = |name| value(spec.annotations().as_ref(), name);
    if let Some(handler) = value(HANDLER) {
        return Err(format!(
            "annotation {HANDLER}: there is no handler {handler:?}, as rtc executes programs itself: leave the annotation \
             out, or run the container with a runtime that has the handler"
        ));
    }
    if let Some(key) = value(LABEL_KEY).filter(|key| !LABEL_KEYS.contains(key)) {
        return Err(format!("annotation {LABEL_KEY}: {key:?} is not one of {}", LABEL_KEYS.join(", ")));
    }
    for name in [PIDFD_RECEIVER, HOOKS_STDOUT, HOOKS_STDERR, SECCOMP_RECEIVER] {
        if let Some(path) = value(name).filter(|path| !Path::new(path).is_absolute()) {
            return Err(format!("annotation {name}: {path:?} is not an absolute path"));
        }
    }
    if let Some(text) = value(SECCOMP_PROGRAM) {
        Filter::from_base64(text).map_err(|e| e.to_string())?;
    }
    let seccomp = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
    if let (true, Some(seccomp)) = (is_set(spec, SECCOMP_STRICT), seccomp) {
        let names = seccomp.syscalls().iter().flatten().flat_map(|entry| entry.names());
        if let Some(name) = names.into_iter().find(|name| !known(name)) {
            return Err(format!("linux.seccomp: unknown system call {name:?}, and {SECCOMP_STRICT} is set"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(annotations: &str) -> Spec {
        let text = format!(
            r#"{{"ociVersion":"1.0.0","annotations":{annotations},"linux":{{"seccomp":{{"defaultAction":"SCMP_ACT_ALLOW",
                "syscalls":[{{"names":["write","frobnicate"],"action":"SCMP_ACT_ERRNO"}}]}}}}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_receiver_becomes_the_listener() {
        let mut spec = spec(r#"{"run.oci.seccomp.receiver":"/s","run.oci.keep_original_groups":"1"}"#);
        apply(&mut spec);
        let seccomp = spec.linux().as_ref().unwrap().seccomp().clone().unwrap();
        assert_eq!(seccomp.listener_path().as_deref(), Some(Path::new("/s")));
        assert!(keeps_groups(&spec));
    }

    #[test]
    fn what_can_not_be_is_refused() {
        let error = |text: &str| check(&spec(text), |name| name == "write").err().unwrap_or_default();
        assert_eq!(error("{}"), "");
        assert_eq!(error(r#"{"org.example.anything":"x","run.oci.new":"y"}"#), "");
        assert!(error(r#"{"run.oci.handler":"krun"}"#).contains("no handler \"krun\""));
        assert!(error(r#"{"run.oci.mount_context_type":"x"}"#).contains("is not one of context"));
        assert!(error(r#"{"run.oci.hooks.stdout":"log"}"#).contains("not an absolute path"));
        assert!(
            error(r#"{"run.oci.seccomp_fail_unknown_syscall":"1"}"#).contains("unknown system call \"frobnicate\"")
        );
    }

    #[test]
    fn the_label_has_a_key() {
        assert_eq!(label_option(&spec("{}"), "l"), "context=l");
        assert_eq!(label_option(&spec(r#"{"run.oci.mount_context_type":"rootcontext"}"#), "l"), "rootcontext=l");
    }
}
