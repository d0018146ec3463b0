//! Netlink: messages written and read by hand, over one socket in a network namespace.
//!
//! What the messages mean is for [`crate::diag`] and [`crate::netlock`].

mod attributes;
mod connection;

pub use attributes::{Attributes, Message, NESTED, Nest, field};
pub use connection::Connection;
