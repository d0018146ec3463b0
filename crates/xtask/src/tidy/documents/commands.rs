//! Commands that a reader may type: cargo's with packages and tests of ours, and rtc's with their options.

use crate::tidy::source::Tree;
use crate::usage::USAGE;
use std::collections::{BTreeMap, BTreeSet};

/// Where the manual page of each of rtc's commands is; a unit test keeps them as the command line is.
const MANUAL: &str = "contrib/man/rtc-";

/// What there is.
pub(super) struct Commands {
    /// Those of `cargo xtask`.
    tasks: BTreeSet<&'static str>,
    packages: BTreeSet<String>,
    /// Targets of packages.
    targets: BTreeSet<String>,
    /// The commands of rtc with the text of their manual pages.
    manual: BTreeMap<String, String>,
}

impl Commands {
    pub(super) fn of(tree: &Tree) -> Self {
        let page = |path: &String| {
            let name = path.strip_prefix(MANUAL)?.strip_suffix(".8")?;
            Some((name.to_owned(), tree.text(path)?.replace('\\', "")))
        };
        Self {
            tasks: USAGE.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next()).collect(),
            packages: tree.packages.iter().map(|package| package.name.clone()).collect(),
            targets: tree.packages.iter().flat_map(|package| package.targets.clone()).collect(),
            manual: tree.files.iter().filter_map(page).collect(),
        }
    }

    /// What a line of code names that isn't there.
    pub(super) fn unknown(&self, code: &str) -> Vec<String> {
        let words: Vec<&str> = code.split_whitespace().collect();
        let mut unknown = Vec::new();
        let mut need = |is_there: bool, what: &str, name: &str| {
            if !is_there {
                unknown.push(format!("there is no {what} {name}"));
            }
        };
        // What is called, and what it is called with, up to a comment or another command.
        for (at, &program) in words.iter().enumerate() {
            let begins = at == 0 || matches!(words[at - 1], "#" | "&&" | "|" | "help");
            let arguments = words[at + 1..].iter().take_while(|word| !matches!(**word, "#" | "&&" | "|"));
            let arguments: Vec<&str> = arguments.copied().collect();
            match (program, &arguments[..]) {
                ("cargo", ["xtask", task, ..]) if begins => need(self.tasks.contains(task), "cargo xtask", task),
                ("cargo", _) if begins => {
                    for pair in arguments.windows(2).take_while(|pair| pair[0] != "--") {
                        match pair[0] {
                            "-p" | "--package" => need(self.packages.contains(pair[1]), "package", pair[1]),
                            "--test" | "--bin" => need(self.targets.contains(pair[1]), "target", pair[1]),
                            _ => {}
                        }
                    }
                }
                ("rtc", [name, rest @ ..]) if begins && name.starts_with(|c: char| c.is_ascii_lowercase()) => {
                    let page = self.manual.get(*name);
                    need(page.is_some(), "command rtc", name);
                    let options = rest.iter().filter(|word| word.starts_with("--") && word.len() > 2);
                    for option in options.map(|word| word.split('=').next().unwrap_or(word)) {
                        need(page.is_none_or(|page| page.contains(option)), "option", &format!("{name} {option}"));
                    }
                }
                _ => {}
            }
        }
        unknown
    }
}

#[cfg(test)]
mod cases {
    use super::*;

    #[test]
    fn what_nobody_could_type_is_named() {
        let commands = Commands {
            tasks: ["demo"].into(),
            packages: ["rtc".to_owned()].into(),
            targets: ["life".to_owned()].into(),
            manual: [("run".to_owned(), "--bundle DIR".to_owned())].into(),
        };
        let unknown = |code| commands.unknown(code);
        for code in
            ["cargo xtask demo redis", "cargo test -p rtc --test life -- -p x", "# rtc run --bundle b c", "rtc -v"]
        {
            assert_eq!(unknown(code), [""; 0], "{code}");
        }
        assert_eq!(unknown("cargo xtask dmo"), ["there is no cargo xtask dmo"]);
        assert_eq!(unknown("cargo test -p rct --test x"), ["there is no package rct", "there is no target x"]);
        assert_eq!(unknown("rtc go"), ["there is no command rtc go"]);
        assert_eq!(
            unknown("rtc run --bundel=b c # rtc go"),
            ["there is no option run --bundel", "there is no command rtc go"]
        );
    }
}
