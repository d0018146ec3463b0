//! ptrace(2) as plain functions: one request each, the tracee named by its tid.
//!
//! Which request is allowed in which state is the business of the caller's types;
//! here a request made at the wrong time fails with `ESRCH`.
//! A request acts for the calling *thread*: all of a tracee's requests must come from the thread that seized it.

use crate::{Errno, Error, Result};
use std::fmt;
use std::io::IoSlice;
use std::mem::{self, MaybeUninit};
use std::time::{Duration, Instant};

/// `PTRACE_O_SUSPEND_SECCOMP`: filters of the tracee don't act while it is traced (kernel 4.3, needs CAP_SYS_ADMIN).
pub const O_SUSPEND_SECCOMP: i32 = 1 << 21;
/// `PTRACE_EVENT_STOP`: the stop of a seized task by interrupt, group stop or automatic attachment.
pub const EVENT_STOP: i32 = 128;

/// Register set names of `PTRACE_GETREGSET` (elf.h).
pub mod regset {
    /// General registers.
    pub const PRSTATUS: u32 = 1;
    /// The whole xsave area (x86).
    pub const X86_XSTATE: u32 = 0x202;
}

/// Calls ptrace and names the request on failure.
fn request(name: &'static str, req: libc::c_uint, tid: i32, addr: usize, data: usize) -> Result<i64> {
    // SAFETY: every caller in this module passes as `addr` and `data` either plain numbers that the request defines
    // or addresses of live objects of the size that the request reads or writes.
    let r = unsafe { libc::ptrace(req, tid, addr, data) };
    if r == -1 { Err(Error::last("ptrace", format_args!("{name}, {tid}"))) } else { Ok(r) }
}

/// Attaches without stopping the task.
///
/// # Errors
/// `EPERM` when it is traced by another or out of reach, `ESRCH` when it is gone or dead.
pub fn seize(tid: i32, options: i32) -> Result<()> {
    request("SEIZE", libc::PTRACE_SEIZE, tid, 0, options as usize).map(drop)
}

/// Changes the options of a stopped tracee.
///
/// # Errors
/// `EINVAL` for options the kernel doesn't know.
pub fn set_options(tid: i32, options: i32) -> Result<()> {
    request("SETOPTIONS", libc::PTRACE_SETOPTIONS as libc::c_uint, tid, 0, options as usize).map(drop)
}

/// Asks a seized tracee to stop with [`EVENT_STOP`].
///
/// # Errors
/// `ESRCH` when it is gone.
pub fn interrupt(tid: i32) -> Result<()> {
    request("INTERRUPT", libc::PTRACE_INTERRUPT, tid, 0, 0).map(drop)
}

/// Lets a stopped tracee run, delivering `signal` unless it is 0.
///
/// # Errors
/// `ESRCH` when it isn't stopped.
pub fn cont(tid: i32, signal: i32) -> Result<()> {
    request("CONT", libc::PTRACE_CONT as libc::c_uint, tid, 0, signal as usize).map(drop)
}

/// Lets a stopped tracee run to the next entry to or exit from a system call.
///
/// # Errors
/// `ESRCH` when it isn't stopped.
pub fn syscall(tid: i32, signal: i32) -> Result<()> {
    request("SYSCALL", libc::PTRACE_SYSCALL as libc::c_uint, tid, 0, signal as usize).map(drop)
}

/// Lets go of a stopped tracee, delivering `signal` unless it is 0.
///
/// # Errors
/// `ESRCH` when it isn't stopped.
pub fn detach(tid: i32, signal: i32) -> Result<()> {
    request("DETACH", libc::PTRACE_DETACH as libc::c_uint, tid, 0, signal as usize).map(drop)
}

