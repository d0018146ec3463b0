//! What `tree.json` holds: processes, threads, address spaces. Pages and long contents are in files of their own.
//!
//! Ids of processes are those of the container's own pid namespace. Every list is in the order restore needs it.

use super::hex;
use crate::files::{Descriptor, FileId};
use crate::procfs::smaps::VmFlags;
use crate::program::Addr;
use crate::resource::timer::Timers;
use serde::{Deserialize, Serialize};

/// A process tree.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Tree {
    /// Processes, parents before their children; the first is the container's init.
    pub processes: Vec<Process>,
    /// Address spaces.
    pub mms: Vec<Mm>,
    /// Descriptor tables; several processes may share one.
    pub tables: Vec<Vec<Descriptor>>,
    /// Controlling terminals.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub terminals: Vec<SessionTerminal>,
    /// Seccomp filters: classic BPF and `SECCOMP_FILTER_FLAG_*`.
    pub filters: Vec<Filter>,
    /// The clocks when the tree was stopped.
    pub clocks: Clocks,
}

/// The controlling terminal of a session whose leader lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionTerminal {
    /// The session: its leader's id.
    pub session: i32,
    /// A description of the terminal.
    pub file: FileId,
    /// The foreground process group; 0 when it is outside the container or empty.
    pub foreground: i32,
}

/// Clocks in nanoseconds, as the container's init saw them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clocks {
    /// `CLOCK_REALTIME`.
    pub realtime: i64,
    /// `CLOCK_MONOTONIC`.
    pub monotonic: i64,
    /// `CLOCK_BOOTTIME`.
    pub boottime: i64,
}

/// One process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Process {
    /// Its id.
    pub pid: i32,
    /// Its parent's id; 0 for the container's init.
    pub ppid: i32,
    /// Its process group; 0 when that is outside the container's pid namespace.
    pub pgid: i32,
    /// Its session; 0 when that is outside the container's pid namespace.
    pub sid: i32,
    /// The signal its parent gets when it ends.
    pub exit_signal: i32,
    /// What it was doing.
    pub state: State,
    /// All of a living process; a zombie has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live: Option<Box<Live>>,
}

/// What a process was doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It ran or slept.
    Running,
    /// A stop signal held it.
    Stopped(i32),
    /// It was dead, with this wait status, and not yet waited for.
    Zombie(i32),
}

/// What a living process has.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Live {
    /// Its address space, a place in [`Tree::mms`].
    pub mm: usize,
    /// Its descriptor table, a place in [`Tree::tables`].
    pub table: usize,
    /// Who shares root, working directory and umask (`CLONE_FS`): equal for those that do, and only for them.
    pub fs: usize,
    /// Its working directory.
    pub cwd: FileId,
    /// Its root directory.
    pub root: FileId,
    /// Its file mode creation mask.
    pub umask: u32,
    /// Signal handlers that aren't the default.
    pub actions: Vec<Action>,
    /// Signals pending for the whole process.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pending: Vec<Signal>,
    /// Its timers.
    pub timers: Timers,
    /// Resource limits, soft and hard, by `RLIMIT_*`.
    pub limits: Vec<(u64, u64)>,
    /// `PR_SET_CHILD_SUBREAPER`.
    pub subreaper: bool,
    /// `PR_SET_DUMPABLE`.
    pub dumpable: i32,
    /// `PR_SET_THP_DISABLE`.
    pub thp_disable: bool,
    /// /proc/PID/oom_score_adj.
    pub oom_score_adj: i32,
    /// /proc/PID/coredump_filter.
    pub coredump_filter: u32,
    /// The execution domain.
    pub personality: u32,
    /// Threads; the first is the leader.
    pub threads: Vec<Thread>,
}

/// One signal handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    /// The signal.
    pub signal: i32,
    /// The handler's address; 0 default, 1 ignore.
    pub handler: u64,
    /// `SA_*`.
    pub flags: u64,
    /// The address of the code that returns from the handler.
    pub restorer: u64,
    /// Signals blocked meanwhile.
    pub mask: u64,
}

/// A `siginfo_t`, whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Signal(#[serde(with = "hex")] pub Vec<u8>);

