//! The kinds of kernel objects: one file per kind, with its image structure, dump and restore in that order.

pub mod attributes;
pub mod device;
pub mod epoll;
pub mod eventfd;
pub mod external;
pub mod ghost;
pub mod ipc;
pub mod ipc_limits;
pub mod location;
pub mod locks;
pub mod memfd;
pub mod mount;
pub mod mqueue;
pub mod path_only;
pub mod pidfd;
pub mod pipe;
pub mod pipe_buffer;
pub mod proc_file;
pub mod refused;
pub mod reg_file;
pub mod signalfd;
pub mod socket;
pub mod sysv_ipc;
pub mod timer;
pub mod timerfd;
pub mod tmpfs;
