//! /proc/PID/limits: resource limits, readable without CAP_SYS_RESOURCE.

use super::{Malformed, Parsed};

/// The kernel's order of the lines is that of the `RLIMIT_*` numbers.
const COUNT: usize = 16;

/// Parses the file's text: soft and hard limit by `RLIMIT_*`; `u64::MAX` is unlimited.
///
/// # Errors
/// When a line isn't what it should be.
pub fn parse(text: &str) -> Parsed<Vec<(u64, u64)>> {
    let mut all = Vec::with_capacity(COUNT);
    for line in text.lines().skip(1) {
        // The name has spaces; the columns begin at fixed places: name 26, soft 21, hard 21.
        let columns = line.get(26..).ok_or(Malformed("limits"))?;
        let mut words = columns.split_ascii_whitespace();
        let mut next = || match words.next() {
            Some("unlimited") => Ok(u64::MAX),
            Some(number) => number.parse().map_err(|_| Malformed("limits")),
            None => Err(Malformed("limits")),
        };
        all.push((next()?, next()?));
    }
    if all.len() == COUNT { Ok(all) } else { Err(Malformed("limits")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_limits_parse() {
        let text = std::fs::read_to_string("/proc/self/limits").unwrap();
        let limits = parse(&text).unwrap();
        let (soft, hard) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
        assert_eq!(limits[libc::RLIMIT_NOFILE as usize], (soft, hard));
        let (soft, hard) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_STACK).unwrap();
        assert_eq!(limits[libc::RLIMIT_STACK as usize], (soft, hard));
    }

    #[test]
    fn missing_lines_are_refused() {
        assert!(parse("Limit                     Soft Limit           Hard Limit           Units     \n").is_err());
    }
}
