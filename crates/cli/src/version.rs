//! The version, in the three lines that engines parse.
//!
//! docker splits the first line at the word `version` and reads `commit:`; podman shows the text as it is; containerd's
//! go-runc takes versions from a line that starts `runc version ` and leaves them empty, without an error, for any
//! other name. So the program gives its true name, and `runc` only when it was installed and called by that name.

/// Version of the runtime specification that `spec` writes and `--version` tells.
pub(crate) const SPECIFICATION: &str = "1.3.0";

/// The output of `--version`.
pub(crate) fn text(program: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let commit = option_env!("RTC_COMMIT").unwrap_or(concat!("v", env!("CARGO_PKG_VERSION")));
    format!("{program} version {version}\ncommit: {commit}\nspec: {SPECIFICATION}\n")
}
