//! Extended regular expressions of POSIX, by the C library.

use std::ffi::CString;
use std::mem::MaybeUninit;

use crate::{Errno, Error, Result};

/// A compiled extended regular expression (regex(7)).
pub struct Regex(Box<libc::regex_t>);

impl std::fmt::Debug for Regex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Regex")
    }
}

impl Regex {
    /// Compiles an expression.
    ///
    /// # Errors
    /// `EINVAL`, whatever is wrong with it.
    pub fn new(text: &str) -> Result<Self> {
        let wrong = || Error::new("regcomp", format_args!("{text:?}"), Errno::EINVAL);
        let pattern = CString::new(text).map_err(|_| wrong())?;
        let mut compiled = Box::new(MaybeUninit::<libc::regex_t>::uninit());
        // SAFETY: both pointers are valid; on success the call has filled the whole of `compiled`.
        let failed =
            unsafe { libc::regcomp(compiled.as_mut_ptr(), pattern.as_ptr(), libc::REG_EXTENDED | libc::REG_NOSUB) };
        if failed != 0 {
            return Err(wrong());
        }
        // SAFETY: it is filled; a box of MaybeUninit and one of its content are laid out alike.
        Ok(Self(unsafe { Box::from_raw(Box::into_raw(compiled).cast()) }))
    }

    /// Whether it matches anywhere in `text`.
    pub fn matches(&self, text: &str) -> bool {
        let Ok(text) = CString::new(text) else { return false };
        // SAFETY: the expression is compiled and the text ends in a zero; no matches are asked for.
        unsafe { libc::regexec(&raw const *self.0, text.as_ptr(), 0, std::ptr::null_mut(), 0) == 0 }
    }
}

impl Drop for Regex {
    fn drop(&mut self) {
        // SAFETY: it was compiled, and is freed once.
        unsafe { libc::regfree(&raw mut *self.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_match_or_are_refused() {
        let regex = Regex::new("^web-[0-9]+$").unwrap();
        assert!(regex.matches("web-12") && !regex.matches("web-") && !regex.matches("my-web-1"));
        assert!(Regex::new("a|b").unwrap().matches("xbx"));
        assert_eq!(Regex::new("(").unwrap_err().to_string(), "regcomp(\"(\") = EINVAL");
    }
}
