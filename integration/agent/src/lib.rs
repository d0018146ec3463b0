//! The line between the test driver on the host and the agent in the VM: frames over a virtio serial port.
//!
//! A frame is one byte of kind, the payload's length (u32, little endian), the payload.
//! One command runs at a time; a frame never refers to an earlier one.
//! The line has no authentication: its host end is a socket in a directory of the driver's own.
#![forbid(unsafe_code)]

pub mod frame;
