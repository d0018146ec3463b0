//! seccomp(2): loading filters, asking what the kernel knows, and the agent's side of notification.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use crate::{Errno, Error, Result};

/// One instruction of a classic BPF program (`struct sock_filter`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Insn {
    /// Class, size, mode or operation.
    pub code: u16,
    /// Instructions to skip where a condition holds.
    pub jt: u8,
    /// Instructions to skip where it doesn't.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

impl Insn {
    /// As the word of eight bytes that the kernel gives a tracer.
    #[must_use]
    pub fn word(self) -> u64 {
        let [code, k] = [u64::from(self.code), u64::from(self.k)];
        code | u64::from(self.jt) << 16 | u64::from(self.jf) << 24 | k << 32
    }
}

/// SECCOMP_FILTER_FLAG_LOG: actions other than "allow" may be logged (4.14).
pub const FLAG_LOG: u32 = 1 << 1;
/// SECCOMP_FILTER_FLAG_SPEC_ALLOW: leaves the speculative store bypass mitigation off (4.17).
pub const FLAG_SPEC_ALLOW: u32 = 1 << 2;
/// SECCOMP_FILTER_FLAG_NEW_LISTENER: returns a descriptor for notifications (5.0).
pub const FLAG_NEW_LISTENER: u32 = 1 << 3;
/// SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV: a notified call that was received waits for the answer uninterrupted (5.19).
pub const FLAG_WAIT_KILLABLE_RECV: u32 = 1 << 5;

/// Puts the calling thread under a filter; with [`FLAG_NEW_LISTENER`], returns the listener, close-on-exec.
///
/// # Errors
/// EACCES without CAP_SYS_ADMIN and `no_new_privs`; EINVAL for a bad program or flag; EBUSY for a second listener.
pub fn load(program: &[Insn], flags: u32) -> Result<Option<OwnedFd>> {
    let Ok(len) = u16::try_from(program.len()) else {
        return Err(Error::new("seccomp", format_args!("{} instructions", program.len()), Errno::E2BIG));
    };
    // The cast below relies on one layout.
    const { assert!(size_of::<Insn>() == size_of::<libc::sock_filter>()) };
    let fprog = libc::sock_fprog { len, filter: program.as_ptr().cast::<libc::sock_filter>().cast_mut() };
    // SAFETY: `fprog` points to `len` instructions of the kernel's layout, which the kernel copies and doesn't change.
    let r = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, libc::c_ulong::from(flags), &raw const fprog)
    };
    if r < 0 {
        return Err(Error::last("seccomp", format_args!("SET_MODE_FILTER, {flags:#x}, {len} instructions")));
    }
    // SAFETY: with this flag the positive result is a new descriptor of ours.
    Ok((flags & FLAG_NEW_LISTENER != 0).then(|| unsafe { OwnedFd::from_raw_fd(r as i32) }))
}

/// Whether the kernel knows an action (`SECCOMP_RET_...`, without data).
pub fn knows_action(action: u32) -> bool {
    // SAFETY: the kernel reads one u32.
    let r = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, &raw const action) };
    r == 0
}

/// Whether the kernel knows a flag, or a set of flags that belong together.
pub fn knows_flags(flags: u32) -> bool {
    // SAFETY: a null program is never read: the kernel looks at the flags first and then fails with EFAULT.
    let r = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::c_ulong::from(flags),
            std::ptr::null::<libc::sock_fprog>(),
        )
    };
    r < 0 && Errno::last() == Errno::EFAULT
}

/// A system call that waits for the agent's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notification {
    /// Names the call in the answer.
    pub id: u64,
    /// The caller, as the agent's pid namespace counts.
    pub pid: u32,
    /// The number of the call.
    pub nr: i32,
    /// Its arguments.
    pub args: [u64; 6],
}

/// Waits for the next call that a filter reports.
///
/// # Errors
/// ENOENT when the caller was killed meanwhile; EINTR.
pub fn receive(listener: impl AsFd) -> Result<Notification> {
    // SAFETY: all zero is a value of this plain structure, and the kernel demands it.
    let mut n: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one `seccomp_notif`, which `n` is.
    let r = unsafe { libc::ioctl(listener.as_fd().as_raw_fd(), NOTIF_RECV, &raw mut n) };
    if r < 0 {
        return Err(Error::last("ioctl", "SECCOMP_IOCTL_NOTIF_RECV"));
    }
    Ok(Notification { id: n.id, pid: n.pid, nr: n.data.nr, args: n.data.args })
}

/// Answers a call: `Ok(value)` is its result, `Err(errno)` its failure; the call itself isn't made.
///
/// # Errors
/// ENOENT when the caller is gone.
pub fn answer(listener: impl AsFd, id: u64, result: std::result::Result<i64, Errno>) -> Result<()> {
    let (val, error) = match result {
        Ok(value) => (value, 0),
        Err(errno) => (0, -(errno as i32)),
    };
    send(listener, libc::seccomp_notif_resp { id, val, error, flags: 0 })
}

/// Lets the kernel make a call that was reported (SECCOMP_USER_NOTIF_FLAG_CONTINUE, 5.5).
///
/// # Errors
/// ENOENT when the caller is gone.
pub fn proceed(listener: impl AsFd, id: u64) -> Result<()> {
    let flags = libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32;
    send(listener, libc::seccomp_notif_resp { id, val: 0, error: 0, flags })
}

fn send(listener: impl AsFd, mut response: libc::seccomp_notif_resp) -> Result<()> {
    let id = response.id;
    // SAFETY: the kernel reads one `seccomp_notif_resp`.
    let r = unsafe { libc::ioctl(listener.as_fd().as_raw_fd(), NOTIF_SEND, &raw mut response) };
    if r < 0 { Err(Error::last("ioctl", format_args!("SECCOMP_IOCTL_NOTIF_SEND, {id}"))) } else { Ok(()) }
}

/// `_IOWR('!', nr, size)` of asm-generic/ioctl.h, which x86 and ARM share.
const fn iowr(nr: u32, size: usize) -> libc::Ioctl {
    ((3 << 30) | ((size as u32) << 16) | ((b'!' as u32) << 8) | nr) as libc::Ioctl
}
const NOTIF_RECV: libc::Ioctl = iowr(0, size_of::<libc::seccomp_notif>());
const NOTIF_SEND: libc::Ioctl = iowr(1, size_of::<libc::seccomp_notif_resp>());
