//! A filter given as a program of instructions, in base64, in place of a profile: crun's `run.oci.seccomp_bpf_data`.
//!
//! The kernel checks the program (net/core/filter.c, kernel/seccomp.c); nothing of it is looked at here.

use rtc_sys::seccomp::Insn;

use super::filter::Filter;
use super::profile::LONGEST;
use crate::{Error, Kind, Result};

/// `sizeof(struct sock_filter)`.
const INSTRUCTION: usize = 8;

impl Filter {
    /// From the text of the annotation.
    ///
    /// # Errors
    /// It isn't base64, no whole number of instructions, or too many.
    pub(crate) fn from_base64(text: &str) -> Result<Self> {
        let wrong = |why: &str| Error::new(Kind::Invalid, format!("run.oci.seccomp_bpf_data: {why}"));
        let bytes = decode(text).ok_or_else(|| wrong("not base64"))?;
        if bytes.is_empty() || bytes.len() % INSTRUCTION != 0 || bytes.len() / INSTRUCTION > LONGEST {
            return Err(wrong(&format!("{} bytes are no program of 1 to {LONGEST} instructions", bytes.len())));
        }
        let instruction = |at: &[u8]| Insn {
            code: u16::from_ne_bytes([at[0], at[1]]),
            jt: at[2],
            jf: at[3],
            k: u32::from_ne_bytes([at[4], at[5], at[6], at[7]]),
        };
        Ok(Self::of(bytes.chunks_exact(INSTRUCTION).map(instruction).collect()))
    }
}

/// Decodes base64 (RFC 4648), with or without padding; white space doesn't count.
fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0_u32, 0);
    for byte in text.trim_end().trim_end_matches('=').bytes().filter(|byte| !byte.is_ascii_whitespace()) {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(six);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_read_whole_or_refused() {
        assert_eq!(decode("TWFu").unwrap(), b"Man");
        assert_eq!(decode("TWE=\n").unwrap(), b"Ma");
        assert_eq!(decode("a*b"), None);
        // ret ALLOW
        let filter = Filter::from_base64("BgAAAAAA/38=").unwrap();
        assert_eq!(filter.program(), [Insn { code: 6, jt: 0, jf: 0, k: 0x7fff_0000 }]);
        for bad in ["", "AAAA", "***"] {
            assert!(Filter::from_base64(bad).is_err(), "{bad:?}");
        }
    }
}