/// The message of the last ptrace event: the new task's tid, as the tracer counts, after a fork or clone event.
///
/// # Errors
/// `ESRCH` when the tracee isn't stopped.
pub fn event_message(tid: i32) -> Result<u64> {
    let mut message: libc::c_ulong = 0;
    request("GETEVENTMSG", libc::PTRACE_GETEVENTMSG as libc::c_uint, tid, 0, &raw mut message as usize)?;
    Ok(message)
}

/// Reads a register set into `buffer`; gives the number of bytes the kernel filled.
///
/// # Errors
/// `EINVAL` or `ENODEV` when the machine has no such set.
pub fn get_regset(tid: i32, set: u32, buffer: &mut [u8]) -> Result<usize> {
    let mut iov = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    request("GETREGSET", libc::PTRACE_GETREGSET as libc::c_uint, tid, set as usize, &raw mut iov as usize)?;
    Ok(iov.iov_len)
}

/// Writes a register set.
///
/// # Errors
/// `EINVAL` when the contents aren't valid for this machine.
pub fn set_regset(tid: i32, set: u32, contents: &[u8]) -> Result<()> {
    let iov = IoSlice::new(contents); // layout of struct iovec is guaranteed
    request("SETREGSET", libc::PTRACE_SETREGSET as libc::c_uint, tid, set as usize, &raw const iov as usize).map(drop)
}

/// The tracee's mask of blocked signals.
///
/// # Errors
/// `ESRCH` when the tracee isn't stopped.
pub fn get_sigmask(tid: i32) -> Result<u64> {
    let mut mask = 0u64;
    request("GETSIGMASK", PTRACE_GETSIGMASK, tid, 8, &raw mut mask as usize)?;
    Ok(mask)
}

/// Sets the tracee's mask of blocked signals.
///
/// # Errors
/// `ESRCH` when the tracee isn't stopped.
pub fn set_sigmask(tid: i32, mask: u64) -> Result<()> {
    request("SETSIGMASK", PTRACE_SETSIGMASK, tid, 8, &raw const mask as usize).map(drop)
}

/// The size of the kernel's `siginfo_t`.
pub const SIGINFO_SIZE: usize = 128;

/// A `siginfo_t` as the kernel lays it out.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct SigInfo(pub [u8; SIGINFO_SIZE]);

impl SigInfo {
    /// `si_signo`.
    pub fn signal(&self) -> i32 {
        i32::from_ne_bytes([self.0[0], self.0[1], self.0[2], self.0[3]])
    }
    /// `si_code`.
    pub fn code(&self) -> i32 {
        i32::from_ne_bytes([self.0[8], self.0[9], self.0[10], self.0[11]])
    }
}

impl fmt::Debug for SigInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigInfo {{ signal: {}, code: {} }}", self.signal(), self.code())
    }
}

/// The signal that the tracee is stopped for.
///
/// # Errors
/// `EINVAL` when it is stopped for no signal.
pub fn get_siginfo(tid: i32) -> Result<SigInfo> {
    let mut info = SigInfo([0; SIGINFO_SIZE]);
    request("GETSIGINFO", libc::PTRACE_GETSIGINFO as libc::c_uint, tid, 0, &raw mut info as usize)?;
    Ok(info)
}

/// All pending signals of the tracee's thread, or of its whole process if `shared`, left pending (kernel 3.10).
///
/// # Errors
/// `ESRCH` when the tracee isn't stopped.
pub fn peek_pending(tid: i32, shared: bool) -> Result<Vec<SigInfo>> {
    const BATCH: usize = 32;
    let mut all = Vec::new();
    loop {
        let mut batch = [SigInfo([0; SIGINFO_SIZE]); BATCH];
        let args = libc::ptrace_peeksiginfo_args {
            off: all.len() as u64,
            flags: if shared { libc::PTRACE_PEEKSIGINFO_SHARED } else { 0 },
            nr: BATCH as i32,
        };
        let n = request(
            "PEEKSIGINFO",
            libc::PTRACE_PEEKSIGINFO as libc::c_uint,
            tid,
            &raw const args as usize,
            batch.as_mut_ptr() as usize,
        )?;
        all.extend_from_slice(&batch[..n as usize]);
        if (n as usize) < BATCH {
            return Ok(all);
        }
    }
}