/// One thread.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Thread {
    /// Its id.
    pub tid: i32,
    /// Its name.
    pub comm: String,
    /// General registers, in the order of the kernel's `user_regs_struct`.
    pub regs: Vec<u64>,
    /// The xsave area, without zeroes at its end.
    #[serde(with = "hex")]
    pub xstate: Vec<u8>,
    /// The xsave area's length.
    pub xstate_len: usize,
    /// Blocked signals.
    pub sigmask: u64,
    /// Signals pending for this thread.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pending: Vec<Signal>,
    /// The alternate signal stack: address, flags, size.
    pub altstack: (u64, i32, u64),
    /// The robust futex list: head, length.
    pub robust_list: (u64, u64),
    /// Where a zero goes, with a futex wake, when the thread ends (set_tid_address(2)).
    pub clear_child_tid: u64,
    /// Restartable sequences: area, length, signature; area 0 when there is none.
    pub rseq: (u64, u32, u32),
    /// Credentials.
    pub creds: Creds,
    /// Seccomp.
    pub seccomp: Seccomp,
    /// The signal it gets when its parent ends.
    pub parent_death_signal: i32,
    /// In nanoseconds.
    pub timer_slack: u64,
    /// Scheduling.
    pub scheduling: Scheduling,
}

/// Credentials of a thread.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Creds {
    /// Real, effective, saved and filesystem user id, as the container's user namespace counts.
    pub uid: [u32; 4],
    /// The same for the group.
    pub gid: [u32; 4],
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Capability sets: inheritable, permitted, effective, bounding, ambient.
    pub caps: [u64; 5],
    /// `SECBIT_*`, with `KEEP_CAPS`.
    pub securebits: u32,
    /// `PR_SET_NO_NEW_PRIVS`.
    pub no_new_privs: bool,
}

/// Seccomp of a thread.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seccomp {
    /// Strict mode.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub strict: bool,
    /// Filters, oldest first, places in [`Tree::filters`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<usize>,
}

/// A seccomp filter.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Filter {
    /// `SECCOMP_FILTER_FLAG_*`.
    pub flags: u64,
    /// Instructions as 64-bit words.
    pub code: Vec<u64>,
}

/// Scheduling of a thread.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scheduling {
    /// `SCHED_*`.
    pub policy: u32,
    /// Realtime priority.
    pub priority: u32,
    /// -20 to 19.
    pub nice: i32,
    /// The I/O priority as ioprio_get(2) gives it.
    pub io_priority: i32,
    /// The processors it may run on, if it may not run on all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Vec<u64>>,
}

/// An address space.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Mm {
    /// Mappings by address.
    pub vmas: Vec<Vma>,
    /// What `PR_SET_MM_MAP` sets.
    pub layout: MmLayout,
    /// The auxiliary vector, as it was.
    #[serde(with = "hex")]
    pub auxv: Vec<u8>,
    /// The executable.
    pub exe: Option<FileId>,
    /// The first of its runs in the page map, and how many they are.
    pub runs: (usize, usize),
}

/// The bounds that the kernel keeps of an address space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MmLayout {
    /// Program text.
    pub code: (u64, u64),
    /// Program data.
    pub data: (u64, u64),
    /// The heap: where it begins and where it ends now.
    pub brk: (u64, u64),
    /// Where the stack began.
    pub start_stack: u64,
    /// Arguments.
    pub args: (u64, u64),
    /// Environment.
    pub env: (u64, u64),
}

/// A mapping.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vma {
    /// Its first address.
    pub start: Addr,
    /// The address behind its last.
    pub end: Addr,
    /// `PROT_*`.
    pub prot: i32,
    /// `MAP_SHARED` rather than `MAP_PRIVATE`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shared: bool,
    /// What is behind it.
    pub backing: Backing,
    /// The kernel's flags.
    pub flags: VmFlags,
    /// The size of a huge page, if these are such.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub huge_page: Option<u64>,
    /// The protection key.
    #[serde(default, skip_serializing_if = "is_default")]
    pub pkey: u32,
    /// The name given by `PR_SET_VMA_ANON_NAME`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Guard regions within it: first address, address behind the last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub guards: Vec<(Addr, Addr)>,
}

/// What is behind a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backing {
    /// Nothing: private anonymous memory.
    Anonymous,
    /// A file or shared memory object, from this offset on.
    File {
        /// The file.
        file: FileId,
        /// Bytes into it.
        offset: u64,
    },
    /// A System V shared memory segment, from this offset on.
    SysV {
        /// The segment's id.
        id: i32,
        /// Bytes into it.
        offset: u64,
    },
    /// The vDSO.
    Vdso,
    /// The vDSO's data.
    Vvar,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Vma {
    /// Its length in bytes.
    pub fn len(&self) -> u64 {
        self.end.0 - self.start.0
    }

    /// Whether it has no bytes; never true of a checked image.
    pub fn is_empty(&self) -> bool {
        self.end <= self.start
    }

    /// Whether pages of its own may be behind it.
    pub fn is_private_memory(&self) -> bool {
        !self.shared && matches!(self.backing, Backing::Anonymous | Backing::File { .. })
    }
}
