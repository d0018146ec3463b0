//! How long files and functions may be.

use super::finding::Finding;
use super::source::{Source, Tree};
use syn::spanned::Spanned;
use syn::visit::Visit;

/// A file has fewer lines than this.
const FILE_LINES: usize = 500;
/// A function, from its `fn` to its closing brace, has fewer lines than this.
const FUNCTION_LINES: usize = 60;

pub(super) fn check(tree: &Tree, findings: &mut Vec<Finding>) {
    for source in &tree.sources {
        file(source, findings);
        let mut functions = Functions { source, findings };
        functions.visit_file(&source.syntax);
    }
}

fn file(source: &Source, findings: &mut Vec<Finding>) {
    let count = source.text.lines().count();
    if count >= FILE_LINES {
        findings.push(Finding {
            place: source.path.clone(),
            line: count,
            rule: "file-length",
            text: format!("{count} lines; a file has fewer than {FILE_LINES}"),
        });
    }
    if !source.text.starts_with("//!") && !source.in_test(1) {
        findings.push(Finding {
            place: source.path.clone(),
            line: 1,
            rule: "module-docs",
            text: "does not open with a paragraph that says what it does and leaves out".into(),
        });
    }
}

struct Functions<'a> {
    source: &'a Source,
    findings: &'a mut Vec<Finding>,
}

impl Functions<'_> {
    fn measure(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let start = signature.span().start().line;
        let count = block.brace_token.span.close().end().line + 1 - start;
        if count >= FUNCTION_LINES {
            self.findings.push(Finding {
                place: self.source.path.clone(),
                line: start,
                rule: "function-length",
                text: format!("{} has {count} lines; a function has fewer than {FUNCTION_LINES}", signature.ident),
            });
        }
    }
}

impl<'a> Visit<'a> for Functions<'_> {
    fn visit_item_fn(&mut self, item: &'a syn::ItemFn) {
        self.measure(&item.sig, &item.block);
        syn::visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'a syn::ImplItemFn) {
        self.measure(&item.sig, &item.block);
        syn::visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'a syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.measure(&item.sig, block);
        }
        syn::visit::visit_trait_item_fn(self, item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_of_sixty_lines_is_too_long() {
        let of = |lines: usize| {
            let body = "    drop(1);\n".repeat(lines - 2);
            let source = Source::parse("a.rs", format!("//! A.\nfn long() {{\n{body}}}\n")).unwrap();
            let mut findings = Vec::new();
            Functions { source: &source, findings: &mut findings }.visit_file(&source.syntax);
            findings.len()
        };
        assert_eq!((of(59), of(60)), (0, 1));
    }
}
