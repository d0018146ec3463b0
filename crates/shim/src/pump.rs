//! Bytes carried from one descriptor to another: terminals, and logs in files.
//!
//! Output that isn't a terminal's needs none of this: its fifo is the container's own.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::PollFlags;
use rustix::io::{Errno, read, write};

/// As much as a terminal gives at once.
const PIECE: usize = 4096;

/// A one-way connection. Both ends are non-blocking.
#[derive(Debug)]
pub(crate) struct Pump {
    from: OwnedFd,
    to: OwnedFd,
    /// Read and not yet written.
    pending: Vec<u8>,
    ended: bool,
}

impl Pump {
    pub(crate) fn new(from: OwnedFd, to: OwnedFd) -> rustix::io::Result<Self> {
        for fd in [&from, &to] {
            let flags = rustix::fs::fcntl_getfl(fd)?;
            rustix::fs::fcntl_setfl(fd, flags | rustix::fs::OFlags::NONBLOCK)?;
        }
        Ok(Self { from, to, pending: Vec::new(), ended: false })
    }

    /// What to wait for, and where.
    pub(crate) fn interest(&self) -> (BorrowedFd<'_>, PollFlags) {
        if self.pending.is_empty() { (self.from.as_fd(), PollFlags::IN) } else { (self.to.as_fd(), PollFlags::OUT) }
    }

    /// Whether nothing more will come.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Carries what can be carried now.
    pub(crate) fn advance(&mut self) {
        let mut piece = [0; PIECE];
        loop {
            while !self.pending.is_empty() {
                match write(&self.to, &self.pending) {
                    Ok(count) => drop(self.pending.drain(..count)),
                    Err(Errno::AGAIN) => return,
                    Err(Errno::INTR) => {}
                    Err(_) => {
                        self.ended = true;
                        return;
                    }
                }
            }
            match read(&self.from, &mut piece) {
                // A terminal without a process left gives EIO.
                Ok(0) | Err(Errno::IO) => {
                    self.ended = true;
                    return;
                }
                Ok(count) => self.pending.extend(&piece[..count]),
                Err(Errno::AGAIN) => {
                    self.pending.shrink_to(0);
                    return;
                }
                Err(Errno::INTR) => {}
                Err(_) => {
                    self.ended = true;
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::pipe::{PipeFlags, pipe_with};

    #[test]
    fn a_full_target_is_waited_for() {
        let (from, source) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let (sink, to) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let mut pump = Pump::new(from, to).unwrap();
        let block = [7; 40_000];
        let mut taken = vec![0; 80_000];
        assert_eq!(write(&source, &block), Ok(40_000));
        pump.advance();
        assert_eq!(write(&source, &block), Ok(40_000));
        pump.advance();
        assert_eq!(pump.interest().1, PollFlags::OUT);
        drop(source);
        let mut count = 0;
        while !pump.has_ended() {
            count += read(&sink, &mut taken[count..]).unwrap();
            pump.advance();
        }
        drop(pump);
        while count < 80_000 {
            count += read(&sink, &mut taken[count..]).unwrap();
        }
        assert_eq!(read(&sink, &mut [0]), Ok(0));
        assert!(taken.iter().all(|byte| *byte == 7));
    }
}
