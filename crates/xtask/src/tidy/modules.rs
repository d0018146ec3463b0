//! No module cycles within a crate.
//!
//! A module is a file. It depends on the modules whose items its paths name; a re-export is followed to where the
//! item is defined, and a parent that only re-exports from its child does not depend on it.
//! Tests are left out: they may look at everything.

use super::finding::Finding;
use super::source::{Source, Tree, is_test};
use proc_macro2::{TokenStream, TokenTree};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use syn::visit::Visit;

/// A module's path within its crate; the root's is empty.
type Name = Vec<String>;

struct Module<'a> {
    source: &'a Source,
    /// Names that this module re-exports or imports, with the paths they stand for.
    aliases: BTreeMap<String, Vec<String>>,
}

type Modules<'a> = BTreeMap<Name, Module<'a>>;

pub(super) fn check(tree: &Tree, findings: &mut Vec<Finding>) {
    let roots: BTreeSet<&String> = tree.packages.iter().flat_map(|package| &package.roots).collect();
    for root in roots {
        let Some(source) = tree.source(root) else { continue };
        let mut modules = Modules::new();
        collect(tree, source, Vec::new(), &mut modules);
        for cycle in cycles(&dependencies(&modules)) {
            let names: Vec<String> = cycle.iter().map(|name| format!("crate::{}", name.join("::"))).collect();
            findings.push(Finding {
                place: modules[&cycle[0]].source.path.clone(),
                line: 1,
                rule: "module-cycle",
                text: format!("modules depend on each other in a circle: {}", names.join(" -> ")),
            });
        }
    }
}

/// Adds the module and those that it declares.
fn collect<'a>(tree: &'a Tree, source: &'a Source, name: Name, modules: &mut Modules<'a>) {
    let (folder, file) = source.path.rsplit_once('/').unwrap_or(("", &source.path));
    let stem = file.trim_end_matches(".rs");
    // A root or a mod.rs has its children beside it, another file in a folder of its name.
    let inside = if name.is_empty() || stem == "mod" { folder.to_owned() } else { format!("{folder}/{stem}") };
    let mut uses = Uses::default();
    uses.visit_file(&source.syntax);
    modules.insert(name.clone(), Module { source, aliases: uses.0.into_iter().collect() });
    for item in &source.syntax.items {
        let syn::Item::Mod(declared) = item else { continue };
        if declared.content.is_some() || is_test(&declared.attrs) {
            continue;
        }
        let child = declared.ident.to_string();
        let candidates = [format!("{inside}/{child}.rs"), format!("{inside}/{child}/mod.rs")];
        if let Some(source) = candidates.iter().find_map(|path| tree.source(path)) {
            let name = name.iter().cloned().chain([child]).collect();
            collect(tree, source, name, modules);
        }
    }
}

/// The imports of a file outside its tests: the name each brings in, and the path behind it.
#[derive(Default)]
struct Uses(Vec<(String, Vec<String>)>);

impl<'a> Visit<'a> for Uses {
    fn visit_item_use(&mut self, item: &'a syn::ItemUse) {
        flatten(&item.tree, &mut Vec::new(), &mut self.0);
    }

    fn visit_item_mod(&mut self, item: &'a syn::ItemMod) {
        if !is_test(&item.attrs) {
            syn::visit::visit_item_mod(self, item);
        }
    }
}

/// Adds what a `use` tree imports under `prefix`.
fn flatten(tree: &syn::UseTree, prefix: &mut Vec<String>, found: &mut Vec<(String, Vec<String>)>) {
    let whole = |prefix: &[String], last: &syn::Ident| -> Vec<String> {
        // `use a::{self}` brings in `a`.
        if last == "self" { prefix.to_vec() } else { prefix.iter().cloned().chain([last.to_string()]).collect() }
    };
    match tree {
        syn::UseTree::Path(path) => {
            prefix.push(path.ident.to_string());
            flatten(&path.tree, prefix, found);
            prefix.pop();
        }
        syn::UseTree::Name(name) => {
            let path = whole(prefix, &name.ident);
            found.push((path.last().cloned().unwrap_or_default(), path));
        }
        syn::UseTree::Rename(rename) => found.push((rename.rename.to_string(), whole(prefix, &rename.ident))),
        syn::UseTree::Glob(_) => found.push(("*".into(), prefix.clone())),
        syn::UseTree::Group(group) => group.items.iter().for_each(|item| flatten(item, prefix, found)),
    }
}

/// The paths of a file outside its tests, in `use` items, code and macros.
struct Paths(Vec<Vec<String>>);

