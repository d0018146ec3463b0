//! Which package of the workspace may know which: cli → runtime, checkpoint → sys, and no other way.

use super::finding::Finding;
use super::source::Tree;

/// Each package with the packages of the workspace that it may depend on.
const LAYERS: &[(&str, &[&str])] = &[
    ("rtc", &["rtc-runtime", "rtc-checkpoint", "rtc-sys"]),
    // Drives rtc as a program; it takes the reading of cgroups from the runtime.
    ("rtc-shim", &["rtc-runtime", "rtc-sys"]),
    ("rtc-runtime", &["rtc-sys"]),
    ("rtc-checkpoint", &["rtc-sys"]),
    ("rtc-sys", &[]),
    // Tests and tools drive the binary as users do; they know nothing of its insides.
    ("rtc-tests", &[]),
    ("rtc-zoo", &["rtc-tests"]),
    ("rtc-vm", &["rtc-vm-agent"]),
    // Its floor makes calls that only rtc-sys wraps.
    ("rtc-bench", &["rtc-sys", "rtc-tests"]),
    ("rtc-vm-agent", &[]),
    ("xtask", &["rtc-tests"]),
];

pub(super) fn check(tree: &Tree, findings: &mut Vec<Finding>) {
    for package in &tree.packages {
        let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == package.name) else {
            findings.push(finding(&package.name, "has no place in the layers: add it to tidy/layers.rs".into()));
            continue;
        };
        let inside = |name: &str| tree.packages.iter().any(|package| package.name == name);
        for dependency in package.dependencies.iter().filter(|name| inside(name)) {
            if !allowed.contains(&dependency.as_str()) {
                findings.push(finding(&package.name, format!("must not depend on {dependency}")));
            }
        }
    }
}

fn finding(package: &str, text: String) -> Finding {
    Finding { place: package.to_owned(), line: 0, rule: "layers", text: format!("{package} {text}") }
}
