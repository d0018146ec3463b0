//! Paths in the image: any bytes, as text that people can read.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A path, or any other name made of bytes (an abstract unix address).
///
/// In the image it is a string; a backslash is doubled, and bytes that are not UTF-8 or are NUL stand as `\xNN`.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImagePath(Vec<u8>);

impl ImagePath {
    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
    /// As a path. It may hold NUL bytes when it comes from an image; calls refuse those with EINVAL.
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }
}

impl<T: AsRef<OsStr> + ?Sized> From<&T> for ImagePath {
    fn from(path: &T) -> Self {
        Self(path.as_ref().as_bytes().to_vec())
    }
}

impl From<Vec<u8>> for ImagePath {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for ImagePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                match c {
                    '\\' => f.write_str("\\\\")?,
                    '\0' => f.write_str("\\x00")?,
                    c => write!(f, "{c}")?,
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for ImagePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for ImagePath {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ImagePath {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        unescape(text.as_bytes())
            .map(Self)
            .ok_or_else(|| serde::de::Error::custom(format!("bad escape in path \"{text}\"")))
    }
}

/// Undoes what `Display` did; `None` when a backslash is followed by anything else.
fn unescape(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, tail)) = rest.split_first() {
        if first != b'\\' {
            bytes.push(first);
            rest = tail;
        } else if let [b'\\', tail @ ..] = tail {
            bytes.push(b'\\');
            rest = tail;
        } else if let [b'x', high, low, tail @ ..] = tail {
            let digit = |d: &u8| char::from(*d).to_digit(16);
            bytes.push((digit(high)? * 16 + digit(low)?) as u8);
            rest = tail;
        } else {
            return None;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_survive_as_readable_text() {
        for (bytes, text) in [
            (&b"/var/log/\xc3\xa9t\xc3\xa9.log"[..], r#""/var/log/été.log""#),
            (b"/a\\b", r#""/a\\\\b""#),
            (b"\0abstract\xff", r#""\\x00abstract\\xff""#),
        ] {
            let path = ImagePath::from(bytes.to_vec());
            assert_eq!(serde_json::to_string(&path).unwrap(), text);
            assert_eq!(serde_json::from_str::<ImagePath>(text).unwrap(), path);
        }
    }

    #[test]
    fn a_bad_escape_is_refused() {
        for text in [r#""\\""#, r#""\\q""#, r#""\\x4""#, r#""\\xg0""#] {
            assert!(serde_json::from_str::<ImagePath>(text).is_err(), "{text}");
        }
    }
}
