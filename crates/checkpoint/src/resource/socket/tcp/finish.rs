//! Ends repair mode and brings connections to the state they were in, by letting them do what they had done.

use super::ghost::{Ghost, Scene};
use super::repair::{self, Queue};
use super::restore::{All, BUFFER, Entry, Kept, contents, noun, received_end, send_all, send_start};
use super::{Connection, Other, Phase};
use crate::error::{Context as _, Result, bad_image};
use crate::files::restoring::Restore;
use crate::netlock;
use rtc_sys::socket;
use rustix::event::PollFlags;
use rustix::fs::OFlags;
use std::os::fd::{AsFd as _, BorrowedFd};

/// Seconds after which a FIN is not waited for any more.
const FIN_LIMIT: i64 = 2;

/// A connection, and what it still has to send.
struct Open<'a, 'b> {
    entry: Entry<'a>,
    connection: &'a Connection,
    fd: BorrowedFd<'b>,
    /// The sequence number of the first of `bytes`.
    start: u32,
    bytes: Vec<u8>,
}

/// The last touch to all TCP sockets of an image.
pub(in super::super) fn finish(all: &[Entry<'_>], cx: &mut Restore<'_>) -> Result<()> {
    let Kept { lock, locked } = std::mem::take(cx.kept::<Kept>());
    let by_inode: All<'_> = all.iter().map(|entry| (entry.base.inode, *entry)).collect();
    let mut list = Vec::new();
    for entry in all {
        let fd = cx.opened(entry.file.id)?;
        entry.base.options.apply_late(fd, entry.base.sort).context(|| noun(*entry))?;
        if let Some(connection) = entry.connection() {
            let start = send_start(*entry, connection, &by_inode)?;
            let mut bytes = contents(connection.sent.contents, cx)?;
            bytes.drain(..start.wrapping_sub(connection.sent.sequence) as usize);
            if let Some(taken) = connection.taken {
                bytes = joined(contents(taken.contents, cx)?, taken.sequence, &bytes, start)?;
            }
            list.push(Open { entry: *entry, connection, fd, start, bytes });
        }
    }
    each(&list, Open::queue_what_was_sent)?;
    each(&list, Open::hear_outside)?;
    drop(lock);
    each(&list, Open::leave_repair)?;
    if !locked.is_empty() {
        let road = cx.open_host_proc("self/ns/net", OFlags::RDONLY);
        if let Err(e) = road.and_then(|road| netlock::road::open(road.as_fd(), &locked)) {
            // It opens by itself.
            log::warn!("{e}");
        }
    }
    each(&list, Open::hear_last_words)?;
    each(&list, Open::send_the_rest)?;
    // Who has heard nothing when it said FIN goes first.
    each(&list, |open| if open.connection.phase.has_received() { Ok(()) } else { open.say_fin() })?;
    each(&list, |open| if open.connection.phase.has_received() { open.say_fin() } else { Ok(()) })?;
    each(&list, Open::wait_for_fin)?;
    each(&list, Open::set_buffers)
}

/// What was received first, and what was sent after that.
fn joined(received: Vec<u8>, from: u32, sent: &[u8], start: u32) -> Result<Vec<u8>> {
    let end = from.wrapping_add(received.len() as u32);
    let rest = sent.get(end.wrapping_sub(start) as usize..);
    let rest = rest.ok_or_else(|| bad_image("the other end has received what was not sent"))?;
    Ok([&received, rest].concat())
}

fn each<'a, 'b>(list: &[Open<'a, 'b>], step: impl Fn(&Open<'a, 'b>) -> Result<()>) -> Result<()> {
    list.iter().try_for_each(|open| step(open).context(|| noun(open.entry)))
}

impl Open<'_, '_> {
    fn is_outside(&self) -> bool {
        self.connection.other == Other::Outside
    }

    /// Its FIN was sent: nothing before it is unsent.
    fn has_sent_fin(&self) -> bool {
        self.connection.phase.has_sent() && self.connection.unsent == 0
    }

    /// To the outside: what was sent goes into the queue as sent.
    fn queue_what_was_sent(&self) -> Result<()> {
        socket::set_int_option(self.fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, BUFFER)?;
        if self.is_outside() {
            repair::select(self.fd, Queue::Send)?;
            let sent = self.bytes.len().saturating_sub(self.connection.unsent as usize);
            send_all(self.fd, &self.bytes[..sent]).context(|| "fill the send queue")?;
            // A last acknowledgement is for a FIN that was said after the other's.
            if self.has_sent_fin() && self.connection.phase != Phase::LastAck {
                socket::shutdown(self.fd, libc::SHUT_WR)?;
            }
            repair::select(self.fd, Queue::None)?;
        }
        Ok(())
    }

    /// From the outside: what the other end had said is said again, and goes no further than here.
    fn hear_outside(&self) -> Result<()> {
        if !self.is_outside() {
            return Ok(());
        }
        let phase = self.connection.phase;
        let end = self.start.wrapping_add(self.bytes.len() as u32);
        if phase == Phase::FinWait2 {
            // Its FIN is acknowledged; the kernel's probe bears the number before the next.
            let sequence = received_end(self.connection).wrapping_add(1);
            let ghost = Ghost::appear(Scene { sequence, acknowledged: end.wrapping_add(1), ..self.scene() })?;
            ghost.acknowledge()?;
            ghost.vanish()?;
        }
        if phase.has_received() {
            let ghost = Ghost::appear(self.scene())?;
            ghost.finish()?;
            self.wait_for_fin()?;
            ghost.vanish()?;
        }
        if phase == Phase::LastAck && self.has_sent_fin() {
            repair::select(self.fd, Queue::Send)?;
            socket::shutdown(self.fd, libc::SHUT_WR)?;
            repair::select(self.fd, Queue::None)?;
        }
        Ok(())
    }

    /// A stand-in for the other end that acknowledges nothing new.
    fn scene(&self) -> Scene {
        Scene {
            ghost: self.connection.peer,
            socket: self.entry.tcp.local,
            sequence: received_end(self.connection),
            acknowledged: self.start,
            segment: self.connection.segment,
            scale: self.connection.scale,
        }
    }

    fn leave_repair(&self) -> Result<()> {
        match self.connection.other {
            Other::Waiting(_) => return Ok(()),
            // Asks for the other end's window, which may have changed.
            Other::Outside => repair::off_with_probe(self.fd)?,
            Other::Inside(_) | Other::Gone => repair::off(self.fd)?,
        }
        repair::set_reuse(self.fd, self.entry.reuse())
    }

    /// Who is gone had said FIN; it leaves behind what answers, by a reset, to those who go on sending.
    fn hear_last_words(&self) -> Result<()> {
        if self.connection.other == Other::Gone && self.connection.phase.has_received() {
            Ghost::appear(self.scene())?.finish()?;
        }
        Ok(())
    }

    fn send_the_rest(&self) -> Result<()> {
        let rest = if self.is_outside() {
            &self.bytes[self.bytes.len().saturating_sub(self.connection.unsent as usize)..]
        } else {
            &self.bytes[..]
        };
        send_all(self.fd, rest).context(|| "send the rest")
    }

    fn say_fin(&self) -> Result<()> {
        let said = self.is_outside() && self.has_sent_fin();
        if self.connection.phase.has_sent() && !said {
            socket::shutdown(self.fd, libc::SHUT_WR)?;
        }
        if self.connection.shut_for_reading {
            socket::shutdown(self.fd, libc::SHUT_RD)?;
        }
        Ok(())
    }

    /// The other end's FIN comes through the loopback interface, at once as a rule.
    fn wait_for_fin(&self) -> Result<()> {
        if self.connection.phase.has_received() && !socket::poll_until(self.fd, PollFlags::RDHUP, FIN_LIMIT)? {
            log::warn!("{}: the other end's FIN has not come yet", noun(self.entry));
        }
        Ok(())
    }

    /// The buffers' own sizes, now that the queues are full.
    fn set_buffers(&self) -> Result<()> {
        let options = &self.entry.base.options;
        ["rcvbuf", "sndbuf", "buf_lock"].iter().try_for_each(|name| options.apply_one(self.fd, name))
    }
}
