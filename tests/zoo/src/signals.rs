//! Signals: handlers, masks, pending ones with their data, alternate stacks, a handler that is running.

use crate::base::{Check, Named, Prepare, Result, Worker, check, gettid, holds, pipe, read, same, sys, write};
use crate::memory::Map;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};

pub(crate) const ZOO: &[(&str, Prepare)] = &[
    ("handlers", handlers),
    ("pending", pending),
    ("pending_in_thread", pending_in_thread),
    ("altstack", altstack),
    ("inside_a_handler", inside_a_handler),
];

/// A set of signals.
pub(crate) fn set(signals: &[i32]) -> libc::sigset_t {
    // SAFETY: a set of signals is plain bits.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    for &signal in signals {
        // SAFETY: the set is a local one.
        unsafe { libc::sigaddset(&raw mut set, signal) };
    }
    set
}

/// The signals of a set.
fn members(set: &libc::sigset_t) -> Vec<i32> {
    // SAFETY: the set is only read.
    (1..=64).filter(|&signal| unsafe { libc::sigismember(set, signal) } == 1).collect()
}

/// Installs a handler.
fn handle(signal: i32, handler: usize, flags: i32, mask: &[i32]) -> Result<()> {
    // SAFETY: plain data that is filled below.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler;
    action.sa_flags = flags;
    action.sa_mask = set(mask);
    sys!(libc::sigaction(signal, &raw const action, std::ptr::null_mut())).map(drop)
}

fn installed(signal: i32) -> Result<(usize, i32, Vec<i32>)> {
    // SAFETY: plain data that is filled by the call.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    sys!(libc::sigaction(signal, std::ptr::null(), &raw mut action))?;
    Ok((action.sa_sigaction, action.sa_flags, members(&action.sa_mask)))
}

static CAUGHT: AtomicUsize = AtomicUsize::new(0);

extern "C" fn count(_: i32) {
    CAUGHT.fetch_add(1, Ordering::SeqCst);
}

/// Handlers with flags and masks, ignored signals, and that they are called.
fn handlers() -> Result<Check> {
    let counter = count as extern "C" fn(i32) as usize;
    handle(libc::SIGUSR1, counter, libc::SA_RESTART, &[libc::SIGUSR2, libc::SIGTERM])?;
    handle(libc::SIGUSR2, counter, libc::SA_NODEFER | libc::SA_ONSTACK, &[])?;
    handle(libc::SIGRTMIN() + 5, counter, libc::SA_SIGINFO, &[libc::SIGRTMIN() + 6])?;
    handle(libc::SIGHUP, libc::SIG_IGN, 0, &[])?;
    handle(libc::SIGCHLD, libc::SIG_DFL, libc::SA_NOCLDWAIT | libc::SA_NOCLDSTOP, &[])?;
    // 32 and 33 belong to libc, 9 and 19 to nobody.
    let all = || -> Result<Vec<_>> { (1..=64).filter(|s| ![9, 19, 32, 33].contains(s)).map(installed).collect() };
    let before = all()?;
    check(move || {
        same("actions", &all()?, &before)?;
        for signal in [libc::SIGUSR1, libc::SIGUSR2, libc::SIGRTMIN() + 5, libc::SIGHUP] {
            let caught = CAUGHT.load(Ordering::SeqCst);
            sys!(libc::raise(signal))?;
            let more = CAUGHT.load(Ordering::SeqCst) - caught;
            same(&format!("calls for signal {signal}"), more, usize::from(signal != libc::SIGHUP))?;
        }
        Ok(())
    })
}

/// Takes a pending signal: number, code, value.
fn take(signals: &[i32]) -> Result<(i32, i32, usize)> {
    // SAFETY: plain data that is filled by the call.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // The system call itself: libc's function hides how the signal was sent.
    let (set, timeout) = (set(signals), &raw const now);
    sys!(libc::syscall(libc::SYS_rt_sigtimedwait, &raw const set, &raw mut info, timeout, 8))?;
    // SAFETY: the union's value part is plain data in every case.
    Ok((info.si_signo, info.si_code, unsafe { info.si_value() }.sival_ptr as usize))
}

