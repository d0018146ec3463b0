//! What all programs of the zoo are made of: system calls with errors, comparisons, children and threads that check.

use std::fmt::Debug;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::mpsc::{Receiver, Sender, channel};

/// Why state can't be prepared, or what is wrong with it.
pub(crate) type Result<T> = std::result::Result<T, String>;

/// Looks whether the state is whole.
pub(crate) type Check = Box<dyn FnMut() -> Result<()>>;

/// Makes the state.
pub(crate) type Prepare = fn() -> Result<Check>;

/// Makes a system call through libc; -1 is an error that shows the call.
macro_rules! sys {
    ($call:expr) => {{
        // SAFETY: each use passes plain numbers or pointers to live objects of the right type.
        let result = unsafe { $call };
        if result as i64 == -1 {
            let error = std::io::Error::last_os_error();
            Err(format!("{}:{}: {}: {error}", file!(), line!(), stringify!($call)))
        } else {
            Ok(result)
        }
    }};
}
pub(crate) use sys;

/// The same for calls that return a new descriptor.
macro_rules! sys_fd {
    ($call:expr) => {{
        // SAFETY: as above; the descriptor is new and nobody else's.
        crate::base::sys!($call).map(|fd| unsafe { std::os::fd::FromRawFd::from_raw_fd(fd as i32) })
            as Result<std::os::fd::OwnedFd>
    }};
}
pub(crate) use sys_fd;

/// Wraps a closure as a [`Check`].
pub(crate) fn check(f: impl FnMut() -> Result<()> + 'static) -> Result<Check> {
    Ok(Box::new(f))
}

/// An error unless both are the same.
#[track_caller]
pub(crate) fn same<T: PartialEq + Debug>(what: &str, now: T, before: T) -> Result<()> {
    if now == before {
        return Ok(());
    }
    let place = std::panic::Location::caller();
    Err(format!("{}:{}: {what}: {now:?} instead of {before:?}", place.file(), place.line()))
}

/// An error unless the condition holds.
#[track_caller]
pub(crate) fn holds(what: &str, condition: bool) -> Result<()> {
    same(what, condition, true)
}

/// Names what failed.
pub(crate) trait Named<T> {
    /// Puts a name before the error.
    fn named(self, name: &str) -> Result<T>;
}

impl<T, E: std::fmt::Display> Named<T> for std::result::Result<T, E> {
    fn named(self, name: &str) -> Result<T> {
        self.map_err(|e| format!("{name}: {e}"))
    }
}

/// A pipe: the end to read from, the end to write to.
pub(crate) fn pipe(flags: i32) -> Result<(OwnedFd, OwnedFd)> {
    let mut fds = [0; 2];
    sys!(libc::pipe2(fds.as_mut_ptr(), flags))?;
    Ok(owned(fds))
}

/// Takes hold of two new descriptors.
pub(crate) fn owned(fds: [RawFd; 2]) -> (OwnedFd, OwnedFd) {
    // SAFETY: the caller got them from the kernel just now.
    unsafe { (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])) }
}

/// Writes all bytes.
pub(crate) fn write(fd: &impl AsRawFd, bytes: &[u8]) -> Result<()> {
    let count = sys!(libc::write(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()))?;
    same("bytes written", count as usize, bytes.len())
}

/// Reads once, up to `len` bytes.
pub(crate) fn read(fd: &impl AsRawFd, len: usize) -> Result<Vec<u8>> {
    let mut buffer = vec![0; len];
    let count = sys!(libc::read(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), len))?;
    buffer.truncate(count as usize);
    Ok(buffer)
}

/// The errno that a call must fail with.
#[track_caller]
pub(crate) fn fails<T>(what: &str, result: Result<T>, errno: i32) -> Result<()> {
    let wanted = std::io::Error::from_raw_os_error(errno).to_string();
    match result {
        Ok(_) => same(what, "success".to_owned(), wanted),
        Err(text) if text.ends_with(&wanted) => Ok(()),
        Err(text) => same(what, text, wanted),
    }
}

/// `poll` without waiting: what is ready of `events`.
pub(crate) fn ready(fd: &impl AsRawFd, events: i16) -> Result<i16> {
    let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events, revents: 0 };
    sys!(libc::poll(&mut poll, 1, 0))?;
    Ok(poll.revents)
}

/// A child process with a state of its own, checked when the parent says so.
pub(crate) struct Child {
    /// Its pid.
    pub(crate) pid: i32,
    ask: File,
    answer: File,
}

