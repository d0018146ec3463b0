//! Values, their types, and their form on the wire (D-Bus specification, "Type System" and "Marshaling").

/// A value of one of the types that systemd's properties and methods use.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Byte(u8),
    Bool(bool),
    Int16(i16),
    Uint16(u16),
    Int32(i32),
    Uint32(u32),
    Int64(i64),
    Uint64(u64),
    Double(f64),
    Text(String),
    Path(String),
    Signature(String),
    /// The elements' signature, which an empty array has too, and the elements.
    Array(String, Vec<Value>),
    Struct(Vec<Value>),
    Variant(Box<Value>),
}

impl Value {
    /// A string.
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// An array of bytes.
    pub(crate) fn bytes(bytes: &[u8]) -> Self {
        Self::Array("y".to_owned(), bytes.iter().map(|byte| Self::Byte(*byte)).collect())
    }

    /// The text of a string, path or signature.
    pub(crate) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Path(text) | Self::Signature(text) => Some(text),
            _ => None,
        }
    }

    /// The type as its signature.
    pub(crate) fn signature(&self) -> String {
        let code = match self {
            Self::Byte(_) => "y",
            Self::Bool(_) => "b",
            Self::Int16(_) => "n",
            Self::Uint16(_) => "q",
            Self::Int32(_) => "i",
            Self::Uint32(_) => "u",
            Self::Int64(_) => "x",
            Self::Uint64(_) => "t",
            Self::Double(_) => "d",
            Self::Text(_) => "s",
            Self::Path(_) => "o",
            Self::Signature(_) => "g",
            Self::Variant(_) => "v",
            Self::Array(element, _) => return format!("a{element}"),
            Self::Struct(fields) => return format!("({})", fields.iter().map(Self::signature).collect::<String>()),
        };
        code.to_owned()
    }

    /// Appends its form on the wire; positions count from the beginning of `out`.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        pad(out, alignment(self.signature().as_bytes()[0]));
        match self {
            Self::Byte(number) => out.push(*number),
            Self::Bool(flag) => out.extend(u32::from(*flag).to_le_bytes()),
            Self::Int16(number) => out.extend(number.to_le_bytes()),
            Self::Uint16(number) => out.extend(number.to_le_bytes()),
            Self::Int32(number) => out.extend(number.to_le_bytes()),
            Self::Uint32(number) => out.extend(number.to_le_bytes()),
            Self::Int64(number) => out.extend(number.to_le_bytes()),
            Self::Uint64(number) => out.extend(number.to_le_bytes()),
            Self::Double(number) => out.extend(number.to_le_bytes()),
            Self::Text(text) | Self::Path(text) => {
                out.extend(length(text.len()).to_le_bytes());
                out.extend(text.as_bytes());
                out.push(0);
            }
            Self::Signature(text) => signature(text, out),
            Self::Array(element, elements) => {
                let at = out.len();
                out.extend([0; 4]);
                // The padding before the first element is no part of the length.
                pad(out, alignment(element.bytes().next().unwrap_or(b'y')));
                let start = out.len();
                elements.iter().for_each(|element| element.encode(out));
                let length = length(out.len() - start);
                out[at..at + 4].copy_from_slice(&length.to_le_bytes());
            }
            Self::Struct(fields) => fields.iter().for_each(|field| field.encode(out)),
            Self::Variant(inner) => {
                signature(&inner.signature(), out);
                inner.encode(out);
            }
        }
    }
}

/// A length on the wire. Messages are far shorter than what fits: the bus allows 128 MiB.
fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

fn signature(text: &str, out: &mut Vec<u8>) {
    out.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
    out.extend(text.as_bytes());
    out.push(0);
}

/// Fills up with zeros.
pub(super) fn pad(out: &mut Vec<u8>, alignment: usize) {
    out.resize(out.len().next_multiple_of(alignment), 0);
}

fn alignment(code: u8) -> usize {
    match code {
        b'y' | b'g' | b'v' => 1,
        b'n' | b'q' => 2,
        b'x' | b't' | b'd' | b'(' | b'{' => 8,
        _ => 4,
    }
}

