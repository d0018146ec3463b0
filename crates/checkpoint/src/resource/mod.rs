//! The kinds of kernel objects: one file per kind, with its image structure, dump and restore in that order.
//!
//! Files are kinds of [`crate::files::kind::FileKind`]; what belongs to a process or to the container is called by
//! [`crate::dump`] and [`crate::restore`]. Each file's first lines say more than this table.
//!
//! | kind | file | kept | not kept |
//! |---|---|---|---|
//! | given from outside | `external` | the name | everything else: the caller brings it anew |
//! | pipe | `pipe`, `pipe_buffer`, `pipe_ends` | bytes, packets, capacity, owner, all ends and their flags, missing ends | inode number |
//! | FIFO | `fifo` | the same, by path or deleted; whether a writer was there | inode number of a deleted one |
//! | eventfd | `eventfd` | counter, `EFD_SEMAPHORE` | |
//! | timerfd | `timerfd` | clock, period, time left or time of day, unread expirations | that the clock was set |
//! | signalfd | `signalfd` | signals | |
//! | epoll | `epoll` | items with numbers, events, data; busy polling | which edges were seen: they come again |
//! | inotify | `inotify`, `inode_search` | watches with numbers and masks | events not yet read |
//! | pidfd | `pidfd` | process or thread; of the dead, the exit status | inode number of a dead one |
//! | POSIX message queue | `mqueue` | name, sizes, owner, messages with priorities | times; `mq_notify` is refused |
//! | regular file, directory | `reg_file`, `location`, `ghost`, `attributes` | path, position; of deleted ones everything | contents of files that have a path |
//! | memfd, shared anonymous memory | `memfd` | contents, seals, attributes | huge pages are refused |
//! | device, file of /proc, `O_PATH`, namespace | `device`, `proc_file`, `path_only` | path, position | state of devices: others are refused |
//! | socket | `socket` | see there | |
//! | file locks | `locks` | see there | |
//! | what can't be saved | `refused` | | io_uring, userfaultfd, perf, BPF, fanotify, devices: why, and what to do |
//! | timers of a process | `timer` | ids, clocks, signals, period, time left | overruns; that a timer was set to a time of day |
//! | System V IPC | `ipc`, `sysv_ipc` | ids, keys, owners, contents, values, messages, limits | times, `SEM_UNDO`, pids of segments and queues |
//! | limits of the IPC namespace | `ipc_limits` | those that differ from a new namespace's | |

pub mod attributes;
pub mod device;
pub mod epoll;
pub mod eventfd;
pub mod external;
pub mod fifo;
pub mod ghost;
mod inode_search;
pub mod inotify;
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
mod pipe_ends;
pub mod proc_file;
pub mod refused;
pub mod reg_file;
pub mod signalfd;
pub mod socket;
pub mod sysv_ipc;
pub mod timer;
pub mod timerfd;
pub mod tmpfs;
pub mod tty;
