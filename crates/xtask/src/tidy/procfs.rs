//! The runtime reaches procfs by its one trusted handle (crates/runtime/src/proc.rs), not by a path: what stands at
//! `/proc` may be a container's. So no string in its code begins with that path; what merely names it, or is sure to ask
//! the host's, is an exception with its reason.

use super::finding::Finding;
use super::source::{Source, Tree};
use proc_macro2::{TokenStream, TokenTree};

/// Where the rule holds, and the file with the handle.
const PLACE: &str = "crates/runtime/src/";
const HANDLE: &str = "crates/runtime/src/proc.rs";

pub(super) fn check(tree: &Tree, findings: &mut Vec<Finding>) {
    for source in tree.sources.iter().filter(|source| source.path.starts_with(PLACE) && source.path != HANDLE) {
        findings.extend(lines(source).into_iter().map(|line| Finding {
            place: source.path.clone(),
            line,
            rule: "procfs",
            text: "a path into /proc: go through the handle in proc.rs".into(),
        }));
    }
}

fn lines(source: &Source) -> Vec<usize> {
    let mut found = Vec::new();
    scan(source.tokens.clone(), &mut found);
    found.retain(|line| !source.in_test(*line));
    found
}

fn scan(tokens: TokenStream, found: &mut Vec<usize>) {
    for tree in tokens {
        match tree {
            TokenTree::Group(group) => scan(group.stream(), found),
            TokenTree::Literal(literal) => {
                let text = literal.to_string();
                let text = text.trim_start_matches(['b', 'c', 'r', '#']);
                if text.strip_prefix("\"/proc").is_some_and(|rest| rest.starts_with(['/', '"'])) {
                    found.push(literal.span().start().line);
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_found_and_texts_are_not() {
        let text = "/// /proc is procfs.\nfn a() {\n    open(\"/proc/self/exe\");\n    say(\"in /proc\", \"/procession\");\n    \
                    open(c\"/proc\");\n}\n#[cfg(test)]\nmod tests {\n    const A: &str = \"/proc/1\";\n}\n";
        let source = Source::parse("crates/runtime/src/a.rs", text.into()).unwrap();
        assert_eq!(lines(&source), [3, 5]);
    }
}
