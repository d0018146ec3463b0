//! Completions and manual pages, made from the command line's definitions.
//!
//! They are files of the repository (contrib/completions, contrib/man), and this is a test: it fails when a file is out
//! of date, and `cargo xtask contrib` has it write them anew. So rtc itself carries nothing of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{env, fs};

use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use crate::cli;

/// Each file below contrib/ with its contents.
type Files = BTreeMap<PathBuf, String>;

#[test]
fn completions_and_manual_pages_are_current() {
    let contrib = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../contrib");
    let files = files();
    if env::var_os("BLESS").is_some() {
        write(&contrib, &files);
    }
    let differs = |(name, text): (&PathBuf, &String)| {
        let now = fs::read_to_string(contrib.join(name)).unwrap_or_default();
        (now != *text).then(|| name.display().to_string())
    };
    let stale: Vec<String> = files.iter().filter_map(differs).collect();
    assert!(stale.is_empty(), "run `cargo xtask contrib`: out of date are {}", stale.join(", "));
    let left: Vec<_> = present(&contrib).into_iter().filter(|name| !files.contains_key(name)).collect();
    assert!(left.is_empty(), "of no command: {left:?}");
}

/// What lies in the two folders.
fn present(contrib: &Path) -> Vec<PathBuf> {
    let folder = |name: &'static str| {
        let entries = fs::read_dir(contrib.join(name)).expect("contrib has the folder");
        entries.map(move |entry| Path::new(name).join(entry.expect("the folder can be read").file_name()))
    };
    folder("completions").chain(folder("man")).collect()
}

fn write(contrib: &Path, files: &Files) {
    for name in ["completions", "man"] {
        let _ = fs::remove_dir_all(contrib.join(name));
        fs::create_dir_all(contrib.join(name)).expect("contrib is writable");
    }
    for (name, text) in files {
        fs::write(contrib.join(name), text).expect("contrib is writable");
    }
}

fn files() -> Files {
    let mut files = Files::new();
    for (shell, name) in [(Shell::Bash, "rtc.bash"), (Shell::Zsh, "_rtc"), (Shell::Fish, "rtc.fish")] {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut cli::complete("rtc"), "rtc", &mut text);
        files.insert(Path::new("completions").join(name), utf8(text));
    }
    let root = cli::complete("rtc");
    let mut see_also = Vec::new();
    for command in root.get_subcommands().filter(|command| !command.is_hide_set()) {
        let name = format!("rtc-{}", command.get_name());
        see_also.push(format!("{name}(8)"));
        // The name of the page, and the line to type.
        let line = format!("rtc {}", command.get_name());
        let page = command.clone().display_name(name.clone()).bin_name(line);
        files.insert(format!("man/{name}.8").into(), manual(page, "rtc(8)"));
    }
    files.insert("man/rtc.8".into(), manual(root, &see_also.join(", ")));
    files
}

/// A page; what help has under DESCRIPTION stands behind the synopsis, where a reader of manuals looks for it.
fn manual(command: clap::Command, see_also: &str) -> String {
    let description = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let has_subcommands = command.has_subcommands();
    let man = Man::new(command.after_help(None::<&str>))
        .section("8")
        .manual("rtc")
        .source(concat!("rtc ", env!("CARGO_PKG_VERSION")));
    let mut text = Vec::new();
    let mut render = || -> std::io::Result<()> {
        man.render_title(&mut text)?;
        man.render_name_section(&mut text)?;
        man.render_synopsis_section(&mut text)?;
        if !description.is_empty() {
            section("DESCRIPTION", &description).to_writer(&mut text)?;
        }
        man.render_options_section(&mut text)?;
        if has_subcommands {
            man.render_subcommands_section(&mut text)?;
        }
        section("SEE ALSO", see_also).to_writer(&mut text)
    };
    render().expect("memory takes what is written");
    utf8(text)
}

fn section(title: &str, text: &str) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", [title]);
    // Help is laid out by hand; a manual flows, but for an empty line between paragraphs.
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    for (number, paragraph) in lines.split(|line| line.is_empty()).enumerate() {
        if number > 0 {
            roff.control("PP", []);
        }
        roff.text([roman(paragraph.join(" "))]);
    }
    roff
}

fn utf8(text: Vec<u8>) -> String {
    String::from_utf8(text).expect("generated text is UTF-8")
}
