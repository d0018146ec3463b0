//! Files and folders of the repository.

use crate::tidy::source::Tree;
use std::collections::BTreeSet;

/// What there is.
pub(super) struct Paths<'a> {
    /// Files and folders, relative to the workspace.
    all: BTreeSet<&'a str>,
}

impl<'a> Paths<'a> {
    pub(super) fn of(tree: &'a Tree) -> Self {
        let mut all = BTreeSet::new();
        for file in &tree.files {
            all.insert(file.as_str());
            all.extend(file.match_indices('/').map(|(at, _)| &file[..at]));
        }
        Self { all }
    }

    /// The names in a line that are none: those that begin with a folder of the workspace, and Rust files by the end of
    /// their path.
    pub(super) fn missing(&self, line: &str) -> Vec<String> {
        let is_part = |c: char| c.is_ascii_alphanumeric() || "_-./*{}".contains(c);
        let words = line.split(|c| !is_part(c)).map(|word| word.trim_matches('.').trim_end_matches('/'));
        words.filter(|word| !self.has(word)).map(|word| format!("there is no {word}")).collect()
    }

    /// Whether a word is no path of ours, or there.
    fn has(&self, word: &str) -> bool {
        // Patterns, and names in capitals, stand for several; what begins with a slash is another machine's.
        let Some((top, _)) = word.split_once('/') else { return true };
        if word.contains(['*', '{']) || word.starts_with('/') {
            return true;
        }
        if self.all.contains(top) {
            return self.all.contains(word);
        }
        let is_ours = word.ends_with(".rs") && !word.contains(|c: char| c.is_ascii_uppercase());
        !is_ours || self.all.iter().any(|path| path.strip_suffix(word).is_some_and(|p| p.ends_with('/')))
    }
}

#[cfg(test)]
mod cases {
    use super::*;

    #[test]
    fn what_is_not_there_is_named() {
        let paths = Paths { all: ["docs", "docs/a.md", "crates", "crates/x/src/b/c.rs"].into() };
        let line = "docs/a.md, (docs/b.md); docs/. b/c.rs `c/c.rs` /usr/d.rs docs/*.md other/x";
        assert_eq!(paths.missing(line), ["there is no docs/b.md", "there is no c/c.rs"]);
    }
}
