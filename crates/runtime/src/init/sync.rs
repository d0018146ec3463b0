//! The words between parent and child while a process is being made: one message each, over a socket pair that keeps
//! message boundaries.
//!
//! The child asks, the parent answers `Word::Go`. When the child's end closes without an error before, the child has
//! executed its program (the socket is close-on-exec) or waits for `start`.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rtc_sys::message::{self, Control, Extra};
use rtc_sys::{CallExt, Errno};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::error::{Error, Kind, Result};

/// Longest message; an error with a longer text is cut.
const MAX: usize = 4 * 1024;

/// What the child says.
#[derive(Debug)]
pub(crate) enum Word {
    /// From the intermediate process: init is made, this is its pidfd.
    Made(OwnedFd),
    /// The namespaces are there and the root is mounted: the hooks of the runtime's side may run.
    Hooks,
    /// The terminal's master.
    Console(OwnedFd),
    /// The child may not set the limit with this index in `process.rlimits`: perhaps the parent may.
    Limit(usize),
    /// All is in place.
    Ready,
    /// The filter is loaded; the listener has this number in the child.
    Listener(i32),
    /// The listener itself, for a parent that may not fetch it.
    Given(OwnedFd),
    /// Something to log.
    Warning(String),
    /// The end: what went wrong.
    Failed(Error),
    /// The child's end is closed.
    Closed,
}

/// One end of the conversation.
#[derive(Debug)]
pub(crate) struct Channel(OwnedFd);

/// Both ends: the parent's, the child's.
pub(crate) fn channel() -> Result<(Channel, Channel)> {
    let (parent, child) = rustix::net::socketpair(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::SEQPACKET,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )
    .call("socketpair", "UNIX, SEQPACKET")?;
    Ok((Channel(parent), Channel(child)))
}

impl Channel {
    /// The descriptor, for [`super::child`] to keep open.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Parent: the child's next word.
    pub(crate) fn receive(&self) -> Result<Word> {
        self.next(0)
    }

    /// Parent: why a step of its own has failed. Where the child has ended by an error already, that is the reason: with
    /// it went what the step was about, as systemd removes the scope of a process that has ended.
    pub(crate) fn reason(&self, ours: Error) -> Error {
        loop {
            match self.next(libc::MSG_DONTWAIT) {
                Ok(Word::Failed(theirs)) => {
                    log::debug!("{ours}");
                    return theirs;
                }
                Ok(Word::Warning(text)) => log::warn!("{text}"),
                Ok(Word::Closed) | Err(_) => return ours,
                Ok(_) => {}
            }
        }
    }

    fn next(&self, flags: i32) -> Result<Word> {
        let mut buffer = vec![0; MAX];
        let received = loop {
            match message::receive(self.0.as_fd(), &mut buffer, flags) {
                // ECONNRESET: the peer died with our answer unread. That is told once, and before what it had said.
                Err(e) if matches!(e.errno(), Errno::EINTR | Errno::ECONNRESET) => {}
                other => break other?,
            }
        };
        if received.len == 0 {
            return Ok(Word::Closed);
        }
        let fd = received.control.into_iter().find_map(|piece| match piece {
            Control::Rights(mut fds) => fds.pop(),
            _ => None,
        });
        decode(&buffer[..received.len], fd)
    }

    /// Parent: lets the child go on.
    pub(crate) fn go(&self) -> Result<()> {
        message::send(self.0.as_fd(), b"g", Extra::default(), 0)?;
        Ok(())
    }

    /// Parent: answers that what was asked for can't be.
    pub(crate) fn refuse(&self) -> Result<()> {
        message::send(self.0.as_fd(), b"n", Extra::default(), 0)?;
        Ok(())
    }

    /// Child: says something.
    pub(crate) fn say(&self, tag: u8, text: &[u8], fd: Option<BorrowedFd<'_>>) -> Result<()> {
        let mut data = Vec::with_capacity(text.len() + 1);
        data.push(tag);
        data.extend_from_slice(&text[..text.len().min(MAX - 1)]);
        let rights: Vec<BorrowedFd<'_>> = fd.into_iter().collect();
        message::send(self.0.as_fd(), &data, Extra { rights: &rights, ..Extra::default() }, 0)?;
        Ok(())
    }

    /// Child: waits for the parent's answer. Its absence means that the parent is gone or has given up.
    pub(crate) fn wait(&self) -> Result<()> {
        self.answer().map(drop)
    }

    /// Child: the parent's answer, whether it is a good one.
    fn answer(&self) -> Result<bool> {
        let mut byte = [0; 1];
        match rustix::io::retry_on_intr(|| rustix::io::read(&self.0, &mut byte)).call("read", "the parent's socket")? {
            1 => Ok(byte == *b"g"),
            _ => Err(Error::new(Kind::System, "the parent has given up")),
        }
    }

    /// Child: asks the parent to set a limit of `process.rlimits`. Gives whether it could.
    pub(crate) fn limit(&self, index: usize) -> Result<bool> {
        self.say(b'l', &(index as u64).to_ne_bytes(), None)?;
        self.answer()
    }

    /// Child: says that all is in place, and waits.
    pub(crate) fn ready(&self) -> Result<()> {
        self.say(b'r', b"", None)?;
        self.wait()
    }

    /// Child: asks for the runtime's hooks, and waits for their end.
    pub(crate) fn hooks(&self) -> Result<()> {
        self.say(b'h', b"", None)?;
        self.wait()
    }

    /// Child: hands over the terminal's master.
    pub(crate) fn console(&self, master: BorrowedFd<'_>) -> Result<()> {
        self.say(b'c', b"", Some(master))
    }

