//! Netlink: messages written and read by hand, over one socket.
//!
//! What the messages mean is for whoever sends them.

mod attributes;
mod connection;

pub use attributes::{Attributes, Message, NESTED, Nest, field};
pub use connection::Connection;
