//! Programs of this workspace that the VM needs, built by cargo.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Builds the program of a package and gives its path.
pub fn program(package: &str) -> Result<PathBuf> {
    let built = executables(&["build", "--package", package, "--bins"])?;
    built.into_iter().next().map(|(_, path)| path).with_context(|| format!("{package} has no program"))
}

/// Builds the integration tests of a package: their names and executables.
pub fn tests(package: &str) -> Result<Vec<(String, PathBuf)>> {
    executables(&["test", "--no-run", "--package", package, "--test", "*"])
}

fn executables(args: &[&str]) -> Result<Vec<(String, PathBuf)>> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(args).args(["--quiet", "--message-format=json-render-diagnostics"]);
    cargo.current_dir(workspace).stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = cargo.output().context("start cargo")?;
    ensure!(output.status.success(), "cargo {}: {}", args.join(" "), output.status);
    let mut found = Vec::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let message: Value = serde_json::from_str(line).context("a message of cargo")?;
        let name = message["target"]["name"].as_str();
        let kind = message["target"]["kind"][0].as_str();
        // Test builds also name the programs of the package, which tests of a package may call: only the tests count.
        let wanted = args[0] == "build" || kind == Some("test");
        if let (Some(name), Some(path), true) = (name, message["executable"].as_str(), wanted) {
            found.push((name.to_owned(), PathBuf::from(path)));
        }
    }
    Ok(found)
}
