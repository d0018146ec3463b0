//! What the caller of `create` may choose, and what the new process ends in.

use std::path::PathBuf;

/// How to create a container: the flags of `create`, `run` and `restore`.
#[derive(Clone, Debug, Default)]
pub struct CreateOptions {
    /// The container's name.
    pub id: String,
    /// The directory with config.json; relative to the caller's working directory.
    pub bundle: PathBuf,
    /// Another file than `config.json`; relative to the bundle.
    pub config: Option<PathBuf>,
    /// A file that gets init's pid as decimal digits, no newline.
    pub pid_file: Option<PathBuf>,
    /// A listening unix socket that gets the terminal's master descriptor.
    pub console_socket: Option<PathBuf>,
    /// A listening unix socket that gets init's pidfd.
    pub pidfd_socket: Option<PathBuf>,
    /// The caller takes the terminal itself ([`crate::Container::take_console`]); needed when config.json wants a
    /// terminal and there is no console socket.
    pub foreground: bool,
    /// `MS_MOVE` and `chroot` in place of `pivot_root`.
    pub no_pivot: bool,
    /// Keep the caller's session keyring.
    pub no_new_keyring: bool,
    /// Make the mount for `NOTIFY_SOCKET` even if the caller has no service manager to tell: a container that is restored
    /// had it ([`crate::Container::has_notify_mount`]).
    pub notify_mount: bool,
    /// How many descriptors from 3 up the container's process keeps, besides those of `LISTEN_FDS`.
    pub preserve_fds: u32,
    /// What is known of the container that [`Payload::Hold`] brings back.
    pub saved: Saved,
}

/// What a saved container had that its config.json doesn't say, or not any more.
#[derive(Clone, Debug, Default)]
pub struct Saved {
    /// The pid of its first process, as it counts: it gets that again where the pid namespace isn't its own. 0: any.
    pub init: i32,
    /// Where its mounts were, in an order in which they can be made.
    ///
    /// podman writes the mounts of an imported checkpoint in any order, what is mounted on another before that.
    pub mountpoints: Vec<PathBuf>,
}

/// The error that the closure of [`Payload::Hold`] may return.
pub type HoldError = Box<dyn std::error::Error + Send + Sync>;

/// What init ends in, once namespaces, cgroup, root file system and console are in place.
pub enum Payload<'a> {
    /// Drop privileges and execute `process.args`.
    Exec,
    /// Block, still fully privileged, while the closure turns the process into something else.
    ///
    /// When the closure returns `Ok` the container is running and nothing more is expected of the process: its
    /// descriptors may be gone. On `Err` everything is torn down as after a failed create, and the error returned.
    Hold(&'a mut dyn FnMut(&Held) -> Result<(), HoldError>),
}

/// The process that [`Payload::Hold`] hands to its closure.
///
/// It blocks in `read` on a socket, has the standard descriptors 0 to 2 in place, `/` as working directory, all
/// capabilities of its user namespace, and `PR_SET_PDEATHSIG` set to `SIGKILL` for the caller's death: the closure's
/// work clears that when it has replaced the process.
#[derive(Debug)]
pub struct Held {
    /// Its pid, as the caller counts pids.
    pub pid: i32,
    /// The container's root file system as the caller sees it.
    pub rootfs: PathBuf,
    /// The cgroup directory, where there is one.
    pub cgroup: Option<PathBuf>,
}