/// Reads values off the wire. Everything it is given may be nonsense: `None` then.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// How deeply containers may be nested (the specification allows 64).
const DEPTH: u32 = 32;

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// All values of a signature.
    pub(super) fn values(&mut self, signature: &str) -> Option<Vec<Value>> {
        let mut values = Vec::new();
        let mut rest = signature;
        while !rest.is_empty() {
            let (first, after) = split(rest)?;
            values.push(self.value(first, 0)?);
            rest = after;
        }
        Some(values)
    }

    fn value(&mut self, signature: &str, depth: u32) -> Option<Value> {
        if depth > DEPTH {
            return None;
        }
        let code = *signature.as_bytes().first()?;
        self.align(alignment(code))?;
        Some(match code {
            b'y' => Value::Byte(self.take::<1>()?[0]),
            b'b' => Value::Bool(u32::from_le_bytes(self.take()?) != 0),
            b'n' => Value::Int16(i16::from_le_bytes(self.take()?)),
            b'q' => Value::Uint16(u16::from_le_bytes(self.take()?)),
            b'i' => Value::Int32(i32::from_le_bytes(self.take()?)),
            // h is an index of a descriptor that came along: none is ever asked for.
            b'u' | b'h' => Value::Uint32(u32::from_le_bytes(self.take()?)),
            b'x' => Value::Int64(i64::from_le_bytes(self.take()?)),
            b't' => Value::Uint64(u64::from_le_bytes(self.take()?)),
            b'd' => Value::Double(f64::from_le_bytes(self.take()?)),
            b's' => Value::Text(self.string()?),
            b'o' => Value::Path(self.string()?),
            b'g' => Value::Signature(self.signature()?),
            b'v' => {
                let inner = self.signature()?;
                let (first, rest) = split(&inner)?;
                if !rest.is_empty() {
                    return None;
                }
                Value::Variant(Box::new(self.value(first, depth + 1)?))
            }
            b'a' => self.array(&signature[1..], depth)?,
            b'(' | b'{' => {
                let mut rest = &signature[1..signature.len() - 1];
                // Without fields it is no type; and an array of it would have any number of elements in no bytes.
                if rest.is_empty() {
                    return None;
                }
                let mut fields = Vec::new();
                while !rest.is_empty() {
                    let (first, after) = split(rest)?;
                    fields.push(self.value(first, depth + 1)?);
                    rest = after;
                }
                Value::Struct(fields)
            }
            _ => return None,
        })
    }

    fn array(&mut self, element: &str, depth: u32) -> Option<Value> {
        let length = usize::try_from(u32::from_le_bytes(self.take()?)).ok()?;
        self.align(alignment(*element.as_bytes().first()?))?;
        let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len())?;
        let mut elements = Vec::new();
        while self.at < end {
            elements.push(self.value(element, depth + 1)?);
        }
        (self.at == end).then(|| Value::Array(element.to_owned(), elements))
    }

    fn string(&mut self) -> Option<String> {
        let length = usize::try_from(u32::from_le_bytes(self.take()?)).ok()?;
        self.zero_terminated(length)
    }

    fn signature(&mut self) -> Option<String> {
        let length = self.take::<1>()?[0];
        self.zero_terminated(length.into())
    }

    fn zero_terminated(&mut self, length: usize) -> Option<String> {
        let end = self.at.checked_add(length)?;
        let text = std::str::from_utf8(self.bytes.get(self.at..end)?).ok()?;
        (*self.bytes.get(end)? == 0).then_some(())?;
        self.at = end + 1;
        Some(text.to_owned())
    }

    fn align(&mut self, alignment: usize) -> Option<()> {
        self.at = self.at.next_multiple_of(alignment);
        (self.at <= self.bytes.len()).then_some(())
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let bytes = self.bytes.get(self.at..self.at.checked_add(N)?)?;
        self.at += N;
        bytes.try_into().ok()
    }
}

/// The first complete type of a signature, and the rest.
pub(super) fn split(signature: &str) -> Option<(&str, &str)> {
    let bytes = signature.as_bytes();
    let mut open = 0_u32;
    for (index, byte) in bytes.iter().enumerate() {
        match byte {
            b'a' => continue,
            b'(' | b'{' => open += 1,
            b')' | b'}' => open = open.checked_sub(1)?,
            b'a'..=b'z' => {}
            _ => return None,
        }
        if open == 0 {
            return Some(signature.split_at(index + 1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(value: &Value) -> Vec<u8> {
        let mut out = Vec::new();
        value.encode(&mut out);
        out
    }

    /// Golden bytes, by the rules of the specification.
    #[test]
    fn values_are_padded_and_counted() {
        assert_eq!(wire(&Value::Bool(true)), [1, 0, 0, 0]);
        assert_eq!(wire(&Value::text("hi")), [2, 0, 0, 0, b'h', b'i', 0]);
        assert_eq!(wire(&Value::Variant(Box::new(Value::Uint32(7)))), [1, b'u', 0, 0, 7, 0, 0, 0]);
        let pids = Value::Array("u".into(), vec![Value::Uint32(1), Value::Uint32(2)]);
        assert_eq!(wire(&pids), [8, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0]);
        // An array of structs: four bytes of padding that its length doesn't count.
        let pair = Value::Array("(ys)".into(), vec![Value::Struct(vec![Value::Byte(9), Value::text("")])]);
        assert_eq!(wire(&pair), [9, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(pair.signature(), "a(ys)");
    }

    #[test]
    fn what_is_written_is_read() {
        let values = vec![
            Value::Byte(1),
            Value::Struct(vec![Value::text("a"), Value::Variant(Box::new(Value::Uint64(u64::MAX)))]),
            Value::Array("(st)".into(), vec![]),
            Value::Double(1.5),
            Value::Array("ay".into(), vec![Value::bytes(&[1, 2]), Value::bytes(&[])]),
            Value::Path("/a".into()),
            Value::Int16(-2),
            Value::Signature("a(ss)".into()),
        ];
        let mut out = Vec::new();
        values.iter().for_each(|value| value.encode(&mut out));
        let signature: String = values.iter().map(Value::signature).collect();
        assert_eq!(Reader::new(&out).values(&signature), Some(values));
        // Cut anywhere, it is no message and no panic.
        for end in 0..out.len() {
            assert_eq!(Reader::new(&out[..end]).values(&signature), None, "{end}");
        }
    }

    #[test]
    fn nonsense_is_no_value() {
        for (signature, bytes) in [
            ("s", &[255, 255, 255, 255, 0][..]),
            ("au", &[3, 0, 0, 0, 1, 0, 0]),
            ("a", &[0; 8]),
            ("(u", &[0; 8]),
            (")", &[0; 8]),
            ("v", &[2, b'u', b'u', 0, 0, 0, 0, 0]),
            ("a()", &[8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            ("aa{}", &[12, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaau", &[0xff; 4]),
        ] {
            assert_eq!(Reader::new(bytes).values(signature), None, "{signature}");
        }
    }
}
