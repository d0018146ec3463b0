//! The options of repair mode: <linux/tcp.h>. They need `CAP_NET_ADMIN` over the network namespace.

use super::Window;
use crate::diag::inet as states;
use crate::error::{Context as _, Result};
use libc::IPPROTO_TCP;
use rtc_sys::guard::Undo;
use rtc_sys::socket::{int_option, option, set_int_option, set_option};
use std::os::fd::BorrowedFd;

/// `TCP_REPAIR_OFF_NO_WP`: without a window probe, which would go to the other end.
const OFF_NO_PROBE: i32 = -1;

const OPTION_MSS: u32 = 2;
const OPTION_WINDOW: u32 = 3;
const OPTION_SACK: u32 = 4;
const OPTION_TIMESTAMP: u32 = 8;

/// `TCPI_OPT_*`
const INFO_TIMESTAMPS: u8 = 1;
const INFO_SACK: u8 = 2;
const INFO_SCALE: u8 = 4;

/// The queue that other options and calls mean.
#[derive(Clone, Copy, Debug)]
pub(super) enum Queue {
    None = 0,
    Receive = 1,
    Send = 2,
}

/// Switches repair mode on. Side effect: the socket may be bound to any address in use, until it is switched off.
pub(super) fn on(fd: BorrowedFd<'_>) -> Result<()> {
    set_int_option(fd, IPPROTO_TCP, libc::TCP_REPAIR, 1).context(|| "switch repair mode on")
}

/// Switches repair mode off. Side effect: `SO_REUSEADDR` is off then.
pub(super) fn off(fd: BorrowedFd<'_>) -> Result<()> {
    set_int_option(fd, IPPROTO_TCP, libc::TCP_REPAIR, OFF_NO_PROBE).context(|| "switch repair mode off")
}

/// Switches repair mode off and asks the other end for its window.
pub(super) fn off_with_probe(fd: BorrowedFd<'_>) -> Result<()> {
    set_int_option(fd, IPPROTO_TCP, libc::TCP_REPAIR, 0).context(|| "switch repair mode off")
}

/// What brings a socket in repair mode back, whatever happens to us.
pub(super) fn undo(socket: BorrowedFd<'_>, reuse: i32) -> [Undo<'_>; 2] {
    let repair = Undo { socket, level: IPPROTO_TCP, name: libc::TCP_REPAIR, value: OFF_NO_PROBE };
    [repair, Undo { socket, level: libc::SOL_SOCKET, name: libc::SO_REUSEADDR, value: reuse }]
}

pub(super) fn reuse(fd: BorrowedFd<'_>) -> Result<i32> {
    Ok(int_option(fd, libc::SOL_SOCKET, libc::SO_REUSEADDR)?)
}

pub(super) fn set_reuse(fd: BorrowedFd<'_>, value: i32) -> Result<()> {
    Ok(set_int_option(fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, value)?)
}

pub(super) fn select(fd: BorrowedFd<'_>, queue: Queue) -> Result<()> {
    Ok(set_int_option(fd, IPPROTO_TCP, libc::TCP_REPAIR_QUEUE, queue as i32)?)
}

/// The sequence number behind the selected queue's last byte, FIN included.
pub(super) fn sequence(fd: BorrowedFd<'_>) -> Result<u32> {
    Ok(int_option(fd, IPPROTO_TCP, libc::TCP_QUEUE_SEQ)? as u32)
}

/// Sets where both queues of an unconnected socket begin.
pub(super) fn set_sequences(fd: BorrowedFd<'_>, send: u32, receive: u32) -> Result<()> {
    for (queue, sequence) in [(Queue::Send, send), (Queue::Receive, receive)] {
        select(fd, queue)?;
        set_int_option(fd, IPPROTO_TCP, libc::TCP_QUEUE_SEQ, sequence as i32)?;
    }
    select(fd, Queue::None)
}

/// The largest segment that the other end takes, in repair mode.
pub(super) fn segment(fd: BorrowedFd<'_>) -> Result<u32> {
    Ok(int_option(fd, IPPROTO_TCP, libc::TCP_MAXSEG)? as u32)
}

pub(super) fn timestamp(fd: BorrowedFd<'_>) -> Result<u32> {
    Ok(int_option(fd, IPPROTO_TCP, libc::TCP_TIMESTAMP)? as u32)
}