impl Child {
    /// Forks; the child prepares, and then checks whenever asked.
    pub(crate) fn fork(prepare: impl FnOnce() -> Result<Check>) -> Result<Self> {
        let (their_ask, ask) = pipe(libc::O_CLOEXEC)?;
        let (answer, their_answer) = pipe(libc::O_CLOEXEC)?;
        let pid = sys!(libc::fork())?;
        if pid == 0 {
            drop((ask, answer));
            serve(prepare, their_ask.into(), their_answer.into());
        }
        let mut child = Self { pid, ask: ask.into(), answer: answer.into() };
        child.receive()?;
        Ok(child)
    }

    /// Lets the child check its state.
    pub(crate) fn check(&mut self) -> Result<()> {
        self.ask.write_all(b"?").named("ask a child")?;
        self.receive().named(&format!("child {}", self.pid))
    }

    fn receive(&mut self) -> Result<()> {
        let mut len = [0];
        self.answer.read_exact(&mut len).named("a child's answer")?;
        let mut text = vec![0; len[0] as usize];
        self.answer.read_exact(&mut text).named("a child's answer")?;
        if text.is_empty() { Ok(()) } else { Err(String::from_utf8_lossy(&text).into_owned()) }
    }

    /// Its state letter in /proc.
    pub(crate) fn state(&self) -> Result<char> {
        state(self.pid)
    }
}

/// The state letter of a process in /proc.
pub(crate) fn state(pid: i32) -> Result<char> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).named("stat")?;
    text.rsplit(") ").next().and_then(|rest| rest.chars().next()).ok_or_else(|| format!("stat: {text}"))
}

/// The child's side: never returns into the parent's code.
fn serve(prepare: impl FnOnce() -> Result<Check>, mut ask: File, mut answer: File) -> ! {
    let mut send = |result: Result<()>| {
        let text = result.err().unwrap_or_default().into_bytes();
        let len = text.len().min(255);
        let whole = [&[len as u8], &text[..len]].concat();
        answer.write_all(&whole).is_ok()
    };
    let mut go_on = true;
    match prepare() {
        Ok(mut check) => {
            go_on &= send(Ok(()));
            let mut byte = [0];
            while go_on && ask.read_exact(&mut byte).is_ok() {
                go_on = send(check());
            }
        }
        Err(e) => drop(send(Err(e))),
    }
    // SAFETY: ends this process and touches nothing.
    unsafe { libc::_exit(0) }
}

/// A thread with a state of its own, checked when told.
pub(crate) struct Worker {
    ask: Sender<()>,
    answer: Receiver<Result<()>>,
}

impl Worker {
    /// Starts a thread that prepares, and then checks whenever asked.
    pub(crate) fn spawn(prepare: impl FnOnce() -> Result<Check> + Send + 'static) -> Result<Self> {
        let (ask, asked) = channel::<()>();
        let (tell, answer) = channel();
        std::thread::spawn(move || match prepare() {
            Ok(mut check) => {
                let mut open = tell.send(Ok(())).is_ok();
                while open && asked.recv().is_ok() {
                    open = tell.send(check()).is_ok();
                }
            }
            Err(e) => drop(tell.send(Err(e))),
        });
        let worker = Self { ask, answer };
        worker.receive()?;
        Ok(worker)
    }

    /// Lets the thread check its state.
    pub(crate) fn check(&self) -> Result<()> {
        self.ask.send(()).named("ask a thread")?;
        self.receive()
    }

    fn receive(&self) -> Result<()> {
        self.answer.recv().named("a thread's answer")?
    }
}

/// The caller's thread id.
pub(crate) fn gettid() -> i32 {
    // SAFETY: takes nothing.
    unsafe { libc::gettid() }
}

/// Waits until a thread is blocked in a system call, as /proc shows it; yields the processor meanwhile.
pub(crate) fn until_blocked(tid: i32, call: i64) -> Result<()> {
    let prefix = format!("{call} ");
    loop {
        let text = std::fs::read_to_string(format!("/proc/self/task/{tid}/syscall")).named("syscall")?;
        let state = std::fs::read_to_string(format!("/proc/self/task/{tid}/stat")).named("stat")?;
        if text.starts_with(&prefix) && state.contains(") S ") {
            return Ok(());
        }
        std::thread::yield_now();
    }
}
