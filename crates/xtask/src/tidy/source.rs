//! The workspace as the rules see it: packages, and Rust files as text, tokens and syntax tree.

use crate::shell;
use anyhow::{Context, Result};
use proc_macro2::TokenStream;
use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::Command;
use syn::spanned::Spanned;
use syn::visit::Visit;

/// A Rust file.
pub(super) struct Source {
    /// Relative to the workspace, with slashes.
    pub(super) path: String,
    pub(super) text: String,
    pub(super) tokens: TokenStream,
    pub(super) syntax: syn::File,
    /// The lines of items that only tests are built with.
    test_lines: Vec<RangeInclusive<usize>>,
}

impl Source {
    pub(super) fn parse(path: &str, text: String) -> Result<Self> {
        let syntax = syn::parse_file(&text).with_context(|| path.to_owned())?;
        let tokens = text.parse().map_err(|e| anyhow::anyhow!("{path}: {e}"))?;
        let mut finder = TestItems(Vec::new());
        finder.visit_file(&syntax);
        let mut test_lines = finder.0;
        if is_test_file(path) || is_test(&syntax.attrs) {
            test_lines.push(1..=usize::MAX);
        }
        Ok(Self { path: path.to_owned(), text, tokens, syntax, test_lines })
    }

    /// The names of the functions that are tests.
    pub(super) fn tests(&self) -> Vec<String> {
        let mut finder = TestNames(Vec::new());
        finder.visit_file(&self.syntax);
        finder.0
    }

    /// Whether the line belongs to a test.
    pub(super) fn in_test(&self, line: usize) -> bool {
        self.test_lines.iter().any(|lines| lines.contains(&line))
    }
}

/// The whole-binary tests, benchmarks, and files that hold a module's unit tests.
fn is_test_file(path: &str) -> bool {
    path.starts_with("tests/") || path.contains("/tests/") || path.ends_with("/tests.rs")
}

/// Whether an item is built for tests only.
pub(super) fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        syn::Meta::List(list) => list.path.is_ident("cfg") && list.tokens.to_string() == "test",
        syn::Meta::Path(path) => path.is_ident("test"),
        syn::Meta::NameValue(_) => false,
    })
}

struct TestItems(Vec<RangeInclusive<usize>>);

impl<'a> Visit<'a> for TestItems {
    fn visit_item_mod(&mut self, item: &'a syn::ItemMod) {
        if is_test(&item.attrs) {
            self.0.push(lines(item));
        }
        syn::visit::visit_item_mod(self, item);
    }

    fn visit_item_fn(&mut self, item: &'a syn::ItemFn) {
        if is_test(&item.attrs) {
            self.0.push(lines(item));
        }
    }
}

struct TestNames(Vec<String>);

impl<'a> Visit<'a> for TestNames {
    fn visit_item_fn(&mut self, item: &'a syn::ItemFn) {
        if is_test(&item.attrs) {
            self.0.push(item.sig.ident.to_string());
        }
    }
}

fn lines(item: &impl Spanned) -> RangeInclusive<usize> {
    let span = item.span();
    span.start().line..=span.end().line
}

/// A package of the workspace.
pub(super) struct Package {
    pub(super) name: String,
    /// The packages it depends on, of the workspace and of others.
    pub(super) dependencies: Vec<String>,
    /// The root files of its targets, relative to the workspace.
    pub(super) roots: Vec<String>,
    /// The names of its targets.
    pub(super) targets: Vec<String>,
}

/// Everything the rules look at.
pub(super) struct Tree {
    pub(super) sources: Vec<Source>,
    pub(super) packages: Vec<Package>,
    /// All files that are or would be committed, relative to the workspace.
    pub(super) files: Vec<String>,
    top: PathBuf,
}

impl Tree {
    /// Reads the workspace whose top folder is `top`.
    pub(super) fn read(top: &Path) -> Result<Self> {
        let mut git = Command::new("git");
        git.current_dir(top).args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"]);
        let listed = shell::output(&mut git)?;
        let mut files: Vec<String> =
            listed.split('\0').filter(|file| top.join(file).is_file()).map(str::to_owned).collect();
        files.sort();
        files.dedup();
        let mut sources = Vec::new();
        for path in files.iter().filter(|file| file.ends_with(".rs")) {
            sources.push(Source::parse(path, fs::read_to_string(top.join(path)).with_context(|| path.clone())?)?);
        }
        Ok(Self { sources, packages: packages(top)?, files, top: top.to_owned() })
    }

    /// The Rust file at a path.
    pub(super) fn source(&self, path: &str) -> Option<&Source> {
        self.sources.binary_search_by(|source| source.path.as_str().cmp(path)).ok().map(|at| &self.sources[at])
    }

    /// The contents of a file, `None` where it isn't text.
    pub(super) fn text(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.top.join(path)).ok()
    }
}

fn packages(top: &Path) -> Result<Vec<Package>> {
    let text = shell::output(shell::cargo().current_dir(top).args([
        "metadata",
        "--no-deps",
        "--format-version=1",
        "--offline",
    ]))?;
    let metadata: serde_json::Value = serde_json::from_str(&text).context("cargo metadata")?;
    let list = |value: &serde_json::Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
    let string = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let relative = |path: String| match Path::new(&path).strip_prefix(top) {
        Ok(inside) => inside.to_string_lossy().into_owned(),
        Err(_) => path,
    };
    Ok(list(&metadata, "packages")
        .iter()
        .map(|package| Package {
            name: string(&package["name"]),
            dependencies: list(package, "dependencies").iter().map(|it| string(&it["name"])).collect(),
            roots: list(package, "targets").iter().map(|it| relative(string(&it["src_path"]))).collect(),
            targets: list(package, "targets").iter().map(|it| string(&it["name"])).collect(),
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_tests_are_known() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\n#[test]\nfn c() {}\n";
        let source = Source::parse("crates/x/src/a.rs", text.into()).unwrap();
        let in_test: Vec<_> = (1..=7).filter(|&line| source.in_test(line)).collect();
        assert_eq!(in_test, [2, 3, 4, 5, 6, 7]);
    }
}
