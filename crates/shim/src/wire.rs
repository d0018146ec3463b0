//! Protocol buffers, as far as containerd's messages need them: varints, strings, bytes, doubles, messages in messages.
//!
//! A [`Message`] is built field by field; a [`Record`] is one taken apart. Field numbers are those of containerd's .proto
//! files. As in proto3, a field that has its default value is not written, and an unknown one is passed over.
//!
//! Left out: packed repeated numbers, signed varints, groups.

use std::fmt;

/// A message being written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Message(Vec<u8>);

const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const LENGTH: u64 = 2;
const FIXED32: u64 = 5;

impl Message {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn text(self, field: u32, value: &str) -> Self {
        self.bytes(field, value.as_bytes())
    }

    pub(crate) fn bytes(self, field: u32, value: &[u8]) -> Self {
        if value.is_empty() { self } else { self.length(field, value) }
    }

    pub(crate) fn number(mut self, field: u32, value: u64) -> Self {
        if value != 0 {
            self.varint(u64::from(field) << 3 | VARINT);
            self.varint(value);
        }
        self
    }

    pub(crate) fn flag(self, field: u32, value: bool) -> Self {
        self.number(field, u64::from(value))
    }

    pub(crate) fn double(mut self, field: u32, value: f64) -> Self {
        if value != 0.0 {
            self.varint(u64::from(field) << 3 | FIXED64);
            self.0.extend(value.to_le_bytes());
        }
        self
    }

    /// A message in the message: written even when it is empty, as presence is a meaning of its own.
    pub(crate) fn message(self, field: u32, value: Self) -> Self {
        self.length(field, &value.0)
    }

    /// One entry of a repeated string.
    pub(crate) fn item(self, field: u32, value: &str) -> Self {
        self.length(field, value.as_bytes())
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn length(mut self, field: u32, value: &[u8]) -> Self {
        self.varint(u64::from(field) << 3 | LENGTH);
        self.varint(value.len() as u64);
        self.0.extend(value);
        self
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

/// Bytes that are no message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("malformed protocol buffer")
    }
}

impl std::error::Error for Malformed {}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// A message taken apart; it borrows the bytes.
#[derive(Debug, Default)]
pub(crate) struct Record<'a>(Vec<(u64, Value<'a>)>);

impl<'a> Record<'a> {
    /// # Errors
    /// The bytes are no message.
    pub(crate) fn parse(mut bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let tag = take_varint(&mut bytes)?;
            let value = match tag & 7 {
                VARINT => Value::Number(take_varint(&mut bytes)?),
                FIXED64 => Value::Bytes(take(&mut bytes, 8)?),
                LENGTH => {
                    let length = take_varint(&mut bytes)?;
                    Value::Bytes(take(&mut bytes, length)?)
                }
                FIXED32 => Value::Bytes(take(&mut bytes, 4)?),
                _ => return Err(Malformed),
            };
            fields.push((tag >> 3, value));
        }
        Ok(Self(fields))
    }

    pub(crate) fn number(&self, field: u32) -> u64 {
        match self.last(field) {
            Some(Value::Number(number)) => number,
            _ => 0,
        }
    }

    pub(crate) fn flag(&self, field: u32) -> bool {
        self.number(field) != 0
    }

    pub(crate) fn bytes(&self, field: u32) -> &'a [u8] {
        match self.last(field) {
            Some(Value::Bytes(bytes)) => bytes,
            _ => &[],
        }
    }

    /// # Errors
    /// The field is no UTF-8.
    pub(crate) fn text(&self, field: u32) -> Result<String, Malformed> {
        text(self.bytes(field))
    }

    /// Every occurrence of a repeated string or message.
    pub(crate) fn each(&self, field: u32) -> impl Iterator<Item = &'a [u8]> {
        self.0.iter().filter_map(move |(number, value)| match value {
            Value::Bytes(bytes) if *number == u64::from(field) => Some(*bytes),
            _ => None,
        })
    }

    /// # Errors
    /// An occurrence is no UTF-8.
    pub(crate) fn texts(&self, field: u32) -> Result<Vec<String>, Malformed> {
        self.each(field).map(text).collect()
    }

    /// Of several occurrences the last one counts.
    fn last(&self, field: u32) -> Option<Value<'a>> {
        self.0.iter().rev().find(|(number, _)| *number == u64::from(field)).map(|(_, value)| *value)
    }
}

fn text(bytes: &[u8]) -> Result<String, Malformed> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| Malformed)
}

fn take<'a>(bytes: &mut &'a [u8], length: u64) -> Result<&'a [u8], Malformed> {
    let length = usize::try_from(length).map_err(|_| Malformed)?;
    let (front, rest) = bytes.split_at_checked(length).ok_or(Malformed)?;
    *bytes = rest;
    Ok(front)
}

fn take_varint(bytes: &mut &[u8]) -> Result<u64, Malformed> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(bytes, 1)?[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_bytes() {
        // The examples of the encoding's own documentation.
        assert_eq!(Message::new().number(1, 150).into_bytes(), [0x08, 0x96, 0x01]);
        assert_eq!(Message::new().text(2, "testing").into_bytes(), b"\x12\x07testing");
        let inner = Message::new().number(1, 150);
        assert_eq!(Message::new().message(3, inner).into_bytes(), [0x1a, 0x03, 0x08, 0x96, 0x01]);
        assert_eq!(Message::new().number(1, 0).text(2, "").flag(3, false).double(4, 0.0), Message::new());
    }

    #[test]
    fn what_is_written_is_read() {
        let message = Message::new().text(1, "web").number(20, u64::MAX).flag(3, true).item(4, "").item(4, "b");
        let bytes = message.double(5, 1.5).into_bytes();
        let record = Record::parse(&bytes).unwrap();
        assert_eq!(record.text(1).unwrap(), "web");
        assert_eq!(record.number(20), u64::MAX);
        assert!(record.flag(3));
        assert_eq!(record.texts(4).unwrap(), ["", "b"]);
        assert_eq!(record.bytes(5), 1.5f64.to_le_bytes());
        assert_eq!((record.number(9), record.bytes(9)), (0, &[][..]));
    }

    #[test]
    fn the_last_of_several_counts() {
        let bytes = Message::new().number(1, 1).number(1, 2).into_bytes();
        assert_eq!(Record::parse(&bytes).unwrap().number(1), 2);
    }

    #[test]
    fn nonsense_is_refused() {
        let refused: [&[u8]; 6] = [
            b"\x08",
            b"\x12\x05ab",
            b"\x0b",
            b"\xff",
            &[0x08, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255],
            b"\x09a",
        ];
        for bytes in refused {
            assert_eq!(Record::parse(bytes).err(), Some(Malformed), "{bytes:?}");
        }
        assert_eq!(Record::parse(b"\x0a\x01\xff").unwrap().text(1), Err(Malformed));
    }
}