    /// Child: says which of its descriptors is the filter's listener, by write(2), which a filter may not report.
    /// A parent that may not fetch it is given it, by a call that the filter may report, but then the parent ends it.
    pub(crate) fn listener(&self, listener: BorrowedFd<'_>) -> Result<()> {
        let data = [&b"s"[..], &listener.as_raw_fd().to_ne_bytes()].concat();
        rustix::io::write(&self.0, &data).call("write", "the parent's socket")?;
        if self.answer()? {
            return Ok(());
        }
        self.say(b'f', b"", Some(listener))?;
        self.wait()
    }

    /// Child: something to log.
    pub(crate) fn warn(&self, text: &str) {
        // The parent is there as long as anybody reads warnings.
        let _ = self.say(b'w', text.as_bytes(), None);
    }

    /// Child: the error that ends it. Gives whether it was said, or need not be: a parent that is gone has an error of its
    /// own, of which the child's is but what follows.
    pub(crate) fn fail(&self, error: &Error) -> bool {
        let mut data = vec![b'e', kind_to_byte(*error.kind())];
        data.extend_from_slice(error.to_string().as_bytes());
        if let Some(hint) = error.hint() {
            data.push(0);
            data.extend_from_slice(hint.as_bytes());
        }
        data.truncate(MAX);
        message::send(self.0.as_fd(), &data, Extra::default(), 0).is_ok() || self.is_deserted()
    }

    /// Whether the other end is closed. Asked of poll(2): a filter may have its own answer to a send.
    fn is_deserted(&self) -> bool {
        let mut fds = [PollFd::new(&self.0, PollFlags::empty())];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        matches!(poll(&mut fds, Some(&now)), Ok(1..)) && fds[0].revents().contains(PollFlags::HUP)
    }

    /// The intermediate process: init is made.
    pub(crate) fn made(&self, pidfd: BorrowedFd<'_>) -> Result<()> {
        self.say(b'm', b"", Some(pidfd))
    }
}

fn decode(data: &[u8], fd: Option<OwnedFd>) -> Result<Word> {
    let (tag, rest) = data.split_first().ok_or_else(garbled)?;
    Ok(match (tag, fd) {
        (b'm', Some(fd)) => Word::Made(fd),
        (b'c', Some(fd)) => Word::Console(fd),
        (b'f', Some(fd)) => Word::Given(fd),
        (b'h', None) => Word::Hooks,
        (b'r', None) => Word::Ready,
        (b'w', None) => Word::Warning(String::from_utf8_lossy(rest).into_owned()),
        (b'l', None) => {
            let index = u64::from_ne_bytes(rest.try_into().map_err(|_| garbled())?);
            Word::Limit(usize::try_from(index).map_err(|_| garbled())?)
        }
        (b's', None) => Word::Listener(i32::from_ne_bytes(rest.try_into().map_err(|_| garbled())?)),
        (b'e', None) => {
            let (kind, text) = rest.split_first().ok_or_else(garbled)?;
            let mut parts = text.splitn(2, |byte| *byte == 0).map(String::from_utf8_lossy);
            let error = Error::new(kind_from_byte(*kind), parts.next().unwrap_or_default());
            Word::Failed(match parts.next() {
                Some(hint) => error.with_hint(hint),
                None => error,
            })
        }
        _ => return Err(garbled()),
    })
}

fn garbled() -> Error {
    Error::new(Kind::System, "the new process sent a message that makes no sense")
}

const KINDS: &[Kind] = &[Kind::System, Kind::Invalid, Kind::NotFound, Kind::Exists, Kind::WrongState, Kind::Exec];

fn kind_to_byte(kind: Kind) -> u8 {
    KINDS.iter().position(|known| *known == kind).and_then(|at| u8::try_from(at).ok()).unwrap_or(0)
}

fn kind_from_byte(byte: u8) -> Kind {
    KINDS.get(usize::from(byte)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_arrives_with_kind_and_hint() {
        let (parent, child) = channel().unwrap();
        assert!(child.fail(&Error::new(Kind::Exec, "exec: \"x\": no").context("a").with_hint("try y")));
        let Word::Failed(error) = parent.receive().unwrap() else { panic!("not an error") };
        assert_eq!(
            (*error.kind(), error.to_string(), error.hint()),
            (Kind::Exec, "a: exec: \"x\": no".into(), Some("try y"))
        );
    }

    /// It has ended by an error of its own, and one line is what the user gets.
    #[test]
    fn a_parent_that_is_gone_need_not_be_told() {
        let error = Error::new(Kind::System, "the parent has given up");
        for unread in [false, true] {
            let (parent, child) = channel().unwrap();
            if unread {
                child.warn("unread");
            }
            assert!(!child.is_deserted());
            drop(parent);
            assert!(child.fail(&error) && child.is_deserted(), "{unread}");
        }
    }

    #[test]
    fn the_reason_is_what_the_child_has_said() {
        let ours = || Error::new(Kind::System, "no such cgroup");
        for unread in [false, true] {
            let (parent, child) = channel().unwrap();
            assert_eq!(parent.reason(ours()).to_string(), "no such cgroup", "nothing is said yet");
            child.say(b'h', b"", None).unwrap();
            assert!(child.fail(&Error::new(Kind::Invalid, "mount /x: no")));
            if unread {
                parent.go().unwrap();
            }
            drop(child);
            assert_eq!(parent.reason(ours()).to_string(), "mount /x: no");
            assert_eq!(parent.reason(ours()).to_string(), "no such cgroup", "it was told");
        }
    }

    #[test]
    fn the_end_of_the_child_is_a_word_too() {
        let (parent, child) = channel().unwrap();
        child.warn("careful");
        drop(child);
        assert!(matches!(parent.receive().unwrap(), Word::Warning(text) if text == "careful"));
        assert!(matches!(parent.receive().unwrap(), Word::Closed));
    }
}
