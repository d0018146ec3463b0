//! Unix sockets: streams, datagrams and sequenced packets, with their names, peers, listeners' queues,
//! and queued messages with the descriptors and credentials in them.
//!
//! What was sent over a connection that nobody has accepted yet can be read by accepting it only. That is done as the
//! last thing before the container is killed; otherwise such a connection is refused, or left out.
//!
//! Kept of `SO_PEERCRED`: user, group and supplementary groups of every connection; the pid of a listener, which those
//! who connect to it after restore see. The pid of a connection's other end is 0 after restore:
//! the kernel takes it from whoever connects, and that is us, whom the container can't see.

pub(super) mod dump;
mod fill;
pub(super) mod node;
mod queue;
pub(super) mod restore;
mod spot;

use crate::files::FileId;
use crate::image::blob::Blob;
use crate::image::path::ImagePath;
use crate::program::{Arg, Program, TargetFd};
use serde::{Deserialize, Serialize};

pub(super) use fill::finish;
pub(super) use restore::open;

/// A unix socket.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Unix {
    /// `sun_path` as getsockname(2) gives it: a path, or an abstract name with its leading zero.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<ImagePath>,
    /// The node in the file system by which others reach it; none when it was deleted or replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<node::Node>,
    /// It takes connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listening: Option<Listening>,
    /// The other end.
    #[serde(default, skip_serializing_if = "Peer::is_none")]
    pub peer: Peer,
    /// `RCV_SHUTDOWN` (1), `SEND_SHUTDOWN` (2).
    #[serde(default)]
    pub shutdown: u8,
    /// The other end closed without reading all: the next call fails with `ECONNRESET`.
    #[serde(default)]
    pub reset: bool,
    /// What it has not read.
    #[serde(default, skip_serializing_if = "Queue::is_empty")]
    pub queue: Queue,
    /// `SO_PEERCRED`; a listener's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<Credentials>,
}

impl Unix {
    /// Has the task that called listen(2) do it again: whoever connects then sees its pid (`SO_PEERCRED`).
    /// True when there is nothing more to do for this socket.
    pub(super) fn listen_again(&self, pid: i32, fd: TargetFd, program: &mut Program) -> bool {
        let (Some(listening), Some(who)) = (&self.listening, &self.credentials) else { return true };
        if who.pid != pid {
            return who.pid == 0;
        }
        // The task is still root here, and its saved user lets it go back.
        // In a user namespace these are other numbers, and the listener shows that namespace's root.
        let effective = |id: u32| [Arg::from(-1), id.into(), Arg::from(-1)];
        program.try_call(libc::SYS_setresgid, effective(who.gid));
        program.try_call(libc::SYS_setresuid, effective(who.uid));
        program.call(libc::SYS_listen, [fd.into(), listening.backlog.into()]);
        program.try_call(libc::SYS_setresuid, effective(0));
        program.try_call(libc::SYS_setresgid, effective(0));
        true
    }
}

/// The other end of a unix socket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Peer {
    /// There is none.
    #[default]
    None,
    /// The socket with this inode number.
    Socket(u64),
    /// It was closed.
    Closed,
    /// The listener with this inode number has not accepted the connection yet.
    Waiting(u64),
    /// It belongs to somebody outside the container, and has this name.
    Outside(Option<ImagePath>),
}

impl Peer {
    fn is_none(&self) -> bool {
        *self == Self::None
    }
}

/// A listener's state.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Listening {
    /// As given to listen(2).
    pub backlog: u32,
    /// Those who connected and wait, in order, by inode number; 0 for one that has closed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiting: Vec<u64>,
    /// What each of those has sent; none if none of them has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taken: Vec<Queue>,
}

/// Credentials of a peer or a message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credentials {
    /// As the container counts; 0 for none of its processes.
    pub pid: i32,
    /// As the host counts.
    pub uid: u32,
    /// As the host counts.
    pub gid: u32,
    /// `SO_PEERGROUPS`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<u32>,
}

/// A receive queue, in which bytes, descriptors and credentials stay together.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Queue {
    /// The bytes of all messages, one after another.
    pub contents: Option<Blob>,
    /// Messages; for a stream, runs of bytes that carry the same control data.
    pub messages: Vec<Message>,
}

impl Queue {
    fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }
}

/// A message in a queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Its length in bytes.
    pub len: u32,
    /// The sender's name, for datagrams.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<ImagePath>,
    /// The descriptors it carries (`SCM_RIGHTS`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileId>,
    /// The credentials it carries, where the socket wants to see them (`SO_PASSCRED`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<Credentials>,
}