const PTRACE_GETSIGMASK: libc::c_uint = 0x420a;
const PTRACE_SETSIGMASK: libc::c_uint = 0x420b;
const PTRACE_SECCOMP_GET_FILTER: libc::c_uint = 0x420c;
const PTRACE_SECCOMP_GET_METADATA: libc::c_uint = 0x420d;
const PTRACE_GET_RSEQ_CONFIGURATION: libc::c_uint = 0x420f;

/// A registered restartable-sequences area; `address` is 0 when there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Rseq {
    /// Where the area is.
    pub address: u64,
    /// Its length in bytes.
    pub size: u32,
    /// The signature in front of abort handlers.
    pub signature: u32,
    /// Flags of the registration.
    pub flags: u32,
    pad: u32,
}

/// The tracee's rseq registration (kernel 5.13).
///
/// # Errors
/// `EIO` on older kernels.
pub fn rseq(tid: i32) -> Result<Rseq> {
    let mut rseq = Rseq::default();
    request(
        "GET_RSEQ_CONFIGURATION",
        PTRACE_GET_RSEQ_CONFIGURATION,
        tid,
        mem::size_of::<Rseq>(),
        &raw mut rseq as usize,
    )?;
    Ok(rseq)
}

/// One classic BPF instruction: `struct sock_filter` as a 64-bit little-endian word.
pub type FilterWord = u64;

/// The tracee's seccomp filter number `index`, oldest first, with its `SECCOMP_FILTER_FLAG_*`; `None` past the last.
///
/// # Errors
/// `EACCES` without CAP_SYS_ADMIN or when the caller has a filter itself.
pub fn seccomp_filter(tid: i32, index: u64) -> Result<Option<(Vec<FilterWord>, u64)>> {
    let count = match request("SECCOMP_GET_FILTER", PTRACE_SECCOMP_GET_FILTER, tid, index as usize, 0) {
        Ok(n) => n as usize,
        Err(e) if e.errno() == Errno::ENOENT || e.errno() == Errno::EINVAL => return Ok(None),
        Err(e) => return Err(e),
    };
    let mut words = vec![0u64; count];
    request("SECCOMP_GET_FILTER", PTRACE_SECCOMP_GET_FILTER, tid, index as usize, words.as_mut_ptr() as usize)?;
    let mut metadata = [index, 0];
    request("SECCOMP_GET_METADATA", PTRACE_SECCOMP_GET_METADATA, tid, 16, metadata.as_mut_ptr() as usize)?;
    Ok(Some((words, metadata[1])))
}

/// How a waited-for task changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// It stopped for a signal or event: `(signal, event)`.
    Stopped(i32, i32),
    /// It exited with this status.
    Exited(i32),
    /// A signal killed it.
    Killed(i32),
}

/// Waits until the task stops or dies.
///
/// # Errors
/// `ECHILD` when it isn't ours to wait for.
pub fn wait(tid: i32) -> Result<Wait> {
    loop {
        if let Some(wait) = wait_once(tid, 0)? {
            return Ok(wait);
        }
    }
}

/// Waits as [`wait`] does, but not longer than until `deadline`.
///
/// # Errors
/// `ECHILD` when it isn't ours to wait for.
pub fn wait_until(tid: i32, deadline: Instant) -> Result<Option<Wait>> {
    // waitpid knows no time-out. A stop takes microseconds: yield for that long, and sleep only when it takes longer.
    let mut pause = Duration::ZERO;
    loop {
        if let Some(wait) = wait_once(tid, libc::WNOHANG)? {
            return Ok(Some(wait));
        }
        if Instant::now() > deadline {
            return Ok(None);
        }
        if pause < Duration::from_micros(20) {
            std::thread::yield_now();
            pause += Duration::from_micros(1);
        } else {
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(5));
        }
    }
}

