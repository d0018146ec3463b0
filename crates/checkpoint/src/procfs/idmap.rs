//! /proc/PID/uid_map and gid_map (user_namespaces(7)).

use super::{Malformed, Parsed};

/// How the ids of a user namespace and those of the reader's translate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdMap {
    /// First id inside, first id outside, length.
    ranges: Vec<(u32, u32, u32)>,
}

/// Parses the file's text.
///
/// # Errors
/// When a line isn't three numbers.
pub fn parse(text: &str) -> Parsed<IdMap> {
    let range = |line: &str| {
        let mut numbers = line.split_ascii_whitespace().map(str::parse::<u32>);
        let mut next = || numbers.next().and_then(Result::ok);
        Some((next()?, next()?, next()?))
    };
    let ranges = text.lines().map(|line| range(line).ok_or(Malformed("uid_map"))).collect::<Parsed<_>>()?;
    Ok(IdMap { ranges })
}

impl IdMap {
    /// The id inside for one outside.
    pub fn inside(&self, outside: u32) -> Option<u32> {
        let of = |(inner, outer, len): &(u32, u32, u32)| {
            outside.checked_sub(*outer).filter(|n| n < len).and_then(|n| inner.checked_add(n))
        };
        self.ranges.iter().find_map(of)
    }

    /// What 0 is outside; what the lowest id is if 0 is none.
    pub fn root(&self) -> Option<u32> {
        self.ranges.iter().min().map(|(_, outer, _)| *outer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_translate_by_range() {
        let map = parse("         0     100000       1000\n      5000       7          1\n").unwrap();
        let inside = [100_000, 100_999, 101_000, 7, 8, 0].map(|id| map.inside(id));
        assert_eq!(inside, [Some(0), Some(999), None, Some(5000), None, None]);
        assert_eq!(map.root(), Some(100_000));
        let all = parse("0 0 4294967295\n").unwrap();
        assert_eq!((all.inside(0), all.inside(4_294_967_294)), (Some(0), Some(4_294_967_294)));
    }

    #[test]
    fn an_empty_map_has_no_ids_and_garbage_is_refused() {
        assert_eq!((parse("").unwrap().inside(0), parse("").unwrap().root()), (None, None));
        assert!(parse("0 x 1\n").is_err() && parse("0 1\n").is_err());
    }
}
