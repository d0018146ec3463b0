//! System calls as data.
//!
//! A *call* is 64 bytes: number, flags, six arguments, result.
//! A *program* is an array of calls followed by the data that the calls point to.
//! The tracer builds it, an executor of [`crate::tracee`] runs it in the target, the tracer judges the results.
//! [`std::fmt::Display`] prints a program as strace would.
//!
//! There are no conditions and no loops: where the next call depends on a result, run a second program.

use std::fmt;

/// An address in the target's address space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Addr(pub u64);

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// A descriptor number in the target's table, not in ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct TargetFd(pub i32);

/// One argument of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arg {
    /// A plain value.
    Value(u64),
    /// The address of a piece of the program's data.
    Data(DataRef),
    /// The result of an earlier call of the same program.
    Result(CallRef),
    /// A 64-bit value loaded, when the call is made, from a piece of the program's data.
    Load(DataRef),
}

impl From<u64> for Arg {
    fn from(v: u64) -> Self {
        Self::Value(v)
    }
}
impl From<i64> for Arg {
    fn from(v: i64) -> Self {
        Self::Value(v as u64)
    }
}
impl From<i32> for Arg {
    /// Sign-extends, as the kernel expects of a C int.
    fn from(v: i32) -> Self {
        Self::Value(v as i64 as u64)
    }
}
impl From<u32> for Arg {
    fn from(v: u32) -> Self {
        Self::Value(v.into())
    }
}
impl From<usize> for Arg {
    fn from(v: usize) -> Self {
        Self::Value(v as u64)
    }
}
impl From<Addr> for Arg {
    fn from(v: Addr) -> Self {
        Self::Value(v.0)
    }
}
impl From<TargetFd> for Arg {
    fn from(v: TargetFd) -> Self {
        v.0.into()
    }
}
impl From<DataRef> for Arg {
    fn from(v: DataRef) -> Self {
        Self::Data(v)
    }
}
impl From<CallRef> for Arg {
    fn from(v: CallRef) -> Self {
        Self::Result(v)
    }
}

/// A piece of a program's data: an offset into it and a length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataRef {
    offset: u32,
    len: u32,
}

impl DataRef {
    /// Where the piece begins in [`Program::data`].
    pub fn offset(self) -> usize {
        self.offset as usize
    }
    /// Its length in bytes.
    pub fn len(self) -> usize {
        self.len as usize
    }
    /// Whether it has no bytes.
    pub fn is_empty(self) -> bool {
        self.len == 0
    }
    /// The part that begins `skip` bytes in.
    #[must_use]
    pub fn from_offset(self, skip: usize) -> Self {
        let skip = u32::try_from(skip).unwrap_or(u32::MAX).min(self.len);
        Self { offset: self.offset + skip, len: self.len - skip }
    }
}

/// A call of a program, named by its position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallRef(pub usize);

/// What one call is to do.
#[derive(Clone, Debug)]
pub struct Call {
    /// The system call number (`libc::SYS_*`).
    pub nr: i64,
    /// Up to six arguments.
    pub args: Vec<Arg>,
    /// An errno does not stop the program.
    pub may_fail: bool,
}

/// A list of calls with the data they point to.
#[derive(Clone, Debug, Default)]
pub struct Program {
    calls: Vec<Call>,
    data: Vec<u8>,
    pointers: Vec<(DataRef, DataRef)>,
}

impl Program {
    /// A program without calls.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a call that stops the program if it fails.
    pub fn call<const N: usize>(&mut self, nr: i64, args: [Arg; N]) -> CallRef {
        self.push(Call { nr, args: args.to_vec(), may_fail: false })
    }

    /// Adds a call whose failure is only recorded.
    pub fn try_call<const N: usize>(&mut self, nr: i64, args: [Arg; N]) -> CallRef {
        self.push(Call { nr, args: args.to_vec(), may_fail: true })
    }

    /// Adds any call.
    pub fn push(&mut self, call: Call) -> CallRef {
        debug_assert!(call.args.len() <= 6);
        self.calls.push(call);
        CallRef(self.calls.len() - 1)
    }

    /// Adds input data, aligned to 16 bytes.
    pub fn data(&mut self, bytes: &[u8]) -> DataRef {
        let at = self.reserve(bytes.len());
        self.data[at.offset()..at.offset() + at.len()].copy_from_slice(bytes);
        at
    }

    /// Reserves zeroed data for results, aligned to 16 bytes.
    pub fn reserve(&mut self, len: usize) -> DataRef {
        let offset = self.data.len().next_multiple_of(16);
        self.data.resize(offset + len, 0);
        DataRef { offset: offset as u32, len: len as u32 }
    }

