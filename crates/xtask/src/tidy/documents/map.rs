//! The code map: ARCHITECTURE.md names each crate's modules, and no others.

use crate::tidy::source::Tree;
use std::collections::BTreeSet;

/// The document, and what a row begins with that names a crate.
pub(super) const DOCUMENT: &str = "ARCHITECTURE.md";
const CRATE: &str = "| **";

/// The modules that the map lacks, and those that it alone has, each with the line of their crate.
pub(super) fn check(tree: &Tree, text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut lines = (1..).zip(text.lines()).peekable();
    while let Some((number, line)) = lines.next() {
        let Some((folder, _)) = line.strip_prefix(CRATE).and_then(|row| row.split_once("** |")) else { continue };
        let mut named = BTreeSet::new();
        // The rows of its modules: up to the next crate, or the next path.
        while let Some((_, row)) = lines.next_if(|(_, row)| row.starts_with("| ") && !row.starts_with(CRATE)) {
            let cell = row[2..].split(" |").next().unwrap_or_default();
            if tree.files.iter().any(|file| file.starts_with(&format!("{cell}/"))) {
                break;
            }
            named.extend(cell.split(", "));
        }
        let there = modules(tree, folder);
        found.extend(there.difference(&named).map(|module| (number, format!("the map lacks {folder}: {module}"))));
        found.extend(named.difference(&there).map(|module| (number, format!("{folder} has no module {module}"))));
    }
    found
}

/// What stands directly in a crate's source folder.
fn modules<'a>(tree: &'a Tree, folder: &str) -> BTreeSet<&'a str> {
    let source = format!("{folder}/src/");
    let below = tree.files.iter().filter_map(|file| file.strip_prefix(&source));
    let names = below.filter_map(|file| file.split_once('/').map(|(module, _)| module).or(file.strip_suffix(".rs")));
    names.filter(|name| !["lib", "main"].contains(name)).collect()
}
