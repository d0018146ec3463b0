//! Tests, by the short names that docs/oci-features.md explains.

use crate::tidy::source::Tree;
use std::collections::BTreeMap;

/// The letters, with the folder in which their files are.
const PLACES: [(&str, &str); 7] = [
    ("L", "tests/lifecycle/"),
    ("S", "tests/security/"),
    ("C", "crates/runtime/tests/containers/"),
    ("R", "crates/runtime/tests/"),
    ("U", "crates/runtime/src/"),
    ("A", "crates/cli/src/"),
    ("V", "integration/suites/"),
];

/// Where documents name tests of, too, without a letter.
const OTHERS: [&str; 2] = ["crates/checkpoint/src/", "crates/checkpoint/tests/"];

/// Beginnings of what is looked at elsewhere (D by its own suite), or is for people.
const PASSED_OVER: [&str; 4] = ["D \"", "tests/", "none: ", "every "];

/// What there is: the names of tests by file, without its ending.
pub(super) struct Tests<'a>(BTreeMap<&'a str, Vec<String>>);

impl<'a> Tests<'a> {
    pub(super) fn of(tree: &'a Tree) -> Self {
        let mut all = BTreeMap::new();
        for source in &tree.sources {
            let stem = source.path.trim_end_matches(".rs");
            let mut names = source.tests();
            // Where there is no libtest, they stand in a list: `("file::name", function)`.
            let texts = source.text.split('"').skip(1).step_by(2).filter_map(|text| text.split_once("::"));
            names.extend(texts.filter(|(file, _)| stem.ends_with(file)).map(|(_, name)| name.to_owned()));
            all.insert(stem, names);
        }
        for path in &tree.files {
            let Some(stem) = path.strip_suffix(".sh") else { continue };
            let text = tree.text(path).unwrap_or_default();
            let case = |line: &str| Some(line.strip_prefix("case_")?.split_once("()")?.0.to_owned());
            all.insert(stem, text.lines().filter_map(case).collect());
        }
        Self(all)
    }

    /// The tests between backticks, as `module::name`, that are nowhere.
    pub(super) fn missing(&self, line: &str) -> Vec<String> {
        let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_:".contains(c);
        let named = line.split('`').skip(1).step_by(2);
        let named = named.filter(|name| name.contains("::") && !name.ends_with(':') && name.chars().all(is_part));
        let folders = || PLACES.iter().map(|(_, folder)| folder).chain(&OTHERS);
        let absent = named.filter(|name| !folders().any(|folder| self.has(folder, name)));
        absent.map(|name| format!("there is no test {name}")).collect()
    }

    /// What a cell names that isn't there: parts between semicolons, each a letter and names between commas.
    pub(super) fn missing_of(&self, cell: &str) -> Vec<String> {
        cell.split(';').flat_map(|part| self.missing_of_part(part.trim())).collect()
    }

    fn missing_of_part(&self, part: &str) -> Vec<String> {
        if PASSED_OVER.iter().any(|start| part.starts_with(start)) {
            return Vec::new();
        }
        let named = part.split_once(' ').and_then(|(letter, names)| {
            let (_, folder) = PLACES.iter().find(|(known, _)| *known == letter)?;
            Some((folder, names.split(" (").next()?))
        });
        let Some((folder, names)) = named else { return vec![format!("`{part}` names no test")] };
        let mut module = "";
        let mut missing = Vec::new();
        for name in names.split(", ") {
            let whole = match name.rsplit_once("::") {
                // A name alone is a module, or another one of the module before.
                None if !self.has(folder, name) => format!("{module}::{name}"),
                before => {
                    module = before.map_or(name, |(before, _)| before);
                    name.to_owned()
                }
            };
            if !self.has(folder, &whole) {
                missing.push(format!("there is no test {whole} in {folder}"));
            }
        }
        missing
    }

    /// Whether a folder has a module with tests, or a module with a test, of that name.
    fn has(&self, folder: &str, name: &str) -> bool {
        let tests_of = |module: &str| {
            let stem = format!("{folder}{}", module.replace("::", "/"));
            let below = format!("{stem}/");
            let files = self.0.iter().filter(move |(file, _)| **file == stem || file.starts_with(&below));
            files.flat_map(|(_, tests)| tests)
        };
        let Some((module, test)) = name.rsplit_once("::") else { return tests_of(name).next().is_some() };
        let module = module.strip_suffix("::tests").unwrap_or(module);
        tests_of(name).next().is_some() || tests_of(module).any(|known| known == test)
    }
}

#[cfg(test)]
mod cases {
    use super::*;

    fn tests() -> Tests<'static> {
        let file = |path, names: &[&str]| (path, names.iter().map(|&name| name.to_owned()).collect());
        Tests(BTreeMap::from([
            file("tests/lifecycle/life", &["one", "two"]),
            file("tests/lifecycle/output", &["three"]),
            file("crates/runtime/src/a/b/tests", &["four"]),
            file("crates/runtime/src/c", &[]),
            file("integration/suites/x-y", &["five"]),
        ]))
    }

    #[test]
    fn what_is_there_is_found() {
        for cell in ["L life", "L life::one, two", "L life::one, output, three", "U a::b", "U a::b::tests::four"] {
            assert_eq!(tests().missing_of(cell), [""; 0], "{cell}");
        }
        assert_eq!(tests().missing_of("D \"x\", \"y\"; V x-y::five (slow); none: nowhere"), [""; 0]);
    }

    #[test]
    fn what_is_not_is_named() {
        let missing = |cell| tests().missing_of(cell);
        assert_eq!(
            missing("L life::one, three; X y"),
            ["there is no test life::three in tests/lifecycle/", "`X y` names no test"]
        );
        assert_eq!(missing("U c"), ["there is no test ::c in crates/runtime/src/"]);
        assert_eq!(tests().missing("`life::one` and `life::six`"), ["there is no test life::six"]);
    }
}
