//! Names of signals, as people and engines write them.

use crate::error::{Error, Kind, Result};

/// The number of a signal given as name (`TERM`, `SIGTERM`, `sigterm`) or number; of nothing, SIGTERM's, as for runc.
///
/// # Errors
/// [`Kind::Invalid`] with `unknown signal "BOGUS"`.
pub fn parse_signal(text: &str) -> Result<i32> {
    let unknown = || Error::new(Kind::Invalid, format!("unknown signal {text:?}"));
    if let Ok(number) = text.parse::<i32>() {
        return if (0..=64).contains(&number) { Ok(number) } else { Err(unknown()) };
    }
    if text.is_empty() {
        return Ok(libc::SIGTERM);
    }
    let name = text.to_ascii_uppercase();
    let plain = name.strip_prefix("SIG").unwrap_or(&name);
    let real_time = |rest: &str, base: i32, sign: i32| match rest {
        "" => Some(base),
        _ => rest.strip_prefix(if sign > 0 { '+' } else { '-' })?.parse::<i32>().ok().map(|n| base + sign * n),
    };
    let number = if let Some(rest) = plain.strip_prefix("RTMIN") {
        real_time(rest, 34, 1)
    } else if let Some(rest) = plain.strip_prefix("RTMAX") {
        real_time(rest, 64, -1)
    } else {
        format!("SIG{plain}").parse::<nix::sys::signal::Signal>().ok().map(|signal| signal as i32)
    };
    number.filter(|number| (1..=64).contains(number)).ok_or_else(unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        assert_eq!(parse_signal("SIGTERM").unwrap(), 15);
        assert_eq!(parse_signal("usr1").unwrap(), 10);
        assert_eq!(parse_signal("9").unwrap(), 9);
        assert_eq!(parse_signal("0").unwrap(), 0);
        assert_eq!(parse_signal("").unwrap(), 15);
        assert_eq!(parse_signal("RTMIN+3").unwrap(), 37);
        assert_eq!(parse_signal("SIGRTMAX-1").unwrap(), 63);
        assert_eq!(parse_signal("BOGUS").unwrap_err().to_string(), "unknown signal \"BOGUS\"");
        assert!(parse_signal("65").is_err() && parse_signal("RTMIN+99").is_err());
    }
}
