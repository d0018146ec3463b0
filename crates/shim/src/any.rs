//! Messages in messages that say what they are: google.protobuf.Any.

use containerd_shim::protos::protobuf::well_known_types::any::Any;
use containerd_shim::protos::protobuf::{Message, Result};

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
