//! Rules about single words of the source: `unsafe` and `unwrap`.
//!
//! Looked for in the tokens, so that the bodies of macros count and comments and strings don't.

use super::finding::Finding;
use super::source::{Package, Source, Tree};
use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// The only crate with unsafe code.
const UNSAFE_CRATE: &str = "crates/sys/";

pub(super) fn check(tree: &Tree, findings: &mut Vec<Finding>) {
    for source in &tree.sources {
        words(source, findings);
    }
    for package in &tree.packages {
        forbids_unsafe(tree, package, findings);
    }
}

/// Every crate root but that of sys says so to the compiler as well.
fn forbids_unsafe(tree: &Tree, package: &Package, findings: &mut Vec<Finding>) {
    for root in package.roots.iter().filter(|root| !root.starts_with(UNSAFE_CRATE)) {
        let Some(source) = tree.source(root) else { continue };
        // Cargo.toml may say it for a whole workspace, but then a crate can allow it again: forbid cannot be undone.
        if !source.text.contains("#![forbid(unsafe_code)]") {
            findings.push(Finding {
                place: root.clone(),
                line: 1,
                rule: "unsafe",
                text: "a crate root without #![forbid(unsafe_code)]".into(),
            });
        }
    }
}

fn words(source: &Source, findings: &mut Vec<Finding>) {
    let mut found = Vec::new();
    scan(source.tokens.clone(), &mut found);
    let mut add = |line: usize, rule, text: &str| {
        findings.push(Finding { place: source.path.clone(), line, rule, text: text.into() });
    };
    for (line, word) in found {
        if word == Word::Unwrap {
            if !source.in_test(line) {
                add(line, "unwrap", "unwrap outside tests: use `?`, or expect with a reason");
            }
            continue;
        }
        if !source.path.starts_with(UNSAFE_CRATE) {
            add(line, "unsafe", "unsafe outside crates/sys: add a safe wrapper there");
        }
        if word == Word::Unsafe && !explained(&source.text, line) {
            add(line, "safety", "unsafe without a `// SAFETY:` comment above");
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Word {
    /// A block or an impl, which needs a reason at the place.
    Unsafe,
    /// A declaration, whose callers need the reason.
    UnsafeFn,
    Unwrap,
}

fn scan(tokens: TokenStream, found: &mut Vec<(usize, Word)>) {
    let trees: Vec<TokenTree> = tokens.into_iter().collect();
    for (at, tree) in trees.iter().enumerate() {
        match tree {
            TokenTree::Group(group) => scan(group.stream(), found),
            TokenTree::Ident(ident) if ident == "unsafe" => {
                let declares = trees.get(at + 1).is_some_and(|next| {
                    let next = next.to_string();
                    next == "fn" || next == "extern" || next == "trait" || next.starts_with('(')
                });
                found.push((ident.span().start().line, if declares { Word::UnsafeFn } else { Word::Unsafe }));
            }
            TokenTree::Ident(ident) if ident == "unwrap" => {
                let called = matches!(trees.get(at + 1), Some(TokenTree::Group(group))
                    if group.delimiter() == Delimiter::Parenthesis && group.stream().is_empty());
                let method = at > 0 && matches!(&trees[at - 1], TokenTree::Punct(punct) if punct.as_char() == '.');
                if called && method {
                    found.push((ident.span().start().line, Word::Unwrap));
                }
            }
            _ => {}
        }
    }
}

/// Whether the statement around the line carries a `SAFETY:` comment.
fn explained(text: &str, line: usize) -> bool {
    let lines: Vec<&str> = text.lines().take(line).map(str::trim).collect();
    let Some((last, above)) = lines.split_last() else { return false };
    if last.contains("SAFETY:") {
        return true;
    }
    for text in above.iter().rev() {
        if text.starts_with("//") {
            if text.contains("SAFETY:") {
                return true;
            }
        } else if text.is_empty() || text.ends_with(';') || text.ends_with('}') {
            return false;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<(usize, Word)> {
        let mut found = Vec::new();
        scan(text.parse().unwrap(), &mut found);
        found
    }

    #[test]
    fn words_are_found_in_macros_and_not_in_strings() {
        let text = "fn a() {\n let s = \"unsafe\"; // unsafe\n vec![unsafe { b() }, c.unwrap()];\n unwrap(); }";
        assert_eq!(found(text), [(3, Word::Unsafe), (3, Word::Unwrap)]);
        assert_eq!(found("unsafe fn a() {} #[unsafe(naked)] fn b() {}"), [(1, Word::UnsafeFn), (1, Word::UnsafeFn)]);
    }

    #[test]
    fn the_reason_stands_above_the_statement() {
        assert!(explained("// SAFETY: no pointer.\nlet a =\n    unsafe { b() };", 3));
        assert!(!explained("// SAFETY: no pointer.\nlet a = unsafe { b() };\nlet c = unsafe { d() };", 3));
        assert!(!explained("// fine\nlet a = unsafe { b() };", 2));
    }
}
