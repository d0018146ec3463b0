//! What documents name is there: tests, files, commands and options; and the code map names every module.
//!
//! Left out: whether what is said of them is true.

mod commands;
mod map;
mod paths;
mod tests;

use super::finding::Finding;
use super::source::Tree;

pub(super) fn check(tree: &Tree, findings: &mut Vec<Finding>) {
    let (paths, commands, tests) = (paths::Paths::of(tree), commands::Commands::of(tree), tests::Tests::of(tree));
    for path in tree.files.iter().filter(|path| path.ends_with(".md")) {
        let Some(text) = tree.text(path) else { continue };
        let mut add = |line: usize, rule, missing: Vec<String>| {
            findings.extend(missing.into_iter().map(|text| Finding { place: path.clone(), line, rule, text }));
        };
        for (number, line) in (1..).zip(text.lines()) {
            add(number, "path", paths.missing(line));
            add(number, "test", tests.missing(line));
        }
        for (number, code) in code(&text) {
            add(number, "command", commands.unknown(code));
        }
        if path == map::DOCUMENT {
            for (number, text) in map::check(tree, &text) {
                add(number, "map", vec![text]);
            }
        }
        for (number, cell) in shown_by(&text) {
            add(number, "test", tests.missing_of(cell));
        }
    }
    for source in &tree.sources {
        let comments = (1..).zip(source.text.lines()).filter_map(|(n, line)| Some((n, line.split_once("//")?.1)));
        for (line, comment) in comments {
            let missing = paths.missing(comment).into_iter();
            findings.extend(missing.map(|text| Finding { place: source.path.clone(), line, rule: "path", text }));
        }
    }
}

/// What stands between backticks, and the lines of blocks of code, each with the number of its line.
fn code(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut fenced = false;
    for (number, line) in (1..).zip(text.lines()) {
        if line.starts_with("```") {
            fenced = !fenced;
        } else if fenced || line.starts_with("    ") {
            found.push((number, line));
        } else {
            found.extend(line.split('`').skip(1).step_by(2).map(|span| (number, span)));
        }
    }
    found
}

/// The last cells of tables whose last column is "shown by".
fn shown_by(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut within = false;
    for (number, line) in (1..).zip(text.lines()) {
        let last = line.strip_suffix('|').and_then(|row| row.rsplit('|').next()).map(str::trim);
        match last {
            None => within = false,
            Some("shown by") => within = true,
            Some(cell) if within && !cell.starts_with("---") => found.push((number, cell)),
            Some(_) => {}
        }
    }
    found
}

#[cfg(test)]
mod cases {
    use super::*;

    #[test]
    fn code_is_found_in_spans_and_blocks() {
        let text = "See `a b`, and `c`.\n```\nd\n```\n\n    e\nf\n";
        assert_eq!(code(text), [(1, "a b"), (1, "c"), (3, "d"), (6, "    e")]);
    }

    #[test]
    fn only_tables_that_say_so_show_something() {
        let text = "| a | shown by |\n|---|---|\n| x | L y |\n\n| a | b |\n|---|---|\n| x | L z |\n";
        assert_eq!(shown_by(text), [(3, "L y")]);
    }
}