impl<'a> Visit<'a> for Paths {
    fn visit_item_mod(&mut self, item: &'a syn::ItemMod) {
        if !is_test(&item.attrs) {
            syn::visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_fn(&mut self, item: &'a syn::ItemFn) {
        if !is_test(&item.attrs) {
            syn::visit::visit_item_fn(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'a syn::ItemUse) {
        // A re-export of a child's item makes the parent a door, not a user.
        if matches!(item.vis, syn::Visibility::Inherited) {
            let mut uses = Vec::new();
            flatten(&item.tree, &mut Vec::new(), &mut uses);
            self.0.extend(uses.into_iter().map(|(_, path)| path));
        }
    }

    fn visit_path(&mut self, path: &'a syn::Path) {
        self.0.push(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        syn::visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, item: &'a syn::Macro) {
        in_tokens(item.tokens.clone(), &mut self.0);
    }

    fn visit_vis_restricted(&mut self, _: &'a syn::VisRestricted) {
        // `pub(in crate::a)` names a place, not an item.
    }
}

/// Adds the paths with two or more segments in a macro's body.
fn in_tokens(tokens: TokenStream, found: &mut Vec<Vec<String>>) {
    let mut path: Vec<String> = Vec::new();
    let mut colons = 0;
    let mut end = |path: &mut Vec<String>| {
        if path.len() > 1 {
            found.push(std::mem::take(path));
        }
        path.clear();
    };
    let mut groups = Vec::new();
    for tree in tokens {
        match tree {
            TokenTree::Ident(ident) => {
                if colons != 2 {
                    end(&mut path);
                }
                path.push(ident.to_string());
                colons = 0;
            }
            TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
            TokenTree::Group(group) => {
                end(&mut path);
                groups.push(group.stream());
            }
            _ => end(&mut path),
        }
    }
    end(&mut path);
    groups.into_iter().for_each(|group| in_tokens(group, found));
}

fn dependencies(modules: &Modules<'_>) -> BTreeMap<Name, BTreeSet<Name>> {
    let mut edges = BTreeMap::new();
    for (name, module) in modules {
        let mut paths = Paths(Vec::new());
        paths.visit_file(&module.source.syntax);
        let targets = paths.0.iter().filter_map(|path| resolve(modules, name, path, 0));
        edges.insert(name.clone(), targets.filter(|target| target != name).collect());
    }
    edges
}

/// The module that defines the item a path names, as seen from module `from`; `None` for other crates' items.
fn resolve(modules: &Modules<'_>, from: &[String], path: &[String], depth: usize) -> Option<Name> {
    let mut at = from.to_vec();
    let mut rest = path;
    match path.first().map(String::as_str) {
        Some("crate") => at.clear(),
        Some("self") => {}
        Some("super") => {
            at.pop();
        }
        Some(first) if modules.contains_key(&child(from, first)) => at = child(from, first),
        _ => return None,
    }
    rest = &rest[1..];
    while let Some(next) = rest.first() {
        if next == "super" {
            at.pop();
        } else if modules.contains_key(&child(&at, next)) {
            at = child(&at, next);
        } else {
            // Not a module: an item of `at`, or one that `at` brings in from elsewhere.
            let alias = modules.get(&at)?.aliases.get(next).filter(|_| depth < 8);
            let target = alias.and_then(|alias| resolve(modules, &at, alias, depth + 1));
            return Some(target.unwrap_or(at));
        }
        rest = &rest[1..];
    }
    Some(at)
}

fn child(of: &[String], name: &str) -> Name {
    of.iter().cloned().chain([name.to_owned()]).collect()
}

/// For each knot of modules that reach each other, one shortest circle.
fn cycles(edges: &BTreeMap<Name, BTreeSet<Name>>) -> Vec<Vec<Name>> {
    let mut known = BTreeSet::new();
    let mut cycles = Vec::new();
    for start in edges.keys() {
        if known.contains(start) {
            continue;
        }
        if let Some(cycle) = shortest(edges, start) {
            known.extend(cycle.iter().cloned());
            cycles.push(cycle);
        }
    }
    cycles
}

/// The shortest way from a module back to itself.
fn shortest(edges: &BTreeMap<Name, BTreeSet<Name>>, start: &Name) -> Option<Vec<Name>> {
    let mut queue = VecDeque::from([vec![start.clone()]]);
    let mut seen = BTreeSet::new();
    while let Some(way) = queue.pop_front() {
        for next in edges.get(way.last()?).into_iter().flatten() {
            let mut way = way.clone();
            way.push(next.clone());
            if next == start {
                return Some(way);
            }
            if seen.insert(next.clone()) {
                queue.push_back(way);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The cycles of a crate made of `(path, text)`, the root first.
    fn cycles_of(files: &[(&str, &str)]) -> Vec<String> {
        let sources: Vec<Source> =
            files.iter().map(|(path, text)| Source::parse(path, (*text).to_owned()).unwrap()).collect();
        let mut modules = Modules::new();
        for source in &sources {
            let name = source.path.trim_end_matches(".rs").split('/').filter(|part| *part != "lib");
            let name: Name = name.map(str::to_owned).collect();
            let mut uses = Uses::default();
            uses.visit_file(&source.syntax);
            modules.insert(name, Module { source, aliases: uses.0.into_iter().collect() });
        }
        let show = |cycle: Vec<Name>| cycle.iter().map(|name| name.join("::")).collect::<Vec<_>>().join(" ");
        cycles(&dependencies(&modules)).into_iter().map(show).collect()
    }

    #[test]
    fn a_facade_is_no_cycle() {
        let files = [
            ("lib.rs", "mod a; mod error; pub use error::Error;"),
            ("a.rs", "use crate::Error; fn a() -> Error { panic!() }"),
            ("error.rs", "pub struct Error;"),
        ];
        assert!(cycles_of(&files).is_empty());
    }

    #[test]
    fn siblings_that_use_each_other_are_a_cycle_wherever_the_path_stands() {
        let ways =
            ["use super::b::B;", "use crate::{b::B};", "fn f() { crate::b::g() }", "fn f() { m!(super::b::g()) }"];
        for way in ways {
            let files = [("lib.rs", "mod a; mod b;"), ("a.rs", way), ("b.rs", "use crate::a::A;")];
            assert_eq!(cycles_of(&files), ["a b a"], "{way}");
        }
    }

    #[test]
    fn a_test_may_look_at_everything() {
        let files = [
            ("lib.rs", "mod a; mod b;"),
            ("a.rs", "#[cfg(test)] mod tests { use crate::b::B; }"),
            ("b.rs", "use crate::a::A;"),
        ];
        assert!(cycles_of(&files).is_empty());
    }

    #[test]
    fn a_child_that_uses_its_user_is_a_cycle() {
        let files = [("lib.rs", "mod a;"), ("a.rs", "mod c; use c::C; struct A;"), ("a/c.rs", "use super::A;")];
        assert_eq!(cycles_of(&files), ["a a::c a"]);
    }
}
