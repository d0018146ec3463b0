//! The kinds of kernel objects: one file per kind, with its image structure, dump and restore in that order.

pub mod eventfd;
pub mod external;
pub mod pipe;
pub mod pipe_buffer;
pub mod signalfd;
pub mod timer;
pub mod timerfd;
