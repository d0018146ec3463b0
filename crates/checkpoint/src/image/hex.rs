//! Bytes as a hexadecimal string, for serde's `with`.

use serde::{Deserialize, Deserializer, Serializer, de::Error};

pub(crate) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|b| [DIGITS[usize::from(b >> 4)], DIGITS[usize::from(b & 15)]]);
    serializer.serialize_str(&digits.map(char::from).collect::<String>())
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let digit = |b: u8| (b as char).to_digit(16).ok_or_else(|| D::Error::custom("not a hexadecimal digit"));
    if text.len() % 2 != 0 {
        return Err(D::Error::custom("half a byte in a hexadecimal string"));
    }
    text.as_bytes().chunks_exact(2).map(|pair| Ok((digit(pair[0])? << 4 | digit(pair[1])?) as u8)).collect()
}
