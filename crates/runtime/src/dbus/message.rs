//! Messages: a header of fields and a body of values (D-Bus specification, "Message Protocol").

use super::value::{Reader, Value, pad};

/// Longest message that is taken; systemd's are a few hundred bytes.
const LONGEST: usize = 1 << 20;
/// Bytes of a header before its fields: enough to know how long the message is.
pub(super) const PREFIX: usize = 16;

/// `NO_REPLY_EXPECTED`.
const NO_REPLY: u8 = 1;

/// What sort of message, with what only that sort has.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Sort {
    Call,
    /// To the call with this serial number.
    Return(u32),
    /// To the call with this serial number: the error's name.
    Error(u32, String),
    Signal,
    /// A sort of a later version of the protocol, to be left alone.
    Other,
}

/// A message, as far as it matters here.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Message {
    pub(super) sort: Sort,
    /// Who is called; of no interest in what is received.
    pub(super) destination: Option<String>,
    /// Who has sent it, as the bus says; none from a peer on a socket of its own.
    pub(crate) sender: Option<String>,
    pub(super) path: String,
    pub(super) interface: String,
    /// The method or signal.
    pub(crate) member: String,
    pub(crate) body: Vec<Value>,
}

impl Message {
    /// The bytes of a call.
    pub(super) fn encode(&self, serial: u32, wants_reply: bool) -> Vec<u8> {
        let mut body = Vec::new();
        self.body.iter().for_each(|value| value.encode(&mut body));
        let signature: String = self.body.iter().map(Value::signature).collect();
        let field = |code: u8, value: Value| Value::Struct(vec![Value::Byte(code), Value::Variant(Box::new(value))]);
        let mut fields = vec![
            field(1, Value::Path(self.path.clone())),
            field(2, Value::text(&self.interface)),
            field(3, Value::text(&self.member)),
        ];
        if let Some(destination) = &self.destination {
            fields.push(field(6, Value::text(destination)));
        }
        if !signature.is_empty() {
            fields.push(field(8, Value::Signature(signature)));
        }
        let mut out = vec![b'l', 1, if wants_reply { 0 } else { NO_REPLY }, 1];
        Value::Uint32(u32::try_from(body.len()).unwrap_or(u32::MAX)).encode(&mut out);
        Value::Uint32(serial).encode(&mut out);
        Value::Array("(yv)".to_owned(), fields).encode(&mut out);
        pad(&mut out, 8);
        out.extend(body);
        out
    }

    /// The length of a message that begins with these [`PREFIX`] bytes; `None` for one that can't be taken.
    pub(super) fn length(prefix: &[u8; PREFIX]) -> Option<usize> {
        let number = |at: usize| u32::from_le_bytes([prefix[at], prefix[at + 1], prefix[at + 2], prefix[at + 3]]);
        let (body, fields) = (usize::try_from(number(4)).ok()?, usize::try_from(number(12)).ok()?);
        let length = PREFIX.checked_add(fields)?.checked_next_multiple_of(8)?.checked_add(body)?;
        (prefix[0] == b'l' && prefix[3] == 1 && length <= LONGEST).then_some(length)
    }

    /// A message from its bytes, all of them; `None` for nonsense.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let header = Reader::new(bytes).values("yyyyuua(yv)")?;
        let [_, Value::Byte(kind), _, _, Value::Uint32(length), _, Value::Array(_, fields)] = header.as_slice() else {
            return None;
        };
        let mut texts: [Option<&str>; 9] = [None; 9];
        let mut reply_to = None;
        for field in fields {
            let Value::Struct(pair) = field else { return None };
            let [Value::Byte(code), Value::Variant(value)] = pair.as_slice() else { return None };
            match (code, &**value) {
                (5, Value::Uint32(serial)) => reply_to = Some(*serial),
                (1..=8, value) => texts[usize::from(*code)] = value.as_text(),
                _ => {}
            }
        }
        let text = |code: usize| texts[code].unwrap_or_default().to_owned();
        let start = bytes.len().checked_sub(usize::try_from(*length).ok()?)?;
        Some(Self {
            sort: match kind {
                1 => Sort::Call,
                2 => Sort::Return(reply_to?),
                3 => Sort::Error(reply_to?, text(4)),
                4 => Sort::Signal,
                _ => Sort::Other,
            },
            destination: None,
            sender: texts[7].map(str::to_owned),
            path: text(1),
            interface: text(2),
            member: text(3),
            body: Reader::new(bytes.get(start..)?).values(&text(8))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_has_the_bytes_of_the_specification() {
        let hello = Message {
            sort: Sort::Call,
            destination: Some("a.b".into()),
            sender: None,
            path: "/".into(),
            interface: "i.j".into(),
            member: "M".into(),
            body: vec![Value::Uint32(5)],
        };
        let bytes = hello.encode(1, true);
        let mut golden = b"l\x01\x00\x01\x04\0\0\0\x01\0\0\0\x47\0\0\0".to_vec();
        golden.extend(b"\x01\x01o\0\x01\0\0\0/\0\0\0\0\0\0\0");
        golden.extend(b"\x02\x01s\0\x03\0\0\0i.j\0\0\0\0\0");
        golden.extend(b"\x03\x01s\0\x01\0\0\0M\0\0\0\0\0\0\0");
        golden.extend(b"\x06\x01s\0\x03\0\0\0a.b\0\0\0\0\0");
        golden.extend(b"\x08\x01g\0\x01u\0\0\x05\0\0\0");
        assert_eq!(bytes, golden);
        assert_eq!(Message::length(bytes[..PREFIX].try_into().unwrap()), Some(bytes.len()));
        assert_eq!(Message::decode(&bytes), Some(Message { destination: None, ..hello }));
    }

    #[test]
    fn messages_without_end_are_refused() {
        let mut prefix = *b"l\x02\0\x01\0\0\0\0\x01\0\0\0\0\0\0\0";
        assert_eq!(Message::length(&prefix), Some(16));
        prefix[7] = 0xff;
        assert_eq!(Message::length(&prefix), None);
        assert_eq!(Message::length(b"B\x02\0\x01\0\0\0\0\x01\0\0\0\0\0\0\0"), None);
        assert_eq!(Message::decode(b"l\x02\0\x01\xff\0\0\0\x01\0\0\0\0\0\0\0"), None);
    }
}