    /// Overwrites data reserved earlier (structures that point to other data are filled by [`Program::pointer`]).
    pub fn set_data(&mut self, at: DataRef, bytes: &[u8]) {
        debug_assert!(bytes.len() <= at.len());
        self.data[at.offset()..at.offset() + bytes.len()].copy_from_slice(bytes);
    }

    /// Lets the eight bytes of data at `at` hold the address of `to` (an iovec's base, a msghdr's control).
    pub fn pointer(&mut self, at: DataRef, to: DataRef) {
        debug_assert!(at.len() >= 8);
        self.pointers.push((at, to));
    }

    /// The pointers within the data: place, destination.
    pub fn pointers(&self) -> &[(DataRef, DataRef)] {
        &self.pointers
    }

    /// The calls in order.
    pub fn calls(&self) -> &[Call] {
        &self.calls
    }

    /// The data, as it will be laid out behind the calls.
    pub fn bytes(&self) -> &[u8] {
        &self.data
    }

    /// Whether there is nothing to run.
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }
}

impl fmt::Display for Program {
    /// One line a call, as strace prints it: data as `*offset:length`, earlier results as `$index`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, call) in self.calls.iter().enumerate() {
            write!(f, "{i}: {}(", call_name(call.nr))?;
            for (j, arg) in call.args.iter().enumerate() {
                let comma = if j == 0 { "" } else { ", " };
                match arg {
                    Arg::Value(v) if (*v as i64) < 0 => write!(f, "{comma}{}", *v as i64)?,
                    Arg::Value(v) if *v > 0xffff => write!(f, "{comma}{v:#x}")?,
                    Arg::Value(v) => write!(f, "{comma}{v}")?,
                    Arg::Data(d) => write!(f, "{comma}&{}:{}", d.offset, d.len)?,
                    Arg::Result(CallRef(c)) => write!(f, "{comma}${c}")?,
                    Arg::Load(d) => write!(f, "{comma}*{}", d.offset)?,
                }
            }
            writeln!(f, "){}", if call.may_fail { " ?" } else { "" })?;
        }
        Ok(())
    }
}

/// The name of a system call that programs make.
pub fn call_name(nr: i64) -> &'static str {
    NAMES.iter().find(|(number, _)| *number == nr).map_or("syscall", |(_, name)| name)
}