/// What two ends agree upon when they connect.
#[derive(Clone, Copy, Debug)]
pub(super) struct Agreed {
    pub(super) segment: u32,
    pub(super) scale: Option<(u8, u8)>,
    pub(super) sack: bool,
    pub(super) timestamp: Option<u32>,
}

/// Sets what was agreed upon, right after connect(2).
pub(super) fn agree(fd: BorrowedFd<'_>, agreed: Agreed) -> Result<()> {
    let mut list = vec![(OPTION_MSS, agreed.segment)];
    if let Some((send, receive)) = agreed.scale {
        list.push((OPTION_WINDOW, u32::from(send) | u32::from(receive) << 16));
    }
    if agreed.sack {
        list.push((OPTION_SACK, 0));
    }
    if agreed.timestamp.is_some() {
        list.push((OPTION_TIMESTAMP, 0));
    }
    let bytes: Vec<u8> =
        list.iter().flat_map(|(code, value)| [code.to_ne_bytes(), value.to_ne_bytes()].concat()).collect();
    set_option(fd, IPPROTO_TCP, libc::TCP_REPAIR_OPTIONS, &bytes)?;
    if let Some(timestamp) = agreed.timestamp {
        set_int_option(fd, IPPROTO_TCP, libc::TCP_TIMESTAMP, timestamp as i32)?;
    }
    Ok(())
}

pub(super) fn window(fd: BorrowedFd<'_>) -> Result<Window> {
    let mut bytes = [0; 20];
    option(fd, IPPROTO_TCP, libc::TCP_REPAIR_WINDOW, &mut bytes)?;
    let word = |n: usize| u32::from_ne_bytes(bytes[4 * n..4 * n + 4].try_into().expect("four bytes"));
    Ok(Window { snd_wl1: word(0), snd_wnd: word(1), max_window: word(2), rcv_wnd: word(3), rcv_wup: word(4) })
}

pub(super) fn set_window(fd: BorrowedFd<'_>, window: Window) -> Result<()> {
    let Window { snd_wl1, snd_wnd, max_window, rcv_wnd, rcv_wup } = window;
    let bytes = [snd_wl1, snd_wnd, max_window, rcv_wnd, rcv_wup].map(u32::to_ne_bytes).concat();
    Ok(set_option(fd, IPPROTO_TCP, libc::TCP_REPAIR_WINDOW, &bytes)?)
}

/// The part of `struct tcp_info` that matters here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Info {
    /// `TCP_ESTABLISHED` and so on, as in [`crate::diag::inet`].
    pub(super) state: u8,
    options: u8,
    scales: u8,
    /// Listeners: connections that wait.
    pub(super) waiting: u32,
    /// Listeners: the backlog.
    pub(super) backlog: u32,
    /// Bytes sent and acknowledged, and received, since the connection's first; a SYN counts.
    traffic: u64,
}

impl Info {
    pub(super) fn of(fd: BorrowedFd<'_>) -> Result<Self> {
        let mut bytes = [0; 256];
        option(fd, IPPROTO_TCP, libc::TCP_INFO, &mut bytes)?;
        let word = |n: usize| u32::from_ne_bytes(bytes[n..n + 4].try_into().expect("four bytes"));
        let long = |n: usize| u64::from_ne_bytes(bytes[n..n + 8].try_into().expect("eight bytes"));
        Ok(Self {
            state: bytes[0],
            options: bytes[5],
            scales: bytes[6],
            waiting: word(24),
            backlog: word(28),
            traffic: long(120) | long(128),
        })
    }

    pub(super) fn has_timestamps(self) -> bool {
        self.options & INFO_TIMESTAMPS != 0
    }

    pub(super) fn has_sack(self) -> bool {
        self.options & INFO_SACK != 0
    }

    /// For what it sends and what it receives. The kernel's bit fields: the first is the low half of the byte.
    pub(super) fn scale(self) -> Option<(u8, u8)> {
        (self.options & INFO_SCALE != 0).then_some((self.scales & 15, self.scales >> 4))
    }

    /// Whether there was an answer to its SYN; a closed socket still shows it.
    pub(super) fn was_connected(self) -> bool {
        self.traffic != 0 || self.options != 0
    }

    pub(super) fn is_listening(self) -> bool {
        self.state == states::LISTEN
    }
}
