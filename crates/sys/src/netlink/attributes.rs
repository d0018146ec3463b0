//! Netlink messages as bytes (netlink(7)): header, fixed part, attributes, each padded to four bytes.
//!
//! Numbers are in the machine's byte order unless an attribute says otherwise.

/// `NLA_F_NESTED`: the attribute's value is made of attributes.
pub const NESTED: u16 = 0x8000;
/// The bits of an attribute's type that are its type: without `NLA_F_NESTED` and `NLA_F_NET_BYTEORDER`.
const TYPE_MASK: u16 = 0x3fff;
const HEADER: usize = 16;

/// One or more messages being written into one buffer.
#[derive(Debug, Default)]
pub struct Message {
    bytes: Vec<u8>,
    begin: usize,
}

/// A nested attribute that has begun.
#[must_use]
#[derive(Debug)]
pub struct Nest(usize);

impl Message {
    /// Begins a message of type `kind` with `flags` (`NLM_F_*`), behind those that are there already.
    pub fn begin(&mut self, kind: u16, flags: u16, sequence: u32) -> &mut Self {
        self.begin = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&(flags | libc::NLM_F_REQUEST as u16).to_ne_bytes());
        self.bytes.extend_from_slice(&sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        self.sized()
    }

    /// Adds bytes of the fixed part.
    pub fn fixed(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self.pad();
        self.sized()
    }

    /// Adds an attribute.
    pub fn attribute(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let len = u16::try_from(value.len() + 4).expect("attributes are written by us and short");
        self.bytes.extend_from_slice(&len.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.fixed(value)
    }

    /// Adds a string with its terminating zero.
    pub fn string(&mut self, kind: u16, value: &str) -> &mut Self {
        self.attribute(kind, &[value.as_bytes(), b"\0"].concat())
    }

    /// Adds a number in network byte order.
    pub fn be32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.attribute(kind, &value.to_be_bytes())
    }

    /// Begins an attribute made of attributes.
    pub fn nest(&mut self, kind: u16) -> Nest {
        let at = self.bytes.len();
        self.attribute(kind | NESTED, &[]);
        Nest(at)
    }

    /// Ends the attribute that [`Message::nest`] began.
    pub fn end(&mut self, nest: Nest) -> &mut Self {
        let len = u16::try_from(self.bytes.len() - nest.0).expect("attributes are written by us and short");
        self.bytes[nest.0..nest.0 + 2].copy_from_slice(&len.to_ne_bytes());
        self
    }

    /// All that was written.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn sized(&mut self) -> &mut Self {
        let len = (self.bytes.len() - self.begin) as u32;
        self.bytes[self.begin..self.begin + 4].copy_from_slice(&len.to_ne_bytes());
        self
    }
}

/// A message that was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reply<'a> {
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) sequence: u32,
    pub(super) body: &'a [u8],
}

/// Takes the first message off `bytes`; none at the end or when what follows is no message.
pub(super) fn next_reply<'a>(bytes: &mut &'a [u8]) -> Option<Reply<'a>> {
    let all = *bytes;
    let len = field::<4>(all, 0).map(u32::from_ne_bytes)? as usize;
    let body = all.get(HEADER..len)?;
    *bytes = all.get(len.next_multiple_of(4)..).unwrap_or_default();
    Some(Reply {
        kind: field(all, 4).map(u16::from_ne_bytes)?,
        flags: field(all, 6).map(u16::from_ne_bytes)?,
        sequence: field(all, 8).map(u32::from_ne_bytes)?,
        body,
    })
}

/// `N` bytes of a fixed part at the offset `at`, none beyond its end.
pub fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// The attributes in a run of bytes: type and value. It ends where something is not an attribute.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a>(pub &'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let len = usize::from(field(self.0, 0).map(u16::from_ne_bytes)?);
        let kind = field(self.0, 2).map(u16::from_ne_bytes)?;
        let value = self.0.get(4..len)?;
        self.0 = self.0.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind & TYPE_MASK, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_back() {
        let mut message = Message::default();
        message.begin(20, 0x300, 7).fixed(&[1, 2, 3, 4]).attribute(5, b"abc");
        let nest = message.nest(6);
        message.be32(1, 0x0102_0304).string(2, "ab").end(nest);
        message.begin(21, 0, 8);

        let mut bytes = message.bytes();
        let reply = next_reply(&mut bytes).unwrap();
        assert_eq!((reply.kind, reply.flags, reply.sequence), (20, 0x301, 7));
        assert_eq!(&reply.body[..4], [1, 2, 3, 4]);
        let list: Vec<_> = Attributes(&reply.body[4..]).collect();
        assert_eq!(list[0], (5, &b"abc"[..]));
        let inner: Vec<_> = Attributes(list[1].1).collect();
        assert_eq!((list[1].0, inner), (6, vec![(1, &[1, 2, 3, 4][..]), (2, &b"ab\0"[..])]));
        assert_eq!(next_reply(&mut bytes).unwrap().kind, 21);
        assert_eq!(next_reply(&mut bytes), None);
    }

    #[test]
    fn nonsense_ends_the_list() {
        for bytes in [&[][..], &[0, 0, 0, 0], &[3, 0, 1, 0], &[200, 0, 1, 0, 9], &[255; 7]] {
            assert_eq!(Attributes(bytes).count(), 0, "{bytes:?}");
            let mut rest = bytes;
            assert_eq!(next_reply(&mut rest), None, "{bytes:?}");
        }
        let mut short = &[15_u8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..];
        assert_eq!(next_reply(&mut short), None);
    }
}
