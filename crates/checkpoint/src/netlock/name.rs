//! The names of tables that outlive us: which connections they are for, and when their time is over.
//!
//! Another rtc finds its own by them, and removes what nobody came back for: the kernel lets the entries of a table
//! expire, but not the table.

use rustix::time::ClockId;

/// What a table is for: the beginning of its name. The connections' sum and the end in seconds since boot follow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Purpose(pub(super) &'static str);

impl Purpose {
    /// The name of a table for the connections with these keys that is over in `seconds`.
    pub(super) fn name(self, keys: Vec<Vec<u8>>, seconds: u64) -> String {
        format!("{}{}", self.of(keys), now() + seconds)
    }

    /// The beginning of the names of all tables for the connections with these keys.
    pub(super) fn of(self, keys: Vec<Vec<u8>>) -> String {
        format!("{}{:016x}-", self.0, sum(keys))
    }

    /// Whether a table's time is over.
    pub(super) fn is_over(self, name: &str, now: u64) -> bool {
        let end = name.strip_prefix(self.0).and_then(|rest| rest.split_once('-'));
        end.and_then(|(_, end)| end.parse::<u64>().ok()).is_some_and(|end| end < now)
    }
}

/// Seconds since boot.
pub(super) fn now() -> u64 {
    u64::try_from(rustix::time::clock_gettime(ClockId::Boottime).tv_sec).unwrap_or(0)
}

/// A number for a set of keys, the same in every build (FNV-1a).
fn sum(mut keys: Vec<Vec<u8>>) -> u64 {
    keys.sort_unstable();
    keys.concat().iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_over_is_known_by_its_name() {
        let names = ["rtc-away-00000000000000ff-99", "rtc-away-00000000000000ff-100", "rtc-kept-1-1", "rtc-away-x"];
        assert_eq!(names.map(|name| Purpose("rtc-away-").is_over(name, 100)), [true, false, false, false]);
    }

    #[test]
    fn a_name_is_that_of_its_connections() {
        let (one, other) = (vec![1, 2], vec![3]);
        let purpose = Purpose("rtc-kept-");
        assert_eq!(purpose.of(vec![one.clone(), other.clone()]), purpose.of(vec![other.clone(), one.clone()]));
        assert_ne!(purpose.of(vec![one.clone(), other]), purpose.of(vec![one.clone()]));
        assert!(purpose.name(vec![one.clone()], 5).starts_with(&purpose.of(vec![one])));
    }
}
