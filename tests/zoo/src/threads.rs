//! Threads: identity, thread-local memory, futexes, robust mutexes, what each thread has of its own.

use crate::base::{Check, Child, Named, Prepare, Result, Worker, check, gettid, holds, same, sys};
use crate::memory::Map;
use std::cell::Cell;
use std::sync::{Arc, Condvar, Mutex};

pub(crate) const ZOO: &[(&str, Prepare)] = &[
    ("threads", threads),
    ("many_threads", many_threads),
    ("thread_attributes", thread_attributes),
    ("futex", futex),
    ("robust_mutex", robust_mutex),
    ("thread_exit", thread_exit),
];

thread_local! {
    static OWN: Cell<u64> = const { Cell::new(0) };
}

fn worker(number: u64) -> Result<Worker> {
    Worker::spawn(move || {
        let tid = gettid();
        OWN.set(number * 1000);
        let mut expected = number * 1000;
        check(move || {
            same("tid", gettid(), tid)?;
            same("thread-local value", OWN.get(), expected)?;
            expected += 1;
            OWN.set(expected);
            Ok(())
        })
    })
}

/// Tids and thread-local memory.
fn threads() -> Result<Check> {
    let workers: Vec<Worker> = (1..=4).map(worker).collect::<Result<_>>()?;
    let (pid, tid) = (std::process::id(), gettid());
    check(move || {
        same("pid", std::process::id(), pid)?;
        same("tid of the first thread", gettid(), tid)?;
        workers.iter().try_for_each(Worker::check)
    })
}

/// More threads than fit into any small table.
fn many_threads() -> Result<Check> {
    let workers: Vec<Worker> = (1..=150).map(worker).collect::<Result<_>>()?;
    check(move || workers.iter().try_for_each(Worker::check))
}

/// Name, signal mask, alternate stack, nice value and processor are each thread's own.
fn thread_attributes() -> Result<Check> {
    let worker = |number: i32| {
        Worker::spawn(move || {
            let name = format!("zoo-{number}");
            let text = std::ffi::CString::new(name.clone()).named("name")?;
            sys!(libc::prctl(libc::PR_SET_NAME, text.as_ptr()))?;
            let stack = Map::anonymous(64 * 1024)?;
            let alternate = libc::stack_t { ss_sp: stack.at as *mut _, ss_flags: 0, ss_size: stack.len };
            sys!(libc::sigaltstack(&raw const alternate, std::ptr::null_mut()))?;
            sys!(libc::setpriority(libc::PRIO_PROCESS, gettid() as u32, number))?;
            // SAFETY: a set of signals is plain bits.
            let mut mask: libc::sigset_t = unsafe { std::mem::zeroed() };
            sys!(libc::sigaddset(&raw mut mask, libc::SIGRTMIN() + number))?;
            sys!(libc::pthread_sigmask(libc::SIG_SETMASK, &raw const mask, std::ptr::null_mut()))?;
            check(move || {
                let comm = format!("/proc/self/task/{}/comm", gettid());
                same("name", std::fs::read_to_string(&comm).named("comm")?.trim(), &name)?;
                // SAFETY: as above.
                let mut now: libc::stack_t = unsafe { std::mem::zeroed() };
                sys!(libc::sigaltstack(std::ptr::null(), &raw mut now))?;
                same("alternate stack", (now.ss_sp as usize, now.ss_size), (stack.at, stack.len))?;
                same("nice", sys!(libc::getpriority(libc::PRIO_PROCESS, gettid() as u32))?, number)?;
                // SAFETY: as above.
                let mut mask: libc::sigset_t = unsafe { std::mem::zeroed() };
                sys!(libc::pthread_sigmask(libc::SIG_SETMASK, std::ptr::null(), &raw mut mask))?;
                let blocked = (1..=64).filter(|&signal| {
                    // SAFETY: the set is a local one.
                    unsafe { libc::sigismember(&raw const mask, signal) == 1 }
                });
                same("signal mask", blocked.collect(), vec![libc::SIGRTMIN() + number])
            })
        })
    };
    let workers: Vec<Worker> = (1..=3).map(worker).collect::<Result<_>>()?;
    check(move || workers.iter().try_for_each(Worker::check))
}

/// A thread that waits for a condition is woken by it.
fn futex() -> Result<Check> {
    let shared = Arc::new((Mutex::new((0_u32, 0_u32)), Condvar::new()));
    let theirs = shared.clone();
    std::thread::spawn(move || {
        let (lock, changed) = &*theirs;
        let mut seen = 0;
        let mut state = lock.lock().expect("no thread panics");
        loop {
            while state.0 == seen {
                state = changed.wait(state).expect("no thread panics");
            }
            seen = state.0;
            state.1 = seen;
            changed.notify_all();
        }
    });
    check(move || {
        let (lock, changed) = &*shared;
        let mut state = lock.lock().expect("no thread panics");
        state.0 += 1;
        changed.notify_all();
        while state.1 != state.0 {
            state = changed.wait(state).expect("no thread panics");
        }
        Ok(())
    })
}

/// The owner of a robust mutex dies after the restore, and the next one learns of it.
fn robust_mutex() -> Result<Check> {
    let memory = Map::new(4096, libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1)?;
    let mutex = memory.at as *mut libc::pthread_mutex_t;
    // SAFETY: plain data that the next call fills.
    let mut kind: libc::pthread_mutexattr_t = unsafe { std::mem::zeroed() };
    zero(sys!(libc::pthread_mutexattr_init(&raw mut kind))?)?;
    zero(sys!(libc::pthread_mutexattr_setpshared(&raw mut kind, libc::PTHREAD_PROCESS_SHARED))?)?;
    zero(sys!(libc::pthread_mutexattr_setrobust(&raw mut kind, libc::PTHREAD_MUTEX_ROBUST))?)?;
    zero(sys!(libc::pthread_mutex_init(mutex, &raw const kind))?)?;
    let at = memory.at;
    let owner = move || {
        Child::fork(move || {
            zero(sys!(libc::pthread_mutex_lock(at as *mut libc::pthread_mutex_t))?)?;
            check(|| Ok(()))
        })
    };
    let mut child = owner()?;
    check(move || {
        let mutex = at as *mut libc::pthread_mutex_t;
        child.check()?;
        same("trylock while it is held", sys!(libc::pthread_mutex_trylock(mutex))?, libc::EBUSY)?;
        sys!(libc::kill(child.pid, libc::SIGKILL))?;
        sys!(libc::waitpid(child.pid, std::ptr::null_mut(), 0))?;
        same("lock after the owner's death", sys!(libc::pthread_mutex_lock(mutex))?, libc::EOWNERDEAD)?;
        zero(sys!(libc::pthread_mutex_consistent(mutex))?)?;
        zero(sys!(libc::pthread_mutex_unlock(mutex))?)?;
        child = owner()?;
        Ok(())
    })
}

/// The pthread functions return their error.
#[track_caller]
fn zero(result: i32) -> Result<()> {
    same("a pthread function's result", result, 0)
}

/// A thread that ends after the restore wakes whoever joins it: the kernel clears its tid and wakes the futex.
fn thread_exit() -> Result<Check> {
    let start = || {
        let (go, wait) = std::sync::mpsc::channel::<u32>();
        (go, std::thread::spawn(move || wait.recv().unwrap_or(0) + 1))
    };
    let mut running = start();
    check(move || {
        let (go, thread) = std::mem::replace(&mut running, start());
        go.send(41).named("send")?;
        holds("the thread's result", thread.join().is_ok_and(|result| result == 42))
    })
}
