//! The text of cgroup2's statistics files. Pure; lines that a newer kernel adds are left out.

use std::collections::BTreeMap;

use super::{BlkioEntry, Psi, PsiLine};

/// A flat keyed file: `KEY NUMBER` lines.
pub(super) fn keyed(text: &str) -> BTreeMap<&str, u64> {
    let pairs = text.lines().filter_map(|line| {
        let (key, value) = line.split_once(' ')?;
        Some((key, value.trim().parse().ok()?))
    });
    pairs.collect()
}

/// A file of one number; `max` is `u64::MAX`.
pub(super) fn number(text: &str) -> u64 {
    match text.trim() {
        "max" => u64::MAX,
        digits => digits.parse().unwrap_or(0),
    }
}

/// A pressure file: `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, then the same with `full`.
pub(super) fn psi(text: &str) -> Option<Psi> {
    let mut psi = Psi::default();
    let mut found = false;
    for line in text.lines() {
        let (name, values) = line.split_once(' ')?;
        let line = match name {
            "some" => &mut psi.some,
            "full" => &mut psi.full,
            _ => continue,
        };
        *line = psi_line(values);
        found = true;
    }
    found.then_some(psi)
}

fn psi_line(values: &str) -> PsiLine {
    let mut line = PsiLine::default();
    for (key, value) in values.split_ascii_whitespace().filter_map(|pair| pair.split_once('=')) {
        match key {
            "avg10" => line.avg10 = value.parse().unwrap_or(0.0),
            "avg60" => line.avg60 = value.parse().unwrap_or(0.0),
            "avg300" => line.avg300 = value.parse().unwrap_or(0.0),
            "total" => line.total = value.parse().unwrap_or(0),
            _ => {}
        }
    }
    line
}

/// io.stat: `MAJ:MIN rbytes=N wbytes=N rios=N wios=N dbytes=N dios=N` lines: (bytes, requests).
pub(super) fn io(text: &str) -> (Vec<BlkioEntry>, Vec<BlkioEntry>) {
    let (mut bytes, mut requests) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let Some((major, minor)) = words.next().and_then(|device| device.split_once(':')) else { continue };
        let (Ok(major), Ok(minor)) = (major.parse(), minor.parse()) else { continue };
        for (key, value) in words.filter_map(|pair| pair.split_once('=')) {
            let (list, op) = match key {
                "rbytes" => (&mut bytes, "Read"),
                "wbytes" => (&mut bytes, "Write"),
                "dbytes" => (&mut bytes, "Discard"),
                "rios" => (&mut requests, "Read"),
                "wios" => (&mut requests, "Write"),
                "dios" => (&mut requests, "Discard"),
                _ => continue,
            };
            if let Ok(value) = value.parse() {
                list.push(BlkioEntry { major, minor, op, value });
            }
        }
    }
    (bytes, requests)
}

/// A list of numbers with ranges: `0-2,5`. Bounded, so that a broken file can't make it long.
pub(super) fn ranges(text: &str) -> Vec<u32> {
    const MOST: u32 = 1 << 16;
    let mut numbers = Vec::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<u32>(), last.parse::<u32>()) {
            numbers.extend(first..=last.min(MOST));
        }
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_files() {
        let text =
            "some avg10=1.50 avg60=0.25 avg300=0.00 total=1234\nfull avg10=0.50 avg60=0.00 avg300=0.00 total=99\n";
        let some = PsiLine { avg10: 1.5, avg60: 0.25, avg300: 0.0, total: 1234 };
        let full = PsiLine { avg10: 0.5, total: 99, ..PsiLine::default() };
        assert_eq!(psi(text), Some(Psi { some, full }));
        assert_eq!(psi(""), None);
    }

    #[test]
    fn io_files() {
        let text = "8:16 rbytes=4096 wbytes=8 rios=1 wios=2 dbytes=0 dios=0 cost.usage=1\n253:0 \nbroken\n";
        let (bytes, requests) = io(text);
        let entry = |op, value| BlkioEntry { major: 8, minor: 16, op, value };
        assert_eq!(bytes, [entry("Read", 4096), entry("Write", 8), entry("Discard", 0)]);
        assert_eq!(requests, [entry("Read", 1), entry("Write", 2), entry("Discard", 0)]);
    }

    #[test]
    fn numbers_and_ranges() {
        assert_eq!((number("max\n"), number("12\n"), number("")), (u64::MAX, 12, 0));
        assert_eq!(ranges("0-2,5\n"), [0, 1, 2, 5]);
        assert_eq!(ranges("\n"), [0; 0]);
        assert_eq!(keyed("anon 5\nfile 7\nodd\n"), BTreeMap::from([("anon", 5), ("file", 7)]));
    }
}