/// Waits until all of these tasks, which have been killed, are dead and known to be so.
///
/// The kernel tells of ends in an order of its own: a leader's after its threads', and the last thread of a pid
/// namespace's init waits until all others have been waited for. So none is waited for alone.
pub fn reap(mut tids: Vec<i32>) {
    while !tids.is_empty() {
        let before = tids.len();
        // A task that isn't ours any more (ECHILD) needs no waiting for.
        tids.retain(|tid| matches!(wait_once(*tid, libc::WNOHANG), Ok(None | Some(Wait::Stopped(..)))));
        if tids.len() == before {
            std::thread::sleep(Duration::from_micros(50));
        }
    }
}

/// Waits for the ends of all tracees and children until `last`, which has been killed, is dead; its own end is left for
/// others to take.
///
/// The init of a pid namespace can't end before every other task of it has been waited for, and a tracee only by us.
pub fn reap_all_before(last: i32) {
    loop {
        // SAFETY: all zeroes is a valid siginfo_t, and waitid writes to it.
        let mut info: libc::siginfo_t = unsafe { mem::zeroed() };
        // SAFETY: as above.
        let r = unsafe { libc::waitid(libc::P_ALL, 0, &raw mut info, libc::WEXITED | libc::WNOWAIT | libc::__WALL) };
        if r == -1 && Errno::last() == Errno::EINTR {
            continue;
        }
        // SAFETY: waitid filled in the fields of SIGCHLD.
        let pid = unsafe { info.si_pid() };
        if r == -1 || pid == last || pid == 0 {
            return;
        }
        let _ = wait_once(pid, libc::WNOHANG); // known to be dead
    }
}

fn wait_once(tid: i32, flags: i32) -> Result<Option<Wait>> {
    let mut status = 0;
    // SAFETY: waitpid writes one int.
    let r = unsafe { libc::waitpid(tid, &raw mut status, libc::__WALL | flags) };
    match r {
        -1 if Errno::last() == Errno::EINTR => Ok(None),
        -1 => Err(Error::last("waitpid", tid)),
        0 => Ok(None),
        _ if libc::WIFSTOPPED(status) => Ok(Some(Wait::Stopped(libc::WSTOPSIG(status), status >> 16))),
        _ if libc::WIFEXITED(status) => Ok(Some(Wait::Exited(libc::WEXITSTATUS(status)))),
        _ => Ok(Some(Wait::Killed(libc::WTERMSIG(status)))),
    }
}

/// The head of a task's robust futex list and its length; works on any task, stopped or not.
///
/// # Errors
/// `ESRCH` when it is gone, `EPERM` when it is out of reach.
pub fn robust_list(tid: i32) -> Result<(u64, u64)> {
    let mut head = MaybeUninit::<u64>::uninit();
    let mut len = MaybeUninit::<u64>::uninit();
    // SAFETY: get_robust_list writes one pointer and one size.
    let r = unsafe { libc::syscall(libc::SYS_get_robust_list, tid, head.as_mut_ptr(), len.as_mut_ptr()) };
    if r == -1 {
        return Err(Error::last("get_robust_list", tid));
    }
    // SAFETY: the call succeeded, so both were written.
    Ok(unsafe { (head.assume_init(), len.assume_init()) })
}

/// Sends a signal to one thread.
///
/// # Errors
/// `ESRCH` when it is gone.
pub fn tgkill(pid: i32, tid: i32, signal: i32) -> Result<()> {
    // SAFETY: tgkill takes three integers.
    let r = unsafe { libc::syscall(libc::SYS_tgkill, pid, tid, signal) };
    if r == -1 { Err(Error::last("tgkill", format_args!("{pid}, {tid}, {signal}"))) } else { Ok(()) }
}

const _: () = assert!(mem::size_of::<IoSlice<'_>>() == mem::size_of::<libc::iovec>());