const NAMES: [(i64, &str); 112] = [
    (libc::SYS_accept, "accept"),
    (libc::SYS_arch_prctl, "arch_prctl"),
    (libc::SYS_brk, "brk"),
    (libc::SYS_capset, "capset"),
    (libc::SYS_chdir, "chdir"),
    (libc::SYS_chroot, "chroot"),
    (libc::SYS_clone3, "clone3"),
    (libc::SYS_close, "close"),
    (libc::SYS_close_range, "close_range"),
    (libc::SYS_connect, "connect"),
    (libc::SYS_dup2, "dup2"),
    (libc::SYS_dup3, "dup3"),
    (libc::SYS_epoll_ctl, "epoll_ctl"),
    (libc::SYS_exit, "exit"),
    (libc::SYS_exit_group, "exit_group"),
    (libc::SYS_fchdir, "fchdir"),
    (libc::SYS_fchmod, "fchmod"),
    (libc::SYS_fcntl, "fcntl"),
    (libc::SYS_fchown, "fchown"),
    (libc::SYS_flock, "flock"),
    (libc::SYS_fstat, "fstat"),
    (libc::SYS_futex, "futex"),
    (libc::SYS_getitimer, "getitimer"),
    (libc::SYS_getpid, "getpid"),
    (libc::SYS_getppid, "getppid"),
    (libc::SYS_gettid, "gettid"),
    (libc::SYS_getrlimit, "getrlimit"),
    (libc::SYS_ioctl, "ioctl"),
    (libc::SYS_ioprio_set, "ioprio_set"),
    (libc::SYS_io_setup, "io_setup"),
    (libc::SYS_kill, "kill"),
    (libc::SYS_listen, "listen"),
    (libc::SYS_lseek, "lseek"),
    (460, "lsm_set_self_attr"),
    (libc::SYS_madvise, "madvise"),
    (libc::SYS_mbind, "mbind"),
    (libc::SYS_membarrier, "membarrier"),
    (libc::SYS_mlock, "mlock"),
    (libc::SYS_mlock2, "mlock2"),
    (libc::SYS_mlockall, "mlockall"),
    (libc::SYS_mmap, "mmap"),
    (libc::SYS_mprotect, "mprotect"),
    (libc::SYS_mremap, "mremap"),
    (libc::SYS_mseal, "mseal"),
    (libc::SYS_munlock, "munlock"),
    (libc::SYS_munmap, "munmap"),
    (libc::SYS_nanosleep, "nanosleep"),
    (libc::SYS_open, "open"),
    (libc::SYS_openat, "openat"),
    (libc::SYS_personality, "personality"),
    (libc::SYS_pidfd_getfd, "pidfd_getfd"),
    (libc::SYS_pidfd_open, "pidfd_open"),
    (libc::SYS_pkey_alloc, "pkey_alloc"),
    (libc::SYS_pkey_free, "pkey_free"),
    (libc::SYS_pkey_mprotect, "pkey_mprotect"),
    (libc::SYS_prctl, "prctl"),
    (libc::SYS_prlimit64, "prlimit64"),
    (libc::SYS_read, "read"),
    (libc::SYS_recvfrom, "recvfrom"),
    (libc::SYS_recvmsg, "recvmsg"),
    (libc::SYS_rseq, "rseq"),
    (libc::SYS_rt_sigaction, "rt_sigaction"),
    (libc::SYS_rt_sigprocmask, "rt_sigprocmask"),
    (libc::SYS_rt_sigqueueinfo, "rt_sigqueueinfo"),
    (libc::SYS_rt_tgsigqueueinfo, "rt_tgsigqueueinfo"),
    (libc::SYS_sched_get_priority_max, "sched_get_priority_max"),
    (libc::SYS_sched_getattr, "sched_getattr"),
    (libc::SYS_sched_setaffinity, "sched_setaffinity"),
    (libc::SYS_sched_setattr, "sched_setattr"),
    (libc::SYS_sched_setscheduler, "sched_setscheduler"),
    (libc::SYS_seccomp, "seccomp"),
    (libc::SYS_semctl, "semctl"),
    (libc::SYS_semop, "semop"),
    (libc::SYS_sendmsg, "sendmsg"),
    (libc::SYS_sendto, "sendto"),
    (libc::SYS_setfsgid, "setfsgid"),
    (libc::SYS_setfsuid, "setfsuid"),
    (libc::SYS_setgid, "setgid"),
    (libc::SYS_setgroups, "setgroups"),
    (libc::SYS_set_mempolicy, "set_mempolicy"),
    (libc::SYS_setitimer, "setitimer"),
    (libc::SYS_setns, "setns"),
    (libc::SYS_setpgid, "setpgid"),
    (libc::SYS_setpriority, "setpriority"),
    (libc::SYS_setregid, "setregid"),
    (libc::SYS_setresgid, "setresgid"),
    (libc::SYS_setresuid, "setresuid"),
    (libc::SYS_setreuid, "setreuid"),
    (libc::SYS_set_robust_list, "set_robust_list"),
    (libc::SYS_setsid, "setsid"),
    (libc::SYS_setsockopt, "setsockopt"),
    (libc::SYS_set_tid_address, "set_tid_address"),
    (libc::SYS_setuid, "setuid"),
    (libc::SYS_shmat, "shmat"),
    (libc::SYS_shmdt, "shmdt"),
    (libc::SYS_sigaltstack, "sigaltstack"),
    (libc::SYS_socket, "socket"),
    (libc::SYS_socketpair, "socketpair"),
    (libc::SYS_sync, "sync"),
    (libc::SYS_tgkill, "tgkill"),
    (libc::SYS_timer_create, "timer_create"),
    (libc::SYS_timer_delete, "timer_delete"),
    (libc::SYS_timer_getoverrun, "timer_getoverrun"),
    (libc::SYS_timer_gettime, "timer_gettime"),
    (libc::SYS_timer_settime, "timer_settime"),
    (libc::SYS_umask, "umask"),
    (libc::SYS_unshare, "unshare"),
    (libc::SYS_vfork, "vfork"),
    (libc::SYS_wait4, "wait4"),
    (libc::SYS_waitid, "waitid"),
    (libc::SYS_write, "write"),
    (libc::SYS_writev, "writev"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_prints_as_strace_would() {
        let mut program = Program::new();
        let path = program.data(b"/etc/passwd\0");
        let out = program.reserve(8);
        let fd = program.call(libc::SYS_openat, [Arg::from(libc::AT_FDCWD), path.into(), 0u64.into()]);
        program.call(libc::SYS_dup3, [fd.into(), 77u64.into(), 0u64.into()]);
        program.try_call(libc::SYS_munmap, [Addr(0x7f00_0000_0000).into(), Arg::Load(out)]);
        assert_eq!(
            program.to_string(),
            "0: openat(-100, &0:12, 0)\n1: dup3($0, 77, 0)\n2: munmap(0x7f0000000000, *16) ?\n"
        );
    }
}
