//! Messages in messages that say what they are, google.protobuf.Any; and messages whose type the crate lacks.

use containerd_shim::api::Empty;
use containerd_shim::protos::protobuf::well_known_types::any::Any;
use containerd_shim::protos::protobuf::{Message, Result, UnknownValueRef};

/// The message; empty if there is none.
pub(crate) fn decode<M: Message>(any: &Any) -> Result<M> {
    M::parse_from_bytes(&any.value)
}

/// A message with the name of its type. The crate's own way to it reads the descriptions of all messages into memory,
/// for the name alone, and keeps them.
pub(crate) fn encode<M: Message>(package: &str, message: &M) -> Any {
    // Only a message that lacks a required field can't be written, and there are none.
    let value = message.write_to_bytes().unwrap_or_default();
    Any { type_url: format!("{package}.{}", M::NAME), value, ..Any::default() }
}

/// A message by the numbers of its fields: in an empty one, every field is an unknown one.
#[derive(Debug, Default)]
pub(crate) struct Fields(Empty);

impl Fields {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        Ok(Self(Empty::parse_from_bytes(bytes)?))
    }

    /// A string; empty if there is none.
    pub(crate) fn text(&self, field: u32) -> String {
        self.all(field).last().map(String::from_utf8_lossy).unwrap_or_default().into_owned()
    }

    /// A number; 0 if there is none.
    pub(crate) fn number(&self, field: u32) -> i64 {
        match self.0.special_fields.unknown_fields().get(field) {
            Some(UnknownValueRef::Varint(number)) => number as i64,
            _ => 0,
        }
    }

    /// All of a repeated field of strings, or of messages.
    pub(crate) fn all(&self, field: u32) -> impl Iterator<Item = &[u8]> {
        let fields = self.0.special_fields.unknown_fields().iter();
        fields.filter_map(move |(number, value)| match value {
            UnknownValueRef::LengthDelimited(bytes) if number == field => Some(bytes),
            _ => None,
        })
    }

    pub(crate) fn set_text(&mut self, field: u32, text: &str) {
        self.0.special_fields.mut_unknown_fields().add_length_delimited(field, text.into());
    }

    pub(crate) fn set_number(&mut self, field: u32, number: u64) {
        self.0.special_fields.mut_unknown_fields().add_varint(field, number);
    }

    pub(crate) fn bytes(&self) -> Result<Vec<u8>> {
        self.0.write_to_bytes()
    }
}
