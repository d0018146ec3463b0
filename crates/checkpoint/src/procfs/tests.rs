//! Every parser on texts that are nearly right: the seeds of fuzz/, changed in ways that repeat at every run.
//!
//! What the fuzzer does for as long as it is let, this does for a moment at every test.

use super::*;
use std::path::Path;

/// How many changed texts each seed gives.
const ROUNDS: usize = 1000;

/// The texts of fuzz/seeds/procfs, without the byte that tells the fuzz target which parser is meant.
fn seeds() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds/procfs");
    let mut seeds: Vec<(String, String)> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            (path.file_name().unwrap().to_string_lossy().into_owned(), text[1..].to_owned())
        })
        .collect();
    seeds.sort();
    seeds
}

/// Which of the parsers take a text, in order of their names.
fn takers(text: &str) -> [bool; 13] {
    [
        descriptor::parse(text).is_ok(),
        fdinfo::epoll(text).is_ok(),
        fdinfo::eventfd(text).is_ok(),
        fdinfo::inotify(text).is_ok(),
        fdinfo::pidfd(text).is_ok(),
        fdinfo::timerfd(text).is_ok(),
        idmap::parse(text).is_ok(),
        limits::parse(text).is_ok(),
        mountinfo::parse(text).is_ok(),
        smaps::parse(text).is_ok(),
        stat::parse(text).is_ok(),
        status::parse(text).is_ok(),
        timers::parse(text).is_ok(),
    ]
}

/// A small generator (xorshift), so that a failure repeats.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }

    /// A place in a text, between two characters.
    fn place(&mut self, text: &str) -> usize {
        let at = self.below(text.len() + 1);
        (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
    }

    fn range(&mut self, text: &str) -> std::ops::Range<usize> {
        let (a, b) = (self.place(text), self.place(text));
        // Short ones most of the time: a text that has lost half is soon given up.
        let end = if self.below(4) == 0 { a.max(b) } else { (a.min(b) + self.below(12)).min(text.len()) };
        let end = (0..=end).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        a.min(b).min(end)..end
    }

    fn change(&mut self, text: &mut String) {
        const WORDS: [&str; 24] = [
            "",
            " ",
            "\n",
            "\t",
            ":",
            "-",
            ")",
            "(",
            "/",
            "\\040",
            "\\",
            "\\7",
            "0",
            "-1",
            "18446744073709551615",
            "18446744073709551616",
            "9223372036854775808",
            "ffffffffffffffffffff",
            "0x",
            "unlimited",
            "é",
            "\0",
            " - ",
            "4294967296",
        ];
        let range = self.range(text);
        match self.below(4) {
            0 => text.replace_range(range, ""),
            1 => {
                let at = self.place(text);
                let again = text[range].to_owned();
                text.insert_str(at, &again);
            }
            2 => text.insert_str(range.start, WORDS[self.below(WORDS.len())]),
            _ => text.replace_range(range, WORDS[self.below(WORDS.len())]),
        }
    }
}

#[test]
fn each_seed_is_taken_by_its_parser() {
    let index = |name: &str| match name {
        "descriptor" => 0,
        "epoll" => 1,
        "timerfd" => 5,
        "idmap" => 6,
        "limits" => 7,
        "mountinfo" => 8,
        "smaps" => 9,
        "stat" => 10,
        "status" => 11,
        "timers" => 12,
        other => panic!("a seed for {other}?"),
    };
    for (name, text) in seeds() {
        assert!(takers(&text)[index(&name)], "{name} is not taken: {text}");
    }
}

/// That nothing panics is the test; that texts are both taken and refused shows that the changes are neither too small
/// nor too large to mean anything.
#[test]
fn nearly_right_texts_are_taken_or_refused() {
    let mut random = Random(0x5eed_0f0f_1234_4321);
    for (name, seed) in seeds() {
        let (mut taken, mut refused) = ([0; 13], 0);
        for _ in 0..ROUNDS {
            let mut text = seed.clone();
            for _ in 0..1 + random.below(4) {
                random.change(&mut text);
            }
            let takers = takers(&text);
            taken.iter_mut().zip(takers).for_each(|(count, took)| *count += usize::from(took));
            refused += usize::from(takers != self::takers(&seed));
        }
        assert!(
            taken.iter().any(|count| *count > ROUNDS / 100) && refused > ROUNDS / 100,
            "{name}: {taken:?} {refused}"
        );
    }
}
