//! A client for D-Bus, as far as systemd's manager asks for it: calls, replies, and one kind of signal.
//!
//! One thread, one socket, blocking, bounded by a time-out: a process that is about to call clone3 has no room for an
//! executor and its threads.
//! The caller names itself by its socket's credentials (`AUTH EXTERNAL` without an identity), because in a user
//! namespace the number that it knows itself by is not the one that the bus sees.
//!
//! Left out: serving methods, introspection, dictionaries, passing of descriptors, big-endian peers, TCP.
//! Source: the D-Bus specification 0.43; GLib's "GVariant Text Format" for values typed in annotations.

mod connection;
mod message;
mod text;
mod value;

pub(crate) use connection::{Call, Connection, Fault};
pub(crate) use text::parse;
pub(crate) use value::Value;