/// Signals sent to the process while blocked: one ordinary, three of one real-time number in their order.
fn pending() -> Result<Check> {
    let real = libc::SIGRTMIN() + 2;
    let all = [libc::SIGUSR1, real];
    sys!(libc::pthread_sigmask(libc::SIG_BLOCK, &set(&all), std::ptr::null_mut()))?;
    let send = move || -> Result<()> {
        sys!(libc::kill(libc::getpid(), libc::SIGUSR1))?;
        for value in [11_usize, 22, 33] {
            let value = libc::sigval { sival_ptr: value as *mut _ };
            sys!(libc::sigqueue(libc::getpid(), real, value))?;
        }
        Ok(())
    };
    send()?;
    check(move || {
        let user = take(&[libc::SIGUSR1])?;
        same("SIGUSR1", (user.0, user.1), (libc::SIGUSR1, libc::SI_USER))?;
        for value in [11, 22, 33] {
            same("a queued signal", take(&[real])?, (real, libc::SI_QUEUE, value))?;
        }
        holds("no other signal is pending", take(&all).is_err())?;
        send()
    })
}

/// Signals sent to one thread stay that thread's.
fn pending_in_thread() -> Result<Check> {
    let real = libc::SIGRTMIN() + 3;
    sys!(libc::pthread_sigmask(libc::SIG_BLOCK, &set(&[real]), std::ptr::null_mut()))?;
    let worker = Worker::spawn(move || {
        let send = move || sys!(libc::syscall(libc::SYS_tgkill, libc::getpid(), gettid(), real)).map(drop);
        send()?;
        check(move || {
            let (signal, code, _) = take(&[real])?;
            same("the thread's signal", (signal, code), (real, libc::SI_TKILL))?;
            send()
        })
    })?;
    check(move || {
        holds("the first thread has none", take(&[real]).is_err())?;
        worker.check()
    })
}

static PLACE: AtomicUsize = AtomicUsize::new(0);

extern "C" fn note_place(_: i32) {
    let local = 0_u8;
    PLACE.store(&raw const local as usize, Ordering::SeqCst);
}

fn use_altstack() -> Result<Map> {
    let stack = Map::anonymous(64 * 1024)?;
    let alternate = libc::stack_t { ss_sp: stack.at as *mut _, ss_flags: 0, ss_size: stack.len };
    sys!(libc::sigaltstack(&raw const alternate, std::ptr::null_mut()))?;
    Ok(stack)
}

/// A handler runs on the alternate stack.
fn altstack() -> Result<Check> {
    let stack = use_altstack()?;
    handle(libc::SIGUSR1, note_place as extern "C" fn(i32) as usize, libc::SA_ONSTACK, &[])?;
    check(move || {
        sys!(libc::raise(libc::SIGUSR1))?;
        let place = PLACE.load(Ordering::SeqCst);
        holds("the handler ran on the alternate stack", (stack.at..stack.at + stack.len).contains(&place))
    })
}

static HANDLER_WAITS_ON: AtomicI32 = AtomicI32::new(-1);
static HANDLER_TELLS: AtomicI32 = AtomicI32::new(-1);

extern "C" fn wait_inside(_: i32) {
    let mut byte = 0_u8;
    // SAFETY: one byte to and from descriptors that stay open.
    unsafe {
        libc::read(HANDLER_WAITS_ON.load(Ordering::SeqCst), (&raw mut byte).cast(), 1);
        libc::write(HANDLER_TELLS.load(Ordering::SeqCst), (&raw const byte).cast(), 1);
    }
}

/// A thread is inside a handler, on the alternate stack, with the signal blocked, and comes out of it.
fn inside_a_handler() -> Result<Check> {
    let (inner, wake) = pipe(0)?;
    let (told, inner_tell) = pipe(0)?;
    HANDLER_WAITS_ON.store(inner.as_raw_fd(), Ordering::SeqCst);
    HANDLER_TELLS.store(inner_tell.as_raw_fd(), Ordering::SeqCst);
    std::mem::forget((inner, inner_tell));
    let (returned, tell) = std::sync::mpsc::channel();
    let (told_tid, tid) = std::sync::mpsc::channel();
    std::thread::spawn(move || -> Result<()> {
        use_altstack()?;
        handle(libc::SIGUSR2, wait_inside as extern "C" fn(i32) as usize, libc::SA_ONSTACK, &[libc::SIGTERM])?;
        told_tid.send(gettid()).named("send")?;
        let mut sum = 0_u64;
        loop {
            sys!(libc::raise(libc::SIGUSR2))?;
            sum += 1;
            returned.send(sum).named("send")?;
        }
    });
    let tid: i32 = tid.recv().named("tid")?;
    let waits = move || crate::base::until_blocked(tid, libc::SYS_read);
    waits()?;
    let mut rounds = 0;
    check(move || {
        write(&wake, b"x")?;
        same("the handler got", read(&told, 1)?, b"x".to_vec())?;
        rounds += 1;
        same("the code around the handler went on", tell.recv().named("recv")?, rounds)?;
        waits()
    })
}
