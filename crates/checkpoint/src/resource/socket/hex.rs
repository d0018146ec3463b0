//! Bytes as hexadecimal text.

/// `[0x1f, 0xa0]` as `1fa0`.
pub(super) fn encode(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// The bytes that `text` stands for; none when it is not hexadecimal.
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u32> = text.chars().map(|c| c.to_digit(16)).collect::<Option<_>>()?;
    let pairs = digits.chunks_exact(2);
    pairs.remainder().is_empty().then(|| pairs.map(|pair| (pair[0] << 4 | pair[1]) as u8).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_there_and_back() {
        assert_eq!(encode(&[0x1f, 0xa0, 0]), "1fa000");
        assert_eq!(decode("1fa000"), Some(vec![0x1f, 0xa0, 0]));
        assert_eq!((decode("1fa"), decode("x0"), decode("")), (None, None, Some(vec![])));
    }
}
