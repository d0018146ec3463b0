//! Programs of this workspace that the VM needs, built by cargo.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The integration tests of a package, and the package's programs, which they may call.
#[derive(Debug)]
pub struct Tests {
    /// Names and executables of the tests.
    pub tests: Vec<(String, PathBuf)>,
    /// Executables of the programs. The tests know them by these very paths.
    pub programs: Vec<PathBuf>,
}

/// Builds the program of a package and gives its path.
pub fn program(package: &str) -> Result<PathBuf> {
    let mut built = executables(&["build", "--package", package, "--bins"])?;
    built.pop().map(|executable| executable.path).with_context(|| format!("{package} has no program"))
}

/// Builds the integration tests of a package and what they call.
pub fn tests(package: &str) -> Result<Tests> {
    let built = executables(&["test", "--no-run", "--package", package, "--test", "*"])?;
    let (tests, programs): (Vec<_>, Vec<_>) = built.into_iter().partition(|executable| executable.is_test);
    Ok(Tests {
        tests: tests.into_iter().map(|test| (test.name, test.path)).collect(),
        programs: programs.into_iter().map(|program| program.path).collect(),
    })
}

/// One file that cargo made.
struct Executable {
    name: String,
    path: PathBuf,
    is_test: bool,
}

fn executables(args: &[&str]) -> Result<Vec<Executable>> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(args).args(["--quiet", "--message-format=json-render-diagnostics"]);
    cargo.current_dir(workspace).stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = cargo.output().context("start cargo")?;
    ensure!(output.status.success(), "cargo {}: {}", args.join(" "), output.status);
    let mut found = Vec::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let message: Value = serde_json::from_str(line).context("a message of cargo")?;
        if let (Some(name), Some(path)) = (message["target"]["name"].as_str(), message["executable"].as_str()) {
            let is_test = message["target"]["kind"][0] == "test";
            found.push(Executable { name: name.to_owned(), path: PathBuf::from(path), is_test });
        }
    }
    Ok(found)
}
