//! The structure check: rules that a machine can hold a source tree to.
//!
//! A rule yields [`Finding`](finding::Finding)s; `tidy-exceptions.txt` excuses some of them, each with a reason,
//! and an excuse that excuses nothing is itself a finding.
//! What clippy, rustfmt and rustc check is left to them.

mod documents;
mod exceptions;
mod finding;
mod layers;
mod lengths;
mod modules;
mod names;
mod procfs;
mod source;
mod tokens;

use crate::shell;
use anyhow::Result;
use exceptions::Exceptions;

/// Checks the workspace in the current folder, prints what it finds and says whether it found nothing.
pub(crate) fn run() -> Result<bool> {
    let tree = source::Tree::read(&shell::workspace())?;
    let mut findings = Vec::new();
    lengths::check(&tree, &mut findings);
    tokens::check(&tree, &mut findings);
    names::check(&tree, &mut findings);
    procfs::check(&tree, &mut findings);
    modules::check(&tree, &mut findings);
    layers::check(&tree, &mut findings);
    documents::check(&tree, &mut findings);
    let mut exceptions = Exceptions::read(&shell::workspace().join(exceptions::FILE))?;
    findings.retain(|finding| !exceptions.excuse(finding));
    findings.extend(exceptions.unused());
    findings.sort();
    for finding in &findings {
        println!("{finding}");
    }
    println!("tidy: {} Rust files, {} findings", tree.sources.len(), findings.len());
    Ok(findings.is_empty())
}
